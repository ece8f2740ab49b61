"""The two signals of RMIA: the true class's share of probability, by exponentials or by short Taylor polynomials."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from unteach.audit.membership import _as_classes
from unteach.audit.shadows import confidences
from unteach.types import Refusal, Signals

# Ratios of probabilities are taken: none may be zero.
LEAST = 1e-300
# The polynomial of odd degree turns negative below −1.6, where the exponential goes to zero.
LEAST_TERM = 1e-6


@dataclass(frozen=True, kw_only=True)
class Softmax:
    """Probability of the true class, 1 / (1 + exp(−φ)); with several labels, of their mean φ."""

    def __call__(self, signals: Signals, target: int) -> np.ndarray:
        """``views × examples``, float64, above 0."""
        from scipy.special import expit

        return np.asarray(np.maximum(expit(confidences(signals, target)), LEAST))


@dataclass(frozen=True, kw_only=True)
class TaylorSoftmax:
    """Soft-margin Taylor softmax of the true class, h(t_y − m) / (h(t_y − m) + Σ_{k≠y} h(t_k)) with t = logits / T.

    h(v) = Σ_{j < terms} v^j / j! stands for the exponential: it grows slowly, so sure answers still differ. A yes-or-no label
    is two classes, (0, z), and several labels are averaged. *Source:* Zarifzadeh et al., RMIA, 2024, arXiv 2312.03262; the
    defaults are those of AMUN's public code. *Departs:* h is held at
    10⁻⁶ from below, where that code lets it turn negative.
    """

    temperature: float = 2.0
    """What the logits are divided by first, above 0."""
    margin: float = 0.6
    """What is taken from the true class's divided logit, 0 or more."""
    terms: int = 4
    """Terms of the polynomial, 2 or more: its degree is one less."""

    def __post_init__(self) -> None:
        if self.temperature <= 0 or self.terms < 2:
            raise Refusal(
                f"expected a temperature above 0 and 2 or more terms, got {self.temperature} and {self.terms}; "
                "the published values are 2 and 4"
            )

    def _positive(self, v: np.ndarray) -> np.ndarray:
        """h(v) by Horner's rule."""
        h = np.full_like(v, 1 / math.factorial(self.terms - 1))
        for degree in reversed(range(self.terms - 1)):
            h = h * v + 1 / math.factorial(degree)
        return np.asarray(np.maximum(h, LEAST_TERM))

    def __call__(self, signals: Signals, target: int) -> np.ndarray:
        """``views × examples``, float64, above 0."""
        z, true = _as_classes(signals, target)
        t = z / self.temperature
        own = self._positive(np.take_along_axis(t, true, -1)[..., 0] - self.margin)
        terms = self._positive(t)
        np.put_along_axis(terms, true, 0.0, -1)
        share = own / (own + terms.sum(-1))
        return np.asarray(share.mean(-1) if share.ndim == 3 else share)
