"""Adversarial sets: the nearest misread neighbour of each example, made once for a model and kept for any request."""

from __future__ import annotations

import copy
import json
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from unteach.attacks import Fgsm, Found, Nearest, PgdL2, PgdLinf, Schedule
from unteach.attacks.lanes import each, norms
from unteach.checkpoint import check_outputs, load
from unteach.engine import Engine, Stage, pixels
from unteach.models import Blueprint
from unteach.store import digest_of, fingerprint, load_into, load_tensors, save_tensors
from unteach.types import Examples, Refusal

_KEEP = ("inputs", "labels", "distances")


def adversarial_set(
    model: torch.nn.Module,
    examples: Examples,
    attack: Nearest | Schedule | Fgsm,
    *,
    rng: torch.Generator,
    engine: Engine,
    file: Path | None = None,
) -> Examples:
    """The neighbours of these examples under the model's own wrong labels; ids are the examples' with ``~`` before.

    Inputs are float32 pixels in 0–1. Examples for which no neighbour was found are left out (an event says how many).
    ``file`` keeps what was found for this model and these attack settings; only examples that are not in it are
    attacked. The bill then shows what the reused part cost when it was made.
    """
    key = {"model": fingerprint(model), "attack": type(attack).__name__, **asdict(attack)}
    kept, cost = _read(file, digest_of(key))
    missing = np.asarray([name not in kept for name in examples.ids.tolist()], dtype=bool)
    if (~missing).any():
        share = float((~missing).sum()) / max(1, len(kept))
        engine.stages.append(
            Stage("adversarial examples, reused (cost when made)", cost["seconds"] * share, cost["units"] * share)
        )
    if missing.any():
        todo = examples.take(missing)
        with engine.stage("adversarial examples"):
            found = search(model, todo, attack, rng=rng, engine=engine)
        ok = found.success.cpu().numpy()
        rows = {"inputs": found.inputs.cpu(), "labels": found.labels.cpu(), "distances": found.distances.cpu()}
        for i in np.flatnonzero(ok):
            kept[str(todo.ids[i])] = {name: rows[name][i] for name in _KEEP}
        engine.events.emit(
            "adversarial",
            examples=len(todo),
            failed=int((~ok).sum()),
            gradients=found.gradients,
            median_distance=float(rows["distances"][torch.from_numpy(ok)].median()) if ok.any() else None,
        )
        made = engine.stages[-1]
        cost = {"seconds": cost["seconds"] + made.seconds, "units": cost["units"] + made.units}
        if file is not None and engine.rank == 0:
            _write(file, kept, digest_of(key), key, cost)
        engine.wait()
    at = [i for i, name in enumerate(examples.ids.tolist()) if name in kept]
    near = [kept[str(examples.ids[i])] for i in at]
    return Examples(
        inputs=torch.stack([row["inputs"] for row in near]) if near else torch.zeros(0, *examples.inputs.shape[1:]),
        labels=torch.stack([row["labels"] for row in near]) if near else examples.labels[:0],
        ids=np.array([f"~{examples.ids[i]}" for i in at], dtype=str),
        groups=None if examples.groups is None else examples.groups[at],
        classes=examples.classes,
        loss=examples.loss,
    )


def search(
    model: torch.nn.Module,
    examples: Examples,
    attack: Nearest | Schedule | Fgsm,
    *,
    rng: torch.Generator,
    engine: Engine,
) -> Found:
    """What the attack finds for these examples, shared out over the processes; the same on each, and billed.

    An attack that draws nothing finds what it finds in one process, but for rounding: others share an example's batch.
    """
    mine = engine.share(len(examples))
    with engine.own_draws(rng) as own:
        found = attack.search(
            model.to(engine.device),
            examples.inputs[mine].to(engine.device),
            examples.labels[mine].to(engine.device),
            own,
            lambda done, total: engine.events.progress("adversarial examples", done, total),
        )
    engine.meter.gradients += found.gradients
    engine.meter.forwards += found.forwards
    return Found(*(engine.gather(getattr(found, item.name), len(examples)) for item in fields(Found)))


def perturbed(
    model: torch.nn.Module, examples: Examples, attack: PgdL2 | PgdLinf, *, rng: torch.Generator, engine: Engine
) -> torch.Tensor:
    """The inputs as the attack leaves them, float32 in 0–1, on the CPU; shared out over the processes, and billed."""
    mine = engine.share(len(examples))
    made = attack(model, examples.inputs, examples.labels, rng, rows=mine)
    engine.meter.gradients += len(made) * attack.steps
    return engine.gather(made, len(examples))


