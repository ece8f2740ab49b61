"""A model small enough to tune in tests, and methods of which the best setting is known."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from functools import cache
from typing import ClassVar

import torch

from made import blobs
from unteach.data import split
from unteach.engine import Engine
from unteach.recipe import Recipe
from unteach.train import Sgd, Source, fit
from unteach.types import Card, Choice, Examples, Range, Refusal, Split

RECIPE = Recipe(optim=Sgd(lr=0.1, epochs=15, batch=32, schedule="constant", weight_decay=0.0))


def network(seed: int = 0) -> torch.nn.Module:
    torch.manual_seed(seed)
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 32), torch.nn.ReLU(), torch.nn.Linear(32, 3))


def trained(data: Examples, seed: int = 0) -> torch.nn.Module:
    with torch.random.fork_rng(devices=[]):
        model = network(seed)
    fit(model, [Source(data)], RECIPE.optim, seed=seed, engine=Engine(accelerator="cpu"))
    return model.eval()


def noisy(n: int = 120, seed: int = 0) -> Examples:
    return blobs(n, noise=0.6, seed=seed)


@cache
def job() -> tuple[torch.nn.Module, Split]:
    """A model of 120 noisy examples, a request of 20 of them, and 60 validation examples that it never saw."""
    data = noisy()
    parts = split(data, [str(i) for i in range(20)])
    return trained(data), Split(forget=parts.forget, retain=parts.retain, validation=noisy(60, seed=5))


@dataclass(frozen=True, kw_only=True)
class Sham:
    """Another model, with noise on its weights that vanishes where ``way`` is 1; no training is done."""

    way: float = 0.0
    """How near."""
    towards: dict[str, torch.Tensor] = field(default_factory=dict, repr=False)
    """The other model's weights."""
    card: ClassVar[Card] = Card(
        does="", suits=("random",), cost="nothing", knobs={}, search={"way": Range(low=-1.0, high=3.0)}
    )

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"retain"})

    def __call__(self, model: torch.nn.Module, split: Split, rng: torch.Generator, engine: Engine) -> torch.nn.Module:
        new = copy.deepcopy(model)
        noise = torch.Generator().manual_seed(0)
        for name, weight in new.named_parameters():
            off = 0.2 * (self.way - 1) * torch.randn(weight.shape, generator=noise)
            weight.data = self.towards[name] + off
        return new


@dataclass(frozen=True, kw_only=True)
class Picks:
    """Retrains, does nothing, or ruins the network, at ``epochs`` times a made-up price."""

    what: str = "nothing"
    """retrain, nothing, ruin, nan or diverge."""
    epochs: int = 1
    """Only the price."""
    price: float = 1.0
    """Epochs of training data for one of them."""
    optim: Sgd = field(default_factory=Sgd)
    """Not used."""
    card: ClassVar[Card] = Card(
        does="",
        suits=("random",),
        cost="",
        knobs={},
        search={
            "what": Choice(values=("nothing", "retrain", "ruin", "nan", "diverge")),
            "epochs": Range(low=1, high=9),
        },
    )

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"retain"})

    def __call__(self, model: torch.nn.Module, split: Split, rng: torch.Generator, engine: Engine) -> torch.nn.Module:
        assert split.retain is not None
        engine.meter.trained += round(self.price * self.epochs * (len(split.retain) + len(split.forget)))
        new = copy.deepcopy(model)
        if self.what == "retrain":
            units, new = engine.meter.trained, trained(split.retain, seed=77)
            engine.meter.trained = units
        elif self.what in ("ruin", "nan"):
            for weight in new.parameters():
                weight.data.fill_(0.0 if self.what == "ruin" else float("nan"))
        elif self.what == "diverge":
            raise Refusal("expected a finite loss while picking, got nan in epoch 1; lower the learning rate")
        return new
