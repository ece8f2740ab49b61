"""Small trained networks, made once per session in about a second each."""

from __future__ import annotations

import pytest
import torch
from torch import nn


def _fit(model: nn.Module, x: torch.Tensor, y: torch.Tensor, loss: nn.Module, steps: int) -> nn.Module:
    rng = torch.Generator().manual_seed(0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for _ in range(steps):
        at = torch.randint(len(x), (64,), generator=rng)
        optimizer.zero_grad()
        loss(model(x[at]), y[at]).backward()
        optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return model


@pytest.fixture(scope="session")
def digits() -> tuple[torch.Tensor, torch.Tensor]:
    """scikit-learn's digits as uint8 images ``n × 1 × 8 × 8`` and int64 labels."""
    from sklearn.datasets import load_digits

    data = load_digits()
    pixels = torch.from_numpy(data.images * (255 / 16)).round().to(torch.uint8)
    return pixels[:, None], torch.from_numpy(data.target).long()


@pytest.fixture(scope="session")
def network(digits: tuple[torch.Tensor, torch.Tensor]) -> nn.Module:
    """A small convolutional network with batch norm that has learnt the digits; left in training mode on
    purpose."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1, bias=False),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(512, 10),
    )
    x, y = digits
    model = _fit(model, x.float() / 255, y, nn.CrossEntropyLoss(), 250)
    model[5].eval()  # one module out of step with the rest: its flag must come back as it was
    return model


@pytest.fixture(scope="session")
def multi(digits: tuple[torch.Tensor, torch.Tensor]) -> tuple[nn.Module, torch.Tensor]:
    """A network with three yes-or-no labels per digit, and these labels: odd, above four, a multiple of
    three."""
    x, y = digits
    labels = torch.stack([y % 2 == 1, y > 4, y % 3 == 0], 1).float()
    torch.manual_seed(1)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 3))
    return _fit(model, x.float() / 255, labels, nn.BCEWithLogitsLoss(), 400), labels
