"""A network for tables: rows of numbers in, logits out."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import nn


def mlp(features: int, classes: int, hidden: Sequence[int] = (256, 128)) -> nn.Sequential:
    """Linear layers of these widths with ReLU between them; inputs of any shape are read as one row of numbers."""
    if not all(isinstance(width, int) and width > 0 for width in hidden):
        raise ValueError(f"expected hidden to be whole numbers above 0, got {list(hidden)}; [256, 128] is usual")
    net = nn.Sequential(nn.Flatten())
    for into, out in pairwise((features, *hidden)):
        net.extend([nn.Linear(into, out), nn.ReLU()])
    return net.append(nn.Linear((features, *hidden)[-1], classes))
