"""Fine-tuning on the retain set and hoping that the rest fades."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import ClassVar

import torch

from unteach.data.augment import Augment
from unteach.engine import Engine
from unteach.train import Sgd, Source, draw_seed, fit
from unteach.types import Card, Range, Split


@dataclass(frozen=True, kw_only=True)
class FineTune:
    """Go on training on the retain set only.

    *Source:* the baseline FT of Jia et al., Model sparsity can simplify machine unlearning, 2023, arXiv 2304.04934.
    *Departs:* nowhere known.
    """

    optim: Sgd = field(default_factory=lambda: Sgd(lr=0.05, epochs=5))
    """Optimiser; the learning rate decides whether anything fades at all."""
    augment: Augment | None = None
    """How retained images vary."""
    card: ClassVar[Card] = Card(
        does="Goes on training on the retained examples alone. What is not shown any more fades, slowly; a higher learning "
        "rate makes it fade faster and costs accuracy on the way.",
        suits=("random", "group", "sequence"),
        cost="as many epochs over the retained data as it is given",
        knobs={"optim.lr": "raise it when nothing is forgotten", "optim.epochs": "more let the accuracy come back"},
        search={"optim.lr": Range(low=0.03, high=3.0, log=True), "optim.epochs": Range(low=1, high=10)},
        more=("optim.lr", "up"),
    )

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"retain"})

    def __call__(self, model: torch.nn.Module, split: Split, rng: torch.Generator, engine: Engine) -> torch.nn.Module:
        assert split.retain is not None
        new = copy.deepcopy(model)
        with engine.stage("fine-tune"):
            fit(
                new,
                [Source(split.retain, self.augment)],
                self.optim,
                seed=draw_seed(rng),
                engine=engine,
                label="fine-tune",
            )
        return new
