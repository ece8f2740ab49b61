"""Tiny networks on digits with a quarter of wrong labels: what was trained on is known by heart, what was not is not."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from unteach.data.dataset import Where
from unteach.data.digits import digits
from unteach.engine import Engine
from unteach.stress import Models, Parts
from unteach.train import Sgd, Source, fit
from unteach.types import Examples

RECIPE = Sgd(lr=0.1, epochs=25, batch=50, schedule="cosine", weight_decay=0.0)
Training = Callable[[Examples, int], nn.Module]


def network(seed: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 128), nn.BatchNorm1d(128), nn.ReLU(), nn.Linear(128, 10))


@pytest.fixture(scope="session")
def engine() -> Engine:
    return Engine(accelerator="cpu", precision="fp32")


@pytest.fixture(scope="session")
def train(engine: Engine) -> Training:
    def trained(examples: Examples, seed: int) -> nn.Module:
        model = network(seed)
        fit(model, [Source(examples)], RECIPE, seed=seed, engine=engine)
        return model

    return trained


@pytest.fixture(scope="session")
def clean() -> tuple[Examples, Examples]:
    """400 digits to train on, 359 unseen."""
    data = digits(Where())
    return data.train.take(np.random.default_rng(0).permutation(len(data.train))[:400]), data.test


@pytest.fixture(scope="session")
def noisy(clean: tuple[Examples, Examples]) -> tuple[Examples, Examples]:
    """The same, a quarter of them under labels drawn at random."""
    rng = np.random.default_rng(1)

    def mislabel(examples: Examples) -> Examples:
        drawn = torch.from_numpy(rng.integers(10, size=len(examples)))
        wrong = torch.from_numpy(rng.random(len(examples)) < 0.25)
        return examples.relabel(torch.where(wrong, drawn, examples.labels))

    return mislabel(clean[0]), mislabel(clean[1])


@pytest.fixture(scope="session")
def random_request(noisy: tuple[Examples, Examples], train: Training) -> tuple[Models, Parts]:
    """120 examples of 400 to forget; the method did nothing."""
    data, unseen = noisy
    gone = np.arange(len(data)) < 120
    parts = Parts(forget=data.take(gone), retain=data.take(~gone), unseen=unseen)
    assert parts.retain is not None
    return _cast(data, parts.retain, train), parts


@pytest.fixture(scope="session")
def class_request(clean: tuple[Examples, Examples], train: Training) -> tuple[Models, Parts]:
    """All threes to forget; the method did nothing."""
    data, unseen = clean
    gone = data.labels.numpy() == 3
    parts = Parts(forget=data.take(gone), retain=data.take(~gone), unseen=unseen)
    assert parts.retain is not None
    return _cast(data, parts.retain, train), parts


def _cast(data: Examples, retain: Examples, train: Training) -> Models:
    original = train(data, 0)
    return Models(unlearned=original, retrained=tuple(train(retain, seed) for seed in (1, 2, 3)), original=original)
