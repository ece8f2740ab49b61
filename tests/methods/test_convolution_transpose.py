"""Convolution transpose: what a transposed network sees, and what it must leave alone."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import unteach.methods.convolution_transpose as room
from made import blobs
from unteach.engine import Engine
from unteach.methods.convolution_transpose import ConvolutionTranspose, transpose_kernels
from unteach.models import Blueprint, build
from unteach.models.masks import masks_of, set_masks
from unteach.store import fingerprint
from unteach.testing import check_method
from unteach.train import Sgd
from unteach.types import Refusal, Split

SHORT = Sgd(lr=0.02, epochs=2, batch=8)


def rng() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def halves(many: bool = False) -> Split:
    data = blobs(24)
    if many:
        data = data.relabel(nn.functional.one_hot(data.labels, 3).float())
    return Split(forget=data.take(range(8)), retain=data.take(range(8, 24)))


def network() -> nn.Module:
    return build(Blueprint(name="small-cnn", classes=3, shape=(1, 8, 8)), seed=0)


def test_a_transposed_network_answers_transposed_images_as_before() -> None:
    """If what comes after the convolutions does not care for places, f_T(xᵀ) = f(x)."""
    torch.manual_seed(0)
    convolutions = (
        nn.Conv2d(2, 4, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(4, 4, 5, padding=2, groups=2),
        nn.ReLU(),
    )
    model = nn.Sequential(*convolutions, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)).eval()
    x = torch.rand(5, 2, 9, 9)
    before, other = model(x), model(x.mT)
    transpose_kernels(model)
    torch.testing.assert_close(model(x.mT), before)
    assert not torch.allclose(before, other), "else the test would say nothing"
    transpose_kernels(model)
    torch.testing.assert_close(model(x), before)


def test_only_square_kernels_are_turned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "fit", lambda *args, **told: None)
    torch.manual_seed(0)
    layers = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 4, (1, 3)), nn.Conv2d(4, 4, 1), nn.Flatten()
    model = nn.Sequential(*layers, nn.Linear(96, 3))
    new = ConvolutionTranspose()(model, halves(), rng(), Engine(precision="fp32"))
    for (name, weight), after in zip(model.named_parameters(), new.parameters()):
        assert torch.equal(after, weight.mT if name == "0.weight" else weight), name


def test_pruned_places_stay_empty() -> None:
    model = network()
    mask = torch.rand(32, 1, 3, 3, generator=rng()) < 0.5
    set_masks(model, {"1.weight": mask})
    new = ConvolutionTranspose(optim=SHORT)(model, halves(), rng(), Engine(precision="fp32"))
    assert not dict(new.named_parameters())["1.weight"][~mask].any()
    assert masks_of(new).keys() == {"1.weight"}


@pytest.mark.parametrize("many", [False, True], ids=["classes", "labels"])
def test_contract(many: bool) -> None:
    split, model = halves(many), network()
    method = ConvolutionTranspose(optim=SHORT)
    assert fingerprint(check_method(method, model, split)) != fingerprint(model)
    check_method(method, model, Split(forget=split.forget.take([0]), retain=split.retain))


@pytest.mark.parametrize(
    "model",
    [nn.Sequential(nn.Flatten(), nn.Linear(64, 3)), nn.Sequential(nn.Conv2d(1, 3, 1), nn.Flatten(), nn.Linear(192, 3))],
    ids=["none", "one-by-one"],
)
def test_networks_without_kernels_to_turn_are_refused(model: nn.Module) -> None:
    with pytest.raises(Refusal, match="square convolution kernels"):
        ConvolutionTranspose()(model, halves(), rng(), Engine())
