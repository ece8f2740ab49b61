"""LiRA: is this confidence likelier under models that trained on the example, or under models that did not?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from unteach.audit import shadows
from unteach.audit.shadows import Shadows, Signal
from unteach.types import Signals

# Float32 logits resolve no smaller spread: models that agree to the last digit must not divide by zero.
LEAST_VARIANCE = 1e-12
# Examples in one go: few enough for the processor's cache.
BLOCK = 1000


def log_normal(phi: np.ndarray, mean: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """Log density of a normal law."""
    density: np.ndarray = -0.5 * ((phi - mean) ** 2 / variance + np.log(2 * np.pi * variance))
    return density


def _fit(values: np.ndarray, inside: np.ndarray, each: bool) -> tuple[np.ndarray, np.ndarray]:
    """Median and variance over the models ``inside``; both arguments ``models × examples``.

    The variance is that of the ``each`` example, or one pooled over all: squares about each example's mean, divided by the
    freedom that those means leave.
    """
    starts = range(0, values.shape[1], BLOCK)
    blocks = [_moments(values[:, at : at + BLOCK], inside[:, at : at + BLOCK]) for at in starts]
    median, squares, freedom = (np.concatenate(part) for part in zip(*blocks))
    variance = squares / freedom if each else np.full(len(median), squares.sum() / freedom.sum())
    return median, np.maximum(variance, LEAST_VARIANCE)


def _moments(values: np.ndarray, inside: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Median, squares about the mean and count less one over the models ``inside``, per example."""
    count = inside.sum(0)
    weights = inside.T.copy().astype(np.float64)  # two steps: to cast while transposing takes ten times as long
    ladder = np.ascontiguousarray(values.T)
    gaps = (ladder - (np.einsum("nm,nm->n", ladder, weights) / count)[:, None]) * weights
    # Raises the others to infinity, behind the sorted values; several times as fast as numpy.where.
    ladder = np.sort(np.maximum(ladder, (0.5 - weights) * np.inf), axis=1)
    rows = np.arange(len(ladder))
    median = (ladder[rows, (count - 1) // 2] + ladder[rows, count // 2]) / 2
    return median, np.einsum("nm,nm->n", gaps, gaps), count - 1


@dataclass(frozen=True, kw_only=True)
class Lira:
    """Online LiRA: log ratio of the likelihoods of φ under normal laws fitted to IN and to OUT reference models.

    Per view, log N(φ; μ_in, σ²_in) − log N(φ; μ_out, σ²_out), then the mean over the views. μ is the median over the models,
    as in the authors' code (the paper writes means; in a Gaussian simulation medians cost up to 0.01 AUC).
    *Source:* Carlini et al., LiRA, 2022, arXiv 2112.03570, algorithm 1. *Departs:* views are averaged, as in the authors'
    code, where the paper has one multivariate normal; a pooled variance is that within examples, of IN models for IN and of
    OUT models for OUT, where the authors' code takes one deviation over all examples and models, that of IN, for both.
    """

    per_example_from: int = 64
    """References from which on each example has a variance of its own; with fewer, one is pooled over all examples."""

    @property
    def signal(self) -> Signal:
        return shadows.confidences

    @property
    def least(self) -> tuple[int, int]:
        return (2, 2)

    def score(self, mine: np.ndarray, known: Shadows) -> np.ndarray:
        """Mean log ratio: ``mine`` is ``views × examples``."""
        each, ratios = len(known.readings) >= self.per_example_from, []
        for view, phi in enumerate(mine):
            readings = known.readings[:, view]
            inside, outside = _fit(readings, known.members, each), _fit(readings, ~known.members, each)
            ratios.append(log_normal(phi, *inside) - log_normal(phi, *outside))
        return np.asarray(np.mean(ratios, axis=0))

    def __call__(self, signals: Signals, target: int) -> np.ndarray:
        return shadows.attack(self, signals, target)


@dataclass(frozen=True, kw_only=True)
class OfflineLira:
    """Offline LiRA: how far φ lies above OUT reference models, (φ − μ_out) / σ_out, averaged over the views.

    μ and σ as in `Lira`. *Source:* Carlini et al., LiRA, 2022, arXiv 2112.03570, the offline attack. *Departs:* the
    z-value, not its normal probability: the order is the same, but the probability is 1.0 from 8.3 σ on.
    """

    per_example_from: int = 64
    """References from which on each example has a variance of its own; with fewer, one is pooled over all examples."""

    @property
    def signal(self) -> Signal:
        return shadows.confidences

    @property
    def least(self) -> tuple[int, int]:
        return (0, 2)

    def score(self, mine: np.ndarray, known: Shadows) -> np.ndarray:
        """Mean z-value: ``mine`` is ``views × examples``."""
        each, scores = len(known.readings) >= self.per_example_from, []
        for view, phi in enumerate(mine):
            median, variance = _fit(known.readings[:, view], ~known.members, each)
            scores.append((phi - median) / np.sqrt(variance))
        return np.asarray(np.mean(scores, axis=0))

    def __call__(self, signals: Signals, target: int) -> np.ndarray:
        return shadows.attack(self, signals, target)
