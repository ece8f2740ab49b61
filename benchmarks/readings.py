"""What some tables show beside the audit: NoMUS with its parts, and for whole classes where their test images go."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from unteach.audit.mia_nn import MiaNn
from unteach.audit.nomus import forgetting_score, nomus
from unteach.audit.routing import FEWEST_REFERENCES, neighbour_routing
from unteach.data import DataSet
from unteach.store import load_tensors


def readings(file: Path, data: DataSet, ids: list[str]) -> dict[str, float | None]:
    """Numbers by name, from the signals of one audit; retrained models are the references."""
    tensors, header = load_tensors(file)
    roles = [name.partition(":")[0] for name in header["models"]]
    logits = tensors["logits"][:, 0]
    labels, names = tensors["labels"], np.asarray(header["ids"])
    judged = logits[roles.index("unlearned")]
    unseen = np.arange(len(names)) >= len(names) - len(data.test)
    forgotten = np.isin(names, ids) & ~unseen
    losses = data.train.task.loss(judged, labels).numpy()
    score = forgetting_score(losses[forgotten], losses[unseen], balanced=True) if forgotten.sum() >= 10 else None
    utility = float(data.train.task.correct(judged, labels)[torch.from_numpy(unseen)].mean())
    found: dict[str, float | None] = {"F score": score, "NoMUS": None if score is None else nomus(utility, score)}
    gone = sorted(set(labels[torch.from_numpy(forgotten)].tolist())) if labels.ndim == 1 else []
    kept = labels[torch.from_numpy(~forgotten & ~unseen)].tolist() if gone else []
    if gone and not set(gone) & set(kept):
        references = logits[[n for n, role in enumerate(roles) if "retrained" in role]]
        found |= _classes(judged, references, labels, unseen, gone)
    return found


def _classes(
    judged: torch.Tensor, references: torch.Tensor, labels: torch.Tensor, unseen: np.ndarray, gone: list[int]
) -> dict[str, float | None]:
    of = np.isin(labels.numpy(), gone)
    right = (judged.argmax(1) == labels).numpy()
    found: dict[str, float | None] = {
        "ACC_f": 100 * float(right[unseen & of].mean()),
        "ACC_r": 100 * float(right[unseen & ~of].mean()),
        **dict.fromkeys(("routing TV", "TV of retrains", "image TV", "routing p", "leakage")),
    }
    if len(references) >= FEWEST_REFERENCES and len(gone) == 1:
        f, r = judged.numpy(), references.numpy()
        routing = neighbour_routing(f[unseen & of], r[:, unseen & of], gone)
        rest = unseen & ~of
        leak = MiaNn()(f[unseen & of], r[:, unseen & of], gone, retained=r[:, rest], labels=labels.numpy()[rest])
        tv = routing.readings["mean_tv"]
        found |= {
            "routing TV": tv.value,
            "TV of retrains": float(np.mean(tv.held_out)),
            "image TV": routing.readings["image_tv"].value,
            "routing p": routing.p_value,
            "leakage": leak.leakage,
        }
    return found
