"""Forgetting quality of the NeurIPS 2023 unlearning competition: how well each example tells two ensembles apart."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

import numpy as np

from unteach.audit import populations, resample
from unteach.audit.finding import Finding, Skipped
from unteach.types import Refusal

FEWEST = 16  # below it the null distribution of F was never measured
_REACH = 2.0  # how far an interval rule's ends move away from those of the narrower population
_COLLAPSED = 0.01


@dataclass(frozen=True, kw_only=True)
class ForgettingQuality:
    """ε of every forgotten example, from its confidences φ under unlearned and retrained models.

    1. A population whose range is below 1 % of the other's counts as collapsed: ε is the clip.
    2. Rules that guess the population from φ: every threshold, the larger median above it (a tie: the unlearned models); and
       every interval, the narrower population inside it, whose right end lies within 2 of that population's maximum and
       whose length is within 2 of its range.
    3. A rule with error rates FPR and FNR gives max(log(1−δ−FPR) − log FNR, log(1−δ−FNR) − log FPR), at least 0; without
       errors the clip; with exactly one kind of error nothing. The best rule counts; an example left without rules gets 0.

    Max over rules makes ε positive without any difference: two samples of one law with sd 1 have a median near 1.6 and F near
    0.18; with sd 0.3 a median near 2.5 and F near 0.06, since intervals reach 2 units whatever the spread. So F is read beside
    that of retrained models among themselves.
    *Source:* Triantafillou et al., 2024, arXiv 2406.09073, and the released ``metric.py``. *Departs:* every threshold and
    interval that the data can tell apart, where the code tries a grid of 100 a unit (a subset of these).
    """

    intervals: bool = True
    """Try interval rules besides thresholds, as the competition does."""
    delta: float = 1e-5
    """δ of (ε, δ), 0 to 1: the probability that the guarantee may fail."""
    clip: float = 50.0
    """Largest ε of an example, above 0: what perfectly told-apart ensembles get."""

    def __post_init__(self) -> None:
        if not (0 <= self.delta < 1 and self.clip > 0):
            raise Refusal(
                f"expected delta from 0 to 1 and clip above 0, got {self.delta} and {self.clip}; see the defaults"
            )

    def __call__(self, unlearned: np.ndarray, retrained: np.ndarray) -> Quality:
        """``unlearned``: ``N × n`` and ``retrained``: ``M × n`` confidences of the same n examples."""
        populations.check(unlearned, retrained)
        models = len(unlearned), len(retrained)
        if min(models) < 3:
            raise Refusal(f"expected at least 3 unlearned and 3 retrained models, got {models}; train more")
        table = self.table(*models)
        found = np.array([self._best(u, r, table) for u, r in zip(*map(_columns, (unlearned, retrained)))])
        collapsed = np.isnan(found)
        epsilon = np.where(collapsed, self.clip, np.maximum(found, 0.0))
        return Quality(epsilon, models, undecided=int((found < 0).sum()), collapsed=int(collapsed.sum()))

    def table(self, unlearned: int, retrained: int) -> np.ndarray:
        """ε of a rule by its wrong guesses among so many models of each kind, from none to all; −1 where it says nothing."""
        fpr, fnr = np.ix_(np.arange(unlearned + 1) / unlearned, np.arange(retrained + 1) / retrained)
        with np.errstate(divide="ignore", invalid="ignore"):
            first, second = (np.log(np.maximum(1 - self.delta - a, 0)) - np.log(b) for a, b in ((fpr, fnr), (fnr, fpr)))
        epsilon: np.ndarray = np.clip(np.fmax(first, second), 0.0, self.clip)
        epsilon[0, :] = epsilon[:, 0] = -1.0
        epsilon[0, 0] = self.clip
        return epsilon

    def _best(self, unlearned: np.ndarray, retrained: np.ndarray, table: np.ndarray) -> float:
        """The best rule's ε for one example's sorted values; −1 without a rule, NaN when one population collapsed."""
        ranges = np.ptp(unlearned), np.ptp(retrained)
        if min(ranges) < _COLLAPSED * max(ranges):
            return math.nan
        values = np.unique(np.concatenate([unlearned, retrained]))
        # How many of each population lie below each distinct value; in the last column all.
        below = np.stack([np.append(np.searchsorted(one, values), len(one)) for one in (unlearned, retrained)])
        total = below[:, -1:]
        up = np.median(unlearned) >= np.median(retrained)
        mine, other = (below[0], total[1] - below[1]) if up else (total[0] - below[0], below[1])
        best = float(table[mine, other].max())
        if self.intervals:
            narrow = 0 if ranges[0] <= ranges[1] else 1
            lows, highs = _intervals(values, (unlearned, retrained)[narrow], ranges[narrow])
            inside = below[:, highs] - below[:, lows]
            inside[narrow] = total[narrow] - inside[narrow]
            best = max(best, float(table[inside[0], inside[1]].max(initial=-1.0)))
        return best


def _columns(values: np.ndarray) -> np.ndarray:
    return np.sort(np.asarray(values, dtype=np.float64).T, axis=1)


def _intervals(values: np.ndarray, narrow: np.ndarray, width: float) -> tuple[np.ndarray, np.ndarray]:
    """All pairs (first value inside, first value above) that an allowed interval [l, r] can cut out of ``values``.

    r lies within 2 of the narrow maximum and r − l within 2 of ``width``. Values p to q − 1 are cut out by l in
    (x[p−1], x[p]] and r in [x[q−1], x[q]), and r − l then takes every value between the two extremes.
    """
    top = narrow[-1]
    above = np.arange(1, len(values) + 1)
    right = np.append(values, np.inf)
    least, most = np.maximum(values, top - _REACH), np.minimum(right[1:], top + _REACH)
    keep = (values <= top + _REACH) & (right[1:] > top - _REACH)
    above, least, most = above[keep], least[keep], most[keep]
    start = np.searchsorted(values, least - width - _REACH)
    stop = np.minimum(np.searchsorted(values, most - width + _REACH) + 1, above)
    counts = np.maximum(stop - start, 0)
    highs = np.repeat(above, counts)
    lows = np.arange(len(highs)) - np.repeat(np.cumsum(counts) - counts - start, counts)
    return lows, highs


@dataclass(frozen=True, eq=False)
class Quality:
    """What `ForgettingQuality` found: ε by example, from so many unlearned and retrained ``models``.

    ``undecided``: examples all of whose rules said nothing, ε = 0. ``collapsed``: examples with one population nearly constant.
    """

    epsilon: np.ndarray
    models: tuple[int, int]
    undecided: int
    collapsed: int

    @property
    def points(self) -> np.ndarray:
        """2^−k for ε in the k-th half unit from 0, up to the first whole number from ln(models − 1) on; 0 beyond."""
        bins = np.floor(2 * self.epsilon)
        return np.asarray(np.where(bins < 2 * math.ceil(math.log(min(self.models) - 1)), 0.5**bins, 0.0))

    @property
    def score(self) -> float:
        """F, the mean of the points: 0–1, though two samples of one law reach only about 0.2."""
        return float(self.points.mean())


def forgetting_quality(
    unlearned: np.ndarray,
    retrained: np.ndarray,
    *,
    measure: ForgettingQuality | None = None,
    accuracies: tuple[tuple[float, float], tuple[float, float]] | None = None,
    groups: np.ndarray | None = None,
    seed: int = 0,
) -> list[Finding | Skipped]:
    """F, its final form, F beside that of retrained models, and the median ε, of the forget set.

    ``accuracies``: ((retain unlearned, retain retrained), (test unlearned, test retrained)), means over models; the final
    score is F times both ratios. ``groups``: persons of the examples. F_norm divides F by F of retrained models among
    themselves, both from ensembles of equal size.
    """
    populations.check(unlearned, retrained)
    measure = measure or ForgettingQuality()
    names = "forgetting quality F", "forgetting quality, final", "forgetting quality F_norm", "median ε of examples"
    n, m = len(unlearned), len(retrained)
    size = populations.matched(n, m)
    if size < 3:
        reason = f"it takes 3 unlearned and 6 retrained models, got {n} and {m}"
        return [Skipped(name=name, family="distribution", reason=reason) for name in names]
    whole = measure(unlearned, retrained)
    pairs = [(measure(a, b), measure(c, b)) for a, b, c in populations.halved(unlearned, retrained, seed)]
    floors = tuple(floor.score for _, floor in pairs)
    finding = partial(
        Finding,
        family="distribution",
        part="forget",
        size=unlearned.shape[1],
        models=n,
        doubts=_doubts(whole, size),
        source="Triantafillou et al., 2024, arXiv 2406.09073",
    )
    points = resample.mean_estimate(whole.points[None], np.ones(1), groups, seed)
    interval = points.interval(least=0.0)
    found: list[Finding | Skipped] = [finding(name=names[0], value=whole.score, retrained=floors, interval=interval)]
    if accuracies:
        final = whole.score * math.prod(_ratio(mine, clean) for mine, clean in accuracies)
        found.append(finding(name=names[1], value=final, retrained=floors))
    if audit := float(np.mean(floors)):
        normal = float(np.mean([value.score for value, _ in pairs])) / audit
        found.append(finding(name=names[2], value=normal, retrained=tuple(f / audit for f in floors)))
    else:
        found.append(
            Skipped(name=names[2], family="distribution", reason="retrained models among themselves have F = 0")
        )
    medians = np.median([[one.epsilon for one in pair] for pair in pairs], axis=2)
    target = tuple(medians[:, 1].tolist())
    drawn = _histogram([one.epsilon for one, _ in pairs], [one.epsilon for _, one in pairs])
    median = float(medians[:, 0].mean())
    found.append(finding(name=names[3], value=median, retrained=target, two_sided=False, histogram=drawn))
    return found


def _histogram(judged: list[np.ndarray], retrained: list[np.ndarray]) -> dict[str, list[float]]:
    """Shares of the examples by half units of ε, the last bin for all beyond 7, averaged over the halvings."""
    edges = np.arange(0, 8, 0.5)
    sides = {"judged": np.concatenate(judged), "retrained": np.concatenate(retrained)}
    shares = {name: np.histogram(np.minimum(side, 7.25), edges)[0] / len(side) for name, side in sides.items()}
    return {"edges": edges.tolist(), **{name: share.tolist() for name, share in shares.items()}}


def _ratio(unlearned: float, retrained: float) -> float:
    if not retrained > 0:
        raise Refusal(f"expected retrained models with an accuracy above 0, got {retrained}; check them")
    return unlearned / retrained


def _doubts(whole: Quality, size: int) -> tuple[str, ...]:
    n, m = whole.models
    doubts = [
        f"F comes from {n} unlearned and {m} retrained models, all other values from {size} a side, in overlapping halves."
    ]
    if whole.undecided:
        doubts.append(f"{whole.undecided} examples had no rule with errors of both kinds; they count as ε = 0.")
    if whole.collapsed:
        doubts.append(f"{whole.collapsed} examples have nearly constant confidences in one of the two populations.")
    if size < FEWEST:
        doubts.append(f"Below {FEWEST} models a side F of equal ensembles is not known to be stable.")
    return tuple(doubts)
