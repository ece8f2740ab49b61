"""Clipping singular values at a target: FastClip."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from unteach.spectral.layers import BOTH, Layer, layers_of
from unteach.spectral.operator import as_deployed
from unteach.spectral.values import Lanczos, PowerQR, Singular, norm
from unteach.types import Refusal

SLACK = 0.01  # of the target: what the last pass leaves to a division by the norm, which shrinks every value
ROUNDS, BETWEEN = 50, 20  # looks at a layer anew at most, and clippings by power iteration from one look to the next


@dataclass(frozen=True, kw_only=True)
class Clip:
    """Pull the largest singular values of every layer down to a target, and leave the others as they are.

    In training, after every ``every``-th step of the optimiser, for each convolution and dense layer: one power iteration on
    the ``directions`` top right singular vectors, kept from the last time, gives σ_j and v_j. With W' the weights as they
    are, ``steps`` gradient steps on the weights go down Σ over σ_j > c of ‖g_W(v_j) − (c/σ_j) g_W'(v_j)‖². Called on a
    network, or at a training's end, it goes on until every norm is at most c, and divides by it what is within 1 %.

    With ``pairs`` a convolution with the batch norm right after it is clipped as one map as well, by the weight of the batch
    norm: that undoes any scale of the convolution. Batch norm alone, or behind a pool, is not clipped, nor are layers whose
    weight isn't trained.
    *Source:* Ebrahimpour Boroojeny, Telgarsky, Sundaram, Spectrum Extraction and Clipping for Implicitly Linear Layers,
    AISTATS 2024, arXiv 2402.16017 (FastClip), and its public code.
    *Departs:* several directions and often, one gradient step each time, where the code has one direction, 1 or 5 steps,
    every 50 or 100 steps of training (every 50 left norms of 2 to 3 after three short epochs); the loss summed in full and its
    step divided by the curvature along it, which is 1 for a dense layer, so that it is the paper's step there and can't
    overshoot on a convolution, where the code divides by the output's width; no shift in the power iteration and no fresh
    start after a clip; in a pair the batch norm moves, not the convolution; values below the target are raised only with
    ``exact``, the code's default for convolutions; outside the forward pass, on the network itself.
    """

    target: float = 1.0
    """Largest singular value a layer may have, above 0."""
    every: int = 2
    """Steps of the optimiser from one clipping to the next, at least 1."""
    directions: int = 8
    """Singular values that are watched and clipped together, at least 1."""
    iterations: int = 1
    """Power iterations at each clipping, from where the last one ended, at least 1."""
    step: float = 0.5
    """Length of a gradient step, above 0 and below 1: 1 − 2·step of a dense layer's excess is left; the paper has 0.35."""
    steps: int = 1
    """Gradient steps at each clipping, at least 1."""
    exact: bool = False
    """Whether a norm more than 0.05 below the target is raised to it."""
    pairs: bool = False
    """Whether a convolution and the batch norm right after it are also held as one map; costs accuracy."""

    def __post_init__(self) -> None:
        if not (self.target > 0 and 0 < self.step < 1):
            raise Refusal(
                f"expected target above 0 and step between 0 and 1, got {self.target} and {self.step}; 1 and 0.5 are usual"
            )
        for name in ("every", "directions", "iterations", "steps"):
            if getattr(self, name) < 1:
                raise Refusal(f"expected {name} to be at least 1, got {getattr(self, name)}; choose a larger one")

    def __call__(
        self,
        model: torch.nn.Module,
        shape: Sequence[int],
        *,
        seed: int = 0,
        masks: Mapping[str, torch.Tensor] | None = None,
    ) -> None:
        """Clip a network in place until every layer is at most at the target. ``shape``: of one input."""
        with as_deployed(model):
            self.settle([layer for layer in layers_of(model, shape, masks) if self.watches(layer)], seed)

    def watches(self, layer: Layer) -> bool:
        """Whether this layer is clipped."""
        return bool(layer.weight) and (layer.kind in ("convolution", "dense") or (self.pairs and layer.kind == BOTH))

    def tighten(self, layer: Layer, vectors: torch.Tensor | None, rng: torch.Generator) -> torch.Tensor:
        """One clipping of one layer in a training; gives the right singular vectors to go on from."""
        found = layer.map()
        if vectors is None:
            top = Lanczos(k=self.directions, steps=5)(found, rng)
        else:
            top = PowerQR(k=self.directions, iterations=self.iterations, shift=0.0)(found, vectors)
        self._pull(layer, top)
        return top.vectors

    def settle(self, layers: Sequence[Layer], seed: int) -> None:
        """Clip these layers, one after the other, until each is at most at the target."""
        search = Lanczos(k=self.directions, tolerance=SLACK)
        rng = torch.Generator().manual_seed(seed)
        for layer in layers:
            for _ in range(ROUNDS):
                top = search(layer.map(), rng)
                if top.values[0] <= self.target * (1 + SLACK):
                    break
                self._pull(layer, top)
                vectors = top.vectors
                for _ in range(BETWEEN):
                    vectors = self.tighten(layer, vectors, rng)
            shrink(layer, norm(layer.map(), rng), self.target)

    def _pull(self, layer: Layer, top: Singular) -> None:
        """Move the weights down the clipping loss of these singular vectors."""
        over = top.values > self.target
        if self.exact:
            over[0] |= 0 < top.values[0] < self.target - 0.05
        if not over.any():
            return
        rows = top.vectors[over].view(-1, *layer.shape)
        inputs = torch.cat((rows, torch.zeros_like(rows[:1])))  # the last is for f(0)

        def images(weight: torch.Tensor) -> torch.Tensor:
            """g_W of the vectors: linear in the weight W."""
            named = {layer.weight: weight}
            out: torch.Tensor = torch.func.functional_call(layer.module, named, (inputs,)).flatten(1)
            return out[:-1] - out[-1:]

        weight = layer.value
        tiny = torch.finfo(weight.dtype).tiny  # a weight that is pruned whole has no slope
        with as_deployed(layer.module), torch.no_grad():
            wanted = (self.target / top.values[over])[:, None] * images(weight)
            for _ in range(self.steps):
                with torch.enable_grad():
                    weight.requires_grad_()
                    (slope,) = torch.autograd.grad((images(weight) - wanted).square().sum(), weight)
                slope = layer.kept(slope)
                along = slope / slope.norm().clamp_min(tiny)  # of length 1, or a bias would drown a small slope
                curvature = images(along).square().sum().clamp_min(tiny)
                weight = weight.detach() - self.step / curvature * slope
        layer.value.copy_(weight)


def shrink(layer: Layer, size: float, target: float) -> None:
    """Divide a layer's weight by how far its norm is above the target: every singular value with it."""
    if size > target:
        layer.value.mul_(target / size)
