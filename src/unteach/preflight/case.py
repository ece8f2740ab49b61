"""What is checked: a model, its data, a request and a method, with the answers that several checks read."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from unteach.data import DataSet
from unteach.data.request import kind_of
from unteach.engine import Engine
from unteach.provenance import Provenance
from unteach.recipe import Recipe
from unteach.stress.lineup import sampled
from unteach.types import Examples, Method, MultiLabel, Split

USUAL, FEWEST = 2000, 100  # examples of each part that a network is asked about
AFFORDED = 5e11  # multiplications and additions for the answers to one part: some ten seconds of one CPU thread


@dataclass(frozen=True, eq=False, kw_only=True)
class Case:
    """One request to one model, before anything is done.

    ``parts``: as a method would get them. ``named``: what the table calls the method. ``recipe``: how the model was trained, if
    that is known. ``sample``: most examples of each part that the network is asked about; 0 for what it can answer soon.
    """

    model: torch.nn.Module
    data: DataSet
    parts: Split
    method: Method
    named: str
    provenance: Provenance
    recipe: Recipe | None
    sample: int
    seed: int
    engine: Engine

    @property
    def forget(self) -> Examples:
        return self.parts.forget

    @property
    def retain(self) -> Examples:
        assert self.parts.retain is not None
        return self.parts.retain

    @cached_property
    def kind(self) -> str:
        """class, group or random; a request for labels that several examples share in part is random."""
        return kind_of(self.parts)

    @property
    def one_class_each(self) -> bool:
        return not isinstance(self.parts.task, MultiLabel)

    @property
    def share(self) -> float:
        """Part (0–1) of the training data that is to be forgotten."""
        return len(self.forget) / (len(self.forget) + len(self.retain))

    @cached_property
    def whole(self) -> dict[str, Examples]:
        """All examples by part: forget, retain, test and, where there are some, validation and unseen."""
        found = {"forget": self.forget, "retain": self.retain, "test": self.data.test}
        if self.parts.validation is not None:
            found["validation"] = self.parts.validation
        if self.data.unseen is not None:
            found["unseen"] = self.data.unseen
        return found

    @cached_property
    def effort(self) -> int:
        """Multiplications and additions that an answer takes, of the layers that torch can count."""
        from torch.utils.flop_counter import FlopCounterMode

        counter = FlopCounterMode(display=False)
        with counter:
            self.engine.logits(self.model, self.retain.inputs[:2])
        return int(counter.get_total_flops()) // min(2, len(self.retain))

    @cached_property
    def most(self) -> int:
        """Examples of each part that are looked at: ``sample``, or 2000, on a CPU fewer of a large network, never below 100."""
        if self.sample or self.engine.device.type != "cpu":
            return self.sample or USUAL
        return int(min(USUAL, max(FEWEST, AFFORDED // max(self.effort, 1))))

    @cached_property
    def looked(self) -> dict[str, Examples]:
        """At most so many examples of each part, drawn once."""
        return {name: sampled(part, self.most, self.seed) for name, part in self.whole.items()}

    @cached_property
    def answers(self) -> dict[str, torch.Tensor]:
        """The model's logits on what is looked at, float32 ``n × classes`` a part."""
        return {name: self.engine.logits(self.model, part.inputs) for name, part in self.looked.items()}

    def correct(self, name: str) -> np.ndarray:
        """Right answers (0–1) on what is looked at of a part."""
        part = self.looked[name]
        return np.asarray(part.task.correct(self.answers[name], part.labels))

    def accuracy(self, name: str) -> float:
        return float(self.correct(name).mean()) if len(self.looked[name]) else float("nan")
