"""RMIA: how many population examples does this one dominate in its gain of probability over reference models?"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from unteach.audit import shadows, statistics
from unteach.audit.shadows import Shadows
from unteach.audit.taylor import Softmax, TaylorSoftmax
from unteach.types import Refusal, Signals

SHARES = tuple(tenth / 10 for tenth in range(11))


def dominance(ratios: np.ndarray, population: np.ndarray, gamma: float) -> np.ndarray:
    """Share of the population's other examples z with ratio_x / ratio_z ≥ γ, for every x.

    ``ratios``: positive, ``n``; ``population``: bool, ``n``. One sort and one binary search per example, O(n log n), nothing
    larger than n. The threshold stands on the side of x, so a tie counts as it does in the quotient: exactly for γ a power of
    two (1 and 2 are in use), and otherwise up to the rounding of one division.
    """
    order = np.argsort(ratios)
    rising = ratios[order]
    ladder = rising[population[order]]
    if len(ladder) < 2:
        raise Refusal(
            f"expected two or more population examples that no audited model was trained on, got {len(ladder)}; "
            "add a test set to the signals, or compare with everyone"
        )
    beaten = np.empty(len(ratios), dtype=np.int64)
    # Searching for rising values is several times as fast as in any order.
    beaten[order] = np.searchsorted(ladder, rising / gamma, "right")
    # An example of the population is not compared with itself; it would beat itself when γ ≤ 1.
    share: np.ndarray = (beaten - (population & (gamma <= 1))) / (len(ladder) - population)
    return share


def _check(gamma: float, share: float = 0.0) -> None:
    if gamma <= 0 or not 0 <= share <= 1:
        raise Refusal(
            f"expected γ above 0 and a share from 0 to 1, got {gamma} and {share}; the defaults are 1 and 0.3"
        )


def _score(mine: np.ndarray, expected: np.ndarray, unseen: np.ndarray, gamma: float, everyone: bool) -> np.ndarray:
    """Mean over the views of the dominance by signal / expected signal, both ``views × examples``."""
    population = np.ones_like(unseen) if everyone else unseen
    return np.asarray(np.mean([dominance(ratios, population, gamma) for ratios in mine / expected], axis=0))


def _mean(readings: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Mean over the models ``inside`` (``models × examples``): ``views × examples``."""
    return np.asarray(np.einsum("mvn,mn->vn", readings, inside) / inside.sum(0))


@dataclass(frozen=True, kw_only=True)
class Rmia:
    """Online RMIA: the share of population examples z with (s(x) / s̄(x)) / (s(z) / s̄(z)) ≥ γ.

    s is the signal of the attacked model, s̄ its mean over all references, which were trained on random halves. Every view is
    scored by itself, then averaged. *Source:* Zarifzadeh et al., RMIA, 2024, arXiv 2312.03262. *Departs:* an example of the
    population is not compared with itself; several views are averaged.
    """

    gamma: float = 1.0
    """By what factor an example must beat a population example, above 0."""
    everyone: bool = False
    """Take all other examples as the population, not only those that no audited model was trained on."""
    signal: Softmax | TaylorSoftmax = field(default_factory=Softmax)
    """What is read of a model: the probability of the true class."""

    def __post_init__(self) -> None:
        _check(self.gamma)

    @property
    def least(self) -> tuple[int, int]:
        # A mean needs one model. Without IN models the mean would favour the examples that have some.
        return (1, 1)

    def score(self, mine: np.ndarray, known: Shadows) -> np.ndarray:
        """Mean dominance: ``mine`` is ``views × examples``."""
        return _score(mine, known.readings.mean(0), known.unseen, self.gamma, self.everyone)

    def __call__(self, signals: Signals, target: int) -> np.ndarray:
        return shadows.attack(self, signals, target)


@dataclass(frozen=True, kw_only=True)
class OfflineRmia:
    """Offline RMIA: as `Rmia`, with s̄ guessed from OUT references, s̄ = ½((1 + a)·s̄_out + (1 − a)).

    The guess is s̄_in ≈ a·s̄_out + (1 − a); `tuned` finds the share a. *Source:* Zarifzadeh et al., RMIA, 2024, arXiv
    2312.03262, and the authors' ml_privacy_meter. *Departs:* as `Rmia`; ≥ as in the paper, where the authors' code has >.
    """

    gamma: float = 1.0
    """By what factor an example must beat a population example, above 0."""
    share: float = 0.3
    """The share a of what OUT models answer in the guess of what IN models would, 0–1."""
    everyone: bool = False
    """Take all other examples as the population, not only those that no audited model was trained on."""
    signal: Softmax | TaylorSoftmax = field(default_factory=Softmax)
    """What is read of a model: the probability of the true class."""

    def __post_init__(self) -> None:
        _check(self.gamma, self.share)

    @property
    def least(self) -> tuple[int, int]:
        return (0, 1)

    def score(self, mine: np.ndarray, known: Shadows) -> np.ndarray:
        """Mean dominance: ``mine`` is ``views × examples``."""
        expected = offline_mean(_mean(known.readings, ~known.members), self.share)
        return _score(mine, expected, known.unseen, self.gamma, self.everyone)

    def __call__(self, signals: Signals, target: int) -> np.ndarray:
        return shadows.attack(self, signals, target)


def offline_mean(out: np.ndarray, share: float) -> np.ndarray:
    """Mean signal over IN and OUT models, from the mean over OUT models: ½((1 + a)·out + (1 − a))."""
    return ((1 + share) * out + (1 - share)) / 2


def tuned(test: OfflineRmia, signals: Signals, known: Shadows | None = None) -> OfflineRmia:
    """The test with the share a, of 0, 0.1 … 1, that best finds the members of the first reference by the other ones.

    Best is the AUC over all examples, ties go to the smaller a. No audited model is read, nor the references where their
    readings are ``known``. *Source:* ml_privacy_meter's tuning on a paired model. *Departs:* all other references attack, where
    the authors use one OUT model per example.
    """
    inner = replace(signals, references=signals.references[1:])
    if reason := shadows.lack(inner, test.least):
        raise Refusal(f"{reason} (one reference is attacked by the others)")
    known, members = known or shadows.read(signals, test.signal), signals.members[signals.references[0]]
    mine = known.readings[0]
    others = Shadows(readings=known.readings[1:], members=known.members[1:], unseen=known.unseen & ~members)

    def reach(share: float) -> float:
        scores = replace(test, share=share).score(mine, others)
        return statistics.auc(scores[members], scores[~members])

    return replace(test, share=max(SHARES, key=reach))


AMUN = Rmia(gamma=2.0, everyone=True, signal=TaylorSoftmax())
"""The attack behind AMUN's FT and FR AUC: online, γ = 2, Taylor softmax, all other examples as population.

*Source:* Ebrahimpour-Boroojeny et al., AMUN, 2025, and its public rmia_evaluate.py; there with 128 references, each trained on
a random half of the training and test images together. *Departs:* ≥ where that code has >; all examples of each set, where it
draws sets of equal size three times.
"""
