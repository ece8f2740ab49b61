"""EU-k: the last layers know nothing of what they were, and the others are what they were."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from made import blobs
from unteach.engine import Engine
from unteach.methods.eu_k import EuK
from unteach.models import Blueprint, build, fresh
from unteach.models.masks import masks_of, set_masks
from unteach.store import fingerprint
from unteach.testing import check_method
from unteach.train import Sgd, Source, draw_seed, fit
from unteach.types import Examples, Refusal, Split

SHORT = Sgd(lr=0.05, epochs=2, batch=32)
LAST = {1: 14, 2: 9, 3: 5}  # k → where the last k layers of small-cnn begin


def rng() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.fixture(scope="module")
def trained() -> tuple[torch.nn.Module, Examples, Split]:
    data = blobs(120, noise=0.45)
    model = build(Blueprint(name="small-cnn", classes=3, shape=(1, 8, 8)), seed=3)
    fit(model, [Source(data)], Sgd(lr=0.1, epochs=6, batch=32), seed=0, engine=Engine(precision="fp32"))
    gone = np.arange(len(data)) % 6 == 0
    return model, data, Split(forget=data.take(gone), retain=data.take(~gone))


def test_contract(trained: tuple[torch.nn.Module, Examples, Split]) -> None:
    model, data, split = trained
    check_method(EuK(optim=SHORT), model, split)
    check_method(EuK(k=1, drift=True, optim=SHORT), model, split)
    one = Split(forget=data.take([5]), retain=data.take([i for i in range(120) if i != 5]))
    check_method(EuK(k=2, optim=SHORT), model, one)
    many = data.relabel(torch.nn.functional.one_hot(data.labels, 3).float())
    check_method(EuK(optim=SHORT), model, Split(forget=many.take(range(10)), retain=many.take(range(10, 60))))


@pytest.mark.parametrize("k", [1, 2, 3])
def test_the_layers_before_stay_to_the_bit(k: int, trained: tuple[torch.nn.Module, Examples, Split]) -> None:
    model, _, split = trained
    new = EuK(k=k, optim=SHORT)(model, split, rng(), Engine())
    before = model.state_dict()
    for name, value in new.state_dict().items():
        early = int(name.split(".")[0]) < LAST[k]
        assert torch.equal(value, before[name]) == early or name.endswith("tracked"), name


@pytest.mark.parametrize("k", [1, 2, 3])
def test_what_the_last_layers_were_is_forgotten_exactly(
    k: int, trained: tuple[torch.nn.Module, Examples, Split]
) -> None:
    model, _, split = trained
    other = copy.deepcopy(model)
    with torch.no_grad():
        for name, value in other.state_dict().items():
            if int(name.split(".")[0]) >= LAST[k]:
                value.copy_(torch.full_like(value, 7))
    new = [EuK(k=k, optim=SHORT)(start, split, rng(), Engine()) for start in (model, other)]
    assert fingerprint(new[0]) == fingerprint(new[1])


def test_with_all_layers_it_is_retraining(trained: tuple[torch.nn.Module, Examples, Split]) -> None:
    model, _, split = trained
    assert split.retain is not None
    new = EuK(k=99, optim=SHORT)(model, split, rng(), Engine())
    generator = rng()
    again = fresh(model, seed=draw_seed(generator))
    fit(again, [Source(split.retain)], SHORT, seed=draw_seed(generator), engine=Engine())
    assert fingerprint(new) == fingerprint(again)


def test_anybodys_network(trained: tuple[torch.nn.Module, Examples, Split]) -> None:
    _, _, split = trained
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
    new = check_method(EuK(k=1, optim=SHORT), model, split)
    assert torch.equal(new[1].weight, model[1].weight)


def test_pruned_weights_stay_zero(trained: tuple[torch.nn.Module, Examples, Split]) -> None:
    model, _, split = trained
    sparse = copy.deepcopy(model)
    keep = torch.rand(sparse[14].weight.shape, generator=rng()) < 0.5
    set_masks(sparse, {"14.weight": keep})
    new = EuK(k=2, optim=SHORT)(sparse, split, rng(), Engine())
    assert masks_of(new)
    assert not new[14].weight[~keep].any()
    assert new[14].weight[keep].all()


def test_refusals() -> None:
    with pytest.raises(Refusal, match="k to be at least 1"):
        EuK(k=0)
