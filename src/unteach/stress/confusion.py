"""Interclass confusion: labels of two classes are swapped before training; does forgetting the swapped ones undo it?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from unteach.audit.finding import Finding, Measured
from unteach.engine import Engine
from unteach.stress.lineup import Models, Parts, answers, finding, one_class_each, share_interval
from unteach.types import Examples, Refusal

SOURCE = "Goel et al., 2022, arXiv 2201.06640"


@dataclass(frozen=True, kw_only=True)
class Confuse:
    """Swap the labels of as many examples of one class as of another; what is to be unlearned then is the swap.

    *Source:* Goel et al., Towards Adversarial Evaluations for Inexact Machine Unlearning, 2022, arXiv 2201.06640 (CIFAR-10: 3
    and 5; CIFAR-100: 47 and 53); Goel et al., Corrective Machine Unlearning, 2024, arXiv 2402.14015.
    *Departs:* nowhere known.
    """

    first: int = 3
    """Number of one class."""
    second: int = 5
    """Number of the other."""
    count: int = 500
    """Examples whose label is swapped, half of them of each class; even, at least 2."""
    seed: int = 0
    """Seed of the draw."""

    def __post_init__(self) -> None:
        if self.first == self.second or min(self.first, self.second) < 0:
            raise Refusal(f"expected two different classes, got {self.first} and {self.second}; choose another one")
        if self.count < 2 or self.count % 2:
            raise Refusal(f"expected an even count of 2 or more, got {self.count}; half of them come from each class")

    def __call__(self, examples: Examples) -> tuple[Examples, np.ndarray]:
        """The examples under the labels to train with, and the ids of those whose label was swapped, in the order of the data."""
        one_class_each(examples, "swapped labels")
        rng = np.random.default_rng(self.seed)
        labels = examples.labels.numpy()
        swapped, half = labels.copy(), self.count // 2
        for own, other in ((self.first, self.second), (self.second, self.first)):
            rows = np.flatnonzero(labels == own)
            if len(rows) < half:
                raise Refusal(f"expected {half} or more examples of class {own}, got {len(rows)}; lower the count")
            swapped[rng.permutation(rows)[:half]] = other
        return examples.relabel(torch.from_numpy(swapped)), examples.ids[swapped != labels]


@dataclass(frozen=True, kw_only=True)
class Confusion:
    """How many images of the two classes are still taken for the other one, and how many are wrong in any way.

    ``parts.forget`` are the requested ones of the swapped examples, under their *clean* labels. The models to compare with are
    trained without *all* swapped examples, also where only some of them are requested (``requested``), or on clean labels.

    *Source:* as ``Confuse``: Fgt-ERR, a count, and IC-ERR, a share of the two classes' examples. *Departs:* nowhere known.
    """

    confuse: Confuse

    def __call__(self, models: Models, parts: Parts, *, seed: int, engine: Engine) -> Measured:
        """Counts and shares (0–1) on the forget set and on the unseen examples."""
        one_class_each(parts.forget, "interclass confusion")
        return (
            *self._errors(models, "forget", parts.forget, seed, engine),
            *self._errors(models, "test", parts.useful, seed, engine),
        )

    def _errors(
        self, models: Models, part: str, examples: Examples, seed: int, engine: Engine
    ) -> tuple[Finding, Finding]:
        first, second = self.confuse.first, self.confuse.second
        pair = examples.take(np.isin(examples.labels.numpy(), (first, second)))
        if not len(pair):
            raise Refusal(f"expected {part} examples of class {first} or {second}, got none; give the clean labels")
        labels = pair.labels.numpy()
        said = models.map(lambda model: answers(model, pair, engine).argmax(1).numpy())
        counts = finding(
            said.map(lambda one: float(fgt_error(one, labels, first, second))),
            name="Fgt-ERR",
            part=part,
            two_sided=False,
            unit="examples",
            size=len(pair),
            source=SOURCE,
        )
        shares = finding(
            said.map(lambda one: ic_error(one, labels, first, second)),
            name="IC-ERR",
            part=part,
            interval=share_interval((said.unlearned != labels).astype(np.float64), pair.groups, seed),
            two_sided=False,
            size=len(pair),
            source=SOURCE,
        )
        return counts, shares


def fgt_error(predictions: np.ndarray, labels: np.ndarray, first: int, second: int) -> int:
    """Examples of either class that are taken for the other one: cm[a][b] + cm[b][a] by clean ``labels``; shape ``n`` each."""
    forth = (labels == first) & (predictions == second)
    back = (labels == second) & (predictions == first)
    return int(forth.sum() + back.sum())


def ic_error(predictions: np.ndarray, labels: np.ndarray, first: int, second: int) -> float:
    """Share (0–1) of the two classes' examples, by clean ``labels``, that are answered wrongly in any way."""
    both = (labels == first) | (labels == second)
    if not both.any():
        raise Refusal(f"expected examples of class {first} or {second}, got none; give the clean labels")
    return float((predictions != labels)[both].mean())


def requested(ids: Sequence[str] | np.ndarray, share: float, *, seed: int) -> np.ndarray:
    """The part of the tampered examples that somebody found and asks to forget: round(γ·n), at least one, in their order.

    A larger share γ (above 0, at most 1) names the same examples and more, for one seed. *Source:* Goel et al., Corrective
    Machine Unlearning, 2024, arXiv 2402.14015. *Departs:* nowhere known.
    """
    if not 0 < share <= 1 or not len(ids):
        raise Refusal(f"expected a share above 0, at most 1, of some ids, got {share} of {len(ids)}; 1 asks for all")
    order = np.random.default_rng(seed).permutation(len(ids))
    return np.asarray(ids)[np.sort(order[: max(1, round(share * len(ids)))])]
