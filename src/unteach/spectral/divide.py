"""What clipping is compared with: dividing a whole weight by a norm, which shrinks every singular value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from unteach.spectral.clip import shrink
from unteach.spectral.layers import Layer
from unteach.spectral.values import Lanczos, PowerQR, norm
from unteach.types import Refusal


@dataclass(frozen=True, kw_only=True)
class Gouk:
    """Divide each convolution and dense layer by its norm over the target, whenever that is above 1.

    After every ``every``-th step of the optimiser, with the norm from one power iteration on the vector of the last time; at
    the end with the exact one.
    *Source:* Gouk, Frank, Pfahringer, Cree, Regularisation of Neural Networks by Enforcing Lipschitz Continuity, 2018,
    arXiv 1804.04368, algorithm 1. *Departs:* batch norm is left alone.
    """

    target: float = 1.0
    """Largest norm a layer may have, above 0."""
    every: int = 10
    """Steps of the optimiser from one division to the next, at least 1."""

    def __post_init__(self) -> None:
        _check(self.target, self.every)

    def watches(self, layer: Layer) -> bool:
        return bool(layer.weight) and layer.kind in ("convolution", "dense")

    def tighten(self, layer: Layer, vectors: torch.Tensor | None, rng: torch.Generator) -> torch.Tensor:
        """One division in a training; gives the right singular vector to go on from."""
        found = layer.map()
        if vectors is None:
            top = Lanczos(steps=10)(found, rng)
        else:
            top = PowerQR(iterations=1, shift=0.0)(found, vectors)
        shrink(layer, float(top.values[0]), self.target)
        return top.vectors

    def settle(self, layers: Sequence[Layer], seed: int) -> None:
        """Bring these layers to the target at most."""
        rng = torch.Generator().manual_seed(seed)
        for layer in layers:
            shrink(layer, norm(layer.map(), rng), self.target)


@dataclass(frozen=True, kw_only=True)
class Miyato:
    """Divide each convolution and dense weight by the norm of its kernel as an out × rest matrix over the target, if above.

    After every ``every``-th step of the optimiser, with one power iteration on the vector of the last time; at the end with
    the exact norm. For a convolution that matrix isn't the map the layer does: its true norm may stay above the target.
    *Source:* Miyato, Kataoka, Koyama, Yoshida, Spectral Normalization for GANs, ICLR 2018, arXiv 1802.05957, appendix A.
    *Departs:* on the weights after the step instead of a re-parametrisation within the forward pass, so state-dict keys stay
    and a weight below the target isn't scaled up.
    """

    target: float = 1.0
    """Largest norm a reshaped kernel may have, above 0."""
    every: int = 1
    """Steps of the optimiser from one division to the next, at least 1."""

    def __post_init__(self) -> None:
        _check(self.target, self.every)

    def watches(self, layer: Layer) -> bool:
        return bool(layer.weight) and layer.kind in ("convolution", "dense")

    def tighten(self, layer: Layer, vectors: torch.Tensor | None, rng: torch.Generator) -> torch.Tensor:
        """One division in a training; gives the right singular vector to go on from."""
        matrix = _reshaped(layer)
        if vectors is None:
            vectors = torch.randn(1, matrix.shape[1], generator=rng)
        moved = vectors.to(matrix) @ matrix.T @ matrix
        row: torch.Tensor = moved / moved.norm().clamp_min(torch.finfo(moved.dtype).tiny)
        shrink(layer, float((row @ matrix.T).norm()), self.target)
        return row

    def settle(self, layers: Sequence[Layer], seed: int) -> None:
        """Bring the reshaped kernels of these layers to the target at most."""
        for layer in layers:
            shrink(layer, reshaped_norm(layer), self.target)


def reshaped_norm(layer: Layer) -> float:
    """Spectral norm of a layer's kernel as a matrix, as torch's ``spectral_norm`` takes it: not that of its map."""
    return float(torch.linalg.matrix_norm(_reshaped(layer), 2))


def _reshaped(layer: Layer) -> torch.Tensor:
    weight = layer.module.weight
    assert isinstance(weight, torch.Tensor)
    weight = weight.detach()
    return weight.transpose(0, 1).flatten(1) if getattr(layer.module, "transposed", False) else weight.flatten(1)


def _check(target: float, every: int) -> None:
    if not target > 0 or every < 1:
        raise Refusal(f"expected target above 0 and every from 1, got {target} and {every}; choose larger ones")
