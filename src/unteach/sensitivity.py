"""How much a network's logits move when its input hardly does: what DAU's attacker looks at."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

import torch

from unteach.types import Refusal


@dataclass(frozen=True, kw_only=True)
class Sensitivity:
    """s_k(x) = (1/m) Σ_j |D_k(x + σ·u_j) − D_k(x)| / σ with u_j ~ N(0, I), for every logit k; shape ``n × K``.

    Each draw is a pass of its own over the whole batch, so in training mode batch norm standardises it by itself; gradients
    flow through all passes. Draws come from torch's global generator, which the caller seeds: one seed for each, so that a
    draw can be made again instead of kept. *Source:* Sharma et al., 2024, arXiv 2402.06864, authors' code.
    *Departs:* nowhere known.
    """

    draws: int = 10
    """Noisy copies m of each example, at least 1."""
    sigma: float = 1e-3
    """Standard deviation σ of the noise, pixels in 0–1, above 0; below about 1e-4 the differences drown in rounding."""
    chunk: int = 1
    """Draws whose activations are held in memory at a time; fewer than draws: they are computed again in the backward pass."""

    def __post_init__(self) -> None:
        for name in ("draws", "chunk"):
            if getattr(self, name) < 1:
                raise Refusal(f"expected sensitivity.{name} of at least 1, got {getattr(self, name)}; give more")
        if not 0 < self.sigma < float("inf"):
            raise Refusal(f"expected sensitivity.sigma above 0, got {self.sigma}; 0.001 is the paper's")

    def __call__(
        self, network: torch.nn.Module, inputs: torch.Tensor, clean: torch.Tensor, rows: int | None = None
    ) -> torch.Tensor:
        """``clean``: the logits D(x) of these inputs, ``n × K``. To be called inside ``probing``, with the same ``rows``."""
        from torch.utils.checkpoint import checkpoint

        seeds = torch.randint(2**40, (self.draws,)).tolist()
        if self.chunk >= self.draws:
            return self._moved(network, inputs, clean, seeds) / (self.draws * self.sigma)
        total = torch.zeros_like(clean)
        for start in range(0, self.draws, self.chunk):
            total = total + checkpoint(
                self._moved,
                network,
                inputs,
                clean,
                seeds[start : start + self.chunk],
                use_reentrant=False,
                preserve_rng_state=False,
                # Computed again, batch norm must not count the same images twice.
                context_fn=lambda: (nullcontext(), probing(network, rows or len(inputs), trace=False)),
            )
        return total / (self.draws * self.sigma)

    def _moved(
        self, network: torch.nn.Module, inputs: torch.Tensor, clean: torch.Tensor, seeds: list[int]
    ) -> torch.Tensor:
        """Σ |D(x + σ·u) − D(x)| over the draws with these seeds."""
        total = torch.zeros_like(clean)
        for seed in seeds:
            draw = torch.Generator(inputs.device).manual_seed(seed)
            noise = torch.empty_like(inputs).normal_(0, self.sigma, generator=draw)
            total = total + (network(inputs + noise) - clean).abs()
        return total


@contextmanager
def probing(network: torch.nn.Module, rows: int, *, trace: bool = True) -> Iterator[None]:
    """Inside, batch norm takes the statistics of the ``rows`` examples given (one example has none), all else is in eval mode.

    ``rows``: those of all processes, where batch norm looks at all of them.

    Two passes with different dropout would differ by more than any noise of size σ moves them. ``trace=False``: buffers, such
    as running statistics, come back as they were. The network's flags come back in any case.
    """
    flags = [(module, module.training) for module in network.modules()]
    buffers = [(module, *named) for module, _ in flags for named in module.named_buffers(recurse=False)]
    for module, _ in flags:
        module.training = rows > 1 and isinstance(module, torch.nn.modules.batchnorm._BatchNorm)
    if not trace:
        for module, name, buffer in buffers:
            setattr(module, name, buffer.clone())
    try:
        yield
    finally:
        for module, training in flags:
            module.training = training
        if not trace:
            for module, name, buffer in buffers:
                setattr(module, name, buffer)
