"""Parts of any network that methods and audits ask for: its last linear layer and the features before it."""

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
