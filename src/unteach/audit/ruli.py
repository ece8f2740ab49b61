"""RULI: U-LiRA with free densities, two games, and a look at the examples that are easiest to attack."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from unteach.audit.finding import Finding, Measured, Skipped
from unteach.audit.u_lira import ULira
from unteach.audit.world_game import Game, measure
from unteach.audit.worlds import Worlds, stacked
from unteach.types import Refusal

SOURCE = "Naderloui et al., RULI, 2025, arXiv 2506.13009"
# Numbers in one block of kernels: 32 MB of float64.
BLOCK = 2**22
# The same as LEAST_VARIANCE of LiRA, as a width.
LEAST_WIDTH = 1e-6


@dataclass(frozen=True, kw_only=True)
class Ruli:
    """RULI's likelihood ratio: log density of φ in the positive world minus that in the negative one.

    Densities are means of Gaussian kernels on the models of a world, without the attacked model's family; the score
    p_pos / (p_pos + p_neg) is the game's probability. *Source:* Naderloui et al., RULI, 2025, arXiv 2506.13009, and its
    public code. *Departs:* Silverman's width instead of 1.0 whatever the scale of φ; every model is attacked by all others,
    where that code attacks one target model.
    """

    width: float | None = None
    """Standard deviation of the kernels; none: Silverman's rule per example and world. The public code has 1.0."""

    def __post_init__(self) -> None:
        if self.width is not None and self.width <= 0:
            raise Refusal(f"expected a width above 0, got {self.width}; leave it out for Silverman's rule")

    def __call__(self, worlds: Worlds) -> Game:
        log_ratio = np.full(worlds.phi.shape, np.nan)
        rows = np.flatnonzero(worlds.pairs.any(1))
        step = max(1, BLOCK // (len(rows) * len(worlds.phi)))
        for examples in np.split(played := np.flatnonzero(worlds.pairs.any(0)), range(step, len(played), step)):
            part = worlds.take(examples)
            ratio = self._log_density(part, part.positive, rows) - self._log_density(part, part.negative, rows)
            log_ratio[np.ix_(rows, examples)] = np.where(part.pairs[rows], ratio, np.nan)
        return Game(worlds, log_ratio)

    def _log_density(self, worlds: Worlds, inside: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Log of the mean of the kernels of the models ``inside`` that are not left out for the row: ``rows × examples``."""
        phi, side = worlds.phi.astype(np.float64), worlds.left_out(inside)
        count = np.maximum(side.count[rows], 1)
        if self.width is None:
            deviation = np.sqrt(side.squares[rows] / np.maximum(count - 1, 1))
            width = np.maximum(deviation * (0.75 * count) ** -0.2, LEAST_WIDTH)
        else:
            width = np.full(count.shape, self.width)
        counted = inside & (worlds.family[:, None] != side.removed[rows, None])
        kernels = -0.5 * ((phi[rows, None] - phi) / width[:, None]) ** 2
        kernels[~counted] = -np.inf
        top = kernels.max(1)
        safe = np.where(np.isfinite(top), top, 0.0)
        with np.errstate(divide="ignore"):
            total = safe + np.log(np.exp(kernels - safe[:, None]).sum(1))
        density: np.ndarray = total - np.log(count * width * np.sqrt(2 * np.pi))
        return density


PUBLIC = Ruli(width=1.0)
"""The kernels of RULI's public code."""


def strata(phi: np.ndarray, members: np.ndarray, size: int, *, fpr: float = 0.01) -> tuple[np.ndarray, np.ndarray]:
    """Positions of the ``size`` most *vulnerable* and most *protected* examples, by a preliminary LiRA.

    ``phi``, ``members``: trained models that did not unlearn, ``models × examples``. Each is attacked by the others; at the
    threshold that a share ``fpr`` of all OUT pairs exceeds, an example is as vulnerable as the share of its IN pairs that is
    caught, ties by its mean log ratio. Use other models than the strata are then attacked with: chosen and attacked by the
    same ones, the vulnerable seem more so. *Source:* Naderloui et al., RULI, 2025, arXiv 2506.13009.
    *Departs:* the order among examples that are caught equally often is ours.
    """
    if not 0 < 2 * size <= phi.shape[1]:
        raise Refusal(f"expected strata of 1 to {phi.shape[1] // 2} examples, got {size}; take fewer")
    game = ULira()(Worlds(phi, members, ~members))
    negative = np.sort(game.negative)
    threshold = negative[len(negative) - 1 - int(len(negative) * fpr)]
    inside = members & game.worlds.pairs
    count = np.maximum(inside.sum(0), 1)
    caught = ((game.log_ratio > threshold) & inside).sum(0) / count
    mean = np.where(inside, game.log_ratio, 0.0).sum(0) / count
    order = np.lexsort((mean, caught))
    return np.sort(order[-size:]), np.sort(order[:size])


def two_games(
    trained: np.ndarray,
    unlearned: np.ndarray,
    members: np.ndarray,
    forgotten: np.ndarray,
    *,
    parts: dict[str, np.ndarray],
    groups: np.ndarray | None = None,
    attack: Ruli | None = None,
    seed: int = 0,
) -> Measured:
    """RULI's privacy and efficacy games, on each part of the examples (such as the two of `strata`: name → positions).

    ``trained``, ``unlearned``: confidences of shadow models before and after unlearning, ``models × examples``. ``members``,
    ``forgotten``: what each was trained on and then asked to forget, so that an example is in a third of them IN, in a third
    OUT and in a third IN, then unlearned. *Privacy*: after unlearning, forgotten examples against those never trained on.
    *Efficacy*: forgotten examples after unlearning against those never trained on before it.
    """
    test = attack or Ruli()
    found: list[Finding | Skipped] = []
    families = np.tile(np.arange(len(trained)), 2)
    games = {
        "privacy": Worlds(unlearned, forgotten, ~members, groups=groups),
        "efficacy": stacked(unlearned, forgotten, trained, ~members, origins=families, groups=groups),
    }
    for game, worlds in games.items():
        for part, examples in parts.items():
            found += measure(test, worlds.take(examples), name=f"RULI {game}", part=part, source=SOURCE, seed=seed)
    return found
