"""What some tables show beside the audit: NoMUS with its parts, and for whole classes where their test images go."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from unteach.audit.nomus import forgetting_score, nomus
from unteach.data import DataSet
from unteach.store import load_tensors


def readings(file: Path, data: DataSet, ids: list[str], findings: dict[str, Any]) -> dict[str, float | None]:
    """Numbers by name, from the signals and the findings of one audit."""
    tensors, header = load_tensors(file)
    roles = [name.partition(":")[0] for name in header["models"]]
    judged, labels = tensors["logits"][roles.index("unlearned"), 0], tensors["labels"]
    names = np.asarray(header["ids"])
    unseen = np.isin(names, data.non_members.ids)
    forgotten = np.isin(names, ids) & ~unseen
    losses = data.train.task.loss(judged, labels).numpy()
    score = forgetting_score(losses[forgotten], losses[unseen], balanced=True) if forgotten.sum() >= 10 else None
    test = torch.from_numpy(np.isin(names, data.test.ids))
    utility = float(data.train.task.correct(judged, labels)[test].mean())
    found: dict[str, float | None] = {"F score": score, "NoMUS": None if score is None else nomus(utility, score)}
    return found | (_classes(findings["classes"][0]) if len(findings["classes"]) == 1 else {})


def _classes(entry: dict[str, Any]) -> dict[str, float | None]:
    found: dict[str, float | None] = {
        "ACC_f": 100 * entry["accuracy"]["unlearned"],
        "ACC_r": 100 * entry["retained_accuracy"]["unlearned"],
        **dict.fromkeys(("routing TV", "TV of retrains", "image TV", "routing p", "leakage")),
    }
    if entry["routing"]:
        read = entry["routing"]["readings"]
        found |= {
            "routing TV": read["mean_tv"]["value"],
            "TV of retrains": float(np.mean(read["mean_tv"]["held_out"])),
            "image TV": read["image_tv"]["value"],
            "routing p": entry["routing"]["p_value"],
        }
    if entry["mia_nn"]:
        found["leakage"] = entry["mia_nn"]["leakage"]
    return found
