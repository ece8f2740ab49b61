"""How far logits are from a wrong answer: the quantities that attacks push down."""

from __future__ import annotations

import torch

from unteach.types import MultiClass, MultiLabel, Task


def task_of(logits: torch.Tensor, labels: torch.Tensor) -> Task:
    """One label of many, or many yes-or-no labels: told by the shape of the labels."""
    return MultiLabel(logits.shape[1]) if labels.ndim == 2 else MultiClass(logits.shape[1])


def margin(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Logit distance to the nearest wrong answer, negative when wrong, shape ``n``."""
    return task_of(logits, labels).margin(logits, labels)


def wrong(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Whether the model's own answer differs from the label, in one label at least; bool, shape ``n``."""
    differs = task_of(logits, labels).predict(logits) != labels
    return differs.any(1) if differs.ndim == 2 else differs


def confidence(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """What the loss pushes down: log(p / (1 − p)) of the true class, or minus the summed binary
    cross-entropy.

    For one label the gradient is that of −cross-entropy divided by 1 − p: the same direction, but it does
    not vanish where a model is so sure that p rounds to 1.
    """
    if labels.ndim == 2:
        return -task_of(logits, labels).loss(logits, labels)
    return soft_margin(logits, labels, torch.ones_like(logits[:, 0]))


def soft_margin(logits: torch.Tensor, labels: torch.Tensor, temperature: torch.Tensor) -> torch.Tensor:
    """The margin with its minimum over wrong answers softened by a temperature (logits) per example, shape
    ``n``.

    Temperature → 0 gives the margin; at 1, for one label, it is log(p / (1 − p)).
    """
    if labels.ndim == 2:
        gaps = logits * (2 * labels - 1)
    else:
        gaps = logits.gather(1, labels[:, None]) - logits.scatter(1, labels[:, None], -torch.inf)
    return -temperature * torch.logsumexp(-gaps / temperature[:, None], 1)
