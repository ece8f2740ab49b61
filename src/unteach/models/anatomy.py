"""Parts of any network that methods and audits ask for: its layers in order, the last linear one, the features before it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from unteach.types import Refusal

Answer = Callable[["torch.Tensor"], tuple["torch.Tensor", "torch.Tensor"]]


def last_linear(model: torch.nn.Module) -> torch.nn.Linear:
    """The linear layer that gives the logits: the last one, with one row a class.

    Raises: Refusal for a network without linear layers.
    """
    found = [module for module in model.modules() if isinstance(module, torch.nn.Linear)]
    if not found:
        raise Refusal("expected a network that ends in a linear layer, got one without any; choose another method")
    return found[-1]


@contextmanager
def with_features(model: torch.nn.Module) -> Iterator[Answer]:
    """A call that gives logits and features, ``n × classes`` and ``n × d``: the input of the last linear layer.

    Gradients flow through both. The network may be wrapped (several processes); it is left as it was.
    """
    kept: list[torch.Tensor] = []
    layer = last_linear(model)
    hook = layer.register_forward_pre_hook(lambda _, args: kept.append(args[0]))

    def answer(inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        kept.clear()
        logits: torch.Tensor = model(inputs)
        return logits, kept.pop()

    try:
        yield answer
    finally:
        hook.remove()


def weighted_layers(model: torch.nn.Module) -> list[list[str]]:
    """The network's layers with weights, first to last, each as the names of its modules.

    In order of registration, in which networks are usually written down. A layer begins at every module with a weight of two
    or more dimensions (a convolution, a linear layer) and takes in what follows up to the next: its norm, activation, dropout.
    What comes before the first belongs to it. A residual block counts as its layers, its shortcut where it is registered.
    """
    layers: list[list[str]] = [[]]
    begun = False
    for name, module in model.named_modules():
        if any(weight.ndim > 1 for weight in module.parameters(recurse=False)):
            if begun:
                layers.append([])
            begun = True
        own = next(module.parameters(recurse=False), None), next(module.buffers(recurse=False), None)
        if any(tensor is not None for tensor in own) or not any(module.children()):
            layers[-1].append(name)
    return layers


@contextmanager
def last_layers(model: torch.nn.Module, k: int, *, drift: bool = False) -> Iterator[list[str]]:
    """Inside, training moves only the last ``k`` layers with weights (all where there are fewer); gives their modules' names.

    The layers before have no gradient and, in training too, are in eval mode: their batch norm's running statistics stay.
    With ``drift`` they are in training mode, and those statistics follow the data. Whatever training sets the network's mode
    may do so: it is set right before every forward pass. Raises: Refusal when none of the last ``k`` has a weight to train.
    """
    layers = weighted_layers(model)
    cut = max(0, len(layers) - k)
    before, last = ([name for layer in part for name in layer] for part in (layers[:cut], layers[cut:]))
    held = [model.get_submodule(name) for name in before]
    weights = [weight for module in held for weight in module.parameters(recurse=False)]
    flags = [weight.requires_grad for weight in weights]

    def still(*_: object) -> None:
        for module in held:
            module.training = False

    for weight in weights:
        weight.requires_grad = False
    hooks = [] if drift else [model.register_forward_pre_hook(still)]
    try:
        if not any(weight.requires_grad for weight in model.parameters()):
            raise Refusal(
                f"expected weights to train in the last {k} layers, got none or fixed ones; choose a larger k"
            )
        yield last
    finally:
        for weight, flag in zip(weights, flags):
            weight.requires_grad = flag
        for hook in hooks:
            hook.remove()
