"""Boundary expand: gather forgotten examples in one more class, then take that class away."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import ClassVar

import torch

from unteach.data.augment import Augment
from unteach.engine import Engine
from unteach.models.anatomy import last_linear
from unteach.models.masks import keep_pruned
from unteach.train import Sgd, Source, draw_seed, fit
from unteach.types import Card, MultiLabel, Range, Refusal, Split


@dataclass(frozen=True, kw_only=True)
class BoundaryExpand:
    """Fine-tune on the forget set, all of it labelled as one more class, and drop that class's neuron.

    1. A shadow class: a neuron with fresh weights beside those of the last linear layer.
    2. Fine-tune all of the network, shadow included, on the forget set alone, every label the shadow class.
    3. Drop the neuron. Names and shapes of the state dict are the original's; forgotten examples go where they are next
       likeliest.

    *Source:* Chen et al., Boundary Unlearning, CVPR 2023, arXiv 2303.11570. *Departs:* the paper's learning
    rate is 1e-5; batch norm's statistics stay by default, which forgotten examples alone would ruin. A constant factor on the
    logits behind the last linear layer does not reach the shadow.
    """

    optim: Sgd = field(
        default_factory=lambda: Sgd(
            lr=1e-4, epochs=10, batch=64, weight_decay=0.0, schedule="constant", batch_norm="eval"
        )
    )
    """Optimiser; nothing holds the network back, so small rates."""
    augment: Augment | None = None
    """How forget images vary."""
    card: ClassVar[Card] = Card(
        does="Teaches the forgotten examples as one more class that did not exist before, then removes it. They fall to the "
        "classes that are next likeliest. Nothing else is needed, but nothing else is looked after either.",
        suits=("class", "group"),
        cost="ten epochs over the forgotten examples, next to nothing",
        knobs={
            "optim.lr": "raise it when the examples are still known, lower it when accuracy falls everywhere",
            "optim.epochs": "as optim.lr",
        },
        layers="a last linear layer with one row for each class",
        search={"optim.lr": Range(low=1e-4, high=0.1, log=True), "optim.epochs": Range(low=3, high=15)},
        more=("optim.lr", "up"),
    )

    @property
    def needs(self) -> frozenset[str]:
        return frozenset()

    def __call__(self, model: torch.nn.Module, split: Split, rng: torch.Generator, engine: Engine) -> torch.nn.Module:
        from unteach.models.widened import Widened

        if isinstance(split.task, MultiLabel):
            raise Refusal(
                "expected one class for each example for boundary-expand, got several labels; choose another method"
            )
        new = engine.place(copy.deepcopy(model))
        classes, rows = engine.logits(new, split.forget.inputs[:1]).shape[1], last_linear(new).out_features
        if rows != classes:
            raise Refusal(
                f"expected a last linear layer with one row for each of {classes} classes, got {rows} rows; "
                "choose another method"
            )
        shadow = split.forget.relabel(torch.full_like(split.forget.labels, classes))
        with engine.stage("boundary-expand"):
            fit(
                Widened(new, rng),
                [Source(shadow, self.augment)],
                self.optim,
                seed=draw_seed(rng),
                engine=engine,
                after_step=lambda _: keep_pruned(new),
                label="boundary-expand",
            )
        return new
