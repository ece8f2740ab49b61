"""The bound on a whole network: exact where the network is a chain of known norms, never below what is seen."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from unteach.models import Blueprint, build
from unteach.models.resnet import BasicBlock
from unteach.spectral import Clip, materialise
from unteach.spectral.lipschitz import lipschitz
from unteach.spectral.operator import LinearMap


def scaled(size: int, factor: float) -> nn.Linear:
    """A rotation times a factor."""
    layer = nn.Linear(size, size)
    with torch.no_grad():
        q = torch.linalg.qr(torch.randn(size, size, generator=torch.Generator().manual_seed(size)))[0]
        layer.weight.copy_(factor * q)
    return layer


class Block(nn.Module):
    def __init__(self, path: nn.Module, shortcut: nn.Module) -> None:
        super().__init__()
        self.path, self.shortcut = path, shortcut

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.view(x.size(0), -1)
        return torch.relu(self.path(x) + self.shortcut(x)) * 0.5


class Dense(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = scaled(6, 3.0), scaled(6, 4.0)
        self.register_buffer("mean", torch.rand(6))
        self.register_buffer("std", torch.tensor([0.5, 0.25, 1, 1, 1, 1]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = (x - self.mean) / self.std
        return torch.cat((self.one(x), self.two(x)), 1)


@pytest.mark.parametrize(
    ("model", "shape", "bound"),
    [
        (nn.Sequential(scaled(6, 2.0), nn.ReLU(), scaled(6, 3.0)), (6,), 6.0),
        (nn.Sequential(scaled(6, 2.0), nn.GELU(), nn.Dropout(0.5)), (6,), 2.26),
        (Block(scaled(6, 2.0), nn.Identity()), (6,), 1.5),
        (Block(scaled(6, 2.0), scaled(6, 5.0)), (6,), 3.5),
        (Dense(), (6,), 4 * 5.0),
        (nn.Sequential(nn.MaxPool2d(2), nn.Flatten(), scaled(16, 2.0)), (1, 8, 8), 2.0),
        (nn.Sequential(nn.MaxPool2d(3, 2, 1), nn.Flatten(), scaled(16, 2.0)), (1, 8, 8), 4.0),
        (nn.Sequential(nn.AdaptiveMaxPool2d(1), nn.Flatten()), (3, 8, 8), 1.0),
        (nn.Sequential(nn.AvgPool2d(2), nn.Flatten()), (1, 8, 8), 0.5),
    ],
)
def test_known_answers(model: nn.Module, shape: tuple[int, ...], bound: float) -> None:
    assert lipschitz(model, shape).bound == pytest.approx(bound, rel=1e-3)


def test_a_convolution_and_its_batch_norm_are_one_map() -> None:
    conv, norm = nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4)
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([0.1, 0.2, 0.3, 4.0]))
        conv.weight[3] *= 0.1  # the norm's largest factor meets the smallest rows
    model = nn.Sequential(conv, norm, nn.ReLU()).eval()
    whole = float(torch.linalg.matrix_norm(materialise(LinearMap(model[:2], (1, 6, 6))), 2))
    apart = float(torch.linalg.matrix_norm(materialise(LinearMap(conv, (1, 6, 6))), 2)) * 4.0
    assert lipschitz(model, (1, 6, 6)).bound == pytest.approx(whole, rel=1e-3)
    assert whole < 0.9 * apart


def networks() -> list[tuple[nn.Module, tuple[int, ...]]]:
    small = build(Blueprint(name="small-cnn", classes=3, shape=(1, 8, 8)), seed=0)
    images = torch.rand(64, 3, 9, 9, generator=torch.Generator().manual_seed(0))
    white = build(Blueprint(name="airbench-small", classes=3, shape=(3, 9, 9)), seed=0, sample=images)
    blocks = (BasicBlock(1, 4, 2, True), BasicBlock(4, 4, 1, False))
    residual = nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    return [(small, (1, 8, 8)), (white, (3, 9, 9)), (residual, (1, 8, 8))]


def test_networks_stay_within() -> None:
    for model, shape in networks():
        model.eval()
        found = lipschitz(model, shape)
        assert found.bound is not None, found.reason
        x = torch.rand(1, *shape, generator=torch.Generator().manual_seed(1)).requires_grad_()
        (slope,) = torch.autograd.grad(model(x)[0, 0], x)
        assert 0 < float(slope.norm()) <= found.bound
        Clip(target=0.9)(model, shape)
        after = lipschitz(model, shape)
        assert after.bound is not None
        assert after.bound < found.bound


def test_training_flags_are_as_before() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.1)).train()
    lipschitz(model, (4,))
    assert all(module.training for module in model.modules())


class Forked(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x if x.sum() > 0 else -x


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4)), "LayerNorm"),
        (nn.Sequential(nn.Linear(4, 4), nn.Softmax(1)), "Softmax"),
        (Forked(), "can't follow"),
    ],
)
def test_what_is_not_covered_is_said(model: nn.Module, words: str) -> None:
    found = lipschitz(model, (4,))
    assert found.bound is None
    assert words in found.reason
