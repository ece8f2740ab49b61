"""A model to be questioned by an attack: a fast frozen copy for gradients, the model itself for every answer."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from unteach.precision import autocast, has_fast_bf16
from unteach.types import Refusal

FOLDING_ERROR = 1e-3  # largest change of a logit that folding batch norm may make


class Probe:
    """Asks a model for logits (the model itself, in fp32) and for input gradients (a fast copy).

    The copy is frozen and in channels_last, with batch norm folded into convolutions where ``torch.fx`` can
    trace the network and the logits of ``sample`` agree; made by ``probing``, which also keeps the model as
    it was.
    """

    def __init__(self, model: torch.nn.Module, sample: torch.Tensor, labels: torch.Tensor, bf16: bool | None) -> None:
        weight = next(iter(model.parameters()), sample)
        self.device = weight.device
        self.batch = 128 if self.device.type == "cpu" else 512
        self.bf16 = has_fast_bf16(self.device) if bf16 is None else bf16
        self._real = model
        self._copy = model
        if len(sample):
            placed = self.place(sample)
            logits = self.exact(placed)
            _check(labels, logits.shape[1])
            self._copy = _folded(model, placed, logits)

    def place(self, inputs: torch.Tensor) -> torch.Tensor:
        """Inputs as floats in 0–1 on the model's device, images in channels_last; uint8 is divided by 255."""
        x = inputs.to(self.device)
        return _laid_out(x.float().div(255) if x.dtype == torch.uint8 else x.float())

    def exact(self, points: torch.Tensor) -> torch.Tensor:
        """Logits of the model itself, in fp32 and eval mode."""
        with torch.no_grad(), autocast(self.device, False):
            logits: torch.Tensor = self._real(_laid_out(points))
            return logits.float()

    def slope(
        self,
        points: torch.Tensor,
        labels: torch.Tensor,
        objective: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits, and the gradient of each example's objective by its own input; of the copy."""
        with torch.enable_grad():
            points = _laid_out(points).detach().requires_grad_()
            with autocast(self.device, self.bf16):
                logits = self._copy(points)
            logits = logits.float()
            (gradient,) = torch.autograd.grad(objective(logits, labels).sum(), points)
        return logits.detach(), gradient.float()


@contextmanager
def probing(model: torch.nn.Module, inputs: torch.Tensor, labels: torch.Tensor, bf16: bool | None) -> Iterator[Probe]:
    """A probe of the model, which is in eval mode meanwhile; each module's training flag is restored at the
    end.

    Raises ``Refusal`` for inputs outside 0–1 (floats), NaN, and counts that differ.
    """
    if len(inputs) != len(labels):
        raise Refusal(f"expected one label per input, got {len(labels)} for {len(inputs)}; check the data")
    if inputs.is_floating_point():
        low, high = (float(v) for v in torch.aminmax(inputs)) if inputs.numel() else (0.0, 0.0)
        if not (low >= 0 and high <= 1):
            raise Refusal(
                f"expected pixels in 0–1, got values in {low:g} to {high:g}; scale them, or give uint8 images"
            )
    elif inputs.dtype != torch.uint8:
        raise Refusal(f"expected uint8 or float inputs, got {inputs.dtype}; convert them")
    flags = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield Probe(model, inputs[:4], labels, bf16)
    finally:
        for module, training in flags:
            module.training = training


def _folded(model: torch.nn.Module, sample: torch.Tensor, logits: torch.Tensor) -> torch.nn.Module:
    try:
        from torch.fx.experimental.optimization import fuse

        folded = _frozen(fuse(model))
        with torch.no_grad(), autocast(sample.device, False):
            off = float((folded(sample) - logits).abs().amax())
    except Exception:  # a network that cannot be traced fails in any way it likes; a plain copy is as right
        off = torch.inf
    return folded if off <= FOLDING_ERROR else _frozen(copy.deepcopy(model))


def _frozen(model: torch.nn.Module) -> torch.nn.Module:
    for weight in model.parameters():
        weight.requires_grad_(False)
        weight.grad = None
        weight.data = _laid_out(weight.data)
    return model


def _laid_out(tensor: torch.Tensor) -> torch.Tensor:
    """In channels_last where there are channels: up to three times as fast as NCHW on a CPU, whatever the weights are in."""
    # Not contiguous(): it leaves one input channel as it is, and all that follows in NCHW.
    return tensor.to(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor


def _check(labels: torch.Tensor, classes: int) -> None:
    if labels.ndim == 2 and labels.shape[1] != classes:
        raise Refusal(f"expected {classes} labels per example, one per logit, got {labels.shape[1]}; check the data")
    if labels.ndim == 2:
        return
    if labels.dtype != torch.int64:
        raise Refusal(f"expected int64 labels, one per example, got {labels.dtype}; convert them")
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= classes:
        raise Refusal(f"expected labels of 0 to {classes - 1}, got {low} to {high}; check the data or the model")
