"""A network with one class more than it has."""

from __future__ import annotations

import torch

from unteach.models.anatomy import last_linear, with_features


class Widened(torch.nn.Module):
    """A network with one more class, the shadow: a neuron on what its last linear layer reads."""

    def __init__(self, body: torch.nn.Module, rng: torch.Generator) -> None:
        super().__init__()
        head = last_linear(body)
        self.body = body
        spread = (2 / (head.in_features + head.out_features + 1)) ** 0.5  # Glorot's, of the widened layer
        weight = spread * torch.randn(1, head.in_features, generator=rng)
        self.weight = torch.nn.Parameter(weight.to(head.weight))
        self.bias = torch.nn.Parameter(torch.zeros(1).to(head.weight)) if head.bias is not None else None

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Logits ``n × (K + 1)``, the shadow's last."""
        with with_features(self.body) as answer:
            logits, features = answer(inputs)
        return torch.cat((logits, torch.nn.functional.linear(features, self.weight, self.bias)), 1)
