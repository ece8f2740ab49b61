"""SalUn: random labels, learned only by the weights that the forget loss depends on most."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import ClassVar

import torch

from unteach.data.augment import Augment
from unteach.engine import Engine
from unteach.saliency import only, saliency_mask
from unteach.train import Sgd, Source, draw_seed, fit
from unteach.types import Card, Range, Refusal, Split
from unteach.wrong_labels import wrong_labels


@dataclass(frozen=True, kw_only=True)
class SalUn:
    """Train the salient weights on the retain set with true labels and on the forget set with wrong ones, drawn once.

    1. The mask: the ``share`` of all weights with the steepest forget loss in the original, ``saliency.saliency_mask``.
    2. Wrong labels for the forget set, uniform over the others; of a multi-label example each is flipped with probability
       one half, at least one of them.
    3. Training on both sets shuffled together; on the forget set alone without retain data (``use_retain=False``).
       Weights outside the mask have no gradient and stay the original's to the bit, unless ``optim.weight_decay``, which is
       0 by default, shrinks them. Batch norm's running statistics are no weights.

    *Source:* Fan et al., SalUn, ICLR 2024, arXiv 2310.12508, section 4. *Departs:* its public code trains with a weight decay of
    5e-4, which moves the weights outside the mask against the paper's formula, and may draw the true label.
    """

    share: float = 0.5
    """Share of the weights that is trained, above 0 to 1: those that the forget loss depends on most."""
    optim: Sgd = field(default_factory=lambda: Sgd(lr=0.01, epochs=10, weight_decay=0.0))
    """Optimiser; weight decay would shrink the weights outside the mask too."""
    use_retain: bool = True
    """Whether the retained data are trained on; without them accuracy falls."""
    augment: Augment | None = None
    """How images vary; the mask is made from images as they are."""
    card: ClassVar[Card] = Card(
        does="Finds the half of the weights that the forgotten examples' loss depends on most, and trains only these, on the "
        "retained examples as they are and on the forgotten ones under wrong labels. The rest of the network stays as it is, "
        "as long as there is no weight decay: that shrinks every weight.",
        suits=("random", "class", "group"),
        cost="one gradient of each forgotten example, then as many epochs over all data as it is given",
        knobs={
            "optim.lr": "lower it when the forget accuracy falls below retraining's, raise it when nothing is forgotten",
            "share": "a smaller share moves less of the network and forgets less",
            "optim.epochs": "as optim.lr",
            "optim.weight_decay": "above 0 it shrinks the weights outside the mask as well",
        },
        search={
            "optim.lr": Range(low=0.01, high=1.0, log=True),
            "share": Range(low=0.1, high=0.9),
            "optim.epochs": Range(low=3, high=10),
        },
        more=("optim.lr", "up"),
    )

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise Refusal(f"expected share above 0 and at most 1, got {self.share}; 0.5 trains half of the weights")

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"retain"} if self.use_retain else ())

    def __call__(self, model: torch.nn.Module, split: Split, rng: torch.Generator, engine: Engine) -> torch.nn.Module:
        new = engine.place(copy.deepcopy(model))
        wrong = split.forget.relabel(wrong_labels(split.forget.labels, split.task.classes, rng))
        with engine.stage("saliency mask"):
            mask = saliency_mask(new, split.forget, self.share, engine=engine)
        kept = [Source(split.retain, self.augment)] if self.use_retain and split.retain is not None else []
        sources = [*kept, Source(wrong, self.augment)]
        with engine.stage("salun"), only(new, mask):
            fit(
                new,
                sources,
                self.optim,
                seed=draw_seed(rng),
                engine=engine,
                identity=repr((self.share, split.forget.fingerprint())),
                label="salun",
            )
        return new
