"""NegGrad+: down on the retain set and up on the forget set in one step."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import ClassVar

import torch

from unteach.data.augment import Augment
from unteach.engine import Engine
from unteach.train import Batch, Sgd, Source, draw_seed, fit
from unteach.types import Card, Choice, Range, Refusal, Split


@dataclass(frozen=True, kw_only=True)
class NegGradPlus:
    """Minimise α · loss(retain) − (1 − α) · loss(forget), with as many forget as retain examples in every step.

    *Source:* Kurmanji et al., Towards unbounded machine unlearning (SCRUB), 2023, arXiv 2302.09880, section 4.
    *Departs:* nowhere known.
    """

    alpha: float = 0.95
    """Weight of the retain loss, 0–1; nearer to 1 forgets more gently."""
    optim: Sgd = field(default_factory=lambda: Sgd(lr=0.01, epochs=5))
    """Optimiser."""
    augment: Augment | None = None
    """How retained images vary; forget images are shown as they are."""

    def __post_init__(self) -> None:
        if not 0 <= self.alpha <= 1:
            raise Refusal(f"expected alpha between 0 and 1, got {self.alpha}; it is the weight of the retain loss")

    card: ClassVar[Card] = Card(
        does="Descends on the retained and climbs on the forget examples in the same step. The retained half keeps the "
        "network together while the other pushes the forget set out.",
        suits=("random", "class", "group"),
        cost="twice as many examples a step as fine-tuning",
        knobs={
            "alpha": "lower it to forget more",
            "optim.lr": "raise it to forget more",
            "optim.epochs": "as optim.lr",
        },
        search={
            "alpha": Choice(values=(0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999)),
            "optim.lr": Range(low=0.003, high=1.0, log=True),
            "optim.epochs": Range(low=1, high=10),
        },
        more=("alpha", "down"),
    )

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"retain"})

    def __call__(self, model: torch.nn.Module, split: Split, rng: torch.Generator, engine: Engine) -> torch.nn.Module:
        assert split.retain is not None
        new = copy.deepcopy(model)
        task = split.task

        def tug(network: torch.nn.Module, batch: Batch) -> torch.Tensor:
            # The step holds both halves, so each half's mean is twice its share of the sum.
            weight = torch.where(batch.part == 0, 2 * self.alpha, -2 * (1 - self.alpha))
            return weight * task.loss(network(batch.inputs), batch.labels)

        with engine.stage("neggrad-plus"):
            fit(
                new,
                [Source(split.retain, self.augment)],
                self.optim,
                seed=draw_seed(rng),
                engine=engine,
                loss=tug,
                identity=repr(self),
                alongside=[Source(split.forget)],
                label="neggrad-plus",
            )
        return new
