"""One request after another: is each forgotten, do earlier ones come back, and does the model wear out? Pure functions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from unteach.audit.finding import Finding, Measured
from unteach.audit.resample import auc_estimate
from unteach.audit.statistics import auc
from unteach.types import Refusal

SOURCE = "Ebrahimpour-Boroojeny et al., AMUN, 2025, arXiv 2503.00917"
RETAINED, UNSEEN = -1, -2  # in place of a request's number


@dataclass(frozen=True, kw_only=True, eq=False)
class History:
    """What was seen of a model after each of K requests, and of models retrained after each.

    ``request``: for each example the number from 0 of the request that names it, RETAINED, or UNSEEN; ``n``.
    ``scores``: membership scores after each request, higher = more like a member; ``K × n``. ``correct``: shares of right
    answers 0–1, ``K × n``. ``retrained_scores``, ``retrained_correct``: the same of R models retrained without the requests up
    to that one, ``K × R × n``; R may be 0. ``groups``: the independent units for intervals, or None.
    """

    request: np.ndarray
    scores: np.ndarray
    correct: np.ndarray
    retrained_scores: np.ndarray
    retrained_correct: np.ndarray
    groups: np.ndarray | None = None

    def __post_init__(self) -> None:
        n, count = len(self.request), self.count
        if sorted(set(self.request.tolist()) - {RETAINED, UNSEEN}) != list(range(count)):
            raise Refusal(
                f"expected every request from 0 to {count - 1} to name examples, got others; check the numbers"
            )
        if not (self.request == UNSEEN).any():
            raise Refusal("expected some unseen examples, got none; add a test set")
        for name in ("scores", "correct"):
            mine, theirs = getattr(self, name), getattr(self, f"retrained_{name}")
            if mine.shape != (count, n) or theirs.ndim != 3 or (theirs.shape[0], theirs.shape[2]) != (count, n):
                raise Refusal(
                    f"expected {name} of {count} requests × {n} examples, and retrained ones of {count} × models × {n}, got "
                    f"{mine.shape} and {theirs.shape}; stack them like this"
                )
            if not (np.isfinite(mine).all() and np.isfinite(theirs).all()):
                raise Refusal(f"expected finite {name}, got NaN or infinity; check the models")

    @property
    def count(self) -> int:
        """Requests, K."""
        return len(self.scores)


def sequence_curves(history: History, *, spreads: float = 3.0, seed: int = 0) -> Measured:
    """After each request: membership of the current and of all earlier ones, AMUN's curve, and the model's utility.

    FT AUC: forgotten against unseen; of earlier requests it rises again where they resurface. AMUN's curve: AUC(R vs F) −
    AUC(F vs T) with F all that was forgotten so far, R what is still retained (later requests included), T unseen; a retrained
    model's is the target. Utility: accuracy on unseen examples, and how many requests it went without leaving the mean of the
    retrained ones by more than ``spreads`` standard deviations (pooled over requests).

    *Source:* AMUN's experiment with five requests of 2 %, 2025, arXiv 2503.00917. *Departs:* the curve is of all requests so far;
    earlier ones by themselves, and when utility leaves, are ours.
    """
    found: list[Finding] = []
    for at in range(history.count):
        found += _after(history, at, seed)
    utility, theirs = (
        each[..., history.request == UNSEEN].mean(-1) for each in (history.correct, history.retrained_correct)
    )
    for at, value in enumerate(utility):
        found.append(_finding("test accuracy", f"after request {at + 1}", float(value), theirs[at], history))
    if theirs.shape[1] > 1:
        kept = within(utility, theirs, spreads)
        name = f"requests before accuracy leaves retraining by {spreads:g} sd"
        found.append(_finding(name, f"of {history.count}", float(kept), np.zeros(0), history, unit="requests"))
    return tuple(found)


def within(utility: np.ndarray, retrained: np.ndarray, spreads: float = 3.0) -> int:
    """Requests that pass before utility (``K``) first leaves the retrained models' mean (``K × R``) by so many sd; K if never.

    The standard deviation is pooled over requests: that of a few models is mostly luck.
    """
    if retrained.ndim != 2 or len(retrained) != len(utility) or retrained.shape[1] < 2:
        raise Refusal(
            f"expected two or more retrained models for each of {len(utility)} requests, got {retrained.shape}; retrain more"
        )
    spread = np.sqrt(retrained.var(1, ddof=1).mean())
    out = np.flatnonzero(np.abs(utility - retrained.mean(1)) > spreads * spread)
    return int(out[0]) if len(out) else len(utility)


def _after(history: History, at: int, seed: int) -> list[Finding]:
    """The membership curves after request ``at``."""
    request = history.request
    unseen, so_far = request == UNSEEN, (request >= 0) & (request <= at)
    retained = (request == RETAINED) | (request > at)
    games = {"FT AUC of the current request": request == at}
    if at:
        games["FT AUC of earlier requests"] = so_far & (request < at)
    part, found = f"after request {at + 1}", []
    mine, theirs = history.scores[at], history.retrained_scores[at]
    for name, plus in games.items():
        pair = None if history.groups is None else (history.groups[plus], history.groups[unseen])
        estimate = auc_estimate(mine[None, plus], mine[None, unseen], np.ones(1), pair, seed)
        others = np.array([auc(one[plus], one[unseen]) for one in theirs])
        interval = estimate.interval(least=0.0)
        found.append(_finding(name, part, estimate.value, others, history, interval, size=int((plus | unseen).sum())))
    if retained.any():
        gaps = [
            auc(one[retained], one[so_far]) - auc(one[so_far], one[unseen])
            for one in np.concatenate([mine[None], theirs])
        ]
        found.append(_finding("AUC(R vs F) − AUC(F vs T)", part, gaps[0], np.array(gaps[1:]), history))
    return found


def _finding(
    name: str,
    part: str,
    value: float,
    retrained: np.ndarray,
    history: History,
    interval: tuple[float, float] | None = None,
    *,
    unit: str = "",
    size: int = 0,
) -> Finding:
    return Finding(
        name=name,
        family="behaviour",
        part=part,
        value=value,
        retrained=tuple(map(float, retrained)),
        interval=interval,
        unit=unit,
        size=size or len(history.request),
        source=SOURCE,
    )
