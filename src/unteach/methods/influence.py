"""Influence unlearning: one Newton step towards the weights that the retain set alone would give."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import ClassVar

import torch

from unteach.curvature import by_weight, mean_gradient, solve_fisher, trained_weights
from unteach.engine import Engine
from unteach.models.masks import keep_pruned
from unteach.types import Card, Range, Refusal, Split


@dataclass(frozen=True, kw_only=True)
class Influence:
    """Add α · H⁻¹ v to the weights, with v the gradient of (mean loss over all data − mean loss over the retain set).

    1. v = (|F| / |D|) · (mean gradient over the forget set − mean gradient over the retain set), in eval mode. Where training
       had come to rest this is the sum of the forget set's gradients over |R|; the difference takes out what had not.
    2. H: the Fisher matrix of ``sample`` retained examples, plus λ on its diagonal; λ is ``damping`` times the mean squared
       length of their gradients. H⁻¹ v is exact for this H, in bounded memory (``curvature.solve_fisher``).
    3. θ + α · H⁻¹ v. Buffers and pruned weights stay.

    *Source:* Jia et al., Model sparsity can simplify machine unlearning, 2023, arXiv 2304.04934, equation 1 and appendix
    (H by WoodFisher: Singh and Alistarh, 2020, arXiv 2004.14340); the Newton step after Koh and Liang, 2017, arXiv
    1703.04730. *Departs:* λ is relative, so that α = 1 means the same for every network; public code carries one vector
    through the recursion where it needs all former ones, so its H is another matrix.
    """

    alpha: float = 1.0
    """Length of the step, 0 or more; 1 is Newton's."""
    damping: float = 0.3
    """λ as a share of the mean squared length of a gradient, above 0; smaller makes longer steps where loss is flat."""
    sample: int = 256
    """Retained examples, drawn at random, that the curvature is taken from, at least 1; time grows with its square."""
    card: ClassVar[Card] = Card(
        does="Moves the weights once, to where a second-order estimate puts the network that never saw the forgotten examples. "
        "Nothing is trained afterwards. The estimate is good for few examples and small steps only.",
        suits=("random", "group"),
        cost="one gradient of each training example, and those of a few hundred one by one",
        knobs={
            "alpha": "raise it to forget more; too far and the network is ruined",
            "damping": "lower it to forget more, as alpha does, but along the directions that are flat for the retained",
            "sample": "more examples protect more directions",
        },
        search={"alpha": Range(low=0.1, high=10.0, log=True), "damping": Range(low=0.01, high=10.0, log=True)},
        more=("alpha", "up"),
    )

    def __post_init__(self) -> None:
        if not 0 <= self.alpha < math.inf:
            raise Refusal(f"expected alpha of 0 or more, got {self.alpha}; 1 is Newton's step")
        if not 0 < self.damping < math.inf:
            raise Refusal(f"expected damping above 0, got {self.damping}; 0.3 is the default")
        if self.sample < 1:
            raise Refusal(f"expected sample to be at least 1, got {self.sample}; 256 is the default")

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"retain"})

    def __call__(self, model: torch.nn.Module, split: Split, rng: torch.Generator, engine: Engine) -> torch.nn.Module:
        assert split.retain is not None
        drawn = torch.randperm(len(split.retain), generator=rng)[: self.sample].sort().values
        share = len(split.forget) / (len(split.forget) + len(split.retain))
        new = engine.place(copy.deepcopy(model)).eval()
        with engine.stage("influence gradients"):
            forget = mean_gradient(new, split.forget, engine=engine, label="influence gradients")
            retain = mean_gradient(new, split.retain, engine=engine, label="influence gradients")
        with engine.stage("influence curvature"):
            sample = split.retain.take(drawn)
            step = solve_fisher(new, sample, share * (forget - retain), damping=self.damping, engine=engine)
        shift = by_weight(new, self.alpha * step)
        with torch.no_grad():
            for name, weight in trained_weights(new).items():
                weight.add_(shift[name])
        keep_pruned(new)
        return new
