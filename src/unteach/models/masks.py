"""Pruned networks: which weights are held at zero, and keeping them there whatever trains the network."""

from __future__ import annotations

import torch

_NAME = "unteach_masks"  # an attribute, not a buffer: the state dict keeps the keys of the dense network


def masks_of(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Parameter name → bool tensor of its shape, True where the weight is kept; empty for a dense network."""
    found: dict[str, torch.Tensor] = model.__dict__.get(_NAME, {})
    return found


def set_masks(model: torch.nn.Module, masks: dict[str, torch.Tensor]) -> None:
    """Hold these weights at zero from now on; a deep copy of the network holds them too."""
    model.__dict__[_NAME] = masks
    keep_pruned(model)


def keep_pruned(model: torch.nn.Module) -> None:
    """Set the pruned weights to zero again, after anything that may have moved them."""
    masks = masks_of(model)
    if masks:
        weights = dict(model.named_parameters())
        with torch.no_grad():
            for name, mask in masks.items():
                weights[name].mul_(mask.to(weights[name].device))
