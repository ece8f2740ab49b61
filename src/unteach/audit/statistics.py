"""Numbers with their uncertainty: mid-rank AUC, DeLong, exact binomial intervals, low-FPR points, ROC, BH.

Every function is pure NumPy on score arrays. *Higher score = more like a member*, the positive side comes
first.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from unteach.types import Refusal

LEVEL = 0.95


@dataclass(frozen=True)
class Estimate:
    """A number with its two sources of uncertainty: which examples were drawn, which models were trained.

    ``variance`` and ``freedom`` (degrees) come from examples; ``model_variance`` and ``model_freedom`` from
    the spread between trainings, zero when only one was seen. Infinite variance means "too few to say".
    """

    value: float
    variance: float
    freedom: float
    model_variance: float = 0.0
    model_freedom: float = 1.0

    def halfwidth(self, level: float = LEVEL) -> float:
        """Half the length of the Student interval, at most 2 (every quantity here lies in −1…1).

        The two variances add; degrees of freedom by Welch–Satterthwaite, so that a spread estimated from two
        models costs width only where it matters. *Source:* Satterthwaite, Biometrics Bulletin 2, 1946.
        """
        from scipy.special import stdtrit

        if not math.isfinite(self.variance) or self.freedom < 1:
            return 2.0
        total = self.variance + self.model_variance
        if total == 0:
            return 0.0
        parts = self.variance**2 / self.freedom + self.model_variance**2 / self.model_freedom
        freedom = total**2 / parts
        return min(2.0, float(stdtrit(freedom, (1 + level) / 2)) * math.sqrt(total))

    def interval(self, level: float = LEVEL, least: float = -1.0, most: float = 1.0) -> tuple[float, float]:
        """Low and high end, clipped to the values the quantity can take."""
        half = self.halfwidth(level)
        return max(least, self.value - half), min(most, self.value + half)


def placements(positive: np.ndarray, negative: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Share of the other side that each score beats, ties counting half.

    Returns one value per positive (share of negatives below) and one per negative (share of positives above);
    both average to the AUC. *Source:* DeLong et al., Biometrics 44, 1988, "structural components" V10 and
    V01.
    """
    below = np.sort(negative)
    above = np.sort(positive)
    wins = np.searchsorted(below, positive, "left") + np.searchsorted(below, positive, "right")
    losses = np.searchsorted(above, negative, "left") + np.searchsorted(above, negative, "right")
    return wins / (2 * len(negative)), 1 - losses / (2 * len(positive))


def auc(positive: np.ndarray, negative: np.ndarray) -> float:
    """Area under the ROC: chance that a positive scores above a negative, ties counting half (mid-ranks)."""
    return float(placements(np.asarray(positive), np.asarray(negative))[0].mean())


def auc_contrast(positive: np.ndarray, negative: np.ndarray, weights: np.ndarray) -> Estimate:
    """Weighted sum of the AUCs of several models on the same examples, with its DeLong variance.

    ``positive``: ``models × m`` scores, ``negative``: ``models × n``. Weights (1,) give one AUC, (1, −1) a
    paired difference, (1, −½, −½) a difference from the mean of two references. The standard error is never
    below 1/(min(m, n) + 2): scores that happen to agree everywhere prove no more than a sample of that size
    can (the zero-discordance value of `mean_contrast`). Freedom: min(m, n) − 1.

    *Source:* DeLong et al., Biometrics 44, 1988. *Departs:* the floor and Student quantiles.
    """
    sides = [placements(p, n) for p, n in zip(positive, negative)]
    v10 = sum(w * side[0] for w, side in zip(weights, sides))
    v01 = sum(w * side[1] for w, side in zip(weights, sides))
    m, n = positive.shape[1], negative.shape[1]
    value = float(np.mean(v10))
    if min(m, n) < 2:
        return Estimate(value, math.inf, 0)
    variance = float(np.var(v10, ddof=1) / m + np.var(v01, ddof=1) / n)
    return Estimate(value, max(variance, (min(m, n) + 2) ** -2), min(m, n) - 1)


