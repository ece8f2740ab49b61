"""EU-k: forget the last k layers exactly, by training them from scratch on the retain set."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import ClassVar

import torch

from unteach.data.augment import Augment
from unteach.engine import Engine, pixels
from unteach.models import WHITENING_SAMPLE, fresh
from unteach.models.anatomy import last_layers
from unteach.models.masks import keep_pruned
from unteach.train import Sgd, Source, draw_seed, fit
from unteach.types import Card, Range, Refusal, Split


@dataclass(frozen=True, kw_only=True)
class EuK:
    """Start the last k layers anew and train them on the retain set; the layers before are fixed.

    1. The last k layers, counted as in CF-k from the output, get the weights and statistics of a fresh network of the same
       kind. Pruned weights stay zero.
    2. They are trained on the retain set; the layers before stay bit-identical.

    With every layer among the last k this is retraining under ``optim``. *Source:* Goel et al., Towards Adversarial
    Evaluations for Inexact Machine Unlearning, 2022, arXiv 2201.06640, EU-k. *Departs:* as CF-k: fixed layers are in eval
    mode in training unless ``drift``; norms start anew with their layer, whose weights alone public code draws again.
    """

    k: int = 3
    """Layers with weights that start anew, counted from the output, at least 1; all where there are fewer."""
    drift: bool = False
    """Whether the running statistics of batch norm in the fixed layers follow the data."""
    optim: Sgd = field(default_factory=lambda: Sgd(lr=0.1, epochs=10))
    """Optimiser; the new layers start from nothing, so the original training's rate is right."""
    augment: Augment | None = None
    """How retained images vary."""
    card: ClassVar[Card] = Card(
        does="Puts new random weights into the last few layers and trains these on the retained examples alone. They have "
        "never seen a forgotten example; the layers before have, and still know what they knew.",
        suits=("random", "class", "group", "sequence"),
        cost="as many epochs over the retained data as it is given, each cheaper than one of retraining",
        knobs={
            "k": "more layers forget more, and take longer to come back",
            "optim.epochs": "too few leave the new layers unfinished",
            "optim.lr": "as for training from scratch",
        },
        search={
            "k": Range(low=1, high=12),
            "optim.lr": Range(low=0.1, high=2.0, log=True),
            "optim.epochs": Range(low=3, high=15),
        },
        more=("k", "up"),
    )

    def __post_init__(self) -> None:
        if self.k < 1:
            raise Refusal(f"expected k to be at least 1 layer, got {self.k}; 1 trains the last layer only")

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"retain"})

    def __call__(self, model: torch.nn.Module, split: Split, rng: torch.Generator, engine: Engine) -> torch.nn.Module:
        retain = split.retain
        assert retain is not None
        new = copy.deepcopy(model)
        start = fresh(model, seed=draw_seed(rng), sample=lambda: pixels(retain.inputs[:WHITENING_SAMPLE]))
        with engine.stage("eu-k"), last_layers(new, self.k, drift=self.drift) as last:
            for name in last:
                take_over(new.get_submodule(name), start.get_submodule(name))
            keep_pruned(new)
            fit(
                new,
                [Source(retain, self.augment)],
                self.optim,
                seed=draw_seed(rng),
                engine=engine,
                identity=repr((self.k, self.drift)),
                label="eu-k",
            )
        return new


def take_over(module: torch.nn.Module, other: torch.nn.Module) -> None:
    """Copy the other's own weights and statistics, not those of the modules within, in place."""
    with torch.no_grad():
        for tensors in (torch.nn.Module.parameters, torch.nn.Module.buffers):
            for ours, theirs in zip(tensors(module, recurse=False), tensors(other, recurse=False)):
                ours.copy_(theirs)
