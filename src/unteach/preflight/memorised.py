"""Does the model remember the request at all?"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from unteach.audit.comparison import Tolerance
from unteach.audit.games import Pools, play, pools
from unteach.audit.membership import Confidence
from unteach.data.request import alike
from unteach.preflight.case import Case
from unteach.preflight.remark import Remark, counted, percent
from unteach.types import Signals

NAME = "memorised"
UNCLEAR = 0.1  # above ½: an AUC whose interval holds both says nothing
HARDER = (
    "Read with care: a group may be harder than the unseen ones, and a model that never saw it would then be less sure of it "
    "than of them. Only retrained models tell: unteach audit --tier quick makes three."
)
ALIKE = (
    "If these examples are like the unseen ones, retraining would leave such answers as they are, and deleting the records from "
    "the data may be all that is needed. That proves nothing about what is stored: a stronger attack (unteach audit --tier "
    "standard) may show more, and so may a single odd record among many plain ones."
)


def find_memorised(case: Case) -> list[Remark]:
    """The membership game forget against unseen by logit-scaled confidence, and how many of the request stand out in it.

    1. AUC with 95 % interval, by group where there are groups. 2. The confidence that best tells retained from unseen examples
    (largest difference of the two shares above it), and how many of either side are above. 3. The gap of accuracies.
    No retrained model is at hand, so ½ stands for it: that is right for a request like the unseen examples, and only for one.
    """
    phi, pool = _played(case)
    game = play(phi[None], pool, "FT", seed=case.seed)
    gap = {name: case.accuracy(name) for name in ("forget", "retain", "test") if len(case.looked[name])}
    if isinstance(game, str):
        said = f"Whether the model remembers the request can't be told: {game}."
        return [Remark(name=NAME, level="note", sentence=said, numbers=gap), *_class_known(case, pool)]
    high, unseen_high = _standing_out(phi, pool)
    numbers = {
        **gap,
        **{key: game[key] for key in ("auc", "low", "high")},
        "above": high,
        "asked": len(pool.forget),
        "unseen_above": unseen_high,
    }
    told = f"{_told(game)}; {_above(high, len(pool.forget), unseen_high)}"
    return [*_class_known(case, pool), _judged(case, game, told, numbers)]


def _judged(case: Case, game: dict[str, Any], told: str, numbers: dict[str, Any]) -> Remark:
    if game["low"] > 0.5 and game["auc"] > 0.5 + Tolerance().auc:
        said = f"The model remembers the request: {told}."
        return Remark(name=NAME, level="fine", sentence=said, numbers=numbers)
    if case.kind == "class":  # what is to go is the class, and membership of its examples is beside the point
        said = f"Single examples of the class can't be told from unseen ones of it for sure: {told}. But the class is to go."
        return Remark(name=NAME, level="note", sentence=said, numbers=numbers)
    if game["low"] <= 0.5 and game["high"] > 0.5 + UNCLEAR:
        few = counted(numbers["asked"], "example is", "examples are")
        said = f"{few} too few to see whether the model remembers them: {told}."
        do = "Retrained models see more: unteach audit --tier standard looks at each example."
        return Remark(name=NAME, level="note", sentence=said, do=do, numbers=numbers)
    least = "So little of the request can be seen in the answers that doing nothing might pass for forgetting"
    said = f"{least if game['low'] > 0.5 else 'Nothing of the request can be seen in the answers'}: {told}."
    return Remark(name=NAME, level="warn", sentence=said, do=HARDER if case.kind == "group" else ALIKE, numbers=numbers)


def _told(game: dict[str, Any]) -> str:
    return f"forgotten and unseen examples are told apart with AUC {game['auc']:.3f} ({game['low']:.3f} to {game['high']:.3f})"


def _above(high: int, count: int, unseen_high: float) -> str:
    return (
        f"{high:,} of the {count:,} that were looked at are answered with the confidence of retained examples, as are "
        f"{percent(unseen_high)} of the unseen ones"
    )


def _class_known(case: Case, pool: Pools) -> list[Remark]:
    """Where whole classes are to go: how well the model knows their unseen examples, which a retrained one never names."""
    if not pool.forgotten_classes:
        return []
    part = case.looked["unseen" if "unseen" in case.looked else "test"]
    mine = np.isin(part.labels.numpy(), pool.forgotten_classes)
    right = case.correct("unseen" if "unseen" in case.looked else "test")[mine]
    if not len(right):
        return []
    said = (
        f"The model names {percent(float(right.mean()))} of unseen examples of the class right; a retrained one, none."
    )
    return [Remark(name=NAME, level="fine", sentence=said, numbers={"class_accuracy": float(right.mean())})]


def _standing_out(phi: np.ndarray, pool: Pools) -> tuple[int, float]:
    """How many forgotten, and what share of unseen examples, are above the threshold that best tells retain from unseen."""
    retain, others = np.sort(phi[pool.retain]), np.sort(phi[pool.others])
    cuts = np.concatenate([retain, others])
    above = [1 - np.searchsorted(side, cuts, "left") / len(side) for side in (retain, others)]
    cut = cuts[np.argmax(above[0] - above[1])]
    return int((phi[pool.forget] >= cut).sum()), float((phi[pool.unseen] >= cut).mean())


def _played(case: Case) -> tuple[np.ndarray, Pools]:
    """Confidence of what is looked at, one after the other, and which of it plays which side."""
    sides = [name for name in ("forget", "retain", "test", "unseen") if name in case.looked]
    parts = [case.looked[name] for name in sides]
    names = np.repeat(sides, [len(part) for part in parts])
    masks = {name: names == name for name in sides}
    grouped = all(part.groups is not None for part in parts)
    signals = Signals(
        models=("original",),
        logits=torch.cat([case.answers[name] for name in sides]).numpy()[None, None],
        labels=torch.cat([part.labels for part in parts]).numpy(),
        members=(masks["forget"] | masks["retain"])[None],
        forgotten=np.zeros((1, len(names)), dtype=bool),
        groups=np.concatenate([part.groups for part in parts if part.groups is not None]) if grouped else None,
    )
    matched = None
    if case.forget.kinds is not None:
        matched = np.concatenate([alike(part, case.forget) for part in parts])
    pool = pools(
        signals,
        retain=masks["retain"],
        forget=masks["forget"],
        test=masks["test"],
        unseen=masks.get("unseen"),
        alike=matched,
    )
    return Confidence()(signals, 0), pool
