"""Sparse training: one-shot magnitude pruning, then the survivors trained again from an early epoch."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch

from unteach.models.masks import set_masks
from unteach.types import Refusal


@dataclass(frozen=True, kw_only=True)
class Prune:
    """Train densely, drop the smallest convolution weights of the whole network, wind back the others, train them again.

    1. The dense training, as it would be anyway; the weights after epoch ``rewind`` are put aside.
    2. The ``share`` of all convolution weights (fixed ones apart) that are smallest in absolute value at its end are set
       to zero, for good. Everything else goes back to what it was after epoch ``rewind``.
    3. The rest of the training, from epoch ``rewind`` on, with a fresh momentum.

    *Source:* OMP with rewinding as in Jia et al., Model Sparsity Can Simplify Machine Unlearning, 2023, arXiv 2304.04934,
    section 3 and public code (there 95 %, epoch 8 of 182). *Departs:* one pruning, where that code's arguments allow stages.
    """

    share: float = 0.95
    """Part of the convolution weights that become zero, 0 to below 1."""
    rewind: int = 1
    """Whole epochs after which the dense weights are put aside, at least 1 and below the training's epochs."""

    def __post_init__(self) -> None:
        if not 0 <= self.share < 1:
            raise Refusal(f"expected share to be at least 0 and below 1, got {self.share}; 0.95 keeps one in twenty")
        if self.rewind < 1:
            raise Refusal(f"expected rewind to be at least 1 epoch, got {self.rewind}; choose a later epoch")


class Snapshot:
    """A network's state after a number of steps; goes on after an interruption with the training it watches."""

    def __init__(self, at: int) -> None:
        self.at = at
        self.steps = 0
        self.taken: dict[str, torch.Tensor] = {}

    def __call__(self, model: torch.nn.Module) -> None:
        self.steps += 1
        if self.steps == self.at:
            self.taken = copy.deepcopy(model.state_dict())

    def state_dict(self) -> dict[str, Any]:
        return {"steps": self.steps, "taken": self.taken}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.steps, self.taken = state_dict["steps"], state_dict["taken"]


def smallest(model: torch.nn.Module, share: float) -> dict[str, torch.Tensor]:
    """Masks that drop this share of all convolution weights, smallest absolute values first, over the whole network.

    Raises: Refusal for a network without convolutions that are trained.
    """
    weights = {
        f"{name}.weight": module.weight
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.modules.conv._ConvNd) and module.weight.requires_grad
    }
    if not weights:
        raise Refusal("expected a network with convolutions to prune, got none; leave --prune out")
    sizes = torch.cat([weight.detach().abs().flatten().cpu() for weight in weights.values()])
    drop = torch.zeros(len(sizes), dtype=torch.bool)
    drop[sizes.argsort(stable=True)[: int(share * len(sizes))]] = True
    masks, start = {}, 0
    for name, weight in weights.items():
        masks[name] = ~drop[start : start + weight.numel()].view(weight.shape)
        start += weight.numel()
    return masks


def prune_and_rewind(model: torch.nn.Module, share: float, early: dict[str, torch.Tensor]) -> None:
    """Find the smallest weights of the network as it is, wind it back, and hold them at zero."""
    masks = smallest(model, share)
    model.load_state_dict(early)
    set_masks(model, masks)
