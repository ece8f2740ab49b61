"""Masked small gradients: its choice and its first step by hand, and what it must leave alone."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

import unteach.methods.masked_small_gradients as room
from made import blobs
from unteach.engine import Engine, pixels
from unteach.methods.masked_small_gradients import MaskedSmallGradients, start_anew
from unteach.models import Blueprint, build
from unteach.models.masks import set_masks
from unteach.store import fingerprint
from unteach.testing import check_method
from unteach.train import Sgd
from unteach.types import Examples, Refusal, Split

WHOLE = Sgd(lr=0.3, epochs=1, batch=1000, momentum=0.0, weight_decay=0.0, schedule="constant", batch_norm="eval")
SHORT = Sgd(lr=0.02, epochs=2, batch=8)
KERNELS = ("1.weight", "5.weight", "9.weight")


def rng() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def halves(many: bool = False) -> Split:
    data = blobs(24, noise=0.45)
    if many:
        data = data.relabel(nn.functional.one_hot(data.labels, 3).float())
    return Split(forget=data.take(range(8)), retain=data.take(range(8, 24)))


def network() -> nn.Module:
    return build(Blueprint(name="small-cnn", classes=3, shape=(1, 8, 8)), seed=0)


def slope(model: nn.Module, data: Examples) -> dict[str, torch.Tensor]:
    weights = dict(model.eval().named_parameters())
    loss = data.task.loss(model(pixels(data.inputs)), data.labels).mean()
    return dict(zip(weights, torch.autograd.grad(loss, list(weights.values()))))


def reset_only(method: MaskedSmallGradients, model: nn.Module, monkeypatch: pytest.MonkeyPatch) -> nn.Module:
    with monkeypatch.context() as patch:
        patch.setattr(room, "fit", lambda *args, **told: None)
        return method(model, halves(), rng(), Engine(precision="fp32"))


def test_the_smallest_are_reset(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of every kernel 30 %: those with the smallest |∇ mean loss of a retained sample − ∇ mean loss of the forget set|."""
    model, split = network(), halves()
    assert split.retain is not None
    new = reset_only(MaskedSmallGradients(), model, monkeypatch)
    sample = split.retain.take(torch.randperm(16, generator=rng())[:8])
    kept, gone = slope(model, sample), slope(model, split.forget)
    after = dict(new.named_parameters())
    for name, weight in model.named_parameters():
        changed = after[name] != weight
        if name not in KERNELS:
            assert not changed.any(), name
            continue
        size = (kept[name] - gone[name]).abs()
        assert int(changed.sum()) == round(0.3 * weight.numel())
        assert size[changed].max() <= size[~changed].min() + 1e-6


def test_the_others_learn_slowly(monkeypatch: pytest.MonkeyPatch) -> None:
    """One step on the whole retain set: reset weights and other layers in full, the rest of the kernels a tenth."""
    model, split = network(), halves()
    assert split.retain is not None
    method = MaskedSmallGradients(optim=WHOLE)
    start = reset_only(method, model, monkeypatch)
    new = dict(method(model, split, rng(), Engine(precision="fp32")).named_parameters())
    down = slope(copy.deepcopy(start), split.retain)
    for (name, before), original in zip(start.named_parameters(), model.parameters()):
        pace = torch.where(before != original, 1.0, 0.1) if name in KERNELS else 1.0
        torch.testing.assert_close(new[name], before - 0.3 * pace * down[name], rtol=1e-3, atol=1e-5)


def test_fresh_values_are_he_s() -> None:
    weight = torch.zeros(64, 32, 3, 3)
    where = torch.rand(weight.shape, generator=rng()) < 0.5
    start_anew(weight, where, torch.Generator().manual_seed(1))
    assert not weight[~where].any()
    assert weight[where].std() == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.03)
    assert abs(float(weight[where].mean())) < 2e-3


def test_pruned_weights_are_neither_counted_nor_reset(monkeypatch: pytest.MonkeyPatch) -> None:
    model = network()
    mask = torch.rand(64, 32, 3, 3, generator=rng()) < 0.5
    set_masks(model, {"5.weight": mask})
    new = dict(reset_only(MaskedSmallGradients(), model, monkeypatch).named_parameters())["5.weight"]
    changed = new != dict(model.named_parameters())["5.weight"]
    assert int(changed.sum()) == round(0.3 * int(mask.sum()))
    assert not new[~mask].any()


@pytest.mark.parametrize("many", [False, True], ids=["classes", "labels"])
def test_contract(many: bool) -> None:
    split, model = halves(many), network()
    method = MaskedSmallGradients(optim=SHORT)
    assert fingerprint(check_method(method, model, split)) != fingerprint(model)
    check_method(method, model, Split(forget=split.forget.take([0]), retain=split.retain))


def test_refusals() -> None:
    with pytest.raises(Refusal, match="trained convolutions"):
        MaskedSmallGradients()(nn.Sequential(nn.Flatten(), nn.Linear(64, 3)), halves(), rng(), Engine())
    with pytest.raises(Refusal, match="reset"):
        MaskedSmallGradients(reset=1.5)
    with pytest.raises(Refusal, match="damping"):
        MaskedSmallGradients(damping=-0.1)
