"""Masked small gradients: start the kernels' indifferent weights anew, and learn mostly with those."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import ClassVar

import torch

from unteach.curvature import by_weight, mean_gradient
from unteach.data.augment import Augment
from unteach.engine import Engine
from unteach.models.masks import keep_pruned, masks_of
from unteach.saliency import only
from unteach.train import Sgd, Source, draw_seed, fit
from unteach.types import Card, Examples, Range, Refusal, Split


@dataclass(frozen=True, kw_only=True)
class MaskedSmallGradients:
    """Reset the convolution weights that neither set pulls at, and fine-tune on the retain set, the reset ones foremost.

    1. g = gradient of (mean loss over as many retained examples as are forgotten, drawn at random − mean loss over the forget
       set), in eval mode. A small |g| means that both sets agree about the weight, or that it matters to neither.
    2. In every convolution the round(``reset`` · weights) with the smallest |g| get fresh values: normal, with variance
       2 / (output channels · kernel size).
    3. Fine-tune all of the network on the retain set. In the convolutions, gradients of weights that were not reset are
       multiplied by ``damping``.

    Pruned weights are neither counted nor reset. *Source:* the second of the NeurIPS 2023 unlearning challenge; named and
    measured by Cadet et al., Deep unlearn, 2024, arXiv 2410.01276, whose public code says what it does. *Departs:* the
    learning rate rises and falls step by step, not epoch by epoch, and is larger (there 0.001 before tuning); examples weigh
    alike, where that code adds up means of batches; convolutions of one and three dimensions are reset too.
    """

    reset: float = 0.3
    """Share of each convolution's weights that is reset, 0 to 1."""
    damping: float = 0.1
    """Factor on the gradients of the convolution weights that are not reset, 0 to 1."""
    optim: Sgd = field(default_factory=lambda: Sgd(lr=0.05, epochs=5, schedule="onecycle:0.5"))
    """Optimiser of the repair; too few epochs leave the network damaged."""
    augment: Augment | None = None
    """How retained images vary in the repair."""
    card: ClassVar[Card] = Card(
        does="Gives fresh values to those convolution weights on which forgotten and retained examples do not disagree, and "
        "learns the retained examples again. The reset weights learn at full speed, the others slowly.",
        suits=("random", "group", "class"),
        cost="two gradients of each forgotten example, then the repair: by default 5 epochs of the retained examples",
        knobs={
            "reset": "raise it to forget more; the repair takes longer",
            "optim.lr": "raise it when accuracy does not come back, or when the forget accuracy stays high",
            "optim.epochs": "accuracy comes back with them",
            "damping": "raise it to let the other weights move as well",
        },
        layers="convolutions",
        search={
            "optim.lr": Range(low=0.01, high=1.0, log=True),
            "reset": Range(low=0.05, high=0.8),
            "optim.epochs": Range(low=2, high=10),
        },
        more=("reset", "up"),
    )

    def __post_init__(self) -> None:
        for name, told in (("reset", "share of weights that is reset"), ("damping", "factor on gradients")):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise Refusal(f"expected {name} between 0 and 1, got {value}; it is the {told}")

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"retain", "convolutions"})

    def __call__(self, model: torch.nn.Module, split: Split, rng: torch.Generator, engine: Engine) -> torch.nn.Module:
        assert split.retain is not None
        drawn = torch.randperm(len(split.retain), generator=rng)[: len(split.forget)]
        new = engine.place(copy.deepcopy(model))
        kernels = trained_kernels(new)
        with engine.stage("masked-small-gradients, choice"):
            chosen = self.choose(new, kernels, split.retain.take(drawn), split.forget, engine)
        for name, fresh in chosen.items():
            start_anew(kernels[name], fresh, rng)
        pace = {name: torch.where(fresh, 1.0, self.damping) for name, fresh in chosen.items()}
        with engine.stage("masked-small-gradients, repair"), only(new, pace):
            fit(
                new,
                [Source(split.retain, self.augment)],
                self.optim,
                seed=draw_seed(rng),
                engine=engine,
                identity=repr(self.damping),
                label="masked-small-gradients",
            )
        keep_pruned(new)
        return new

    def choose(
        self,
        model: torch.nn.Module,
        kernels: dict[str, torch.Tensor],
        retain: Examples,
        forget: Examples,
        engine: Engine,
    ) -> dict[str, torch.Tensor]:
        """Which weights of each kernel are reset: bool, in its shape."""
        kept, gone = (mean_gradient(model, part, engine=engine, label="small gradients") for part in (retain, forget))
        slopes, pruned, chosen = by_weight(model, kept - gone), masks_of(model), {}
        for name, weight in kernels.items():
            alive = pruned.get(name, torch.ones_like(weight, dtype=torch.bool)).to(weight.device)
            size = torch.where(alive, slopes[name].abs(), torch.inf).flatten()
            # Stable, so that of equally small ones (a dead channel has many) always the same are reset.
            first = size.argsort(stable=True)[: round(self.reset * int(alive.sum()))]
            chosen[name] = torch.zeros_like(size, dtype=torch.bool).index_fill(0, first, True).view(weight.shape)
        return chosen


def trained_kernels(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The trained weights of convolutions, by name. Raises: Refusal when there are none."""
    found: dict[str, torch.Tensor] = {
        f"{name}.weight".removeprefix("."): module.weight
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.modules.conv._ConvNd)
        and isinstance(module.weight, torch.nn.Parameter)
        and module.weight.requires_grad
    }
    if not found:
        raise Refusal("expected a network with trained convolutions, got none; choose another method")
    return found


def start_anew(weight: torch.Tensor, where: torch.Tensor, rng: torch.Generator) -> None:
    """Fresh values where ``where`` is True, in place: He's normal distribution for what goes out of a layer."""
    fresh = torch.empty(weight.shape)
    torch.nn.init.kaiming_normal_(fresh, mode="fan_out", nonlinearity="relu", generator=rng)
    with torch.no_grad():
        weight.copy_(torch.where(where, fresh.to(weight.device), weight))
