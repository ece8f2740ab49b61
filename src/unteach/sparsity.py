"""The l1 term: a loss that also pays for the size of every weight, more or less so from epoch to epoch."""

from __future__ import annotations

import math

import torch

from unteach.train import Batch
from unteach.types import Refusal, Task


class Sparse:
    """The task's loss plus α · Σ|weight|, α by epoch; all weights are counted, whether trained or not.

    Given to ``train.fit`` as its loss, with ``pace`` as its pace.
    *Source:* Jia et al., Model sparsity can simplify machine unlearning, 2023, arXiv 2304.04934, section 4 (linear decay);
    compounding as coded by AMUN's authors (arXiv 2503.00917).
    """

    def __init__(
        self, task: Task, network: torch.nn.Module, steps: int, epochs: int, *, weight: float, decay: str
    ) -> None:
        """``steps``: of an epoch. ``weight``: α at its start."""
        self.task, self.steps, self.epochs, self.weight, self.decay = task, steps, epochs, weight, decay
        self.weights = list(network.parameters())
        self.alpha = weight

    def pace(self, step: int) -> float:
        """Sets α for this step, which ``fit`` asks for before the step's loss; the learning rate stays as it is."""
        self.alpha = strength(self.weight, self.decay, step // self.steps, self.epochs)
        return 1.0

    def __call__(self, network: torch.nn.Module, batch: Batch) -> torch.Tensor:
        size = torch.stack([weight.abs().sum() for weight in self.weights]).sum()
        return self.task.loss(network(batch.inputs), batch.labels) + self.alpha * size


def strength(alpha: float, decay: str, epoch: int, epochs: int) -> float:
    """The weight of the l1 term in an epoch, counted from 0: linear, or each epoch's factor upon the last epoch's."""
    if decay == "linear":
        return alpha * (1 - epoch / epochs)
    return alpha * math.prod(2 - 2 * past / epochs for past in range(epoch + 1))


def check_l1(weight: float, decay: str) -> None:
    """Refuse a negative weight and an unknown decay."""
    if not 0 <= weight < math.inf:
        raise Refusal(f"expected l1 to be 0 or more, got {weight}; 0.0005 is usual")
    if decay not in ("linear", "compounding"):
        raise Refusal(f"expected l1_decay to be linear or compounding, got {decay!r}; choose one of these")
