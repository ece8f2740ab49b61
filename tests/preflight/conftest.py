"""A small network that fits made data, and the case of a request to it."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from made import blobs
from unteach.data import DataSet, split
from unteach.engine import Engine
from unteach.methods import FineTune
from unteach.models.small import small_cnn
from unteach.preflight.case import Case
from unteach.provenance import Provenance
from unteach.recipe import Recipe
from unteach.train import Sgd

RECIPE = Recipe(optim=Sgd(lr=0.1, epochs=8, batch=16, schedule="onecycle"))


def made(noise: float = 0.3) -> DataSet:
    test = blobs(60, seed=1, noise=noise)
    return DataSet("blobs", blobs(120, noise=noise), replace(test, ids=np.array([f"test-{i}" for i in range(60)])))


def case_of(model: torch.nn.Module, data: DataSet, ids: list[str] | None = None, **changes: Any) -> Case:
    """The case of forgetting these ids (the first ten by default) by fine-tuning; ``changes`` go over it."""
    given: dict[str, Any] = {
        "model": model,
        "data": data,
        "parts": split(data.train, ids or [str(name) for name in data.train.ids[:10]]),
        "method": FineTune(),
        "named": "finetune",
        "provenance": Provenance(),
        "recipe": RECIPE,
        "sample": 0,
        "seed": 0,
        "engine": Engine(accelerator="cpu", precision="fp32"),
    }
    return Case(**{**given, **changes})


@pytest.fixture(scope="session")
def data() -> DataSet:
    return made()


@pytest.fixture(scope="session")
def _fitted(data: DataSet) -> torch.nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = small_cnn(1, 3, 8, 8)
    RECIPE(model, data.train, seed=0, engine=Engine(accelerator="cpu", precision="fp32"))
    return model.eval()


@pytest.fixture
def model(_fitted: torch.nn.Module) -> torch.nn.Module:
    """A copy, to be spoilt."""
    return copy.deepcopy(_fitted)


@pytest.fixture(scope="session")
def make() -> Any:
    return case_of
