"""Small data that many tests need."""

from __future__ import annotations

import numpy as np
import torch

from unteach.types import Examples


def blobs(n: int = 96, classes: int = 3, size: int = 8, seed: int = 0, noise: float = 0.25) -> Examples:
    """Grey images with one smooth pattern per class and noise on top: learnable, and memorable when noisy."""
    generator = torch.Generator().manual_seed(seed)
    patterns = torch.rand(classes, 1, size, size, generator=torch.Generator().manual_seed(99))
    labels = torch.arange(n) % classes
    images = 0.25 + 0.5 * patterns[labels] + noise * torch.randn(n, 1, size, size, generator=generator)
    inputs = (images.clamp(0, 1) * 255).round().to(torch.uint8)
    ids = np.array([f"{i}" for i in range(n)])
    return Examples(inputs, labels, ids, None, tuple(f"class {k}" for k in range(classes)))