def ablation_set(near: Examples, clean: Examples, kind: str, rng: torch.Generator) -> Examples:
    """What AMUN's ablation shows in the place of neighbours (x', y') of examples (x, y): as many, with the same ids.

    ``adv``: (x', y') themselves. ``advl``: (x, y'). ``rl``: (x, a random label but y and y'). ``arl``: (x', such a label).
    ``ars``: (a random point as far from x as x' is, then held in 0–1; y'). ``clean`` may hold more examples than these.
    *Source:* Ebrahimpour-Boroojeny et al., Not All Wrong is Bad, ICML 2025, arXiv 2503.00917, its ablation of the adversarial
    set. *Departs:* nowhere known; in tasks of several labels, which it has not, the random ones are uniform over all that are
    neither y nor y'.
    """
    if kind == "adv":
        return near
    own = clean.take(clean.positions([name.removeprefix("~") for name in near.ids.tolist()]))
    inputs, labels = own.inputs, near.labels
    if kind in ("rl", "arl"):
        labels = other_labels(own.labels, near.labels, own.task.classes, rng)
        inputs = near.inputs if kind == "arl" else inputs
    elif kind == "ars":
        centre = pixels(inputs)
        inputs = on_sphere(centre, norms(near.inputs - centre), rng).clamp(0, 1)
    return replace(near, inputs=inputs, labels=labels)


def on_sphere(centre: torch.Tensor, radii: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
    """A point on the sphere around each centre, all directions alike; ``radii``: L2, shape ``n``. Not held in any range."""
    direction = torch.randn(centre.shape, generator=rng)
    return centre + each(radii / norms(direction).clamp_min(1e-12), direction) * direction


def other_labels(one: torch.Tensor, other: torch.Tensor, classes: int, rng: torch.Generator) -> torch.Tensor:
    """Labels that are neither of two that differ, uniform over the rest; same shape and type.

    Raises: Refusal when there are no others: of two classes, or of one yes-or-no label.
    """
    if classes < (3 if one.ndim == 1 else 2):
        raise Refusal(
            f"expected labels besides the true and the adversarial one, got only {classes} "
            f"{'classes' if one.ndim == 1 else 'label'}; choose neighbours that keep the adversarial label"
        )
    if one.ndim == 1:
        drawn = torch.randint(0, classes - 2, one.shape, generator=rng)
        drawn = drawn + (drawn >= torch.minimum(one, other))
        return drawn + (drawn >= torch.maximum(one, other))
    drawn = one.clone()
    while (taken := (drawn == one).all(1) | (drawn == other).all(1)).any():
        drawn[taken] = (torch.rand(int(taken.sum()), classes, generator=rng) < 0.5).to(drawn.dtype)
    return drawn


def network_in(path: Path, model: torch.nn.Module, examples: Examples) -> torch.nn.Module:
    """The network of another checkpoint: of a kind that its file tells, else of the model's own kind. Eval mode.

    Raises: Refusal when the file is damaged or foreign, does not fit, or the network can't read these examples.
    """
    tensors, told = load_tensors(path)
    own = getattr(model, "unteach_blueprint", None)
    if told.get("blueprint") and not (isinstance(own, Blueprint) and told["blueprint"] == own.as_json()):
        return load(path, data=examples).model
    network = copy.deepcopy(model).cpu().eval()
    load_into(network, tensors, path)
    check_outputs(network, examples, f"the network of {path}")
    return network


def _read(file: Path | None, key: str) -> tuple[dict[str, dict[str, torch.Tensor]], dict[str, float]]:
    if file is None or not file.is_file():
        return {}, {"seconds": 0.0, "units": 0.0}
    tensors, provenance = load_tensors(file)
    if provenance.get("key") != key:  # another model or other settings: start anew
        return {}, {"seconds": 0.0, "units": 0.0}
    ids: list[str] = provenance["ids"]
    return {name: {part: tensors[part][i] for part in _KEEP} for i, name in enumerate(ids)}, provenance["cost"]


def _write(
    file: Path, kept: dict[str, dict[str, torch.Tensor]], digest: str, key: dict[str, Any], cost: dict[str, float]
) -> None:
    if kept:
        tensors = {part: torch.stack([row[part] for row in kept.values()]) for part in _KEEP}
        made_with = json.loads(json.dumps(key, default=str))
        save_tensors(file, tensors, {"key": digest, "ids": list(kept), "cost": cost, "made_with": made_with})
