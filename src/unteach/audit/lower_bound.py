"""A lower confidence bound on ε from any membership score: what an attack has shown, without the luck of many rules."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from unteach.audit import resample
from unteach.audit.finding import Finding, Skipped
from unteach.types import Refusal

_FEWEST = 20
_MOST_THRESHOLDS = 1000


@dataclass(frozen=True, kw_only=True)
class LowerBound:
    """ln((TPR − δ) / FPR) with the error rates at their worst that the data allow.

    1. Both sides are split into random halves; a group's examples stay together.
    2. Of all thresholds, read by (TPR, FPR) or by (TNR, FNR), the one with the largest bound on the first half is kept.
    3. On the second half the first rate gets its lower and the other its upper Clopper–Pearson limit, each at half of
       1 − level; the bound is at least 0.

    *Source:* Kairouz, Oh & Viswanath, 2015, arXiv 1311.0776 (rates that (ε, δ) allows); Nasr et al., 2021, arXiv 2101.04535
    (exact limits). *Departs:* which pair of rates is read is chosen on the first half, too, so that no further correction
    is due.
    """

    delta: float = 1e-5
    """δ of (ε, δ), 0 to 1: the probability that the guarantee may fail."""
    level: float = 0.95
    """Confidence of the bound, 0 to 1."""

    def __post_init__(self) -> None:
        if not (0 <= self.delta < 1 and 0 < self.level < 1):
            raise Refusal(f"expected delta and level from 0 to 1, got {self.delta} and {self.level}; see the defaults")

    def __call__(
        self,
        positive: np.ndarray,
        negative: np.ndarray,
        *,
        groups: tuple[np.ndarray, np.ndarray] | None = None,
        seed: int = 0,
    ) -> float:
        """The bound in nats; ``positive``, ``negative``: scores of either world, 20 or more each; ``groups``: their units."""
        if min(len(positive), len(negative)) < _FEWEST or not all(np.isfinite(s).all() for s in (positive, negative)):
            raise Refusal(
                f"expected {_FEWEST} or more finite scores on both sides, got {len(positive)} and {len(negative)}; give more"
            )
        first, second = _halves(positive, negative, groups, seed)
        if not all(map(len, (*first, *second))):
            raise Refusal("expected groups that leave scores of both sides in each half, got too few groups; give more")
        thresholds = np.unique(np.concatenate(first))
        if len(thresholds) > _MOST_THRESHOLDS:
            thresholds = np.quantile(thresholds, np.linspace(0, 1, _MOST_THRESHOLDS), method="nearest")
        bounds = self._bounds(first, thresholds)
        side, at = np.unravel_index(int(bounds.argmax()), bounds.shape)
        return max(0.0, float(self._bounds(second, thresholds[[at]])[side, 0]))

    def _bounds(self, scores: tuple[np.ndarray, np.ndarray], thresholds: np.ndarray) -> np.ndarray:
        """The bound of every threshold: first row, positives lie at or above it; second row, negatives lie below it."""
        (m, above), (n, wrong) = ((len(s), len(s) - np.searchsorted(np.sort(s), thresholds)) for s in scores)
        return np.stack([self._bound(above, m, wrong, n), self._bound(n - wrong, n, m - above, m)])

    def _bound(self, hits: np.ndarray, trials: int, errors: np.ndarray, others: int) -> np.ndarray:
        from scipy.special import betaincinv

        tail = (1 - self.level) / 2
        # Clopper-Pearson ends; betaincinv knows no interval for none of them, or for all.
        least = np.where(hits > 0, betaincinv(np.maximum(hits, 1), trials - hits + 1, tail), 0.0)
        most = np.where(errors < others, betaincinv(errors + 1, np.maximum(others - errors, 1), 1 - tail), 1.0)
        bound: np.ndarray = np.log(np.maximum(least - self.delta, np.finfo(np.float64).tiny) / most)
        return bound


Sides = tuple[np.ndarray, np.ndarray]


def _halves(positive: np.ndarray, negative: np.ndarray, groups: Sides | None, seed: int) -> tuple[Sides, Sides]:
    """Random halves of both sides; of groups, those on one side only and those on both are halved apart."""
    rng = np.random.default_rng(seed)
    if groups is None:
        p, n = (rng.permutation(len(s)) < len(s) // 2 for s in (positive, negative))
    else:
        plus, minus = map(np.unique, groups)
        strata = np.setdiff1d(plus, minus), np.setdiff1d(minus, plus), np.intersect1d(plus, minus)
        chosen = np.concatenate([rng.permutation(names)[: len(names) // 2] for names in strata])
        p, n = (np.isin(side, chosen) for side in groups)
    return (positive[p], negative[n]), (positive[~p], negative[~n])


def epsilon_lower_bound(
    scores: np.ndarray,
    rows: tuple[np.ndarray, np.ndarray],
    *,
    game: str = "FT",
    measure: LowerBound | None = None,
    groups: np.ndarray | None = None,
    seed: int = 0,
) -> Finding | Skipped:
    """The bound for a judged model beside those of retrained ones, as a finding.

    ``scores``: ``models × examples``, *higher = more like a member*, the judged model first, retrained ones after it.
    ``rows``: positions of the positive and of the negative examples of ``game``.
    """
    measure = measure or LowerBound()
    name = f"ε lower bound ({100 * measure.level:g} %)"
    plus, minus = rows
    if min(len(plus), len(minus)) < _FEWEST:
        reason = f"it takes {_FEWEST} examples a side, got {len(plus)} and {len(minus)}"
        return Skipped(name=name, family="membership", reason=reason)
    units = None if groups is None else (groups[plus], groups[minus])
    if units is not None and (fewest := min(len(np.unique(side)) for side in units)) < resample.FEWEST_GROUPS:
        reason = f"it takes {resample.FEWEST_GROUPS} groups a side, to keep each in one half, got {fewest}"
        return Skipped(name=name, family="membership", reason=reason)
    values = [measure(one[plus], one[minus], groups=units, seed=seed) for one in scores]
    clustered = ("Examples of one group are not independent; the exact limits take them for it.",)
    return Finding(
        name=name,
        family="membership",
        part=game,
        value=values[0],
        retrained=tuple(values[1:]),
        two_sided=False,
        trace="above",
        unit="nats",
        size=len(plus) + len(minus),
        doubts=(
            "Trials are examples of one training, not repeated trainings of one example.",
            *(clustered if groups is not None else ()),
        ),
        source="Kairouz et al., 2015, arXiv 1311.0776; Nasr et al., 2021, arXiv 2101.04535",
    )
