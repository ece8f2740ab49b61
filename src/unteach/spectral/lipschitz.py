"""How far apart two answers can be for two inputs that are close: a bound from the norms of the layers."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.fx

from unteach.spectral.operator import as_deployed, check_linear
from unteach.spectral.values import norm
from unteach.types import Refusal

nn, F = torch.nn, torch.nn.functional

# The steepest slope of an activation, each input for itself; 1 for what only moves values about.
SLOPES: dict[type[torch.nn.Module], float] = {
    **dict.fromkeys((nn.ReLU, nn.ReLU6, nn.Tanh, nn.Softplus, nn.Hardtanh), 1.0),
    **dict.fromkeys((nn.Identity, nn.Flatten, nn.Dropout, nn.Dropout1d, nn.Dropout2d), 1.0),
    nn.Sigmoid: 0.25,
    nn.GELU: 1.13,
    nn.SiLU: 1.1,
}
CALLS: dict[Any, float] = {
    **dict.fromkeys((F.relu, torch.relu, "relu", F.dropout, torch.tanh, "tanh"), 1.0),
    **dict.fromkeys((torch.flatten, "flatten", "view", "reshape", "contiguous"), 1.0),
    F.gelu: 1.13,
    F.silu: 1.1,
}


@dataclass(frozen=True)
class Lipschitz:
    """``bound``: most that the logits move (L2) per unit (L2) that the pixels 0–1 move; None with the ``reason``."""

    bound: float | None
    reason: str = ""


@dataclass(frozen=True, eq=False)
class _Seen:
    """A value on its way through the network, and how much it moves per unit of the input; 0 for a constant."""

    value: Any
    slope: float


class _Unknown(Exception):  # noqa: N818 - it is told, not raised, to the caller
    pass


def lipschitz(model: torch.nn.Module, shape: Sequence[int]) -> Lipschitz:
    """An upper bound on the Lipschitz constant of a network in eval mode, L2 to L2, or why there is none.

    The network's graph is gone through once with zeros: a linear layer multiplies by the norm of its map (a convolution and
    the batch norm that alone reads it, by the norm of the two as one map), an activation by its steepest slope (GELU 1.13,
    SiLU 1.1), a max pool by the root of how many windows share an input, a sum adds, a concatenation adds squares. Products
    of norms are often far above the true constant. Norms are found from below, to a residual of 0.01 %, so the bound is
    one up to about that per layer. Networks with attention, layer norm or control flow that torch.fx can't follow have none.
    """
    if model._forward_pre_hooks:  # torch.fx reads the network's code, and would miss what is done to its inputs before
        return Lipschitz(None, "the network's inputs are preprocessed outside its own code")
    try:
        with as_deployed(model):
            graph = torch.fx.symbolic_trace(model)
        seen: dict[torch.fx.Node, _Seen] = {}
        with torch.no_grad(), as_deployed(graph):
            for node in graph.graph.nodes:
                seen[node] = _visit(node, graph, seen, shape)
        last = next(node for node in reversed(graph.graph.nodes) if node.op == "output")
        return Lipschitz(seen[last].slope)
    except _Unknown as unknown:
        return Lipschitz(None, str(unknown))
    except Exception as error:  # fx fails on a user's code in any way it likes
        return Lipschitz(None, f"torch.fx can't follow the network's code: {str(error).partition(chr(10))[0]}")


def _visit(node: torch.fx.Node, graph: torch.fx.GraphModule, seen: dict[torch.fx.Node, _Seen], shape: Any) -> _Seen:
    def value_of(of: torch.fx.Node) -> Any:
        return seen[of].value

    if node.op == "placeholder":
        like = next((p for p in graph.parameters()), torch.zeros(()))
        return _Seen(torch.zeros(1, *shape, device=like.device, dtype=like.dtype), 1.0)
    if node.op == "get_attr":
        return _Seen(_attribute(graph, str(node.target)), 0.0)
    inputs = [seen[each] for each in node.all_input_nodes]
    if node.op == "output":
        if not isinstance(node.args[0], torch.fx.Node):
            raise _Unknown("the network gives more than one tensor")
        return inputs[0]
    args = torch.fx.map_arg(node.args, value_of)
    kwargs = torch.fx.map_arg(node.kwargs, value_of)
    if node.op == "call_module":
        module = graph.get_submodule(str(node.target))
        return _Seen(module(*args, **kwargs), _module(node, module, graph, seen))
    if node.op == "call_method":
        made = getattr(args[0], str(node.target))(*args[1:], **kwargs)
    else:
        assert callable(node.target)
        made = node.target(*args, **kwargs)
    if isinstance(made, int | torch.Size) or all(each.slope == 0 for each in inputs):
        return _Seen(made, 0.0)
    return _Seen(made, _call(node, args, seen))


def _module(node: torch.fx.Node, module: Any, graph: torch.fx.GraphModule, seen: dict[torch.fx.Node, _Seen]) -> float:
    before = node.all_input_nodes[0]
    slope, shape = seen[before].slope, seen[before].value.shape[1:]
    if type(module) in SLOPES:
        return slope * SLOPES[type(module)]
    if isinstance(module, (nn.MaxPool1d, nn.MaxPool2d)):
        return slope * _shared(module, len(shape) - 1)
    if isinstance(module, (nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d)):
        if set(seen[before].value.shape[2:]) and set(module(seen[before].value).shape[2:]) == {1}:
            return slope
        raise _Unknown(f"adaptive max pooling to more than one place at {node.target!r}")
    conv = _only_reader(before, graph) if isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d) else None
    if conv is not None:  # the two as one map move less than one after the other
        start = before.all_input_nodes[0]
        both = nn.Sequential(conv, module)
        return seen[start].slope * _norm(both, seen[start].value.shape[1:], str(node.target))
    return slope * _norm(module, shape, str(node.target))


def _call(node: torch.fx.Node, args: tuple[Any, ...], seen: dict[torch.fx.Node, _Seen]) -> float:
    slopes = [seen[each].slope for each in node.all_input_nodes]
    target = node.target
    moving = [each for each in node.args if isinstance(each, torch.fx.Node) and seen[each].slope > 0]
    if target in CALLS:
        return slopes[0] * CALLS[target]
    if target in (operator.add, operator.iadd, torch.add, operator.sub, torch.sub):
        return sum(seen[each].slope for each in moving)  # x + x counts twice
    if target in (operator.mul, operator.imul, torch.mul) and len(moving) == 1:
        factor = args[1] if node.args[0] is moving[0] else args[0]
        return max(slopes) * float(torch.as_tensor(factor).abs().max())
    if target in (operator.truediv, torch.div) and moving == [node.args[0]]:
        return max(slopes) / float(torch.as_tensor(args[1]).abs().min())
    if target is torch.cat:
        return math.sqrt(sum(seen[each].slope ** 2 for each in _parts(node)))
    raise _Unknown(f"no rule for {getattr(target, '__name__', target)}")


def _norm(module: torch.nn.Module, shape: Sequence[int], name: str) -> float:
    try:
        found = check_linear(module, shape)
    except (Refusal, RuntimeError) as error:
        raise _Unknown(f"no rule for {type(module).__name__} at {name!r}, and it is not linear") from error
    return norm(found, torch.Generator().manual_seed(0))


def _only_reader(node: torch.fx.Node, graph: torch.fx.GraphModule) -> torch.nn.Module | None:
    """The convolution or dense layer that this node is, if nothing but one batch norm reads it."""
    module = graph.get_submodule(str(node.target)) if node.op == "call_module" else None
    return module if isinstance(module, (nn.modules.conv._ConvNd, nn.Linear)) and len(node.users) == 1 else None


def _shared(pool: Any, dimensions: int) -> float:
    """Root of how many windows of a max pool an input lies in at most."""

    def each(value: Any) -> tuple[int, ...]:
        return tuple(value) if isinstance(value, tuple) else (value,) * dimensions

    sides = zip(each(pool.kernel_size), each(pool.stride), each(pool.dilation))
    return math.sqrt(math.prod(-(-k // s) if d == 1 else k for k, s, d in sides))


def _parts(node: torch.fx.Node) -> list[torch.fx.Node]:
    return [each for each in node.args[0] if isinstance(each, torch.fx.Node)]  # type: ignore[union-attr]


def _attribute(module: torch.nn.Module, path: str) -> Any:
    found: Any = module
    for part in path.split("."):
        found = getattr(found, part)
    return found
