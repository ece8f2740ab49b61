"""CF-k: fine-tune the last k layers on the retain set, and hope that they forget."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import ClassVar

import torch

from unteach.data.augment import Augment
from unteach.engine import Engine
from unteach.models.anatomy import last_layers
from unteach.train import Sgd, Source, draw_seed, fit
from unteach.types import Card, Range, Refusal, Split


@dataclass(frozen=True, kw_only=True)
class CfK:
    """Go on training the last k layers on the retain set; the layers before are fixed.

    Layers are counted from the output: convolutions and linear layers, each with its norm, in the order in which the network
    registers them (``models.anatomy.weighted_layers``); shortcut convolutions count. The layers before stay bit-identical.
    MUFAC's CF-3 (arXiv 2311.02240) trains ``layer3``, ``layer4`` and ``fc`` of ResNet-18, 5 + 5 + 1 layers, and lets the
    running statistics of the rest follow the data: ``k=11, drift=True``, there with two epochs of
    ``Sgd(lr=0.001, momentum=0, batch=64, weight_decay=0, schedule="constant")``.
    *Source:* Goel et al., Towards Adversarial Evaluations for Inexact Machine Unlearning, 2022, arXiv 2201.06640, CF-k.
    *Departs:* fixed layers are in eval mode in training, where public code fixes their weights and lets batch norm's
    statistics drift; ``drift`` does that.
    """

    k: int = 3
    """Layers with weights that are trained, counted from the output, at least 1; all where there are fewer."""
    drift: bool = False
    """Whether the running statistics of batch norm in the fixed layers follow the data, as in MUFAC's CF-3."""
    optim: Sgd = field(default_factory=lambda: Sgd(lr=0.05, epochs=5))
    """Optimiser; the learning rate decides whether anything fades at all."""
    augment: Augment | None = None
    """How retained images vary."""
    card: ClassVar[Card] = Card(
        does="Goes on training the last few layers on the retained examples alone; the layers before stay as they are. What "
        "the last layers are not shown any more fades from them, and nothing fades from the others.",
        suits=("random", "group", "sequence"),
        cost="as many epochs over the retained data as it is given, each cheaper than one of fine-tuning",
        knobs={
            "optim.lr": "raise it when nothing is forgotten",
            "k": "more layers forget more",
            "optim.epochs": "more let the accuracy come back",
        },
        search={
            "optim.lr": Range(low=0.03, high=3.0, log=True),
            "k": Range(low=1, high=12),
            "optim.epochs": Range(low=1, high=10),
        },
        more=("optim.lr", "up"),
    )

    def __post_init__(self) -> None:
        if self.k < 1:
            raise Refusal(f"expected k to be at least 1 layer, got {self.k}; 1 trains the last layer only")

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"retain"})

    def __call__(self, model: torch.nn.Module, split: Split, rng: torch.Generator, engine: Engine) -> torch.nn.Module:
        assert split.retain is not None
        new = copy.deepcopy(model)
        with engine.stage("cf-k"), last_layers(new, self.k, drift=self.drift):
            fit(
                new,
                [Source(split.retain, self.augment)],
                self.optim,
                seed=draw_seed(rng),
                engine=engine,
                identity=repr((self.k, self.drift)),
                label="cf-k",
            )
        return new
