"""Random labels: teach the forget set something wrong beside the retain set."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import ClassVar

import torch

from unteach.data.augment import Augment
from unteach.engine import Engine
from unteach.train import Sgd, Source, draw_seed, fit
from unteach.types import Card, Range, Split
from unteach.wrong_labels import wrong_labels


@dataclass(frozen=True, kw_only=True)
class RandomLabel:
    """Train on the retain set with true labels and on the forget set with wrong ones, drawn once, uniformly.

    Of a multi-label example every label is flipped with probability one half, at least one of them. Without retain data
    (``use_retain=False``) it trains on the forget set alone.
    *Source:* Golatkar et al., Eternal sunshine of the spotless net, 2020, arXiv 1911.04933; RL of arXiv 2304.04934; amnesiac
    unlearning (Graves et al., 2020, arXiv 2010.10981) as it is run in practice.
    *Departs:* nowhere known.
    """

    optim: Sgd = field(default_factory=lambda: Sgd(lr=0.01, epochs=5))
    """Optimiser."""
    use_retain: bool = True
    """Whether the retained data are trained on; without them accuracy falls."""
    augment: Augment | None = None
    """How images vary."""
    card: ClassVar[Card] = Card(
        does="Trains on the retained examples as they are and on the forget examples under wrong labels drawn at random. "
        "It forgets surely, and easily more than a retrained model would: then the forget set stands out again.",
        suits=("random", "class", "group"),
        cost="as many epochs over all data as it is given",
        knobs={"optim.lr": "lower it when the forget accuracy falls below retraining's", "optim.epochs": "as optim.lr"},
        search={"optim.lr": Range(low=0.003, high=1.0, log=True), "optim.epochs": Range(low=1, high=10)},
        more=("optim.lr", "up"),
    )

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"retain"} if self.use_retain else ())

    def __call__(self, model: torch.nn.Module, split: Split, rng: torch.Generator, engine: Engine) -> torch.nn.Module:
        new = copy.deepcopy(model)
        wrong = split.forget.relabel(wrong_labels(split.forget.labels, split.task.classes, rng))
        kept = [Source(split.retain, self.augment)] if self.use_retain and split.retain is not None else []
        sources = [*kept, Source(wrong, self.augment)]
        with engine.stage("random-label"):
            fit(new, sources, self.optim, seed=draw_seed(rng), engine=engine, label="random-label")
        return new
