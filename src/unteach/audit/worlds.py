"""Two worlds of models per example: those that unlearned it, say, and those that never saw it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from unteach.types import Refusal

FEWEST = 2


@dataclass(frozen=True, eq=False)
class LeftOut:
    """One world as each row is judged by it: its models, the family left out for the row, and count, mean of φ and squares
    about it of the rest; all ``models × examples``."""

    inside: np.ndarray
    removed: np.ndarray
    count: np.ndarray
    mean: np.ndarray
    squares: np.ndarray


@dataclass(frozen=True, eq=False)
class Worlds:
    """``phi``: ``models × examples``. ``positive``, ``negative``: bool, same shape: which world a model is in for an example,
    such as *unlearned it* and *never saw it*; neither where it is in none.

    ``origins``: per model, what it was made from (an original and everything unlearned from it are one family); None: each
    stands alone. ``audited``: per model, whether it is attacked; None: all. ``groups``: per example, the independent units of
    intervals. A model is judged by fits that leave out its family, and one family of the other world as well: otherwise its
    own world would be a model smaller, look a little stranger, and the AUC of equal worlds would lie below ½ (at 0.45 with
    three models each). Refuses worlds that leave fewer than two models.
    """

    phi: np.ndarray
    positive: np.ndarray
    negative: np.ndarray
    origins: np.ndarray | None = None
    audited: np.ndarray | None = None
    groups: np.ndarray | None = None

    def __post_init__(self) -> None:
        shapes = {self.phi.shape, self.positive.shape, self.negative.shape}
        if len(shapes) > 1 or self.phi.ndim != 2 or self.positive.dtype != np.bool_ or self.negative.dtype != np.bool_:
            raise Refusal(f"expected φ and two masks of booleans as models × examples, got shapes {shapes}; reshape")
        if self.phi.dtype not in (np.float32, np.float64) or not np.isfinite(self.phi).all():
            raise Refusal(
                f"expected finite float32 or float64 confidences, got {self.phi.dtype}; check the checkpoints"
            )
        if (self.positive & self.negative).any():
            raise Refusal("expected no model in both worlds of an example, got one; mend the masks")
        if not (self.pairs & self.positive).any() or not (self.pairs & self.negative).any():
            raise Refusal("expected audited models in both worlds, got none in one; audit more models")
        for name, mask in {"positive": self.positive, "negative": self.negative}.items():
            least = int(self.left_out(mask).count[self.pairs].min())
            if least < FEWEST:
                raise Refusal(
                    f"expected {FEWEST} or more models in the {name} world of every example besides the family left out, "
                    f"got {least}; train more, or drop those examples"
                )

    @cached_property
    def family(self) -> np.ndarray:
        """Number of each model's family, ``models``."""
        alone = np.arange(len(self.phi))
        return np.unique(alone if self.origins is None else self.origins, return_inverse=True)[1]

    @cached_property
    def pairs(self) -> np.ndarray:
        """Which models are attacked on which examples, ``models × examples``; only examples that have both worlds."""
        rows = np.ones(len(self.phi), dtype=bool) if self.audited is None else self.audited
        return np.asarray((self.positive | self.negative) & rows[:, None] & self.positive.any(0) & self.negative.any(0))

    def removed(self, inside: np.ndarray) -> np.ndarray:
        """Which family the fit of a world leaves out, ``models × examples``: the row's own where it is in that world, else one
        that has nothing to do with φ (the row's number, counted round the families of that world)."""
        present = self._per_family(inside) > 0
        listed = np.argsort(~present, axis=0, kind="stable")
        turn = self.family[:, None] % np.maximum(present.sum(0), 1)
        return np.where(present[self.family], self.family[:, None], np.take_along_axis(listed, turn, 0))

    def left_out(self, inside: np.ndarray) -> LeftOut:
        """Sums over a world minus those of the removed family; about the world's mean, so that nothing cancels."""
        phi, removed = self.phi.astype(np.float64), self.removed(inside)
        centre = np.einsum("mn,mn->n", phi, inside) / np.maximum(inside.sum(0), 1)
        gaps = (phi - centre) * inside
        count, total, squares = (
            table.sum(0) - np.take_along_axis(self._per_family(table), removed, 0)
            for table in (inside.astype(np.float64), gaps, gaps**2)
        )
        safe = np.maximum(count, 1)
        return LeftOut(inside, removed, count, centre + total / safe, np.maximum(squares - total**2 / safe, 0.0))

    def _per_family(self, table: np.ndarray) -> np.ndarray:
        """Sums over the models of each family, ``families × examples``."""
        sums = np.zeros((self.family.max() + 1, table.shape[1]))
        np.add.at(sums, self.family, table)
        return sums

    def take(self, examples: np.ndarray) -> Worlds:
        """The same models on some examples (positions)."""
        groups = None if self.groups is None else self.groups[examples]
        phi, positive, negative = (table[:, examples] for table in (self.phi, self.positive, self.negative))
        return replace(self, phi=phi, positive=positive, negative=negative, groups=groups)

    def null(self, rng: np.random.Generator) -> Worlds:
        """The negative world played against itself: per example, models drawn at random (by families) stand for the positive
        world, as many as that has, at most half. All are attacked. What an attack scores here is its floor."""
        keys = rng.random(self.phi.shape)[self.family]
        keys[~self.negative] = np.inf
        rank = keys.argsort(0, kind="stable").argsort(0)
        drawn = rank < np.minimum(self.positive.sum(0), self.negative.sum(0) // 2)
        return replace(self, positive=drawn, negative=self.negative & ~drawn, audited=None)


def stacked(
    phi: np.ndarray,
    positive: np.ndarray,
    others: np.ndarray,
    negative: np.ndarray,
    *,
    origins: np.ndarray | None = None,
    groups: np.ndarray | None = None,
) -> Worlds:
    """Two worlds from two sets of models: ``phi`` of the one with the mask ``positive``, ``others`` with ``negative``.

    ``origins``: of the models of both sets, one after the other.
    """
    if phi.shape != positive.shape or others.shape != negative.shape or phi.shape[1:] != others.shape[1:]:
        raise Refusal(
            "expected φ and masks of the same examples for both sets of models, got "
            f"{phi.shape}, {positive.shape}, {others.shape}, {negative.shape}; align them"
        )
    return Worlds(
        phi=np.concatenate([phi, others]),
        positive=np.concatenate([positive, np.zeros_like(negative)]),
        negative=np.concatenate([np.zeros_like(positive), negative]),
        origins=origins,
        groups=groups,
    )