def mean_contrast(values: np.ndarray, weights: np.ndarray) -> Estimate:
    """Weighted sum of the means of several models' values (each in 0…1) on the same examples: ``models × n``.

    For right/wrong answers of two models and weights (1, −1) this is the interval for paired proportions with
    half an observation added to each cell, so that no disagreement seen in n examples is not taken for none
    at all.

    *Source:* Agresti and Min, Statistics in Medicine 24, 2005. *Departs:* the estimate itself is not shrunk;
    shares between 0 and 1 are allowed.
    """
    each = np.asarray(weights) @ np.asarray(values, dtype=np.float64)
    n = len(each)
    variance = (float(each @ each) + 1 - float(each.sum()) ** 2 / (n + 2)) / (n + 2) ** 2
    return Estimate(float(each.mean()), variance, n - 1)


def clopper_pearson(successes: float, trials: int, level: float = LEVEL) -> tuple[float, float]:
    """Exact binomial interval of a proportion. *Source:* Clopper and Pearson, Biometrika 26, 1934.

    A sum of shares (multi-label answers) may stand for the count: shares vary less than right/wrong answers
    do.
    """
    from scipy.special import betaincinv

    tail = (1 - level) / 2
    low = 0.0 if successes <= 0 else float(betaincinv(successes, trials - successes + 1, tail))
    high = 1.0 if successes >= trials else float(betaincinv(successes + 1, trials - successes, 1 - tail))
    return low, high


def tpr_at_fpr(positive: np.ndarray, negative: np.ndarray, fpr: float) -> dict[str, Any]:
    """Share of positives above a threshold that at most a share ``fpr`` of the negatives exceeds.

    The threshold is a negative's score (an order statistic): the ROC is never interpolated, ties stay below.
    Fewer than 10 expected false positives give no usable threshold: then ``{"fpr", "skipped": reason}`` comes
    back, otherwise ``{"fpr", "tpr", "low", "high", "achieved_fpr"}`` with the exact binomial interval of the
    tpr.
    """
    if not 0 < fpr < 1:
        raise Refusal(f"expected a false-positive rate between 0 and 1, got {fpr}; use 0.01 for 1 %")
    allowed = math.floor(len(negative) * fpr + 1e-9)
    if len(negative) * fpr + 1e-9 < 10:
        need = math.ceil(10 / fpr - 1e-9)
        reason = f"TPR at {fpr:.1%} FPR needs at least {need:,} negatives, there are {len(negative):,}"
        return {"fpr": fpr, "skipped": reason}
    threshold = np.sort(negative)[len(negative) - 1 - allowed]
    caught = int((positive > threshold).sum())
    low, high = clopper_pearson(caught, len(positive))
    achieved = float((negative > threshold).mean())
    return {"fpr": fpr, "tpr": caught / len(positive), "low": low, "high": high, "achieved_fpr": achieved}


def roc_points(positive: np.ndarray, negative: np.ndarray, most: int = 200) -> list[list[float]]:
    """The ROC as a staircase, ``[[fpr, tpr], …]``, evenly thinned on a log axis to at most ``most`` points.

    At each fpr = k / n_neg the tpr is the best one with at most k false positives, so models with the same
    negatives share the fpr values and their curves can be averaged point by point.
    """
    n = len(negative)
    steps = np.unique(np.rint(np.geomspace(1, n, most - 1)).astype(np.int64))
    steps = np.concatenate([[0], steps])
    thresholds = np.append(np.sort(negative)[::-1], -np.inf)[steps]
    beaten = np.searchsorted(np.sort(positive), thresholds, "right")
    return [[float(k / n), float(1 - b / len(positive))] for k, b in zip(steps, beaten)]


def rejected(p_values: np.ndarray, rate: float = 0.05) -> np.ndarray:
    """Which p-values the Benjamini–Hochberg rule rejects at this false-discovery rate, bool, same shape.

    *Source:* Benjamini and Hochberg, JRSS B 57, 1995.
    """
    p = np.asarray(p_values, dtype=np.float64)
    if len(p) == 0:
        return np.zeros(0, dtype=bool)
    ordered = np.sort(p)
    passing = np.flatnonzero(ordered <= rate * np.arange(1, len(p) + 1) / len(p))
    return p <= (ordered[passing[-1]] if len(passing) else -1.0)
