"""U-LiRA: does a model that unlearned an example answer it as models that never saw it do?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from unteach.audit.finding import Measured, Skipped
from unteach.audit.lira import LEAST_VARIANCE, log_normal
from unteach.audit.world_game import Game, measure
from unteach.audit.worlds import LeftOut, Worlds, stacked

SOURCE = "Hayes et al., 2024, arXiv 2403.01218; Kurmanji et al., 2023, arXiv 2302.09880"


@dataclass(frozen=True, kw_only=True)
class ULira:
    """U-LiRA: log N(φ; μ_pos, σ²_pos) − log N(φ; μ_neg, σ²_neg), fitted without the attacked model's family.

    Means and variances of φ over the models of each world, per example; below ``per_example_from`` models one variance per
    world is pooled over the examples, again without the attacked family.
    *Source:* Hayes et al., 2024, arXiv 2403.01218, after Kurmanji et al., 2023, arXiv 2302.09880. *Departs:* every model is
    attacked by all others, not one target; models of one original are left out together, since they betray each other, and
    one family of the other world as well (see `Worlds`); means where `Lira` has medians, which would have to be refitted.
    """

    per_example_from: int = 32
    """Models in the smaller world (median over the examples) from which on each example has a variance of its own."""

    def __call__(self, worlds: Worlds) -> Game:
        played = worlds.pairs.any(0)
        sides = [worlds.left_out(mask) for mask in (worlds.positive, worlds.negative)]
        each = min(np.median(side.inside[:, played].sum(0)) for side in sides) >= self.per_example_from
        densities = [log_normal(worlds.phi, side.mean, _variance(side, each)) for side in sides]
        return Game(worlds, np.where(worlds.pairs, densities[0] - densities[1], np.nan))


def _variance(side: LeftOut, each: bool) -> np.ndarray:
    """Per model and example, or per model one pooled over the examples."""
    freedom = np.maximum(side.count - 1, 0)
    if each:
        variance = side.squares / np.maximum(freedom, 1)
    else:
        variance = side.squares.sum(1, keepdims=True) / np.maximum(freedom.sum(1, keepdims=True), 1)
    return np.asarray(np.maximum(variance, LEAST_VARIANCE))


def two_readings(
    phi: np.ndarray,
    members: np.ndarray,
    forgotten: np.ndarray,
    *,
    retrained: tuple[np.ndarray, np.ndarray] | None = None,
    origins: np.ndarray | None = None,
    groups: np.ndarray | None = None,
    attack: ULira | None = None,
    part: str = "forget",
    seed: int = 0,
) -> Measured:
    """U-LiRA with both readings of *never*: unlearned models that never saw the example, and plainly retrained ones.

    ``phi``: confidences of the unlearned models, ``models × examples``; ``members``, ``forgotten``: what their originals were
    trained on and what they were asked to forget (forgotten ≤ members). ``retrained``: confidences and members of
    retrained models, for the second reading. ``origins``: the original of each unlearned model. The first reading isolates
    the trace of the example; the second also sees the footprint of the algorithm.
    """
    test = attack or ULira()
    first = Worlds(phi, forgotten, ~members, origins, None, groups)
    name, source = "U-LiRA (against unlearned models)", SOURCE
    found = [*measure(test, first, name=name, part=part, source=source, seed=seed)]
    name = "U-LiRA (against retrained models)"
    if retrained is None:
        return [*found, Skipped(name=name, family="distribution", reason="no retrained models were given")]
    others, seen = retrained
    families = None if origins is None else _families(origins, len(others))
    second = stacked(phi, forgotten, others, ~seen, origins=families, groups=groups)
    return [*found, *measure(test, second, name=name, part=part, source=source, seed=seed)]


def _families(origins: np.ndarray, alone: int) -> np.ndarray:
    """The families of the unlearned models, and one more for each of ``alone`` models that come from no original."""
    family = np.unique(origins, return_inverse=True)[1]
    return np.concatenate([family, family.max() + 1 + np.arange(alone)])
