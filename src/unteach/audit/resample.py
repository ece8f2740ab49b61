"""Cluster bootstrap: intervals when examples come in groups (a person, a household, near-duplicates)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from unteach.audit.statistics import Estimate, auc_contrast, mean_contrast, placements

DRAWS = 1000
# Fewer groups than this cannot show how groups vary; their examples are drawn singly; the audit says so.
FEWEST_GROUPS = 5
_CHUNK = 125


def _units(groups: np.ndarray, side: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
    """Number of each example's unit, and the strata of units that are drawn separately.

    Units that stand on the positive side only, on the negative side only, and on both are three strata, so a
    draw never loses one side. A stratum of fewer than FEWEST_GROUPS units falls apart into its examples.
    """
    _, unit = np.unique(groups, return_inverse=True)
    seen = np.zeros((unit.max() + 1, 2), dtype=bool)
    seen[unit, side] = True
    pattern = seen @ np.array([1, 2])
    few = [kind for kind in (1, 2, 3) if (pattern == kind).sum() < FEWEST_GROUPS]
    alone = np.flatnonzero(np.isin(pattern[unit], few))
    unit[alone] = unit.max() + 1 + np.arange(len(alone))
    _, unit = np.unique(unit, return_inverse=True)
    seen = np.zeros((unit.max() + 1, 2), dtype=bool)
    seen[unit, side] = True
    pattern = seen @ np.array([1, 2])
    return unit, [rows for kind in (1, 2, 3) if len(rows := np.flatnonzero(pattern == kind))]


def _draws(strata: list[np.ndarray], draws: int, seed: int) -> Iterator[np.ndarray]:
    """How often each unit is drawn: float arrays ``chunk × units``, ``draws`` rows in all."""
    rng = np.random.default_rng(seed)
    total = sum(len(rows) for rows in strata)
    for start in range(0, draws, _CHUNK):
        chunk = min(_CHUNK, draws - start)
        counts = np.empty((chunk, total))
        for rows in strata:
            size = len(rows)
            picks = rng.integers(0, size, (chunk, size)) + size * np.arange(chunk)[:, None]
            counts[:, rows] = np.bincount(picks.ravel(), minlength=chunk * size).reshape(chunk, size)
        yield counts


def auc_draws(
    positive: np.ndarray,
    negative: np.ndarray,
    weights: np.ndarray,
    groups: tuple[np.ndarray, np.ndarray],
    *,
    seed: int,
    draws: int = DRAWS,
) -> np.ndarray:
    """Bootstrap values, shape ``draws``, of the weighted sum of AUCs when whole groups are drawn.

    ``positive``: ``models × m``, ``negative``: ``models × n``, ``groups``: their group names. Every draw is
    an exact mid-rank AUC with integer weights; all models see the same draws, so differences are paired.
    """
    m = positive.shape[1]
    side = np.repeat([0, 1], [m, negative.shape[1]])
    unit, strata = _units(np.concatenate(groups), side)
    orders = []
    for plus, minus in zip(positive, negative):
        order = np.argsort(minus, kind="stable")
        ladder = minus[order]
        orders.append((order, np.searchsorted(ladder, plus, "left"), np.searchsorted(ladder, plus, "right")))
    values = []
    for counts in _draws(strata, draws, seed):
        w_positive, w_negative = counts[:, unit[:m]], counts[:, unit[m:]]
        pairs = w_positive.sum(1) * w_negative.sum(1)
        total = np.zeros(len(counts))
        for weight, (order, left, right) in zip(weights, orders):
            below = np.zeros((len(counts), len(order) + 1))
            np.cumsum(w_negative[:, order], axis=1, out=below[:, 1:])
            beaten = np.einsum("bi,bi->b", w_positive, below[:, left])
            if not np.array_equal(left, right):
                beaten = (beaten + np.einsum("bi,bi->b", w_positive, below[:, right])) / 2
            total += weight * beaten / pairs
        values.append(total)
    return np.concatenate(values)


def mean_draws(
    values: np.ndarray, weights: np.ndarray, groups: np.ndarray, *, seed: int, draws: int = DRAWS
) -> np.ndarray:
    """Bootstrap values, shape ``draws``, of a weighted sum of means (``models × n``) of drawn groups."""
    unit, strata = _units(groups, np.zeros(len(groups), dtype=np.int64))
    sums = np.bincount(unit, weights=np.asarray(weights) @ values)
    sizes = np.bincount(unit).astype(np.float64)
    return np.concatenate([counts @ sums / (counts @ sizes) for counts in _draws(strata, draws, seed)])


def percentile(draws: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """The percentile interval of bootstrap values."""
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _count(groups: np.ndarray) -> float:
    """Independent units of one side: its groups, or its examples when the groups are too few to be drawn."""
    number = len(np.unique(groups))
    return number if number >= FEWEST_GROUPS else len(groups)


def mostly_alone(*groups: np.ndarray) -> bool:
    """Whether at least nine in ten examples are the only one of their group: near-duplicates, not persons."""
    _, unit, sizes = np.unique(np.concatenate(groups), return_inverse=True, return_counts=True)
    return bool((sizes[unit] == 1).mean() >= 0.9)


def clustered_variance(shares: np.ndarray, groups: np.ndarray) -> float:
    """Variance of a sum of ``shares``, what each example adds to an estimate beyond its mean, when groups are drawn whole.

    Of examples that are all alone it is Σ shares². *Source:* Obuchowski, Biometrics 53, 1997, for AUCs; the same
    sandwich serves means.
    """
    _, unit = np.unique(groups, return_inverse=True)
    return float(np.square(np.bincount(unit, weights=shares)).sum())


def _auc_shares(positive: np.ndarray, negative: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """What each example, positives first, adds to a weighted sum of AUCs; their Σ of squares is DeLong's variance."""
    sides = [placements(p, n) for p, n in zip(positive, negative)]
    shares = []
    for at in (0, 1):
        each = sum(w * side[at] for w, side in zip(weights, sides))
        shares.append((each - np.mean(each)) / np.sqrt(len(each) * (len(each) - 1)))
    return np.concatenate(shares)


