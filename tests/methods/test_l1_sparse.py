"""l1-sparse: its update by hand, and that it shrinks what it should."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from made import blobs
from unteach.engine import Engine
from unteach.methods.l1_sparse import L1Sparse
from unteach.models import Blueprint, build
from unteach.store import fingerprint
from unteach.testing import check_method
from unteach.train import Sgd, Source, draw_seed, fit
from unteach.types import Examples, Refusal, Split

CNN = Blueprint(name="small-cnn", classes=3, shape=(1, 8, 8))
QUICK = Sgd(lr=0.02, epochs=2, batch=32)


def exact() -> Engine:
    return Engine(accelerator="cpu", precision="fp32")


def rng() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def linear() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3))


def parts(data: Examples, every: int = 7) -> Split:
    gone = np.arange(len(data)) % every == 0
    return Split(forget=data.take(gone), retain=data.take(~gone))


@pytest.mark.parametrize(
    ("decay", "factors"),
    [("linear", (1, 3 / 4, 1 / 2, 1 / 4)), ("compounding", (2, 3, 3, 1.5))],
    ids=["linear", "compounding"],
)
def test_a_step_is_the_gradient_and_a_little_off_every_weight(decay: str, factors: tuple[float, ...]) -> None:
    split, model = parts(blobs()), linear()
    assert split.retain is not None
    whole = Sgd(lr=0.2, epochs=4, batch=1000, momentum=0.0, weight_decay=0.0, schedule="constant")
    new = L1Sparse(l1=0.01, l1_decay=decay, optim=whole)(model, split, rng(), exact())
    weights = [weight.detach().clone().requires_grad_(True) for weight in model.parameters()]
    inputs = split.retain.inputs.float().flatten(1) / 255
    for factor in factors:
        loss = torch.nn.functional.cross_entropy(inputs @ weights[0].T + weights[1], split.retain.labels)
        gradients = torch.autograd.grad(loss, weights)
        with torch.no_grad():
            for weight, gradient in zip(weights, gradients):
                weight -= 0.2 * (gradient + 0.01 * factor * weight.sign())
    for ours, theirs in zip(new.parameters(), weights):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def test_without_l1_it_is_fine_tuning() -> None:
    split = parts(blobs())
    assert split.retain is not None
    model = build(CNN, seed=0)
    new, tuned = L1Sparse(l1=0.0, optim=QUICK)(model, split, rng(), exact()), copy.deepcopy(model)
    fit(tuned, [Source(split.retain)], QUICK, seed=draw_seed(rng()), engine=exact())
    assert fingerprint(new) == fingerprint(tuned)


def test_the_more_l1_the_smaller_the_network() -> None:
    split, model = parts(blobs()), build(CNN, seed=0)
    sizes = []
    for l1 in (0.0, 0.01, 0.1):
        new = L1Sparse(l1=l1, optim=QUICK)(model, split, rng(), exact())
        sizes.append(sum(float(weight.detach().abs().sum()) for weight in new.parameters()))
    assert sizes[0] > sizes[1] > sizes[2]


@pytest.mark.parametrize("bad", [{"l1": -1.0}, {"l1": float("nan")}, {"l1_decay": "never"}], ids=str)
def test_settings_that_make_no_sense(bad: dict[str, float]) -> None:
    with pytest.raises(Refusal, match="expected l1"):
        L1Sparse(**bad)  # type: ignore[arg-type]


def test_contract() -> None:
    data = blobs()
    labels = data.relabel(torch.nn.functional.one_hot(data.labels, 3).float())
    for held in (data, labels):
        check_method(L1Sparse(optim=QUICK), build(CNN, seed=0), parts(held))
    check_method(L1Sparse(optim=QUICK), build(CNN, seed=0), parts(data, every=96))
