"""SalUn's mask: train only the weights that the loss of the forget set depends on most."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch

from unteach.engine import Engine, pixels
from unteach.eval_mode import evaluating
from unteach.models.masks import masks_of
from unteach.types import Examples, Refusal

BATCH = 256  # examples in a pass; the mask does not depend on it but for rounding


def saliency_mask(model: torch.nn.Module, forget: Examples, share: float, *, engine: Engine) -> dict[str, torch.Tensor]:
    """Parameter name → bool tensor of its shape, True for the weights with the steepest loss on the forget set.

    1. The gradient of −loss by every trained weight, in eval mode and fp32, is summed over the forget examples as they are.
    2. Of all weights of the network together, those with the largest absolute value are kept: round(``share`` · weights) of
       them. Pruned weights are neither counted nor kept.

    The model, on the engine's device, is left as it was. *Source:* Fan et al., SalUn, ICLR 2024, arXiv 2310.12508; its
    public code. *Departs:* examples weigh alike, where that code adds up means of batches, the last of them ragged.
    """
    if not 0 < share <= 1:
        raise Refusal(
            f"expected the share of trained weights above 0 and at most 1, got {share}; 0.5 keeps half of them"
        )
    weights = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    if not weights:
        raise Refusal("expected a network with weights to train, got none or fixed ones; set requires_grad on some")
    steepness = _gradient(model, list(weights.values()), forget, engine).abs()
    pruned = masks_of(model)
    alive = torch.cat(
        [pruned.get(name, torch.ones_like(w, dtype=torch.bool)).flatten().cpu() for name, w in weights.items()]
    )
    count = round(share * int(alive.sum()))
    chosen = torch.zeros_like(alive)
    # Stable, so that of equally steep weights (a dead layer has many) always the same are kept.
    chosen[torch.where(alive, steepness, -1.0).argsort(descending=True, stable=True)[:count]] = True
    ends = torch.tensor([weight.numel() for weight in weights.values()]).cumsum(0)[:-1]
    parts = zip(weights.items(), chosen.tensor_split(ends))
    return {name: part.view(weight.shape).to(weight.device) for (name, weight), part in parts}


def _gradient(model: torch.nn.Module, weights: list[torch.Tensor], examples: Examples, engine: Engine) -> torch.Tensor:
    """The gradient of the summed loss by all these weights, flat, on the CPU; of −loss it differs in sign only."""
    sums = [torch.zeros_like(weight) for weight in weights]
    parts = torch.arange(len(examples)).tensor_split(max(1, -(-len(examples) // BATCH)))
    with evaluating(model):
        for rows in parts[engine.share(len(parts))]:
            inputs = pixels(examples.inputs[rows].to(engine.device))
            loss = examples.task.loss(model(inputs), examples.labels[rows].to(engine.device)).sum()
            for total, gradient in zip(sums, torch.autograd.grad(loss, weights, materialize_grads=True)):
                total += gradient
            engine.meter.trained += len(rows)  # forward and backward by weights: what a training step costs
    return engine.total(torch.cat([total.flatten() for total in sums])).cpu()


@contextmanager
def only(model: torch.nn.Module, masks: Mapping[str, torch.Tensor]) -> Iterator[None]:
    """Inside, the gradient of a masked weight is zero where its mask is False.

    Hooks on the weights see to it before an optimiser does, and before processes average their gradients. Weight decay is no
    gradient: it still shrinks every weight, as in SalUn's code. The network is to be on its device already.
    """
    weights = dict(model.named_parameters())
    handles = [
        weights[name].register_hook(lambda gradient, mask=mask: gradient * mask)  # type: ignore[no-untyped-call,misc]
        for name, mask in masks.items()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
