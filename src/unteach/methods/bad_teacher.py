"""Bad teacher: of the forget set the student learns what a network that knows nothing would say."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import ClassVar

import torch

from unteach.data.augment import Augment
from unteach.distill import answers, check_temperature, divergence
from unteach.engine import Engine
from unteach.models import fresh
from unteach.train import Batch, Sgd, Source, draw_seed, fit
from unteach.types import Card, Choice, Range, Refusal, Split


@dataclass(frozen=True, kw_only=True)
class BadTeacher:
    """Distil from the original on some of the retain set and from a network with random weights on the forget set.

    1. Draw ``retain_share`` of the retain set, once, and random weights for the incompetent teacher (``models.fresh``).
    2. Train a copy of the original on both sets shuffled together: KL(teacher ‖ student) at a temperature, of the competent
       teacher (the original) on retained and of the incompetent one on forgotten examples. No labels are used.

    Both teachers answer in eval mode, to the images as the student sees them. Of several labels: ``distill.divergence``.
    *Source:* Chundawat et al., Can bad teaching induce forgetting?, AAAI 2023, arXiv 2205.08096. *Departs:* SGD,
    where the authors take Adam; KL is summed over classes and multiplied by T², where their code averages over classes too and
    leaves T² out (at their T = 1 a factor of 1 / classes); batch norm as ``optim.batch_norm`` says, where theirs is in whatever
    mode the last evaluation left.
    """

    temperature: float = 1.0
    """Temperature that softens teacher and student alike, above 0."""
    retain_share: float = 0.3
    """Share of the retain set to learn from, above 0 and at most 1, drawn once; the authors' 0.3 is cheap."""
    optim: Sgd = field(default_factory=lambda: Sgd(lr=0.01, epochs=3))
    """Optimiser."""
    augment: Augment | None = None
    """How retained and forget images vary."""
    card: ClassVar[Card] = Card(
        does="Teaches the network to answer forgotten examples as one with random weights does, and a part of the retained ones "
        "as it always did. It forgets surely, and easily more than a retrained model would: that one still recognises most "
        "forgotten examples, a network that knows nothing does not.",
        suits=("class", "group"),
        cost="two forward passes, and a few epochs over the forgotten and a third of the retained examples",
        knobs={
            "optim.lr": "lower it when the forget accuracy falls below retraining's",
            "retain_share": "more holds on to the accuracy and costs more",
            "optim.epochs": "fewer forget less",
            "temperature": "a higher one passes on more of the small probabilities",
        },
        search={
            "optim.lr": Range(low=0.003, high=1.0, log=True),
            "retain_share": Range(low=0.1, high=1.0),
            "temperature": Choice(values=(1.0, 2.0, 4.0)),
            "optim.epochs": Range(low=1, high=5),
        },
        more=("optim.lr", "up"),
    )

    def __post_init__(self) -> None:
        check_temperature(self.temperature)
        if not 0 < self.retain_share <= 1:
            raise Refusal(f"expected retain_share above 0 and at most 1, got {self.retain_share}; 0.3 is the authors'")

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"retain"})

    def __call__(self, model: torch.nn.Module, split: Split, rng: torch.Generator, engine: Engine) -> torch.nn.Module:
        assert split.retain is not None
        new, competent = (engine.place(copy.deepcopy(model)) for _ in range(2))
        incompetent = engine.place(fresh(model, seed=draw_seed(rng)))
        count = max(1, round(self.retain_share * len(split.retain)))
        some = split.retain.take(torch.randperm(len(split.retain), generator=rng)[:count].sort().values)
        sources = [Source(some, self.augment), Source(split.forget, self.augment)]
        with engine.stage("bad-teacher answers"):
            taught = answers([competent, incompetent], sources, engine, self.optim)
        task = split.task

        def imitate(network: torch.nn.Module, batch: Batch) -> torch.Tensor:
            return divergence(task, network(batch.inputs), taught(batch), self.temperature)

        with engine.stage("bad-teacher"):
            fit(
                new,
                sources,
                self.optim,
                seed=draw_seed(rng),
                engine=engine,
                loss=imitate,
                identity=repr(self),
                label="bad-teacher",
            )
        return new
