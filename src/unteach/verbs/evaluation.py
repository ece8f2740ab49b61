"""From checkpoints to findings and a report: what ``forget`` and ``audit`` both end with."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from unteach.audit import Roles, Tolerance, audit
from unteach.audit.joined import joined
from unteach.checkpoint import Checkpoint, new_network
from unteach.data import DataSet
from unteach.data.request import alike
from unteach.diagnosis import advice
from unteach.engine import Engine
from unteach.models import MODELS, Blueprint
from unteach.provenance import Provenance, environment
from unteach.references.tiers import Company
from unteach.store import digest_of, read_json, save_tensors, write_json
from unteach.types import Examples, Signals, Split
from unteach.verbs.company import clusters_of, measures_of, pressed, references_of
from unteach.verbs.depth import method_of
from unteach.verbs.reuse import Reuse
from unteach.verbs.split_manifest import write_split


@dataclass(frozen=True, eq=False)
class Cast:
    """The models of one audit. With several retrained ones the last is held out as a control."""

    original: Checkpoint | None
    unlearned: Checkpoint
    retrained: tuple[Checkpoint, ...] = ()

    @cached_property
    def untrained(self) -> Checkpoint | None:
        """The same network with fresh weights; None where code from outside makes it, which may load trained ones."""
        blueprint = getattr(self.unlearned.model, "unteach_blueprint", None)
        if not isinstance(blueprint, Blueprint) or blueprint.name not in MODELS:
            return None
        return Checkpoint(new_network(blueprint, seed=1).eval(), Provenance(), Path("untrained"))

    def members(self) -> dict[str, list[Checkpoint]]:
        """Role to models, only the roles that are filled."""
        held_out = self.retrained[-1:] if len(self.retrained) > 1 else ()
        targets = self.retrained[: len(self.retrained) - len(held_out)]
        roles = {
            "original": [self.original] if self.original else [],
            "unlearned": [self.unlearned],
            "retrained": list(targets),
            "held_out_retrained": list(held_out),
            "untrained": [self.untrained] if self.untrained else [],
        }
        return {role: models for role, models in roles.items() if models}


def evaluate(
    data: DataSet,
    parts: Split,
    cast: Cast,
    *,
    spec: str,
    tolerance: Tolerance,
    retain_sample: int,
    seed: int,
    folder: Path,
    engine: Engine,
    company: Company | None = None,
    reuse: Reuse = Reuse(),  # noqa: B008 - frozen
) -> dict[str, Any]:
    """Score every model once, judge the scores, write signals, findings and report into ``folder``; returns the findings.

    ``company``: the models of a tier, all there; with them every measure is taken that they allow. ``reuse``: where logits are
    kept for other runs.
    """
    from unteach.report import render

    retain = _sample(parts.retain, retain_sample, seed)
    given = {"retain": retain, "forget": parts.forget, "test": data.test, "unseen": data.unseen}
    judged = {name: part for name, part in given.items() if part is not None}
    signals, roles = _signals(cast, judged, engine, reuse)
    names = np.concatenate([part.ids for part in judged.values()])
    if company and signals.groups is None:
        signals = replace(signals, groups=clusters_of(company, names))
    owner = np.repeat(list(judged), [len(part) for part in judged.values()])
    known = references_of(company, names) if company else None
    measures: list[Any] = []
    if company:
        named = {"forget": parts.forget, **({"retain": retain} if retain else {}), "test": data.test}
        measures = [*measures_of(company, named, seed)]
        measures += pressed(company, cast.original, cast.unlearned, parts, seed, engine)
    findings = audit(
        joined(signals, known) if known else signals,
        roles=roles,
        retain=owner == "retain",
        forget=owner == "forget",
        test=owner == "test",
        unseen=owner == "unseen" if data.unseen is not None else None,
        alike=_alike(data, parts, judged),
        ids=names,
        classes=data.train.classes,
        tolerance=tolerance,
        thorough=company is not None,
        measures=measures,
        seed=seed,
    )
    if company and engine.rank == 0:
        digest, doubts = write_split(folder / "split.csv", parts, data, company.cache)
        findings |= {"tier": company.words(), "doubts": [*findings["doubts"], *doubts], "split": digest}
    findings["doubts"] = [*findings["doubts"], *data.notes]
    findings |= _story(data, parts, cast, spec, seed, signals)
    findings |= _said(cast, findings["verdict"])
    if engine.rank > 0:
        return findings
    write_json(folder / "findings.json", findings)
    _save_signals(folder / "signals.safetensors", signals, names)
    filed = read_json(folder / "findings.json")  # the page of the file: `unteach report` then draws the same bytes
    shown = parts.forget.take(parts.forget.positions([row["id"] for row in findings.get("exposed", [])]))
    render(filed, folder, thumbnails=thumbnails(shown))
    return findings


def show(findings: dict[str, Any], unlearned: Path, folder: Path) -> None:
    """What a person reads after an audit: the table, the verdict and why, what it could see, and what it cost."""
    from rich.console import Console

    from unteach.verbs.terminal import results_table

    console = Console()
    console.print(results_table(findings))
    console.print(findings["summary"], highlight=False)
    for reason in findings["reasons"][:4]:
        console.print(f"- {reason}", highlight=False)
    seen = findings.get("diagnosis", {})
    for sentence in (seen["sentence"] if seen.get("kind", "fine") != "fine" else "", findings.get("advice", "")):
        if sentence:
            console.print(sentence[0].upper() + sentence[1:], highlight=False)
    _print_power(findings)
    _print_cost(findings["cost"])
    print(f"unlearned model: {unlearned}")
    print(f"report: {folder / 'report.html'}")


def _alike(data: DataSet, parts: Split, judged: dict[str, Examples]) -> np.ndarray | None:
    """Which non-members are of the forgotten kinds; None where the request does not go by kinds."""
    others = data.non_members
    mask = alike(others, parts.forget)
    if mask.all():
        return None
    return np.concatenate([mask if part is others else np.ones(len(part), dtype=bool) for part in judged.values()])


def _sample(retain: Examples | None, size: int, seed: int) -> Examples | None:
    if retain is None or len(retain) <= size:
        return retain
    rng = torch.Generator().manual_seed(seed)
    return retain.take(torch.randperm(len(retain), generator=rng)[:size].sort().values)


def _signals(cast: Cast, named: dict[str, Examples], engine: Engine, reuse: Reuse) -> tuple[Signals, Roles]:
    judged, forget = list(named.values()), named["forget"]
    logits: list[np.ndarray] = []
    members: list[np.ndarray] = []
    names: list[str] = []
    at: dict[str, list[int]] = {}
    ids = np.concatenate([part.ids for part in judged])
    in_training = np.concatenate([np.full(len(part), name in ("retain", "forget")) for name, part in named.items()])
    total = sum(len(models) for models in cast.members().values())
    for role, models in cast.members().items():
        for checkpoint in models:
            logits.append(torch.cat([reuse.logits(checkpoint, part, engine) for part in judged]).numpy())
            gone = np.asarray(
                checkpoint.provenance.trained_on.get("left_out", forget.ids if role != "original" else []), dtype=str
            )
            saw = (
                in_training
                & (role != "untrained")
                & (~np.isin(ids, gone) | (role == "unlearned") & np.isin(ids, forget.ids))
            )
            members.append(saw)
            at.setdefault(role, []).append(len(names))
            names.append(f"{role}:{checkpoint.path.name}")
            engine.events.progress("scoring", len(names), total)
    member = np.stack(members)
    forgotten = np.zeros_like(member)
    for index in at["unlearned"]:
        forgotten[index] = np.isin(ids, forget.ids) & member[index]
    labels = torch.cat([part.labels for part in judged]).numpy()
    groups = None if judged[0].groups is None else np.concatenate([np.asarray(part.groups) for part in judged])
    signals = Signals(tuple(names), np.stack(logits)[:, None], labels, member, forgotten, groups)
    roles = Roles(
        original=at.get("original", [None])[0],
        retrained=tuple(at.get("retrained", ())),
        held_out_retrained=at.get("held_out_retrained", [None])[0],
        unlearned=at["unlearned"][0],
        untrained=at.get("untrained", [None])[0],
    )
    return signals, roles


def _story(data: DataSet, parts: Split, cast: Cast, spec: str, seed: int, signals: Signals) -> dict[str, Any]:
    """What surrounds the judged numbers: the request, the method, the bill, and what all of it was made with."""
    made = cast.unlearned.provenance
    size = len(parts.forget) + (len(parts.retain) if parts.retain else 0)
    cost: dict[str, Any] = {
        "forget_seconds": made.seconds,
        "forget_epochs": made.units / size,
        "parts": [{"what": s["what"], "seconds": s["seconds"], "epochs": s["units"] / size} for s in made.stages],
    }
    bills = [model.provenance for model in cast.retrained if model.provenance.seconds]
    if bills:
        cost["retrain_seconds"] = float(np.mean([bill.seconds for bill in bills]))
        cost["retrain_epochs"] = float(np.mean([bill.units for bill in bills])) / size
    return {
        "request": {
            "data": data.name,
            "data_fingerprint": data.fingerprint,
            "spec": spec,
            "seed": seed,
            "forget": len(parts.forget),
            "retain": len(parts.retain) if parts.retain else 0,
            "test": len(data.test),
            **({} if data.unseen is None else {"unseen": len(data.unseen)}),
            "ids_digest": digest_of(sorted(parts.forget.ids.tolist())),
            "ids_file": "forget.txt",
        },
        "method": {"name": made.made_by.get("method", "unknown"), "settings": made.made_by.get("settings", {})}
        | ({"code": made.made_by["code"]} if "code" in made.made_by else {}),
        "cost": cost,
        "environment": environment(),
        "fingerprints": {
            "unlearned": cast.unlearned.fingerprint,
            **({"original": cast.original.fingerprint} if cast.original else {}),
            **{f"retrained {n}": model.fingerprint for n, model in enumerate(cast.retrained)},
        },
    }


def _said(cast: Cast, verdict: str) -> dict[str, Any]:
    """What was seen of the forgetting at first sight, and which knob to turn after this verdict."""
    told = cast.unlearned.provenance.made_by.get("diagnosis")
    method = method_of(cast.unlearned.provenance)
    turn = advice(method, verdict) if method is not None else ""
    return ({"diagnosis": told} if told else {}) | ({"advice": turn} if turn else {})


def _save_signals(path: Path, signals: Signals, ids: np.ndarray) -> None:
    tensors = {
        "logits": torch.from_numpy(signals.logits),
        "labels": torch.from_numpy(signals.labels),
        "members": torch.from_numpy(signals.members),
        "forgotten": torch.from_numpy(signals.forgotten),
    }
    groups = None if signals.groups is None else signals.groups.tolist()
    save_tensors(path, tensors, {"models": list(signals.models), "ids": ids.tolist(), "groups": groups})


def thumbnails(examples: Examples) -> dict[str, np.ndarray]:
    """Pictures of these records by id; nothing where the inputs are no images."""
    if examples.inputs.ndim != 4 or examples.inputs.dtype != torch.uint8 or examples.inputs.shape[1] not in (1, 3):
        return {}
    return dict(zip(examples.ids.tolist(), examples.inputs.permute(0, 2, 3, 1).squeeze(-1).numpy()))


def _print_power(findings: dict[str, Any]) -> None:
    """The smallest differences that this audit sees four times in five."""
    seen = [(c["quantity"], c["detectable"]) for c in findings["comparisons"].get("unlearned", [])]
    if seen:
        print("seen in 4 of 5 such audits: " + ", ".join(f"{name} off by {100 * d:.1f} points" for name, d in seen))


def _print_cost(cost: dict[str, Any]) -> None:
    line = f"forgetting took {cost['forget_seconds']:.1f} s ({cost['forget_epochs']:.2f} full-data epochs)"
    if cost.get("retrain_seconds"):
        share = cost["forget_seconds"] / cost["retrain_seconds"]
        line += f"; retraining takes {cost['retrain_seconds']:.1f} s ({cost['retrain_epochs']:.2f}): {100 * share:.0f} % of it"
    print(line)
