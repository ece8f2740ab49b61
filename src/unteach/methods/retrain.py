"""Retraining from scratch without the forget set: the exact answer, and the target of every other method."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from unteach.data.augment import Augment
from unteach.engine import Engine, pixels
from unteach.models import WHITENING_SAMPLE, fresh
from unteach.train import Sgd, Source, draw_seed, fit
from unteach.types import Refusal, Split


@dataclass(frozen=True, kw_only=True)
class Retrain:
    """Train a fresh network of the same kind on the retain set only.

    The recipe must be the original's own: another recipe gives another target. A first layer that depends on the data
    (``whiten``) is set from retained images only. *Departs:* nowhere known.
    """

    optim: Sgd | None = None
    """The original's optimiser; the command line takes it from the checkpoint when it says."""
    augment: Augment | None = None
    """How images vary in training, as for the original."""

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"retain"})

    def __call__(self, model: torch.nn.Module, split: Split, rng: torch.Generator, engine: Engine) -> torch.nn.Module:
        assert split.retain is not None
        if self.optim is None:
            raise Refusal(
                "expected to know how the original was trained, got no optimiser; give optim, the original's own"
            )
        sample = pixels(split.retain.inputs[:WHITENING_SAMPLE])
        new = fresh(model, seed=draw_seed(rng), sample=sample)
        with engine.stage("retrain"):
            fit(
                new,
                [Source(split.retain, self.augment)],
                self.optim,
                seed=draw_seed(rng),
                engine=engine,
                label="retrain",
            )
        return new
