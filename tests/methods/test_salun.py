"""SalUn: only salient weights move, by the gradient of the joint loss."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from made import blobs
from unteach.engine import Engine
from unteach.methods.salun import SalUn
from unteach.models import Blueprint, build
from unteach.saliency import saliency_mask
from unteach.store import fingerprint
from unteach.testing import check_method
from unteach.train import Sgd, Source, draw_seed, fit
from unteach.types import Examples, Refusal, Split
from unteach.wrong_labels import wrong_labels

CNN = Blueprint(name="small-cnn", classes=3, shape=(1, 8, 8))
QUICK = Sgd(lr=0.02, epochs=2, batch=32, weight_decay=0.0)


def exact() -> Engine:
    return Engine(accelerator="cpu", precision="fp32")


def rng() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def parts(data: Examples, every: int = 7) -> Split:
    gone = np.arange(len(data)) % every == 0
    return Split(forget=data.take(gone), retain=data.take(~gone))


@pytest.mark.parametrize("decay", [0.0, 0.1], ids=["plain", "decay"])
def test_only_salient_weights_move(decay: float) -> None:
    """And with weight decay the others shrink by it, and by nothing else."""
    split, model = parts(blobs()), build(CNN, seed=0)
    optim = Sgd(lr=0.02, epochs=2, batch=32, momentum=0.0, weight_decay=decay, schedule="constant")
    new = SalUn(share=0.3, optim=optim)(model, split, rng(), exact())
    mask = saliency_mask(copy.deepcopy(model), split.forget, 0.3, engine=exact())
    now = dict(new.named_parameters())
    shrunk = (1 - 0.02 * decay) ** (2 * 3)
    moved = 0
    for name, before in model.named_parameters():
        rest = ~mask[name]
        torch.testing.assert_close(now[name][rest], before[rest] * shrunk, rtol=1e-6 if decay else 0, atol=0)
        moved += int((now[name] != before)[mask[name]].sum())
    assert moved > 0.9 * sum(int(part.sum()) for part in mask.values())
    assert not any(weight._backward_hooks for weight in new.parameters()), "no hooks may be left behind"


def test_a_step_is_the_masked_gradient_under_wrong_labels() -> None:
    split = parts(blobs())
    assert split.retain is not None
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3))
    whole = Sgd(lr=0.2, epochs=4, batch=1000, momentum=0.0, weight_decay=0.0, schedule="constant")
    new = SalUn(optim=whole)(model, split, rng(), exact())
    wrong = wrong_labels(split.forget.labels, 3, rng())
    assert not (wrong == split.forget.labels).any()

    def gradients(x: torch.Tensor, y: torch.Tensor) -> list[torch.Tensor]:
        loss = torch.nn.functional.cross_entropy(x.float().flatten(1) / 255 @ weights[0].T + weights[1], y)
        return list(torch.autograd.grad(loss, weights))

    weights = [weight.detach().clone().requires_grad_(True) for weight in model.parameters()]
    steep = [gradient.abs() for gradient in gradients(split.forget.inputs, split.forget.labels)]
    least = torch.cat([part.flatten() for part in steep]).sort(descending=True).values[round(195 / 2) - 1]
    inputs = torch.cat((split.retain.inputs, split.forget.inputs))
    for _ in range(4):
        found = gradients(inputs, torch.cat((split.retain.labels, wrong)))
        with torch.no_grad():
            for weight, gradient, part in zip(weights, found, steep):
                weight -= 0.2 * gradient * (part >= least)
    for ours, theirs in zip(new.parameters(), weights):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def test_with_all_weights_it_is_training_on_random_labels() -> None:
    split, model = parts(blobs()), build(CNN, seed=0)
    assert split.retain is not None
    new, plain, drawn = SalUn(share=1.0, optim=QUICK)(model, split, rng(), exact()), copy.deepcopy(model), rng()
    wrong = split.forget.relabel(wrong_labels(split.forget.labels, 3, drawn))
    fit(plain, [Source(split.retain), Source(wrong)], QUICK, seed=draw_seed(drawn), engine=exact())
    assert fingerprint(new) == fingerprint(plain)


@pytest.mark.parametrize("share", [0.0, 1.5, float("nan")])
def test_a_share_is_a_share(share: float) -> None:
    with pytest.raises(Refusal, match="share"):
        SalUn(share=share)


def test_contract() -> None:
    data = blobs()
    labels = data.relabel(torch.nn.functional.one_hot(data.labels, 3).float())
    for held in (data, labels):
        check_method(SalUn(optim=QUICK), build(CNN, seed=0), parts(held))
    check_method(SalUn(optim=QUICK), build(CNN, seed=0), parts(data, every=96))
