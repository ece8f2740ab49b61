"""A fast network for 32 × 32 colour images, in the shape of airbench94."""

from __future__ import annotations

import torch
from torch import nn

from unteach.models.layers import Normalise, Scale

CIFAR_MEAN = (0.4914, 0.4822, 0.4465)
CIFAR_STD = (0.2470, 0.2435, 0.2616)


class Airbench(nn.Module):
    """Whitening 2 × 2 convolution, then three groups of two 3 × 3 convolutions with GELU; 2.0 M parameters at full width.

    The first layer is fixed: eigenvectors of the 2 × 2 patches of the images it will be trained on, each with both
    signs. ``whiten`` sets it; retraining without the forget set must whiten without the forget set too, so the
    layer is part of what is retrained.

    *Source:* Jordan, "94 % on CIFAR-10 in 3.29 seconds on a single GPU", 2024, arXiv 2404.00498, section 3.
    *Departs:* the default weights of torch instead of the partial identity (Dirac) start; no test-time augmentation.
    """

    def __init__(self, channels: int, classes: int, widths: tuple[int, int, int] = (64, 256, 256)) -> None:
        super().__init__()
        white = 2 * channels * 4
        self.scale_pixels = Normalise(
            CIFAR_MEAN if channels == 3 else (0.5,) * channels, CIFAR_STD if channels == 3 else (0.25,) * channels
        )
        self.whitening = nn.Conv2d(channels, white, 2, padding=0, bias=True)
        self.whitening.weight.requires_grad = False
        self.groups = nn.Sequential(*(self._group(a, b) for a, b in zip((white, *widths), widths)))
        self.activation = nn.GELU()
        self.head = nn.Sequential(
            nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(widths[-1], classes, bias=False), Scale(1 / 9)
        )

    @staticmethod
    def _group(into: int, out: int) -> nn.Sequential:
        return nn.Sequential(
            nn.Conv2d(into, out, 3, padding=1, bias=False),
            nn.MaxPool2d(2),
            nn.BatchNorm2d(out, momentum=0.4),
            nn.GELU(),
            nn.Conv2d(out, out, 3, padding=1, bias=False),
            nn.BatchNorm2d(out, momentum=0.4),
            nn.GELU(),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.activation(self.whitening(self.scale_pixels(x)))
        out: torch.Tensor = self.head(self.groups(x))
        return out

    def whiten(self, pixels: torch.Tensor, eps: float = 5e-4) -> None:
        """Set the first layer from images in 0–1 of shape ``n × c × h × w``; a few thousand are plenty."""
        with torch.no_grad():
            x = self.scale_pixels(pixels.float())
            patches = x.unfold(2, 2, 1).unfold(3, 2, 1).permute(0, 2, 3, 1, 4, 5).flatten(0, 2).flatten(1)
            covariance = (patches.T @ patches / len(patches)).double()
            values, vectors = torch.linalg.eigh(covariance)
            # An eigenvector's sign is arbitrary: fix it, so that the same images give the same bytes everywhere.
            vectors = vectors * vectors.gather(0, vectors.abs().argmax(0, keepdim=True)).sign()
            filters = (vectors.flip(1) / torch.sqrt(values.flip(0) + eps)).T.float()
            filters = filters.reshape(-1, x.shape[1], 2, 2)
            self.whitening.weight.copy_(torch.cat((filters, -filters)))
