"""Boundary shrink: give forgotten examples to the class across the nearest boundary."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import ClassVar

import torch

from unteach.adversarial import perturbed
from unteach.attacks import PgdLinf
from unteach.data.augment import Augment
from unteach.engine import Engine
from unteach.train import Batch, Sgd, Source, draw_seed, fit
from unteach.types import Card, Examples, Range, Refusal, Split


@dataclass(frozen=True, kw_only=True)
class BoundaryShrink:
    """Fine-tune on the forget set under the nearest wrong labels, which one large step up the loss finds.

    1. For each forget example x with label y: x' = x + ``attack.epsilon`` · sign of the loss's gradient, in 0–1, of the
       original in eval mode. The new label is the likeliest class but y at x'. Of a multi-label example every label that is
       misread at x' is flipped, and the least sure one where none is.
    2. Fine-tune on the forget set as it is under these labels, alone or (``use_retain``) shuffled with the retain set.

    With ``refresh`` the labels are found again before every epoch, from the network as it is by then.
    *Source:* Chen et al., Boundary Unlearning, CVPR 2023, arXiv 2303.11570; ``refresh`` and ``use_retain``: the
    code of AMUN's authors (arXiv 2503.00917). *Departs:* where the step does not cross a boundary, public code keeps the true
    label; batch norm's statistics stay by default, which forgotten examples alone would ruin; the paper's learning rate
    is 1e-5; AMUN's code goes through the two sets one after the other.
    """

    attack: PgdLinf = field(default_factory=lambda: PgdLinf(epsilon=0.1, step=1.0, steps=1))
    """How the boundary is crossed: by default one step of 0.1 in every pixel, the fast gradient sign method."""
    refresh: bool = False
    """Whether the labels are found again before every epoch."""
    use_retain: bool = False
    """Whether to fine-tune on the retain set too, which keeps accuracy and costs passes over it."""
    optim: Sgd = field(
        default_factory=lambda: Sgd(
            lr=1e-4, epochs=10, batch=64, weight_decay=0.0, schedule="constant", batch_norm="eval"
        )
    )
    """Optimiser; without retained examples nothing holds the network back, so small rates."""
    augment: Augment | None = None
    """How images vary in fine-tuning; labels are found for images as they are."""
    card: ClassVar[Card] = Card(
        does="Takes one step from each forgotten example across the nearest boundary, and teaches it as the class found "
        "there. The forgotten class's region shrinks in favour of its neighbours. Nothing else is needed, but nothing else "
        "is looked after either, unless use_retain.",
        suits=("class", "random", "group"),
        cost="one gradient of each forgotten example and ten epochs over these",
        knobs={
            "optim.lr": "raise it when the examples are still known, lower it when accuracy falls everywhere",
            "optim.epochs": "as optim.lr",
            "use_retain": "keeps accuracy at the cost of passes over the retained data",
            "refresh": "follows the boundary as it moves, and goes on forgetting",
        },
        search={
            "optim.lr": Range(low=1e-4, high=0.1, log=True),
            "optim.epochs": Range(low=3, high=15),
        },
        more=("optim.lr", "up"),
    )

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"retain"} if self.use_retain else ())

    def __call__(self, model: torch.nn.Module, split: Split, rng: torch.Generator, engine: Engine) -> torch.nn.Module:
        new = engine.place(copy.deepcopy(model))
        sources = [Source(split.forget, self.augment)]
        if self.use_retain:
            if split.retain is None:
                raise Refusal("expected a retain set, got none; set use_retain=false to work without it")
            sources.append(Source(split.retain, self.augment))
        steps = self.optim.steps(*(len(source.examples) for source in sources))
        task = split.task
        with engine.stage("boundary-shrink labels"):
            found = self.labels(new, split.forget, rng, engine)

        def relabel(step: int) -> float:
            nonlocal found
            if self.refresh and step and step % steps == 0:
                found = self.labels(new, split.forget, rng, engine)
            return 1.0

        def towards(network: torch.nn.Module, batch: Batch) -> torch.Tensor:
            labels = batch.labels.clone()
            forgotten = batch.part == 0
            labels[forgotten] = found[batch.row[forgotten]]
            return task.loss(network(batch.inputs), labels)

        with engine.stage("boundary-shrink"):
            fit(
                new,
                sources,
                self.optim,
                seed=draw_seed(rng),
                engine=engine,
                loss=towards,
                pace=relabel,
                identity=repr((self.attack, self.refresh)),
                label="boundary-shrink",
            )
        return new

    def labels(self, model: torch.nn.Module, forget: Examples, rng: torch.Generator, engine: Engine) -> torch.Tensor:
        """The nearest wrong label of every example, on the device, as this network sees it."""
        crossed = perturbed(model, forget, self.attack, rng=rng, engine=engine)
        return nearest_wrong(engine.logits(model, crossed), forget.labels).to(engine.device)


def nearest_wrong(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """The likeliest answer that is not the given one; same shape and type as the labels.

    Of several labels: the model's own answer, or where that is the given one, with its least sure label flipped.
    """
    if labels.ndim == 1:
        return logits.scatter(1, labels[:, None], -torch.inf).argmax(1)
    sure = logits * (2 * labels - 1)
    flips = (sure < 0).scatter(1, sure.argmin(1, keepdim=True), True)
    return torch.where(flips, 1 - labels, labels)
