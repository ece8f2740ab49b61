"""The constant answer: what a table must not reward."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import ClassVar

import torch

from unteach.engine import Engine
from unteach.models.anatomy import last_linear
from unteach.types import Card, MultiLabel, Split


@dataclass(frozen=True, kw_only=True)
class Constant:
    """Answer every input with the frequencies of the retained labels: nothing of the request is left, nor of anything else.

    The last layer's weights become 0 and its bias the log-frequencies; without a bias all classes are equally likely. No
    method: the row that shows what a score rewards. On MUCAC its NoMUS lies above the published retrained model's (0.868
    beside 0.863).
    """

    card: ClassVar[Card] = Card(
        does="Answers everything alike. It is here to show which scores that pleases.",
        suits=("random", "class", "group"),
        cost="nothing",
        knobs={},
    )

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"retain"})

    def __call__(self, model: torch.nn.Module, split: Split, rng: torch.Generator, engine: Engine) -> torch.nn.Module:
        assert split.retain is not None
        new = copy.deepcopy(model)
        head = last_linear(new)
        labels = split.retain.labels
        if isinstance(split.task, MultiLabel):
            share = ((labels.sum(0) + 1) / (len(labels) + 2)).clamp(1e-6, 1 - 1e-6)
            logits = torch.log(share / (1 - share))
        else:
            counts = torch.bincount(labels, minlength=split.task.classes).double() + 1
            logits = torch.log(counts / counts.sum())
        with torch.no_grad():
            head.weight.zero_()
            if head.bias is not None:
                head.bias.copy_(logits.to(head.bias))
        return new.eval()
