"""Keeping a network's layers within a norm while it trains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch

from unteach.spectral.layers import Layer, layers_of
from unteach.spectral.operator import as_deployed


class Bound(Protocol):
    """How layers are held: ``Clip``, ``Gouk`` and ``Miyato`` are such settings."""

    @property
    def every(self) -> int: ...

    def watches(self, layer: Layer) -> bool: ...

    def tighten(self, layer: Layer, vectors: torch.Tensor | None, rng: torch.Generator) -> torch.Tensor: ...

    def settle(self, layers: Sequence[Layer], seed: int) -> None: ...


class Clipper:
    """Tightens a network's layers from outside: to be called after every step of the optimiser, and settled at the end.

    It works on the plain weights, in place: names in the state dict stay, gradients aren't touched, and what the forward
    passes do between two steps doesn't matter. Vectors and step count are its state, so a stopped training goes on to the
    same bytes. Of several processes the first does the arithmetic and the others get its weights: their batch-norm
    statistics differ, and a GPU's sums may.
    """

    def __init__(
        self,
        bound: Bound,
        model: torch.nn.Module,
        shape: Sequence[int],
        *,
        seed: int = 0,
        masks: Mapping[str, torch.Tensor] | None = None,
    ) -> None:
        self.bound = bound
        self.model = model
        self.seed = seed
        self.layers = [layer for layer in layers_of(model, shape, masks) if bound.watches(layer)]
        self.vectors: dict[str, torch.Tensor] = {}
        self.steps = 0

    def __call__(self, model: torch.nn.Module) -> None:
        """Count a step; tighten every layer if it is time. ``model`` is the network this was made for."""
        assert model is self.model, "a clipper holds the layers of one network"
        self.steps += 1
        if self.steps % self.bound.every == 0:
            if _first():
                self._tighten()
            self._share()

    def settle(self) -> None:
        """Bring every layer to the target at most, for good: after the last step."""
        if _first():
            with as_deployed(self.model):
                self.bound.settle(self.layers, self.seed)
        self._share()

    def _tighten(self) -> None:
        with as_deployed(self.model):
            for number, layer in enumerate(self.layers):
                if layer.value.isfinite().all():  # else the training has diverged, which its loss will tell
                    key = f"{layer.name} {layer.shape}"
                    rng = torch.Generator().manual_seed(self.seed * 1_000_003 + number)
                    self.vectors[key] = self.bound.tighten(layer, self.vectors.get(key), rng)

    def state_dict(self) -> dict[str, Any]:
        return {"steps": self.steps, "vectors": dict(self.vectors)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.steps, self.vectors = state_dict["steps"], dict(state_dict["vectors"])

    def _share(self) -> None:
        """The first process's weights for all."""
        if not _alone():
            weights = {layer.value.data_ptr(): layer.value for layer in self.layers}
            for weight in weights.values():
                sent = weight.contiguous()
                torch.distributed.broadcast(sent, 0)
                weight.copy_(sent)


def _alone() -> bool:
    return not (torch.distributed.is_available() and torch.distributed.is_initialized())


def _first() -> bool:
    return _alone() or torch.distributed.get_rank() == 0
