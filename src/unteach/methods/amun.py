"""AMUN: fine-tune on the nearest adversarial examples of the forget set."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from pathlib import Path

import torch

from unteach.adversarial import adversarial_set
from unteach.attacks import Nearest, Schedule
from unteach.data.augment import Augment
from unteach.engine import Engine
from unteach.train import Sgd, Source, draw_seed, fit
from unteach.types import Refusal, Split


@dataclass(frozen=True, kw_only=True)
class Amun:
    """Give every forget example its nearest adversarial neighbour, under the wrong label the model already gives it.

    1. For each forget example find the nearest input that the *original* model (eval mode) misreads, and its label there.
    2. Fine-tune on retain + forget (true labels) + those neighbours. The model loses confidence around the forget
       examples as if it had never seen them, and little else moves, since the neighbours' labels are its own.

    Without retain data (``use_retain=False``): forget + neighbours. For very large requests (``use_forget=False``):
    the forget examples themselves are left out. Images may vary by ``augment``; neighbours are shown as they are.
    *Source:* Ebrahimpour-Boroojeny, Sundaram, Chandrasekaran, Not All Wrong is Bad, ICML 2025, arXiv 2503.00917,
    algorithm 1 and section 5. *Departs:* learning rate and schedule are ours (the paper does not state the values it chose,
    and its code's default hardly forgets); neighbours by default from ``Nearest``, with fewer gradients than the paper's.
    """

    attack: Nearest | Schedule = field(default_factory=Nearest)
    """How neighbours are found: nearest (few gradients) or schedule (as published)."""
    optim: Sgd = field(default_factory=lambda: Sgd(lr=0.05, epochs=5))
    """Optimiser; too small a rate forgets nothing, too large a one forgets more than retraining would."""
    augment: Augment | None = None
    """How retained and forget images vary; neighbours never do."""
    use_retain: bool = True
    """Whether to fine-tune on the retain set too; False when it is no longer at hand."""
    use_forget: bool = True
    """Whether the forget examples stay in with their true labels; False for requests of half the data."""
    stored: Path | None = None
    """File of adversarial examples of this model; those found in it are reused, new ones are added."""

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"retain"} if self.use_retain else ())

    def __call__(self, model: torch.nn.Module, split: Split, rng: torch.Generator, engine: Engine) -> torch.nn.Module:
        near = adversarial_set(model, split.forget, self.attack, rng=rng, engine=engine, file=self.stored)
        sources = [Source(near)]
        if self.use_retain:
            if split.retain is None:
                raise Refusal("expected a retain set, got none; set use_retain=false to work without it")
            sources.append(Source(split.retain, self.augment))
        if self.use_forget:
            sources.append(Source(split.forget, self.augment))
        new = copy.deepcopy(model)
        with engine.stage("amun fine-tuning"):
            fit(new, sources, self.optim, seed=draw_seed(rng), engine=engine, label="amun")
        return new
