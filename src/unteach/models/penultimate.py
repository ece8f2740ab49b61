"""A network without its last layer."""

from __future__ import annotations

import torch

from unteach.models.anatomy import with_features


class Penultimate(torch.nn.Module):
    """A network that stops before its last linear layer: inputs in, features ``n × d`` out."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        with with_features(self.model) as answer:
            return answer(inputs)[1].flatten(1)
