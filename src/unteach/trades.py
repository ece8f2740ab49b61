"""Adversarial training: the loss that makes a network's answer the same all over a small ball."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from unteach.engine import unwrapped
from unteach.eval_mode import evaluating
from unteach.train import Batch
from unteach.types import MultiClass, Refusal, Task


@dataclass(frozen=True, kw_only=True)
class Trades:
    """The task's loss plus β times how much the answer changes at the worst point of an L∞ ball around each image.

    The worst point x' is sought with the network in eval mode: from x plus Gaussian noise of 0.001, ``steps`` times by
    ``step`` along the sign of the gradient of KL(p(x) ‖ p(x')), back into the ball and into 0–1. Then, in training mode,
    loss(x) + ``beta`` · KL(p(x) ‖ p(x')), gradients through both; of a multi-label task the KL is the mean over its labels.
    *Source:* Zhang et al., Theoretically Principled Trade-off between Robustness and Accuracy (TRADES), 2019,
    arXiv 1901.08573, equation 5 and algorithm 1; these numbers are those AMUN's code trains its robust ResNet-18 with.
    *Departs:* nowhere known.
    """

    beta: float = 6.0
    """Weight of the robust term, at least 0."""
    epsilon: float = 0.031
    """Radius of the ball, L∞, pixels in 0–1."""
    step: float = 0.007
    """Length of a step, pixels in 0–1."""
    steps: int = 10
    """Steps."""

    def __post_init__(self) -> None:
        for name in ("beta", "epsilon", "step", "steps"):
            if getattr(self, name) < 0:
                raise Refusal(f"expected {name} to be at least 0, got {getattr(self, name)}; choose a larger one")

    def __call__(self, network: torch.nn.Module, batch: Batch, task: Task, smoothing: float = 0.0) -> torch.Tensor:
        """Loss of each example of a step, shape ``n``."""
        hard = self._worst(unwrapped(network), batch.inputs, task)
        logits = network(batch.inputs)
        apart = divergence(logits, network(hard), task)
        return task.loss(logits, batch.labels, smoothing) + self.beta * apart

    def _worst(self, network: torch.nn.Module, inputs: torch.Tensor, task: Task) -> torch.Tensor:
        with evaluating(network):
            with torch.no_grad():
                clean = network(inputs)
            point = (inputs + 0.001 * torch.randn_like(inputs)).clamp(0, 1)
            for _ in range(self.steps):
                point.requires_grad_()
                (slope,) = torch.autograd.grad(divergence(clean, network(point), task).sum(), point)
                away = point.detach() + self.step * slope.sign() - inputs
                point = (inputs + away.clamp(-self.epsilon, self.epsilon)).clamp(0, 1)
        return point.detach()


def divergence(clean: torch.Tensor, other: torch.Tensor, task: Task) -> torch.Tensor:
    """KL(p ‖ q) in nats of the answers with these logits, per example; Bernoulli, averaged over labels, if multi-label."""
    clean, other = clean.float(), other.float()
    if isinstance(task, MultiClass):
        p, q = clean.log_softmax(1), other.log_softmax(1)
        return (p.exp() * (p - q)).sum(1)
    yes, no = torch.nn.functional.logsigmoid(clean), torch.nn.functional.logsigmoid(-clean)
    there, not_there = torch.nn.functional.logsigmoid(other), torch.nn.functional.logsigmoid(-other)
    return (yes.exp() * (yes - there) + no.exp() * (no - not_there)).mean(1)
