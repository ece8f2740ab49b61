"""Retraining from scratch without the forget set: the exact answer, and the target of every other method."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from unteach.engine import Engine, pixels
from unteach.models import WHITENING_SAMPLE, fresh
from unteach.recipe import Recipe
from unteach.train import draw_seed
from unteach.types import Card, Refusal, Split


@dataclass(frozen=True, kw_only=True)
class Retrain:
    """Train a fresh network of the same kind on the retain set only.

    The recipe must be the original's own: another recipe gives another target. A first layer that depends on the data
    (``whiten``) is set from retained images only. *Departs:* nowhere known.
    """

    training: Recipe | None = None
    """How the original was trained; the command line takes it from the checkpoint when it says."""
    card: ClassVar[Card] = Card(
        does="Trains a fresh network of the same kind on the retained examples only, exactly as the original was trained. "
        "What it never saw it can't remember, so this is what every other method is measured by. It is also the answer "
        "when the others' cost or risk is not worth it.",
        suits=("random", "class", "group", "sequence"),
        cost="the whole training again, less the forgotten examples",
        knobs={},
    )

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"retain"})

    def __call__(self, model: torch.nn.Module, split: Split, rng: torch.Generator, engine: Engine) -> torch.nn.Module:
        retain = split.retain
        assert retain is not None
        if self.training is None:
            raise Refusal(
                "expected to know how the original was trained, got no recipe; give training, the original's own"
            )
        new = fresh(model, seed=draw_seed(rng), sample=lambda: pixels(retain.inputs[:WHITENING_SAMPLE]))
        with engine.stage("retrain"):
            self.training(new, retain, seed=draw_seed(rng), engine=engine, label="retrain")
        return new
