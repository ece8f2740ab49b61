"""Gradient ascent: walk uphill on the loss of the forget set."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import ClassVar

import torch

from unteach.engine import Engine
from unteach.train import Batch, Sgd, Source, draw_seed, fit
from unteach.types import Card, Range, Split


@dataclass(frozen=True, kw_only=True)
class GradientAscent:
    """Minimise the negative loss on the forget set; nothing holds the model back, so small rates and few epochs.

    *Source:* Thudi et al., Unrolling SGD, 2021, arXiv 2109.13398; the baseline GA of arXiv 2304.04934.
    *Departs:* no pass over the retain set beforehand.
    """

    optim: Sgd = field(
        default_factory=lambda: Sgd(lr=1e-3, epochs=5, schedule="constant", momentum=0.9, weight_decay=0.0)
    )
    """Optimiser."""
    card: ClassVar[Card] = Card(
        does="Climbs the loss of the forget examples, a few gentle steps. It needs nothing but them and is quick, but knows "
        "no end: a little too far and the whole network is ruined.",
        suits=("random", "group"),
        cost="a few passes over the forget set, next to nothing",
        knobs={"optim.lr": "lower it when accuracy falls everywhere", "optim.epochs": "fewer stop earlier"},
        search={"optim.lr": Range(low=1e-4, high=0.3, log=True), "optim.epochs": Range(low=1, high=10)},
        more=("optim.lr", "up"),
    )

    @property
    def needs(self) -> frozenset[str]:
        return frozenset()

    def __call__(self, model: torch.nn.Module, split: Split, rng: torch.Generator, engine: Engine) -> torch.nn.Module:
        new = copy.deepcopy(model)
        task = split.task

        def away(network: torch.nn.Module, batch: Batch) -> torch.Tensor:
            return -task.loss(network(batch.inputs), batch.labels)

        with engine.stage("ascent"):
            fit(new, [Source(split.forget)], self.optim, seed=draw_seed(rng), engine=engine, loss=away, label="ascent")
        return new
