"""Wrong labels drawn at random."""

from __future__ import annotations

import torch


def wrong_labels(labels: torch.Tensor, classes: int, rng: torch.Generator) -> torch.Tensor:
    """Labels that differ from the given ones, uniform over the others; same shape and type."""
    if labels.ndim == 1:
        return (labels + torch.randint(1, classes, labels.shape, generator=rng)) % classes
    flips = torch.rand(labels.shape, generator=rng) < 0.5
    sure = torch.randint(0, classes, (len(labels), 1), generator=rng)
    return torch.where(flips.scatter(1, sure, True), 1 - labels, labels)
