"""Any layer, or composition of layers, as the linear map it is: no matrix, no transposed layer, only autograd."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

from unteach.types import Refusal


@contextmanager
def as_deployed(module: torch.nn.Module) -> Iterator[None]:
    """Eval mode and the weights' own precision inside; the training flags are as they were afterwards."""
    flags = [(part, part.training) for part in module.modules()]
    module.eval()
    kinds = {p.device.type for p in module.parameters()} or {"cpu"}
    try:
        with torch.autocast(kinds.pop(), enabled=False):
            yield
    finally:
        for part, training in flags:
            part.training = training


class LinearMap:
    """The map g(x) = f(x) − f(0) of a module f in eval mode, at one input shape.

    Vectors are rows: ``matvec`` takes ``k × n`` and gives ``k × m``, ``rmatvec`` the other way, where ``n`` and ``m`` are the
    sizes of one input and one output. Stride, padding, groups and composition make no difference. ``calls`` counts the rows
    that went through either. The map is that of the weights as they are now: make a new one after they have moved.
    *Source:* Ebrahimpour Boroojeny, Telgarsky, Sundaram, Spectrum Extraction and Clipping for Implicitly Linear Layers,
    AISTATS 2024, arXiv 2402.16017: M
    is implicit in f and in autograd's gradient.
    """

    def __init__(self, module: torch.nn.Module, shape: Sequence[int]) -> None:
        like = next((value for value in (*module.parameters(), *module.buffers()) if value.is_floating_point()), None)
        self.module = module
        self.shape = tuple(shape)
        self.device = torch.device("cpu") if like is None else like.device
        self.dtype = torch.float32 if like is None else like.dtype
        self.calls = 0
        self._graphs: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        zero, image = self._graph(1)
        self.n, self.m = zero.numel(), image.numel()

    def matvec(self, rows: torch.Tensor) -> torch.Tensor:
        """M times each row."""
        self.calls += len(rows)
        with torch.no_grad(), as_deployed(self.module):
            image: torch.Tensor = self.module(rows.view(len(rows), *self.shape)) - self._graph(1)[1]
        return image.flatten(1)

    def rmatvec(self, rows: torch.Tensor) -> torch.Tensor:
        """The transpose of M times each row."""
        self.calls += len(rows)
        zero, image = self._graph(len(rows))
        (back,) = torch.autograd.grad(image, zero, rows.view_as(image), retain_graph=True)
        return back.flatten(1)

    def _graph(self, width: int) -> tuple[torch.Tensor, torch.Tensor]:
        """A batch of zeros and its image, through which gradients flow: those of a linear map are the same everywhere."""
        if width not in self._graphs:
            zero = torch.zeros(width, *self.shape, device=self.device, dtype=self.dtype, requires_grad=True)
            with torch.enable_grad(), as_deployed(self.module):
                self._graphs[width] = zero, self.module(zero)
        return self._graphs[width]


def check_linear(module: torch.nn.Module, shape: Sequence[int]) -> LinearMap:
    """The module as a linear map, tried out on random inputs of three sizes.

    Raises: Refusal when it is not linear (up to a constant) in eval mode, as a ReLU or a max pool within it makes it.
    """
    found = LinearMap(module, shape)
    rng = torch.Generator().manual_seed(0)
    one, other = torch.randn(2, 1, found.n, generator=rng, dtype=found.dtype).to(found.device)
    for size in (0.01, 1.0, 100.0):
        apart = found.matvec(size * (one + other)) - size * (found.matvec(one) + found.matvec(other))
        scale = found.matvec(size * one).norm() + found._graph(1)[1].norm()
        if not apart.norm() <= 1e-3 * scale + 1e-6:
            raise Refusal(
                f"expected a linear map (up to a constant) of inputs {tuple(shape)}, got {type(module).__name__}, which is none "
                "in eval mode; look at its linear layers one by one"
            )
    return found


def materialise(found: LinearMap, batch: int = 256) -> torch.Tensor:
    """The map as an ``m × n`` matrix, from unit vectors of the smaller side."""
    forwards = found.n <= found.m
    probe, size = (found.matvec, found.n) if forwards else (found.rmatvec, found.m)
    units = torch.eye(size, device=found.device, dtype=found.dtype)
    rows = torch.cat([probe(units[start : start + batch]) for start in range(0, size, batch)])
    return rows.T if forwards else rows
