"""AMUN's own search: projected gradient ascent in a ball that doubles until the example flips."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from unteach.attacks.found import Found
from unteach.attacks.lanes import SURE, Lanes, clean_answers, drive, each, norms, settle
from unteach.attacks.margins import confidence, margin
from unteach.attacks.probe import Probe, probing

DOUBT = 0.05
"""A margin in bf16 below this share of the clean margin is asked again in fp32, lest a flip be seen a radius late."""


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """The nearest adversarial example as AMUN publishes it: PGD in L2 with a radius per example that doubles.

    Before every step the example is tested; it freezes as soon as the model errs. A step moves by ``step`` ·
    ε along the normalised gradient, back into the ball of radius ε around the clean input, and into 0–1.
    After ``steps`` steps without success ε doubles. No random start. Pixels in 0–1; an example the model
    already misreads stays as it is.

    *Source:* Ebrahimpour-Boroojeny, Sundaram, Chandrasekaran, "Not All Wrong is Bad", ICML 2025, arXiv
    2503.00917, algorithm 1 and the authors' code.
    *Departs:* the ascent follows log(p / (1 − p)), whose direction is that of the cross-entropy but does not
    vanish where p rounds to 1; with bf16, gradients are bf16, while every flip is confirmed in fp32 on the
    model itself; a flip narrower than 1e-4 of the clean margin does not count.
    """

    epsilon: float = 0.04
    """radius of the first ball, L2, pixels in 0–1"""
    steps: int = 50
    """steps before the radius doubles"""
    step: float = 0.1
    """length of a step as a share of the radius"""
    restart: bool = False
    """after doubling, start again from the clean input (the paper's text) instead of going on (the authors'
    code)"""
    doublings: int = 12
    """how often the radius may double before an example is given up"""
    bf16: bool | None = False
    """bf16 gradients, a quarter to a third faster (null: where the chip multiplies bf16 natively); the walk then leaves
    AMUN's where gradients turn fast"""

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
        """Search for every input (uint8 or 0–1); nothing here is random, ``rng`` is not used.

        ``progress`` is told how many examples are over, of how many. Raises ``Refusal`` for inputs that are
        not pixels.
        """
        with probing(model, inputs, labels, self.bf16) as probe:
            found, scale = clean_answers(probe, inputs, labels)
            self.extend(probe, found, labels, scale, (~found.success).nonzero().squeeze(1), progress)
            settle(probe, found, labels)
        return found

    def extend(
        self,
        probe: Probe,
        found: Found,
        labels: torch.Tensor,
        scale: torch.Tensor,
        rows: torch.Tensor,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        """Search for the examples at ``rows`` only, from the clean inputs that ``found`` holds, and write
        into it."""
        forwards = found.forwards_each
        drive(
            probe,
            found,
            labels,
            scale,
            rows,
            self.epsilon,
            lambda lanes: self._advance(probe, lanes, forwards),
            progress,
        )

    def _advance(self, probe: Probe, lanes: Lanes, forwards: torch.Tensor) -> torch.Tensor:
        logits, gradient = probe.slope(lanes.point, lanes.label, confidence)
        low = margin(logits, lanes.label)
        flipped = (low < (DOUBT * lanes.scale if probe.bf16 else 0)).nonzero().squeeze(1)
        if len(flipped):
            point = lanes.point[flipped]
            sure = margin(probe.exact(point), lanes.label[flipped]) < -SURE * lanes.scale[flipped]
            forwards[lanes.row[flipped].cpu()] += 1
            flipped = flipped[sure]
            lanes.best[flipped] = lanes.point[flipped]
            lanes.distance[flipped] = norms(lanes.point[flipped] - lanes.origin[flipped])
        spent = lanes.count >= self.steps
        last = lanes.epsilon >= self.epsilon * 2.0**self.doublings
        done = lanes.distance.isfinite() | (spent & last)
        grows = spent & ~done
        lanes.epsilon = torch.where(grows, 2 * lanes.epsilon, lanes.epsilon)
        lanes.count = torch.where(grows, 0, lanes.count)
        stepped = self._step(lanes, gradient)
        if self.restart:
            # The gradient was taken where the last ball ended; the first step in the new ball needs one at
            # the clean input.
            stepped = torch.where(each(grows, stepped), lanes.origin, stepped)
            lanes.count -= grows.long()
        lanes.point = stepped
        lanes.count += 1
        return done

    def _step(self, lanes: Lanes, gradient: torch.Tensor) -> torch.Tensor:
        length = self.step * lanes.epsilon / norms(gradient).clamp_min(1e-30)
        offset = lanes.point - each(length, gradient) * gradient - lanes.origin
        offset = offset * each((lanes.epsilon / norms(offset).clamp_min(1e-30)).clamp_max(1), offset)
        return (lanes.origin + offset).clamp(0, 1)
