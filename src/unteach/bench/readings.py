"""What tables show of a cell beside its findings: NoMUS with its parts, where a class's test images go, likelihood attacks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from unteach.audit.nomus import forgetting_score, nomus
from unteach.store import load_tensors
from unteach.types import Examples, Task


def readings_of(
    file: Path, parts: Mapping[str, Examples], findings: Mapping[str, Any], scored: bool
) -> dict[str, float | None]:
    """All of them for one cell. ``file``: the signals of its audit; ``parts``: forget, test, unseen; ``scored``: with NoMUS."""
    found: dict[str, float | None] = {}
    if scored:
        tensors, header = load_tensors(file)
        roles = [name.partition(":")[0] for name in header["models"]]
        logits = tensors["logits"].numpy()[:, 0]
        places = {name: at for at, name in enumerate(header["ids"])}
        found = benchmark_scores(
            logits[roles.index("unlearned")],
            tensors["labels"].numpy(),
            parts["forget"].task,
            **{name: np.array([places[each] for each in part.ids.tolist()]) for name, part in parts.items()},
            retrained=[logits[at] for at, role in enumerate(roles) if "retrained" in role],
        )
    if len(findings["classes"]) == 1:
        found |= class_readings(findings["classes"][0])
    return found | likelihood_readings(findings.get("measures", ()))


def benchmark_scores(
    logits: np.ndarray,
    labels: np.ndarray,
    task: Task,
    *,
    forget: np.ndarray,
    test: np.ndarray,
    unseen: np.ndarray,
    retrained: Sequence[np.ndarray] = (),
) -> dict[str, float | None]:
    """Utility U, forgetting score F, NoMUS, and how far the attack's accuracy lies from that on retrained models.

    ``logits``: ``n × classes`` of the judged model, ``retrained``: of models without the request. ``forget``, ``test``,
    ``unseen``: positions; the attack tells forget from unseen losses, utility is on test. None where there are fewer than
    ten on a side. *Source:* Choi & Na, 2023, arXiv 2311.02240. *Departs:* forget and unseen losses in equal number, as MUFAC
    nearly has them: in unequal ones a constant attack scores by their shares.
    """
    import torch

    def score(z: np.ndarray) -> float | None:
        losses = task.loss(torch.from_numpy(z), torch.from_numpy(labels)).numpy()
        if min(len(forget), len(unseen)) < 10:
            return None
        return forgetting_score(losses[forget], losses[unseen], balanced=True)

    mine, others = score(logits), [score(one) for one in retrained]
    right = task.correct(torch.from_numpy(logits[test]), torch.from_numpy(labels[test]))
    utility = float(right.mean())
    known = [one for one in others if one is not None]
    away = abs(mine - float(np.mean(known))) if mine is not None and known else None
    return {
        "U": utility,
        "F": mine,
        "F from retrained": away,
        "NoMUS": None if mine is None else nomus(utility, mine),
    }


def class_readings(entry: Mapping[str, Any]) -> dict[str, float | None]:
    """Accuracy on the forgotten class and on the rest, routing of its test images, and MIA-NN's leakage, of one finding."""
    found: dict[str, float | None] = {
        "ACC_f": 100 * entry["accuracy"]["unlearned"],
        "ACC_r": 100 * entry["retained_accuracy"]["unlearned"],
    }
    if entry["routing"]:
        read = entry["routing"]["readings"]
        found |= {"routing TV": read["mean_tv"]["value"], "image TV": read["image_tv"]["value"]}
    if entry["mia_nn"]:
        found["leakage"] = entry["mia_nn"]["leakage"]
    return found


def likelihood_readings(measures: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    """AUC of RMIA and LiRA, forgotten against unseen, where references allowed them."""
    found = {(one["name"], one["part"]): one["value"] for one in measures}
    return {name: found.get((name, "FT")) for name in ("RMIA AUC", "LiRA AUC")}
