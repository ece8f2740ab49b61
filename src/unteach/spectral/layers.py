"""Which linear layers a network has, at which input shapes, and which of them are followed by batch norm."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from unteach.spectral.operator import LinearMap, as_deployed
from unteach.types import Refusal

BOTH = "convolution + batch norm"


@dataclass(frozen=True, eq=False)
class Layer:
    """A linear layer, or a convolution with the batch norm after it, at the shape of one of its inputs.

    ``module``: the layer itself, of the network. ``kind``: convolution, dense, batch norm, or a pair. ``weight``: the name within
    ``module`` of the weight that its norm is held by, a pair's batch norm's; empty when there is none or it isn't trained.
    ``mask``: True where this weight is kept in a pruned network.
    """

    name: str
    kind: str
    module: torch.nn.Module
    shape: tuple[int, ...]
    weight: str
    mask: torch.Tensor | None = None

    def map(self) -> LinearMap:
        """The linear map of the weights as they are now."""
        return LinearMap(self.module, self.shape)

    @property
    def value(self) -> torch.Tensor:
        """The weight, apart from any graph."""
        return self.module.get_parameter(self.weight).detach()

    def kept(self, value: torch.Tensor) -> torch.Tensor:
        """A value or a step of the weight, with zeros where it is pruned."""
        return value if self.mask is None else value * self.mask.to(value.device)


def layers_of(
    model: torch.nn.Module, shape: Sequence[int], masks: Mapping[str, torch.Tensor] | None = None
) -> list[Layer]:
    """The convolutions, dense layers and batch norms that an input of this shape goes through, in that order.

    After a batch norm that reads what a convolution wrote, untouched, comes the pair of them. Found by one forward pass of
    zeros in eval mode, so any code between the layers is fine. ``masks``: by the model's parameter names, True where a
    weight of a pruned network is kept.
    Raises: Refusal for a network that can't read this shape.
    """
    found: dict[tuple[str, tuple[int, ...]], Layer] = {}
    names = {id(parameter): name for name, parameter in model.named_parameters()}

    def layer(name: str, kind: str, module: torch.nn.Module, shape: torch.Size, weight: str = "weight") -> Layer:
        own = dict(module.named_parameters()).get(weight)
        if own is None or not own.requires_grad:
            return Layer(name, kind, module, tuple(shape[1:]), "")
        return Layer(name, kind, module, tuple(shape[1:]), weight, (masks or {}).get(names[id(own)]))

    with _watching(model) as calls:
        _one_pass(model, shape)
    written: dict[int, tuple[str, torch.nn.Module, torch.Size, int]] = {}
    for name, module, given, version, given_shape, made, made_version in calls:
        kind = _kind(module)
        found[name, given_shape] = layer(name, kind, module, given_shape)
        if kind == "convolution":
            written[id(made)] = name, module, given_shape, made_version
        before = written.get(id(given)) if kind == "batch norm" else None
        if before is not None and before[3] == version:  # nothing in place came between
            both = torch.nn.Sequential(before[1], module)
            key = f"{before[0]} + {name}"
            found[key, before[2]] = layer(key, BOTH, both, before[2], "1.weight")
    return list(found.values())


_Call = tuple[str, "torch.nn.Module", "torch.Tensor", int, "torch.Size", "torch.Tensor", int]


@contextmanager
def _watching(model: torch.nn.Module) -> Iterator[list[_Call]]:
    """Every call of a linear layer: what it read and wrote, each with how often it had been changed in place by then.

    The tensors are held, so that no other takes the address of one.
    """
    calls: list[_Call] = []
    read: list[int] = []

    def before(module: torch.nn.Module, args: tuple[torch.Tensor, ...]) -> None:
        read.append(args[0]._version)

    def after(name: str, module: torch.nn.Module, args: tuple[torch.Tensor, ...], made: torch.Tensor) -> None:
        calls.append((name, module, args[0], read.pop(), args[0].shape, made, made._version))

    hooks = []
    for name, module in model.named_modules():
        if _kind(module):
            hooks.append(module.register_forward_pre_hook(before))
            hooks.append(module.register_forward_hook(lambda m, args, made, name=name: after(name, m, args, made)))
    try:
        yield calls
    finally:
        for hook in hooks:
            hook.remove()


def _one_pass(model: torch.nn.Module, shape: Sequence[int]) -> None:
    like = next((p for p in model.parameters() if p.is_floating_point()), torch.zeros(()))
    zero = torch.zeros(1, *shape, device=like.device, dtype=like.dtype)
    try:
        with torch.no_grad(), as_deployed(model):
            model(zero)
    except RuntimeError as error:
        first = str(error).partition("\n")[0]
        raise Refusal(
            f"expected the network to read an input of shape {tuple(shape)}, got: {first}; give the shape it was made for"
        ) from error


def _kind(module: torch.nn.Module) -> str:
    """What a layer is called; empty for one that is not looked at, such as a batch norm without statistics of its own."""
    if isinstance(module, torch.nn.modules.conv._ConvNd):
        return "convolution"
    if isinstance(module, torch.nn.Linear):
        return "dense"
    if isinstance(module, torch.nn.modules.batchnorm._BatchNorm) and module.running_var is not None:
        return "batch norm"
    return ""
