"""Convolution transpose: turn every kernel over its diagonal, then learn the retain set again."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import ClassVar

import torch

from unteach.data.augment import Augment
from unteach.engine import Engine
from unteach.models.masks import keep_pruned
from unteach.train import Sgd, Source, draw_seed, fit
from unteach.types import Card, Range, Refusal, Split


@dataclass(frozen=True, kw_only=True)
class ConvolutionTranspose:
    """Swap rows and columns of every convolution kernel, then fine-tune on the retain set.

    1. Each slice (o, i) of a two-dimensional convolution's weight is transposed: what answered an edge now answers the same
       edge mirrored at the diagonal. Sizes and sums of the weights stay, so the network comes back sooner than from fresh
       weights; 1 × 1 kernels do not change. Weights that training leaves fixed stay; pruned places stay zero.
    2. Fine-tune all of the network on the retain set. The forget set is not looked at.

    *Source:* the fifth of the NeurIPS 2023 unlearning challenge; named and measured by Cadet et al., Deep unlearn, 2024,
    arXiv 2410.01276, whose public code says what it does. *Departs:* kernels that are not square stay as they are; learning
    rate and epochs are ours (there 0.001, 3 epochs before tuning).
    """

    optim: Sgd = field(default_factory=lambda: Sgd(lr=0.05, epochs=5))
    """Optimiser of the repair; too few epochs leave the network damaged."""
    augment: Augment | None = None
    """How retained images vary in the repair."""
    card: ClassVar[Card] = Card(
        does="Transposes every convolution kernel, which undoes what the layers had learned to see but keeps their scale. Then "
        "the network learns the retained examples again, and only them.",
        suits=("random", "group", "class"),
        cost="the repair: by default 5 epochs of the retained examples",
        knobs={
            "optim.epochs": "accuracy comes back with them",
            "optim.lr": "raise it when accuracy does not come back, or when the forget accuracy stays high",
        },
        layers="two-dimensional convolutions with square kernels larger than 1 × 1",
        search={"optim.lr": Range(low=0.01, high=1.0, log=True), "optim.epochs": Range(low=2, high=10)},
        more=("optim.lr", "up"),
    )

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"retain", "convolutions"})

    def __call__(self, model: torch.nn.Module, split: Split, rng: torch.Generator, engine: Engine) -> torch.nn.Module:
        assert split.retain is not None
        new = copy.deepcopy(model)
        transpose_kernels(new)
        keep_pruned(new)
        with engine.stage("convolution-transpose"):
            fit(
                new,
                [Source(split.retain, self.augment)],
                self.optim,
                seed=draw_seed(rng),
                engine=engine,
                label="convolution-transpose",
            )
        return new


def transpose_kernels(model: torch.nn.Module) -> None:
    """Swap rows and columns of every trained square kernel, in place. Raises: Refusal when there are none above 1 × 1."""
    found = [
        module.weight
        for module in model.modules()
        if isinstance(module, torch.nn.Conv2d)
        and isinstance(module.weight, torch.nn.Parameter)
        and module.weight.requires_grad
        and module.weight.shape[2] == module.weight.shape[3] > 1
    ]
    if not found:
        raise Refusal(
            "expected a network with trained square convolution kernels larger than 1 × 1, got none; choose another method"
        )
    with torch.no_grad():
        for weight in found:
            weight.copy_(weight.mT.clone())
