"""What a search for adversarial examples brings home."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True, eq=False)
class Found:
    """One adversarial example for each input, in the order of the inputs, on the CPU.

    ``inputs``: float32 in 0–1. ``labels``: the model's own answer to them in fp32 and eval mode, in the form
    of the data's labels. ``distances``: L2 from the clean input, pixels in 0–1. ``epsilons``: radius of the
    ball searched last; never below the distance. ``success``: whether the answer is wrong; where it is not,
    the input is the clean one. ``gradients_each``, ``forwards_each``: input gradients and forward passes
    spent on each example.
    """

    inputs: torch.Tensor
    labels: torch.Tensor
    distances: torch.Tensor
    epsilons: torch.Tensor
    success: torch.Tensor
    gradients_each: torch.Tensor
    forwards_each: torch.Tensor

    def __len__(self) -> int:
        return len(self.inputs)

    @property
    def gradients(self) -> int:
        """Input gradients in all."""
        return int(self.gradients_each.sum())

    @property
    def forwards(self) -> int:
        """Forward passes in all, those inside gradients not counted."""
        return int(self.forwards_each.sum())
