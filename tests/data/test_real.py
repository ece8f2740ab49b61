"""The real data sets, where this machine has them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from unteach.data import load
from unteach.data.fashion import DEBIAN

GIVEN = Path(os.environ.get("UNTEACH_DATA") or "/nowhere")


@pytest.mark.skipif(not DEBIAN.is_dir(), reason="Debian's dataset-fashion-mnist is not installed")
def test_fashion_mnist_of_debian() -> None:
    data = load("fashion-mnist")
    assert data.train.inputs.shape == (60000, 1, 28, 28)
    assert data.test.inputs.shape == (10000, 1, 28, 28)
    assert torch.bincount(data.train.labels).tolist() == [6000] * 10
    assert torch.bincount(data.test.labels).tolist() == [1000] * 10
    assert data.train.classes[int(data.train.labels[0])] == "Ankle boot"
    assert abs(data.train.inputs.float().mean().item() / 255 - 0.2860) < 1e-4  # the mean that everyone normalises with


@pytest.mark.skipif(not (GIVEN / "cmu-faces").is_dir(), reason="no cmu-faces in UNTEACH_DATA")
def test_cmu_faces() -> None:
    data = load("cmu-faces", root=GIVEN, task="all")
    assert len(data.train) + len(data.test) == 624
    assert data.train.inputs.shape[1:] == (1, 120, 128)
    assert data.train.groups is not None
    assert data.test.groups is not None
    assert len(set(data.train.groups.tolist())) == 16
    assert not set(data.train.groups.tolist()) & set(data.test.groups.tolist())
    assert (data.train.labels[:, :4].sum(1) == 1).all()
    assert (data.train.labels[:, 4:8].sum(1) == 1).all()


@pytest.mark.slow
@pytest.mark.skipif(not (GIVEN / "cifar10-jpeg").is_dir(), reason="no cifar10-jpeg in UNTEACH_DATA")
def test_cifar10_of_jpeg_images() -> None:
    data = load("cifar10", root=GIVEN)
    assert data.train.inputs.shape == (50000, 3, 32, 32)
    assert torch.bincount(data.train.labels).tolist() == [5000] * 10
    assert torch.bincount(data.test.labels).tolist() == [1000] * 10
    assert data.train.classes[0] == "airplane"
    means = data.train.inputs.float().mean((0, 2, 3)) / 255
    torch.testing.assert_close(means, torch.tensor([0.4914, 0.4822, 0.4465]), atol=2e-3, rtol=0)
