"""The three membership games: can forgotten examples be told from unseen and from retained ones?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from unteach.audit import resample, statistics
from unteach.types import Refusal, Signals

FALSE_POSITIVE_RATES = (0.01, 0.001)


@dataclass(frozen=True, eq=False)
class Pools:
    """Which examples (positions) are compared with which.

    ``unseen``: the non-members of the FT game, all of them or, when whole classes were forgotten, those of these classes,
    since otherwise the attack only detects the class. ``test``: what utility is measured on; without the forgotten classes
    when whole classes were forgotten. ``non_members``: those of the RT game and of attacks that are fitted to members, without
    the forgotten classes; None where the test set serves for all of these.
    """

    retain: np.ndarray
    forget: np.ndarray
    test: np.ndarray
    unseen: np.ndarray
    forgotten_classes: tuple[int, ...]
    groups: np.ndarray | None
    non_members: np.ndarray | None = None
    matched: bool = False
    """Whether ``unseen`` are only those of the forgotten kinds, such as one subclass."""

    @property
    def others(self) -> np.ndarray:
        """The non-members of the RT game and of attacks that are fitted to members."""
        return self.test if self.non_members is None else self.non_members

    def sides(self, game: str) -> tuple[np.ndarray, np.ndarray]:
        """Positions of the positive and the negative side of FT, FR or RT."""
        return {
            "FT": (self.forget, self.unseen),
            "FR": (self.retain, self.forget),
            "RT": (self.retain, self.others),
        }[game]

    def groups_of(self, *rows: np.ndarray) -> tuple[np.ndarray, ...] | None:
        return None if self.groups is None else tuple(self.groups[r] for r in rows)


def pools(
    signals: Signals,
    *,
    retain: np.ndarray,
    forget: np.ndarray,
    test: np.ndarray,
    unseen: np.ndarray | None = None,
    alike: np.ndarray | None = None,
) -> Pools:
    """Checks bool masks over the examples and finds out whether whole classes were forgotten.

    That is the case when no class of the forget set has a retained example. ``unseen``: the non-members of all games, where
    they are others than the test set. ``alike``: which of them are of the forgotten kinds, for the FT game alone.
    """
    n = signals.logits.shape[2]
    masks = {"retain": retain, "forget": forget, "test": test} | ({} if unseen is None else {"unseen": unseen})
    for name, mask in (masks | ({} if alike is None else {"alike": alike})).items():
        if mask.shape != (n,) or mask.dtype != np.bool_:
            raise Refusal(f"expected the {name} mask to be {n} booleans, got {mask.dtype} of shape {mask.shape}; fix")
    if (np.sum(list(masks.values()), axis=0) > 1).any():
        raise Refusal(f"expected {', '.join(masks)} to share no example, got an overlap; keep each in one set")
    for name, mask in masks.items():
        if name != "retain" and not mask.any():
            raise Refusal(f"expected a {name} set of at least one example, got none; name some ids")
    gone: tuple[int, ...] = ()
    if signals.labels.ndim == 1 and retain.any():
        labels = set(signals.labels[forget].tolist())
        if labels.isdisjoint(signals.labels[retain].tolist()):
            gone = tuple(sorted(int(label) for label in labels))
    lost = np.isin(signals.labels, gone) if gone else np.zeros(n, dtype=bool)
    others = test if unseen is None else unseen
    matched = others if alike is None else others & alike
    return Pools(
        retain=np.flatnonzero(retain),
        forget=np.flatnonzero(forget),
        test=np.flatnonzero(test & ~lost),
        unseen=np.flatnonzero(matched & lost if gone else matched),
        forgotten_classes=gone,
        groups=signals.groups,
        non_members=None if unseen is None else np.flatnonzero(unseen & ~lost),
        matched=alike is not None,
    )


def play(scores: np.ndarray, pool: Pools, game: str, *, seed: int) -> dict[str, Any] | str:
    """One game with one score: AUC with 95 % interval, TPR at low FPR, ROC points, sizes of both sides.

    ``scores``: ``models × examples``. Several models (retrained references) give the mean of their values;
    the interval then holds the spread between them (s²/K). Returns the reason instead when a side is empty.
    """
    plus, minus = pool.sides(game)
    if not (len(plus) and len(minus)):
        side = "positive" if not len(plus) else "negative"
        return f"{game} has no examples on its {side} side"
    positive, negative = scores[:, plus], scores[:, minus]
    k = len(scores)
    weights = np.full(k, 1 / k)
    groups = pool.groups_of(plus, minus)
    pair = None if groups is None else (groups[0], groups[1])
    estimate = resample.auc_estimate(positive, negative, weights, pair, seed)
    each = np.array([statistics.auc(p, n) for p, n in zip(positive, negative)])
    whole = resample.with_spread(estimate, each, lambda w: statistics.auc_contrast(positive, negative, w), candidates=0)
    low, high = whole.interval(least=0.0)
    curves = [statistics.roc_points(p, n) for p, n in zip(positive, negative)]
    return {
        "auc": estimate.value,
        "low": low,
        "high": high,
        "auc_each": each.tolist(),
        "tpr": [_mean_tpr(positive, negative, fpr) for fpr in FALSE_POSITIVE_RATES],
        "n_positive": len(plus),
        "n_negative": len(minus),
        "roc": np.mean(curves, axis=0).tolist(),
        "roc_range": _range(curves) if k > 1 else None,
    }


def _range(curves: list[list[list[float]]]) -> list[list[float]]:
    """Lowest and highest tpr of several models at each point of their common curve."""
    tpr = np.array(curves)[:, :, 1]
    found: list[list[float]] = np.stack([tpr.min(0), tpr.max(0)], axis=1).tolist()
    return found


def _mean_tpr(positive: np.ndarray, negative: np.ndarray, fpr: float) -> dict[str, Any]:
    """`tpr_at_fpr`, averaged over models; its interval is widened to the range the models span."""
    each = [statistics.tpr_at_fpr(p, n, fpr) for p, n in zip(positive, negative)]
    if "skipped" in each[0] or len(each) == 1:
        return each[0]
    mean = {key: float(np.mean([one[key] for one in each])) for key in ("fpr", "tpr", "achieved_fpr")}
    return {**mean, "low": min(one["low"] for one in each), "high": max(one["high"] for one in each)}


def difference(
    scores: np.ndarray, references: np.ndarray, pool: Pools, game: str, *, seed: int
) -> statistics.Estimate | None:
    """AUC of one model (``scores``: ``examples``) minus the mean AUC of references (``K × n``), paired.

    Same examples, same draws; with several references their spread s²(1 + 1/K) is part of the interval.
    """
    plus, minus = pool.sides(game)
    if not (len(plus) and len(minus)):
        return None
    k = len(references)
    both = np.vstack([scores[None], references])
    weights = np.concatenate([[1.0], np.full(k, -1 / k)])
    groups = pool.groups_of(plus, minus)
    pair = None if groups is None else (groups[0], groups[1])
    estimate = resample.auc_estimate(both[:, plus], both[:, minus], weights, pair, seed)
    each = np.array([statistics.auc(r[plus], r[minus]) for r in references])
    others = references[:, plus], references[:, minus]
    return resample.with_spread(estimate, each, lambda w: statistics.auc_contrast(*others, w), candidates=1)
