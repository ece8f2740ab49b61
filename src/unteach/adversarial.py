"""Adversarial sets: the nearest misread neighbour of each example, made once for a model and kept for any request."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from unteach.attacks import Nearest, Schedule
from unteach.engine import Engine, Stage
from unteach.store import digest_of, fingerprint, load_tensors, save_tensors
from unteach.types import Examples

_KEEP = ("inputs", "labels", "distances")


def adversarial_set(
    model: torch.nn.Module,
    examples: Examples,
    attack: Nearest | Schedule,
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
            found = attack.search(
                model.to(engine.device),
                todo.inputs.to(engine.device),
                todo.labels.to(engine.device),
                rng,
                lambda done, total: engine.events.progress("adversarial examples", done, total),
            )
            engine.meter.gradients += found.gradients
            engine.meter.forwards += found.forwards
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
        if file is not None:
            _write(file, kept, digest_of(key), key, cost)
    at = [i for i, name in enumerate(examples.ids.tolist()) if name in kept]
    near = [kept[str(examples.ids[i])] for i in at]
    return Examples(
        inputs=torch.stack([row["inputs"] for row in near]) if near else torch.zeros(0, *examples.inputs.shape[1:]),
        labels=torch.stack([row["labels"] for row in near]) if near else examples.labels[:0],
        ids=np.array([f"~{examples.ids[i]}" for i in at], dtype=str),
        groups=None if examples.groups is None else examples.groups[at],
        classes=examples.classes,
    )


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
