"""Pruned networks: which weights are held at zero, and keeping them there whatever trains the network."""

from __future__ import annotations

import torch

SPARSE = 0.05  # share of weights at exactly zero from which a network counts as pruned
_NAME = "unteach_masks"  # an attribute, not a buffer: the state dict keeps the keys of the dense network


def masks_of(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Parameter name → bool tensor of its shape, True where the weight is kept; empty for a dense network."""
    found: dict[str, torch.Tensor] = model.__dict__.get(_NAME, {})
    return found


def set_masks(model: torch.nn.Module, masks: dict[str, torch.Tensor]) -> None:
    """Hold these weights at zero from now on; a deep copy of the network holds them too."""
    model.__dict__[_NAME] = masks
    keep_pruned(model)


def notice_pruned(model: torch.nn.Module) -> None:
    """Take a network with many weights of exactly zero for a pruned one, and hold them from now on.

    Training leaves no weight at exactly zero; pruning does, and whoever pruned means it to last. Looked at are the weights
    of convolutions and linear layers; below ``SPARSE`` of them at zero the network counts as dense.
    """
    if masks_of(model):
        return
    layers = (torch.nn.modules.conv._ConvNd, torch.nn.Linear)
    kept = {
        f"{name}.weight".removeprefix("."): module.weight.detach() != 0
        for name, module in model.named_modules()
        if isinstance(module, layers) and module.weight.requires_grad
    }
    total = sum(mask.numel() for mask in kept.values())
    pruned = {name: mask for name, mask in kept.items() if not bool(mask.all())}
    if pruned and sum(int((~mask).sum()) for mask in pruned.values()) >= SPARSE * total:
        set_masks(model, pruned)


def keep_pruned(model: torch.nn.Module) -> None:
    """Set the pruned weights to zero again, after anything that may have moved them."""
    masks = masks_of(model)
    if masks:
        weights = dict(model.named_parameters())
        with torch.no_grad():
            for name, mask in masks.items():
                weights[name].mul_(mask.to(weights[name].device))