def auc_estimate(
    positive: np.ndarray,
    negative: np.ndarray,
    weights: np.ndarray,
    groups: tuple[np.ndarray, np.ndarray] | None,
    seed: int,
) -> Estimate:
    """`auc_contrast`, its variance raised to that of drawing whole groups where there are any.

    By the cluster bootstrap, or by `clustered_variance` where nearly all examples are alone. Groups may only widen an
    interval: a bootstrap over few groups can be too sure by luck.
    """
    plain = auc_contrast(positive, negative, weights)
    if groups is None or plain.freedom < 1:
        return plain
    if mostly_alone(*groups):  # a formula does what draws of thousands of units would, and what they cost is seen
        variance = clustered_variance(_auc_shares(positive, negative, weights), np.concatenate(groups))
    else:
        variance = float(np.var(auc_draws(positive, negative, weights, groups, seed=seed), ddof=1))
    freedom = min(_count(groups[0]), _count(groups[1])) - 1
    return replace(plain, variance=max(plain.variance, variance), freedom=freedom)


def mean_estimate(values: np.ndarray, weights: np.ndarray, groups: np.ndarray | None, seed: int) -> Estimate:
    """`mean_contrast`, its variance raised to that of drawing whole groups where there are any; as `auc_estimate`."""
    plain = mean_contrast(values, weights)
    if groups is None or plain.freedom < 1:
        return plain
    if mostly_alone(groups):
        each = np.asarray(weights) @ values
        shares = (each - each.mean()) / np.sqrt(len(each) * (len(each) - 1))
        variance = clustered_variance(shares, groups)
    else:
        variance = float(np.var(mean_draws(values, weights, groups, seed=seed), ddof=1))
    return replace(plain, variance=max(plain.variance, variance), freedom=_count(groups) - 1)


def with_spread(
    estimate: Estimate, each: np.ndarray, contrast: Callable[[np.ndarray], Estimate], candidates: int
) -> Estimate:
    """Adds the spread between K retrained models, ``each`` being the same quantity for every one of them.

    The mean of K retrainings is uncertain by s²/K; a single model compared with it (``candidates`` = 1) has
    drawn its own training luck on top: s²(1 + 1/K). Here s² is the variance of ``each`` beyond what the
    finite sample of examples makes of it (``contrast`` gives that for any weights over the K), since
    ``estimate`` holds that part already; at least 0. One retraining shows no spread and adds nothing.

    *Source:* the moment estimate of a random-effects variance, DerSimonian and Laird, Controlled Clinical
    Trials 7, 1986; that most of the run-to-run variance is sampling: Jordan, 2023, arXiv 2304.01910.
    """
    k = len(each)
    if k < 2:
        return estimate
    single = np.eye(k) - 1 / k
    noise = float(np.mean([contrast(weights).variance for weights in single])) * k / (k - 1)
    beyond = max(0.0, float(np.var(each, ddof=1)) - noise)
    return replace(estimate, model_variance=beyond * (candidates + 1 / k), model_freedom=float(k - 1))
