"""l1-sparse: fine-tuning on the retain set that also makes the network sparser."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import ClassVar

import torch

from unteach.data.augment import Augment
from unteach.engine import Engine
from unteach.sparsity import Sparse, check_l1
from unteach.train import Sgd, Source, draw_seed, fit
from unteach.types import Card, Choice, Range, Split


@dataclass(frozen=True, kw_only=True)
class L1Sparse:
    """Minimise loss(retain) + α · Σ|weight|, α from epoch to epoch as ``l1_decay`` says.

    All weights count, biases and batch norm's scales among them, as in the authors' code. The gradient of |weight| at 0 is 0.
    *Source:* Jia et al., Model sparsity can simplify machine unlearning, NeurIPS 2023, arXiv 2304.04934, section 4, where
    linear decay to 0 comes out best; compounding as coded by AMUN's authors (arXiv 2503.00917). *Departs:* nowhere known.
    """

    l1: float = 5e-4
    """Weight α of the sum of all weights' absolute values, 0 or more; one step takes lr × α off every weight."""
    l1_decay: str = "linear"
    """How l1 moves: linear (down to nothing at the end), or compounding (epoch e of E, from 0, takes the last one's times
    2 - 2e/E, so it grows first)."""
    optim: Sgd = field(default_factory=lambda: Sgd(lr=0.05, epochs=10))
    """Optimiser."""
    augment: Augment | None = None
    """How retained images vary."""
    card: ClassVar[Card] = Card(
        does="Fine-tunes on the retained examples and takes a little off every weight in each step. Weights that only the "
        "forgotten examples needed are not renewed and shrink away.",
        suits=("random", "class", "group"),
        cost="as many epochs over the retained data as it is given",
        knobs={
            "l1": "raise it to forget more, and when there are few steps; too much costs accuracy everywhere",
            "optim.lr": "raise it when nothing is forgotten",
            "optim.epochs": "more let the accuracy come back",
            "l1_decay": "linear ends in plain fine-tuning; compounding doubles l1 at first and forgets more",
        },
        search={
            "l1": Range(low=1e-5, high=1e-2, log=True),
            "optim.lr": Range(low=0.01, high=1.0, log=True),
            "l1_decay": Choice(values=("linear", "compounding")),
        },
        more=("l1", "up"),
    )

    def __post_init__(self) -> None:
        check_l1(self.l1, self.l1_decay)

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"retain"})

    def __call__(self, model: torch.nn.Module, split: Split, rng: torch.Generator, engine: Engine) -> torch.nn.Module:
        assert split.retain is not None
        engine.refuse_if_divided("l1-sparse")
        new = copy.deepcopy(model)
        steps = self.optim.steps(len(split.retain))
        sparse = Sparse(split.task, new, steps, self.optim.epochs, weight=self.l1, decay=self.l1_decay)
        with engine.stage("l1-sparse"):
            fit(
                new,
                [Source(split.retain, self.augment)],
                self.optim,
                seed=draw_seed(rng),
                engine=engine,
                loss=sparse,
                pace=sparse.pace,
                identity=repr((self.l1, self.l1_decay)),
                label="l1-sparse",
            )
        return new
