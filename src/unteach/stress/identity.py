"""Faces: can a forgotten person still be recognised by what the network makes of two images?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from unteach.audit.finding import Measured, Skipped
from unteach.audit.resample import FEWEST_GROUPS
from unteach.engine import Engine
from unteach.stress.features import features_of
from unteach.stress.lineup import Models, Parts, auc_finding
from unteach.types import Refusal

NAME = "identity verification AUC"


@dataclass(frozen=True, kw_only=True)
class Identity:
    """Verification of forgotten persons: are two images of one person closer than images of two?

    1. Pairs are drawn: two different images of one forgotten person (its group), and one image of a forgotten person beside
       one of anybody else, forgotten or unseen. As many of either kind, none twice.
    2. Score: cosine of the features before the last linear layer. AUC of same against different.
    3. Interval: a bootstrap over the person of each pair's first image; with fewer than five forgotten persons over pairs.

    *Source:* the evaluation notes, 7; verification by cosine is usual for faces (Schroff et al., 2015, arXiv 1503.03832, has
    Euclidean distance). *Departs:* the other image's person is not drawn anew in the bootstrap.
    """

    pairs: int = 10_000
    """Most pairs of either kind, at least 10."""

    def __post_init__(self) -> None:
        if self.pairs < 10:
            raise Refusal(f"expected 10 or more pairs, got {self.pairs}; draw more")

    def __call__(self, models: Models, parts: Parts, *, seed: int, engine: Engine) -> Measured:
        """AUC, 0–1; features are taken of the forgotten and the unseen examples."""
        forget, unseen = parts.forget, parts.unseen
        if forget.groups is None or unseen.groups is None:
            return (Skipped(name=NAME, family="behaviour", reason="the data have no groups to tell persons by"),)
        groups = np.concatenate([forget.groups, unseen.groups])
        same, different = draw_pairs(groups, len(forget), self.pairs, seed)
        if min(len(same), len(different)) < 10:
            why = f"{len(same)} pairs of one forgotten person and {len(different)} of two, 10 of each are needed"
            return (Skipped(name=NAME, family="behaviour", reason=why),)

        def closeness(model: torch.nn.Module) -> tuple[np.ndarray, np.ndarray]:
            x = np.concatenate([features_of(model, part, engine) for part in (forget, unseen)])
            x /= np.maximum(np.linalg.norm(x, axis=1, keepdims=True), np.finfo(np.float64).tiny)
            return cosines(x, same), cosines(x, different)

        try:
            scores = models.map(closeness)
        except Refusal as refusal:
            return (Skipped(name=NAME, family="behaviour", reason=str(refusal)),)
        count = len(np.unique(forget.groups))
        few = f"Only {count} forgotten person(s): pairs count as independent, which they are not."
        persons = groups[same[:, 0]], groups[different[:, 0]]
        doubts = (few,) if count < FEWEST_GROUPS else ()
        return (auc_finding(scores, NAME, "forget", persons, seed, doubts),)


def draw_pairs(groups: np.ndarray, first: int, most: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions of pairs of one person and of two, at most so many of each, ``pairs × 2``, none twice.

    The left image is one of the ``first`` examples; the right one of the same person's among these, or of anybody else's
    among all. All images are equally likely to be on the left.
    """
    rng = np.random.default_rng(seed)
    n = len(groups)
    # More are drawn than wanted, since some repeat or don't fit.
    drawn = 4 * most
    order = np.argsort(groups[:first], kind="stable")
    _, start, count = np.unique(groups[:first][order], return_index=True, return_counts=True)
    place = rng.integers(first, size=drawn)
    person = np.searchsorted(start, place, "right") - 1
    other = start[person] + rng.integers(count[person])
    same = np.sort(np.stack([order[place], order[other]], 1), 1)[place != other]
    mixed = np.stack([rng.integers(first, size=drawn), rng.integers(n, size=drawn)], 1)
    different = mixed[groups[mixed[:, 0]] != groups[mixed[:, 1]]]
    return _distinct(same, n, most, rng), _distinct(different, n, most, rng)


def _distinct(pairs: np.ndarray, n: int, most: int, rng: np.random.Generator) -> np.ndarray:
    both = np.sort(pairs, 1)
    _, at = np.unique(both[:, 0] * n + both[:, 1], return_index=True)
    kept: np.ndarray = pairs[np.sort(rng.permutation(at)[:most])]
    return kept


def cosines(directions: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Inner products of rows of unit length, for each pair."""
    products: np.ndarray = np.einsum("ij,ij->i", directions[pairs[:, 0]], directions[pairs[:, 1]])
    return products
