"""Accuracies on retain, forget and test with their intervals, and the gaps to the retrained model."""

from __future__ import annotations

import numpy as np

from unteach.audit import resample, statistics
from unteach.audit.games import Pools


def accuracy(correct: np.ndarray, rows: np.ndarray, pool: Pools, *, seed: int) -> tuple[float, float, float]:
    """Accuracy in 0–1 with the low and high end of its 95 % interval.

    ``correct``: ``models × examples``, shares of right answers. One model: Clopper–Pearson. Several: the mean
    over them, a Student interval with their spread s²/K. With groups the cluster bootstrap may widen it.
    """
    values = correct[:, rows]
    each = values.mean(1)
    k, n = values.shape
    value = float(each.mean())
    weights = np.full(k, 1 / k)
    groups = pool.groups_of(rows)
    if k > 1:
        estimate = resample.mean_estimate(values, weights, None if groups is None else groups[0], seed)
        whole = resample.with_spread(estimate, each, lambda w: statistics.mean_contrast(values, w), candidates=0)
        low, high = whole.interval(least=0.0)
    else:
        low, high = statistics.clopper_pearson(float(values.sum()), n)
        if groups is not None and not resample.mostly_alone(groups[0]):
            drawn = resample.percentile(resample.mean_draws(values, weights, groups[0], seed=seed))
            low, high = min(low, drawn[0]), max(high, drawn[1])
    return value, low, high


def difference(
    correct: np.ndarray, references: np.ndarray, rows: np.ndarray, pool: Pools, *, seed: int
) -> statistics.Estimate | None:
    """Accuracy of one model (``examples``) minus the mean accuracy of references (``K × n``), paired."""
    if not len(rows):
        return None
    k = len(references)
    both = np.vstack([correct[None], references])[:, rows]
    weights = np.concatenate([[1.0], np.full(k, -1 / k)])
    groups = pool.groups_of(rows)
    estimate = resample.mean_estimate(both, weights, None if groups is None else groups[0], seed)
    others = references[:, rows]
    return resample.with_spread(estimate, others.mean(1), lambda w: statistics.mean_contrast(others, w), candidates=1)


def average_gap(gaps: dict[str, float]) -> float:
    """Mean of the absolute gaps (points) in forget, retain, test accuracy and FT AUC: AMUN's "Avg. Gap".

    To be printed next to its components: equal averages can hide opposite failures.
    *Source:* Ebrahimpour-Boroojeny et al., AMUN, 2025, arXiv 2503.00917.
    """
    return float(np.mean([abs(gaps[name]) for name in ("forget", "retain", "test", "ft_auc")]))
