"""Fisher forgetting: noise on every weight, the more of it the less the retain set depends on the weight."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import ClassVar

import torch

from unteach.curvature import average, by_weight, expected, trained_weights
from unteach.engine import Engine
from unteach.models.masks import keep_pruned
from unteach.types import Card, Range, Refusal, Split


@dataclass(frozen=True, kw_only=True)
class Fisher:
    """Add Gaussian noise to the weights, scaled so that what the retain set has to say about them survives.

    1. F: the diagonal of the Fisher information over the retain set in eval mode. For each example the squared gradients of
       log p_y, weighted with the model's own p_y, over all classes y; so many backward passes as classes for each example.
    2. Every trained weight gets α · F^(−1/4) · n with n ~ N(0, 1); F is held at ``floor`` at least, since weights that the
       retain set does not depend on at all would get noise without limit. Buffers and pruned weights stay.

    The forget set is not looked at: its information goes where only it depends on a weight.
    *Source:* Golatkar, Achille, Soatto, Eternal sunshine of the spotless net, CVPR 2020, arXiv 1911.04933, section 5, where α
    is (λσ²)^(1/4). *Departs:* F is estimated from ``sample`` retained examples. Public code adds noise of variance α / F,
    averages that over each output's inputs, multiplies it by 10 in batch norm and the last layer, and for a request of a
    class sets that class's row of the last layer to 0; none of this is in the paper's equation, and none of it is here.
    """

    alpha: float = 2e-3
    """Size of the noise, 0 or more; weights are of the order of 0.01 to 0.1, and F^(-1/4) of 3 to 30."""
    floor: float = 1e-6
    """Least Fisher information a weight is taken to have, above 0."""
    sample: int | None = 1000
    """Retained examples, drawn at random, that F is estimated from, at least 1; null takes all."""
    card: ClassVar[Card] = Card(
        does="Adds noise to all weights, most to those that the retained examples say least about. Nothing is trained "
        "afterwards: what it forgets it pays for in accuracy.",
        suits=("random", "class", "group"),
        cost="as many gradients as there are classes, of each of a thousand retained examples, one by one",
        knobs={
            "alpha": "raise it to forget more; accuracy falls everywhere",
            "sample": "more examples tell better which weights matter",
            "floor": "raise it if weights that seemed not to matter ruin the network",
        },
        search={"alpha": Range(low=1e-5, high=1e-1, log=True), "floor": Range(low=1e-10, high=1e-4, log=True)},
        more=("alpha", "up"),
    )

    def __post_init__(self) -> None:
        if not 0 <= self.alpha < math.inf:
            raise Refusal(f"expected alpha of 0 or more, got {self.alpha}; 0.002 is the default")
        if not 0 < self.floor < math.inf:
            raise Refusal(f"expected floor above 0, got {self.floor}; 1e-6 is the default")
        if self.sample is not None and self.sample < 1:
            raise Refusal(f"expected sample to be at least 1, got {self.sample}; null takes all retained examples")

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"retain"})

    def __call__(self, model: torch.nn.Module, split: Split, rng: torch.Generator, engine: Engine) -> torch.nn.Module:
        assert split.retain is not None
        drawn = torch.randperm(len(split.retain), generator=rng)[: self.sample].sort().values
        new = engine.place(copy.deepcopy(model)).eval()
        with engine.stage("fisher information"):
            terms = expected(split.task)
            information = average(new, split.retain.take(drawn), terms, engine=engine, label="fisher information")
        noise = torch.randn(len(information), generator=rng).to(information)
        shift = by_weight(new, self.alpha * information.clamp(min=self.floor) ** -0.25 * noise)
        with torch.no_grad():
            for name, weight in trained_weights(new).items():
                weight.add_(shift[name])
        keep_pruned(new)
        return new
