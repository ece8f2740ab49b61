"""AMUN: fine-tune on the nearest adversarial examples of the forget set."""

from __future__ import annotations

import copy
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch

from unteach.adversarial import ablation_set, adversarial_set, network_in
from unteach.attacks import Fgsm, Nearest, Schedule
from unteach.data.augment import LATER, Augment
from unteach.engine import Engine
from unteach.saliency import only, saliency_mask
from unteach.sparsity import Sparse, check_l1
from unteach.train import Sgd, Source, draw_seed, fit
from unteach.types import Card, Examples, Range, Refusal, Split

NEIGHBOURS = ("adv", "advl", "rl", "arl", "ars", "orig")


@dataclass(frozen=True, kw_only=True)
class Amun:
    """Give every forget example its nearest adversarial neighbour, under the wrong label the model already gives it.

    1. For each forget example find the nearest input that the *original* model (eval mode) misreads, and its label there.
       With ``attacked``, another model is searched in the original's place, and the labels are its own.
    2. Fine-tune on retain + forget (true labels) + those neighbours. The model loses confidence around the forget
       examples as if it had never seen them, and little else moves, since the neighbours' labels are its own. With
       ``saliency`` only the weights of SalUn's mask get a gradient; weight decay shrinks the others still, as in the
       authors' code. With ``l1`` the loss has that much times the sum of all weights' absolute values added.

    Without retain data (``use_retain=False``): forget + neighbours. For very large requests (``use_forget=False``):
    the forget examples themselves are left out. Images may vary by ``augment``; neighbours are shown as they are, unless
    ``augment_neighbours``. Several requests, one after another: ``unteach.sequence``.
    *Source:* Ebrahimpour-Boroojeny, Sundaram, Chandrasekaran, Not All Wrong is Bad, ICML 2025, arXiv 2503.00917,
    algorithm 1 and section 5. *Departs:* learning rate and schedule are ours (the paper does not state the values it chose,
    and its code's default hardly forgets); neighbours by default from ``Nearest``, with fewer gradients than the paper's;
    ``l1`` is not the paper's, which has it in the baseline l1-sparse only (``compounding``, as coded there).
    """

    attack: Nearest | Schedule | Fgsm = field(default_factory=Nearest)
    """How neighbours are found: nearest (few gradients), schedule (as published) or fgsm (weaker, for comparison)."""
    optim: Sgd = field(default_factory=lambda: Sgd(lr=0.05, epochs=5))
    """Optimiser; too small a rate forgets nothing, too large a one forgets more than retraining would."""
    augment: Augment | None = None
    """How retained and forget images vary; neighbours only with augment_neighbours."""
    use_retain: bool = True
    """Whether to fine-tune on the retain set too; False when it is no longer at hand."""
    use_forget: bool = True
    """Whether the forget examples stay in with their true labels; False for requests of half the data."""
    stored: Path | None = None
    """File of adversarial examples of this model; those found in it are reused, new ones are added."""
    augment_neighbours: bool = field(default=False, metadata=LATER)
    """Whether neighbours vary by augment too."""
    saliency: float | None = field(default=None, metadata=LATER)
    """Share of the weights that is trained, above 0 to 1: those the forget loss depends on most; null for all."""
    l1: float = field(default=0.0, metadata=LATER)
    """Weight of the sum of all weights' absolute values in the loss, 0 or more; 0.0005 is usual."""
    l1_decay: str = field(default="linear", metadata=LATER)
    """How l1 moves: linear (down to nothing at the end), or compounding (epoch e of E, from 0, takes the last one's times
    2 - 2e/E, so it grows first; the authors' way)."""
    neighbours: str = field(default="adv", metadata=LATER)
    """What stands for neighbours: adv, themselves; for an ablation advl, rl (clean inputs under the adversarial, under another
    wrong label), arl (neighbours under such a label), ars (random points as far away) or orig (the forget set again)."""
    attacked: Path | None = field(default=None, metadata=LATER)
    """Checkpoint of another model whose adversarial examples and labels are taken, to see whether they transfer."""
    card: ClassVar[Card] = Card(
        does="Finds for each forgotten example the nearest input that the model misreads, and fine-tunes on it under the "
        "wrong label the model gives it, beside the data as they are. Confidence falls around the forgotten examples, to what "
        "it is on unseen ones, and little else changes. Later requests can reuse what was found.",
        suits=("random", "group", "sequence"),
        cost="about a dozen gradients of each forgotten example, kept in a file for the next request, then by default 5 epochs "
        "of fine-tuning on all data",
        knobs={
            "optim.lr": "raise it when the forget accuracy stays above the test accuracy, lower it when it falls below",
            "optim.epochs": "more let the accuracy come back",
            "optim.schedule": "a rate that falls too soon forgets nothing",
            "use_retain": "without the retained data it is quicker and costs accuracy",
            "use_forget": "false forgets more, for requests of half the data",
            "saliency": "a smaller share moves less of the network",
            "attack": "schedule is the published search; fgsm finds farther neighbours and comes less near to retraining",
        },
        search={"optim.lr": Range(low=0.01, high=2.0, log=True), "optim.epochs": Range(low=1, high=10)},
        more=("optim.lr", "up"),
    )

    def __post_init__(self) -> None:
        if self.neighbours not in NEIGHBOURS:
            known = ", ".join(NEIGHBOURS)
            raise Refusal(f"expected neighbours to be one of {known}, got {self.neighbours!r}; choose one of these")
        if self.saliency is not None and not 0 < self.saliency <= 1:
            raise Refusal(f"expected saliency above 0 and at most 1, got {self.saliency}; it is a share of the weights")
        check_l1(self.l1, self.l1_decay)

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"retain"} if self.use_retain else ())

    def __call__(self, model: torch.nn.Module, split: Split, rng: torch.Generator, engine: Engine) -> torch.nn.Module:
        near = self.find(model, split.forget, rng, engine)
        return self.tune(model, split, near, rng, engine)

    def find(self, model: torch.nn.Module, forget: Examples, rng: torch.Generator, engine: Engine) -> Examples:
        """The neighbours of these examples, or what stands for them; each has its example's id with ``~`` before."""
        if self.neighbours == "orig":
            return replace(forget, ids=np.array([f"~{name}" for name in forget.ids], dtype=str))
        searched = network_in(self.attacked, model, forget) if self.attacked is not None else model
        near = adversarial_set(searched, forget, self.attack, rng=rng, engine=engine, file=self.stored)
        return ablation_set(near, forget, self.neighbours, rng)

    def tune(
        self, model: torch.nn.Module, split: Split, near: Examples, rng: torch.Generator, engine: Engine
    ) -> torch.nn.Module:
        """A copy of the model, fine-tuned on these neighbours beside the split."""
        sources = [Source(near, self.augment if self.augment_neighbours else None)]
        if self.use_retain:
            if split.retain is None:
                raise Refusal("expected a retain set, got none; set use_retain=false to work without it")
            sources.append(Source(split.retain, self.augment))
        if self.use_forget:
            sources.append(Source(split.forget, self.augment))
        new = engine.place(copy.deepcopy(model))
        hold: AbstractContextManager[None] = nullcontext()
        if self.saliency is not None:
            with engine.stage("saliency mask"):
                hold = only(new, saliency_mask(new, split.forget, self.saliency, engine=engine))
        if self.l1:
            engine.refuse_if_divided("amun with l1")
        steps = self.optim.steps(*(len(source.examples) for source in sources))
        sparse = (
            Sparse(split.task, new, steps, self.optim.epochs, weight=self.l1, decay=self.l1_decay) if self.l1 else None
        )
        with engine.stage("amun fine-tuning"), hold:
            fit(
                new,
                sources,
                self.optim,
                seed=draw_seed(rng),
                engine=engine,
                loss=sparse,
                pace=sparse.pace if sparse else None,
                identity=repr((near.fingerprint(), self.saliency, self.l1, self.l1_decay)),
                label="amun",
            )
        return new
