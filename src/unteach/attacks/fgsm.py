"""The weaker search of AMUN's ablation: one gradient's signs, followed until the example flips."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from unteach.attacks.found import Found
from unteach.attacks.lanes import SURE, Lanes, clean_answers, drive, norms, settle
from unteach.attacks.margins import confidence, margin
from unteach.attacks.probe import Probe, probing
from unteach.types import Refusal


@dataclass(frozen=True, kw_only=True)
class Fgsm:
    """An adversarial example by the fast gradient sign method: one gradient, then steps along its signs.

    1. The sign of the loss's gradient at the clean input fixes the direction of all steps.
    2. By ``epsilon`` in every pixel along it, and into 0–1, until the model errs; ``steps`` times at most.
    3. What has not flipped starts again, with a new gradient, from the clean input plus noise uniform within
       ± ``noise``; ``restarts`` times at most.

    Pixels in 0–1; an example the model already misreads stays as it is. Distances are in L2 as in every
    search, and larger than ``Nearest`` and ``Schedule`` find them.

    *Source:* the weaker attack of Ebrahimpour-Boroojeny, Sundaram, Chandrasekaran, "Not All Wrong is Bad",
    ICML 2025, arXiv 2503.00917; the method of Goodfellow, Shlens, Szegedy, 2015, arXiv 1412.6572.
    *Departs:* ``epsilon``, ``steps``, ``noise`` and ``restarts`` are ours; the direction is that of
    log(p / (1 − p)), which does not vanish where p rounds to 1; a flip narrower than 1e-4 of the clean margin
    does not count.
    """

    epsilon: float = 1 / 255
    """length of a step in every pixel, above 0, pixels in 0–1"""
    steps: int = 128
    """steps along one gradient's signs before a restart, at least 1"""
    noise: float = 4 / 255
    """largest change of a pixel that a restart begins with, 0 or more, pixels in 0–1"""
    restarts: int = 10
    """how often an example starts again before it is given up, 0 or more"""
    bf16: bool | None = None
    """bf16 gradients; by default where the chip multiplies bf16 natively"""

    def __post_init__(self) -> None:
        if not 0 < self.epsilon <= 1:
            raise Refusal(f"expected epsilon above 0 and at most 1, got {self.epsilon}; 1/255 is one grey level")
        if self.steps < 1:
            raise Refusal(f"expected steps to be at least 1, got {self.steps}; choose more")
        if not 0 <= self.noise <= 1:
            raise Refusal(f"expected noise between 0 and 1, got {self.noise}; 4/255 is four grey levels")
        if self.restarts < 0:
            raise Refusal(f"expected restarts to be at least 0, got {self.restarts}; choose more")

    def __call__(
        self,
        model: torch.nn.Module,
        inputs: torch.Tensor,
        labels: torch.Tensor,
        rng: torch.Generator | None = None,
    ) -> torch.Tensor:
        """The adversarial inputs alone, float32 in 0–1, on the CPU."""
        return self.search(model, inputs, labels, rng).inputs

    def search(
        self,
        model: torch.nn.Module,
        inputs: torch.Tensor,
        labels: torch.Tensor,
        rng: torch.Generator | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Found:
        """Search for every input (uint8 or 0–1); ``rng`` draws what restarts begin with.

        ``progress`` is told how many examples are over, of how many. Raises ``Refusal`` for inputs that are
        not pixels, and for restarts without ``rng``.
        """
        if rng is None:
            if self.restarts:
                raise Refusal("expected a torch.Generator for restarts, got none; pass rng, or restarts=0")
            rng = torch.Generator()  # nothing is drawn from it
        with probing(model, inputs, labels, self.bf16) as probe:
            found, scale = clean_answers(probe, inputs, labels)
            rows, forwards = (~found.success).nonzero().squeeze(1), found.forwards_each
            drive(
                probe,
                found,
                labels,
                scale,
                rows,
                0.0,
                lambda lanes: self._advance(probe, lanes, forwards, rng),
                progress,
            )
            settle(probe, found, labels)
        return found

    def _advance(self, probe: Probe, lanes: Lanes, forwards: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
        _, gradient = probe.slope(lanes.point, lanes.label, confidence)
        left = torch.arange(len(lanes.row), device=probe.device)
        for step in range(1, self.steps + 1):
            point = (lanes.point[left] - step * self.epsilon * gradient[left].sign()).clamp(0, 1)
            lanes.epsilon[left] = norms(point - lanes.origin[left])
            forwards[lanes.row[left].cpu()] += 1
            flipped = margin(probe.exact(point), lanes.label[left]) < -SURE * lanes.scale[left]
            hit = left[flipped]
            lanes.best[hit] = point[flipped]
            lanes.distance[hit] = lanes.epsilon[hit]
            left = left[~flipped]
            if not len(left):
                break
        lanes.count += 1
        done = lanes.distance.isfinite() | (lanes.count > self.restarts)
        again = (~done).nonzero().squeeze(1)
        origin = lanes.origin[again]
        change = (2 * torch.rand(origin.shape, generator=rng) - 1) * self.noise
        lanes.point[again] = (origin + change.to(origin)).clamp(0, 1)
        return done
