"""Where the test images of wholly forgotten classes go, beside retrained models; it informs, the verdict is not moved."""

from __future__ import annotations

from typing import Any

import numpy as np

from unteach.audit.games import Pools
from unteach.audit.mia_nn import MiaNn
from unteach.audit.roles import Roles
from unteach.audit.routing import FEWEST_REFERENCES, neighbour_class, neighbour_routing
from unteach.types import Signals


def class_readings(
    signals: Signals, roles: Roles, pool: Pools, correct: np.ndarray, classes: tuple[str, ...]
) -> list[dict[str, Any]]:
    """One entry per forgotten class, of plain values from the first view; empty when no whole class was forgotten.

    1. Accuracies by role, 0–1, over all logits: on the class's test images, and on those of the retained classes.
    2. The references are all retrained models, the held-out one too. The neighbour is the class they vote for; ``answers``
       are the shares of images answered with each class, by the references (mean) and by the unlearned model.
    3. ``routing`` is our own test, ``mia_nn`` the published one (arXiv 2506.20893), both beside the references among
       themselves. What can't be had is null, and ``why`` says what is missing.

    ``correct``: right answers, ``models × examples``.
    """
    names = [classes[c] if c < len(classes) else str(c) for c in range(signals.logits.shape[-1])]
    clean = [at for at in (*roles.retrained, roles.held_out_retrained) if at is not None and at != roles.unlearned]
    references = [signals.logits[at, 0] for at in clean]
    found = []
    for gone in pool.forgotten_classes:
        rows = pool.unseen[signals.labels[pool.unseen] == gone]
        entry = {
            "class": names[gone],
            "images": len(rows),
            "references": len(references),
            "accuracy": _accuracies(correct, rows, roles),
            "retained_accuracy": _accuracies(correct, pool.test, roles),
            "why": _missing(names, gone, pool, roles, len(rows), len(references)),
        } | dict.fromkeys(("neighbour", "answers", "routing", "mia_nn"))
        if roles.unlearned is not None and entry["why"] is None:
            model, others = signals.logits[roles.unlearned, 0, rows], np.stack([z[rows] for z in references])
            retained = np.stack([z[pool.test] for z in references])
            entry |= _read(model, others, retained, signals.labels[pool.test], pool.forgotten_classes, names)
        found.append(entry)
    return found


def _accuracies(correct: np.ndarray, rows: np.ndarray, roles: Roles) -> dict[str, float]:
    return {role: float(correct[list(at)][:, rows].mean()) for role, at in roles.indexes().items() if len(rows)}


def _missing(names: list[str], gone: int, pool: Pools, roles: Roles, images: int, references: int) -> str | None:
    """What a comparison with retrained models takes and does not have, if anything."""
    if roles.unlearned is None:
        return "no unlearned model was given"
    if references < FEWEST_REFERENCES:
        return f"it takes {FEWEST_REFERENCES} retrained models to see their own spread, got {references}"
    if len(names) - len(pool.forgotten_classes) < 2:
        return "fewer than two classes stay, so the images have nowhere else to go"
    return f"it takes 2 test images of {names[gone]}, got {images}" if images < 2 else None


def _read(
    model: np.ndarray,
    references: np.ndarray,
    retained: np.ndarray,
    labels: np.ndarray,
    gone: tuple[int, ...],
    names: list[str],
) -> dict[str, Any]:
    """Both tests and the answers. ``retained``: the references' logits of images of staying classes, ``labels`` theirs."""
    neighbour = neighbour_class(references, gone)
    why = leakage = None
    if 0 < np.count_nonzero(labels == neighbour) < len(labels):
        leakage = MiaNn()(model, references, gone, retained=retained, labels=labels).as_json()
    else:
        why = f"MIA-NN takes test images of {names[neighbour]} and of other retained classes, got one kind"
    return {
        "neighbour": names[neighbour],
        "answers": _answers(model, references, names),
        "routing": neighbour_routing(model, references, gone).as_json(),
        "mia_nn": leakage,
        "why": why,
    }


def _answers(model: np.ndarray, references: np.ndarray, names: list[str]) -> list[dict[str, Any]]:
    """Classes that any model answers with, the references' favourite first, and the shares of images they get."""
    unlearned, retrained = (
        np.bincount(z.argmax(-1).ravel(), minlength=len(names)) / z[..., 0].size for z in (model, references)
    )
    order = np.lexsort((-unlearned, -retrained))
    return [
        {"class": names[c], "unlearned": float(unlearned[c]), "retrained": float(retrained[c])}
        for c in order
        if unlearned[c] or retrained[c]
    ]
