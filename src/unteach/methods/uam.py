"""UAM: minimise the retain loss where the weights have been pushed to a higher forget loss."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import ClassVar

import torch

from unteach.data.augment import Augment
from unteach.engine import Engine, unwrapped
from unteach.models.masks import masks_of
from unteach.train import Batch, Sgd, Source, draw_seed, fit
from unteach.types import Card, Range, Refusal, Split, Task


@dataclass(frozen=True, kw_only=True)
class Uam:
    """Descend on the retain loss with the gradient that it has a step of length ρ up the forget loss from here.

    In every step, with as many forget as retain examples: 1. g = gradient of the mean forget loss at the weights w, of a pass
    with both halves, so that batch norm sees both. 2. ε = ρ ‖w₀‖ · g / ‖g‖ over all trained weights together, w₀ being the
    original's; pruned ones keep 0. 3. The optimiser moves w by the gradient of the mean retain loss at w + ε.

    With a small ρ this is fine-tuning on the retain set: near the bottom of the retain loss the step leads, if anywhere, down
    the forget loss, since both are steep along the same directions. It forgets where w + ε is far away (digits: from ρ = 0.2).
    *Source:* Kim, Kim, Chae, Yoon, Unlearning-aware minimization, NeurIPS 2025 (OpenReview kAuckbcMvi): its abstract, and the
    step from its first author's public code. *Departs:* the paper's text could not be had, so ρ, learning rate and epochs
    are ours; ρ is a share of the weights' length, so that it means the same for every network, and stays the same
    throughout, where that code can let it fall.
    """

    rho: float = 0.2
    """Length ρ of the step up the forget loss, 0 or more, as a share of the length of all trained weights at the start."""
    optim: Sgd = field(default_factory=lambda: Sgd(lr=0.05, epochs=5))
    """Optimiser."""
    augment: Augment | None = None
    """How retained images vary; forget images are shown as they are."""
    card: ClassVar[Card] = Card(
        does="Fine-tunes on the retained examples, with the gradient found at weights that have been pushed up the loss of the "
        "forgotten ones. So retained accuracy comes to stand on weights that serve the forgotten examples badly.",
        suits=("random", "class", "group"),
        cost="three times as many examples a step as fine-tuning",
        knobs={
            "rho": "raise it to forget more, lower it when the retained accuracy falls; below 0.1 it is fine-tuning",
            "optim.lr": "lower it when the retained accuracy falls",
            "optim.epochs": "as optim.lr",
        },
        search={"optim.lr": Range(low=0.01, high=1.0, log=True), "rho": Range(low=0.05, high=0.5, log=True)},
        more=("rho", "up"),
    )

    def __post_init__(self) -> None:
        if not 0 <= self.rho < math.inf:
            raise Refusal(f"expected rho of 0 or more, got {self.rho}; 0.2 is the default")

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"retain"})

    def __call__(self, model: torch.nn.Module, split: Split, rng: torch.Generator, engine: Engine) -> torch.nn.Module:
        assert split.retain is not None
        engine.refuse_if_divided("uam")
        new = copy.deepcopy(model)
        trained = [weight.detach().norm() for weight in new.parameters() if weight.requires_grad]
        length = self.rho * float(torch.stack(trained).norm()) if trained else 0.0
        with engine.stage("uam"):
            fit(
                new,
                [Source(split.retain, self.augment)],
                self.optim,
                seed=draw_seed(rng),
                engine=engine,
                loss=Pushed(split.task, length, engine),
                identity=repr(self.rho),
                alongside=[Source(split.forget)],
                label="uam",
            )
        return new


class Pushed:
    """The retain loss at the weights plus ε, as a function of the weights; given to ``train.fit`` as its loss."""

    def __init__(self, task: Task, length: float, engine: Engine) -> None:
        """``length``: of ε."""
        self.task, self.length, self.engine = task, length, engine

    def __call__(self, network: torch.nn.Module, batch: Batch) -> torch.Tensor:
        inner, retained = unwrapped(network), batch.part == 0
        push = self.push(inner, batch, ~retained)
        self.engine.meter.trained += int(retained.sum())  # fit counts each example once; retained ones go through twice
        lone = batch.size == 2  # a single retained example, which has no batch statistics of its own
        with displaced(inner, push):
            logits = network(batch.inputs)[retained] if lone else network(batch.inputs[retained])
        # The step's mean is over both halves, so the retained half's mean is twice its share of the sum.
        return 2 * self.task.loss(logits, batch.labels[retained])

    def push(
        self, network: torch.nn.Module, batch: Batch, forgotten: torch.Tensor
    ) -> dict[torch.nn.Parameter, torch.Tensor]:
        """ε for each trained weight: of that length altogether, up the mean forget loss; 0 where that is flat."""
        named = {name: weight for name, weight in network.named_parameters() if weight.requires_grad}
        loss = self.task.loss(network(batch.inputs)[forgotten], batch.labels[forgotten]).sum()
        slopes = torch.autograd.grad(loss, list(named.values()), materialize_grads=True)
        masks = masks_of(network)
        kept = [slope * masks[name].to(slope.device) if name in masks else slope for name, slope in zip(named, slopes)]
        if not batch.whole:  # every process has its part of the sum
            kept = [self.engine.total(slope) for slope in kept]
        steepness = torch.stack([slope.norm() for slope in kept]).norm()
        scale = self.length / steepness if steepness > 0 else 0.0
        return {weight: scale * slope for weight, slope in zip(named.values(), kept)}


@contextmanager
def displaced(network: torch.nn.Module, by: Mapping[torch.nn.Parameter, torch.Tensor]) -> Iterator[None]:
    """Inside, the network computes with weight + step; gradients by the weights are then those at the shifted point.

    The weights themselves stay for the optimiser, also where several processes wrap the network, which
    ``torch.func.functional_call`` on the wrapper does not achieve.
    """
    held = [
        (module, name, weight)
        for module in network.modules()
        for name, weight in module._parameters.items()
        if weight is not None and weight in by
    ]
    try:
        for module, name, weight in held:
            module._parameters[name] = weight + by[weight]  # type: ignore[assignment]
        yield
    finally:
        for module, name, weight in held:
            module._parameters[name] = weight
