"""Boundary shrink and expand: the nearest wrong label, one step of each by hand, and what is left of the shadow class."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from made import blobs
from unteach.engine import Engine, pixels
from unteach.methods.boundary_expand import BoundaryExpand
from unteach.methods.boundary_shrink import BoundaryShrink, nearest_wrong
from unteach.models.masks import set_masks
from unteach.models.small import small_cnn
from unteach.models.widened import Widened
from unteach.store import fingerprint
from unteach.testing import check_method
from unteach.train import Sgd, Source, fit
from unteach.types import Examples, Refusal, Split

SHORT = Sgd(lr=0.01, epochs=2, batch=16)
STEP = Sgd(lr=0.1, epochs=1, batch=1000, schedule="constant", momentum=0.0, weight_decay=0.0)


def rng() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.fixture(scope="module")
def trained() -> tuple[torch.nn.Module, Examples, Split]:
    data = blobs(120, noise=0.45)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = small_cnn(1, 3, 8, 8, filters=8)
    fit(model, [Source(data)], Sgd(lr=0.1, epochs=6, batch=32), seed=0, engine=Engine(precision="fp32"))
    gone = data.labels.numpy() == 1
    return model, data, Split(forget=data.take(gone), retain=data.take(~gone))


@pytest.fixture(scope="module")
def linear(trained: tuple[torch.nn.Module, Examples, Split]) -> torch.nn.Sequential:
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3))
    fit(model, [Source(trained[1])], Sgd(lr=0.1, epochs=6, batch=32), seed=0, engine=Engine(precision="fp32"))
    return model


METHODS = {
    "shrink": BoundaryShrink(optim=SHORT),
    "shrink-retain": BoundaryShrink(optim=SHORT, use_retain=True, refresh=True),
    "expand": BoundaryExpand(optim=SHORT),
}


@pytest.mark.parametrize("name", METHODS)
def test_contract(name: str, trained: tuple[torch.nn.Module, Examples, Split]) -> None:
    model, data, split = trained
    new = check_method(METHODS[name], model, split)
    assert fingerprint(new) != fingerprint(model)
    one = Split(forget=data.take([5]), retain=data.take([i for i in range(120) if i != 5]))
    check_method(METHODS[name], model, one)
    many = data.relabel(torch.nn.functional.one_hot(data.labels, 3).float())
    several = Split(forget=many.take(range(10)), retain=many.take(range(10, 60)))
    if name == "expand":
        with pytest.raises(Refusal, match="one class for each example"):
            METHODS[name](model, several, rng(), Engine())
    else:
        check_method(METHODS[name], model, several)


@pytest.mark.parametrize("name", METHODS)
def test_the_class_is_forgotten(name: str, trained: tuple[torch.nn.Module, Examples, Split]) -> None:
    model, _, split = trained
    method = replace(METHODS[name], optim=Sgd(lr=0.01, epochs=10, batch=16, schedule="constant", batch_norm="eval"))
    new = method(model, split, rng(), Engine(precision="fp32"))
    answers = Engine(precision="fp32").logits(new, split.forget.inputs).argmax(1)
    assert (answers == split.forget.labels).float().mean() < 0.2


# Shrink


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**31 - 1))
def test_nearest_wrong_label(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits, labels = torch.randn(7, 4, generator=generator), torch.randint(0, 4, (7,), generator=generator)
    for row, label, found in zip(logits, labels, nearest_wrong(logits, labels)):
        others = [k for k in range(4) if k != label]
        assert int(found) == max(others, key=lambda k: float(row[k]))
    several = torch.randint(0, 2, (7, 4), generator=generator).float()
    for row, given_, found in zip(logits, several, nearest_wrong(logits, several)):
        own = (row > 0).float()
        if torch.equal(own, given_):
            own[row.abs().argmin()] = 1 - own[row.abs().argmin()]
        assert torch.equal(found, own)
        assert not torch.equal(found, given_)


def test_labels_are_those_across_one_signed_step(
    linear: torch.nn.Sequential, trained: tuple[torch.nn.Module, Examples, Split]
) -> None:
    """Of a linear network the gradient is known: Σ_c p_c w_c − w_y."""
    forget = trained[2].forget
    found = BoundaryShrink().labels(linear, forget, rng(), Engine())
    x, weight = pixels(forget.inputs).flatten(1), linear[1].weight.detach()
    slope = linear(x).softmax(1) @ weight - weight[forget.labels]
    crossed = linear((x + 0.1 * slope.sign()).clamp(0, 1)).detach()
    assert torch.equal(found, crossed.scatter(1, forget.labels[:, None], -torch.inf).argmax(1))


@pytest.mark.parametrize("use_retain", [False, True])
def test_one_shrinking_step_by_hand(
    use_retain: bool, linear: torch.nn.Sequential, trained: tuple[torch.nn.Module, Examples, Split]
) -> None:
    split = trained[2]
    assert split.retain is not None
    method = BoundaryShrink(optim=STEP, use_retain=use_retain)
    assert method.needs == ({"retain"} if use_retain else set())
    new = method(linear, split, rng(), Engine(precision="fp32"))
    labels = method.labels(linear, split.forget, rng(), Engine())
    inputs = [split.forget.inputs] + ([split.retain.inputs] if use_retain else [])
    wanted = [labels] + ([split.retain.labels] if use_retain else [])
    plain = copy.deepcopy(linear)
    torch.nn.functional.cross_entropy(plain(pixels(torch.cat(inputs))), torch.cat(wanted)).backward()
    expected = linear[1].weight - 0.1 * plain[1].weight.grad
    torch.testing.assert_close(new[1].weight, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("refresh", [False, True])
def test_labels_are_found_again_only_if_asked(refresh: bool, trained: tuple[torch.nn.Module, Examples, Split]) -> None:
    model, _, split = trained
    engine = Engine()
    optim = Sgd(lr=1e-3, epochs=3, batch=16)
    BoundaryShrink(refresh=refresh, optim=optim)(model, split, rng(), engine)
    assert engine.meter.gradients == len(split.forget) * (3 if refresh else 1)
    assert engine.meter.trained == 3 * len(split.forget)


def test_a_missing_retain_set_is_refused(trained: tuple[torch.nn.Module, Examples, Split]) -> None:
    model, _, split = trained
    with pytest.raises(Refusal, match="expected a retain set"):
        BoundaryShrink(use_retain=True)(model, replace(split, retain=None), rng(), Engine())


# Expand


def test_widening_adds_a_class_and_changes_no_other(trained: tuple[torch.nn.Module, Examples, Split]) -> None:
    model, data, _ = trained
    body = copy.deepcopy(model).eval()
    wide = Widened(body, rng())
    out = wide(pixels(data.inputs))
    assert out.shape == (120, 4)
    assert torch.equal(out[:, :3], body(pixels(data.inputs)))
    features = body[:-1](pixels(data.inputs))
    torch.testing.assert_close(out[:, 3], features @ wide.weight[0])


def test_one_expanding_step_by_hand(
    linear: torch.nn.Sequential, trained: tuple[torch.nn.Module, Examples, Split]
) -> None:
    split = trained[2]
    new = BoundaryExpand(optim=STEP)(linear, split, rng(), Engine(precision="fp32"))
    x = pixels(split.forget.inputs).flatten(1)
    shadow = (2 / 68) ** 0.5 * torch.randn(1, 64, generator=rng())
    p = torch.cat((linear(x), x @ shadow.T), 1).softmax(1)
    expected = linear[1].weight - 0.1 * p[:, :3].T @ x / len(x)  # the wanted class is none of these three
    torch.testing.assert_close(new[1].weight, expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(new[1].bias, linear[1].bias - 0.1 * p[:, :3].mean(0), rtol=1e-5, atol=1e-6)


def test_a_pruned_network_stays_pruned(trained: tuple[torch.nn.Module, Examples, Split]) -> None:
    model, _, split = trained
    sparse = copy.deepcopy(model)
    keep = torch.rand(sparse[5].weight.shape, generator=rng()) < 0.5
    set_masks(sparse, {"5.weight": keep})
    new = BoundaryExpand(optim=SHORT)(sparse, split, rng(), Engine())
    assert not new[5].weight[~keep].any()
    assert not torch.equal(new[5].weight, sparse[5].weight)


def test_a_network_without_a_row_for_each_class_is_refused(trained: tuple[torch.nn.Module, Examples, Split]) -> None:
    odd = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 6), torch.nn.MaxPool1d(2))
    with pytest.raises(Refusal, match="one row for each of 3 classes"):
        BoundaryExpand()(odd, trained[2], rng(), Engine())


def test_a_head_without_bias(trained: tuple[torch.nn.Module, Examples, Split]) -> None:
    plain = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3, bias=False))
    assert np.isfinite(check_method(BoundaryExpand(optim=SHORT), plain, trained[2])[1].weight.detach().numpy()).all()
