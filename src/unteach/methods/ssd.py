"""SSD: shrink the weights that matter more to the forget set than to the data as a whole."""

from __future__ import annotations

import copy
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch

from unteach.curvature import average, by_weight, empirical, squared_norm, trained_weights
from unteach.engine import Engine, Stage
from unteach.store import digest_of, fingerprint, load_tensors, save_tensors
from unteach.types import Card, Choice, Examples, Range, Refusal, Split

ALL = "importance"  # the tensor in the file


@dataclass(frozen=True, kw_only=True)
class Ssd:
    """Multiply weights that are far more important to the forget set than to all training data by a factor below 1.

    1. *Importance* of every trained weight, over all training data (I_D) and over the forget set (I_F), in eval mode: the
       mean over the examples of the loss's squared gradient, the diagonal of the Fisher information. With ``labels=False``
       (LFSSD) the mean size of the gradient of the squared length of the logits, which asks for no labels.
    2. *Selection*: where I_F > α · I_D.
    3. *Dampening*: those weights times min(λ · I_D / I_F, 1). All others, and all buffers, stay as they are.

    Nothing is trained. I_D counts each example alike, the forgotten ones too, so I_F / I_D is at most |D| / |F|, and an α
    above that selects nothing: the published 10 does nothing where a tenth of the data or more is forgotten. Without ``alpha``
    it is set so that ln(1 + 100 · |F| / |D|) per cent of the weights are selected.
    *Source:* Foster, Schoepf, Brintrup, Fast machine unlearning without retraining through selective synaptic dampening,
    AAAI 2024, arXiv 2308.07707, equations 3 to 6; the label-free form from Loss-free machine unlearning, 2024, arXiv
    2402.19308; the percentile from Schoepf, Foster, Brintrup (ASSD), 2024, arXiv 2402.10098. *Departs:* squares single
    examples' gradients, as the equations say, where the authors' code squares those of whole batches (``batch``); ``alpha``
    follows ASSD by default, whose rule for the percentile we know at second hand.
    """

    alpha: float | None = None
    """How many times more important to the forget set a weight must be, above 0; null sets it by the share forgotten."""
    dampening: float = 1.0
    """Factor λ on what is left of a selected weight, above 0; smaller shrinks more."""
    labels: bool = True
    """Whether importance is of the loss under the labels; false takes the squared length of the logits, without labels."""
    batch: int = 1
    """Examples whose mean gradient is squared, at least 1; 64 is many times quicker, less exact, and as in public code."""
    stored: Path | None = None
    """File for the importance over all data; found there it is used again for later requests to the same model."""
    card: ClassVar[Card] = Card(
        does="Finds the weights that matter far more to the forgotten examples than to the data as a whole, and shrinks them. "
        "Nothing is trained afterwards, so it is quick, and what breaks stays broken.",
        suits=("class", "group", "random"),
        cost="one gradient of each training example, one by one, which takes several epochs' time; kept in a file, later "
        "requests cost only the forgotten examples",
        knobs={
            "alpha": "lower it to forget more; near 1 much of the network is shrunk",
            "dampening": "lower it to forget more",
            "batch": "64 is quicker; alpha then means another number",
            "stored": "saves most of the time of a second request",
        },
        search={"alpha": Range(low=1.0, high=100.0, log=True), "dampening": Choice(values=(0.1, 0.5, 1.0))},
        more=("alpha", "down"),
    )

    def __post_init__(self) -> None:
        if self.alpha is not None and not 0 < self.alpha < math.inf:
            raise Refusal(
                f"expected alpha above 0, got {self.alpha}; 10 is the paper's, null sets it by the share forgotten"
            )
        if not 0 < self.dampening < math.inf:
            raise Refusal(f"expected dampening above 0, got {self.dampening}; 1 is the paper's")
        if self.batch < 1:
            raise Refusal(f"expected batch to be at least 1, got {self.batch}; 1 is exact")

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"retain"} if self.stored is None else ())

    def __call__(self, model: torch.nn.Module, split: Split, rng: torch.Generator, engine: Engine) -> torch.nn.Module:
        new = engine.place(copy.deepcopy(model)).eval()
        with engine.stage("ssd importance, forget set"):
            own = self.importance(new, split.forget, engine)
        whole, total = self._of_all(new, split, own, engine)
        alpha = self.alpha if self.alpha is not None else adaptive_alpha(own / whole, len(split.forget) / total)
        chosen = own > alpha * whole
        factor = (self.dampening * whole / own).clamp(max=1.0)
        weights = trained_weights(new)
        with torch.no_grad():
            for name, scale in by_weight(new, torch.where(chosen, factor, 1.0)).items():
                weights[name].mul_(scale)
        engine.events.emit("dampened", alpha=alpha, selected=int(chosen.sum()), weights=len(chosen))
        return new

    def importance(self, model: torch.nn.Module, examples: Examples, engine: Engine) -> torch.Tensor:
        """Importance of each trained weight to these examples; flat, 0 or more."""
        terms, of = (empirical(examples.task), torch.square) if self.labels else (squared_norm, torch.abs)
        return average(model, examples, terms, of, batch=self.batch, engine=engine, label="ssd importance")

    def _of_all(
        self, model: torch.nn.Module, split: Split, own: torch.Tensor, engine: Engine
    ) -> tuple[torch.Tensor, int]:
        """Importance over all training data, and how many examples these are: from the file if it holds it."""
        data = None
        if split.retain is not None:
            data = digest_of(sorted([*split.retain.ids.tolist(), *split.forget.ids.tolist()]))
        key = {"model": fingerprint(model), "labels": self.labels, "batch": self.batch}
        if self.stored is not None and self.stored.is_file():
            tensors, told = load_tensors(self.stored)
            if told.get("made_with") == json.loads(json.dumps(key)) and data in (None, told.get("data")):
                engine.stages.append(Stage("ssd importance, all data, reused (cost when made)", *told["cost"]))
                return tensors[ALL].to(own), told["examples"]
        if split.retain is None or data is None:
            raise Refusal(
                "expected a retain set, or a file with the importance of this model's weights to all data, got neither; "
                "make the file (--stored) while the data are at hand"
            )
        with engine.stage("ssd importance, all data"):
            rest = self.importance(model, split.retain, engine)
        total = len(split.retain) + len(split.forget)
        whole = (len(split.retain) * rest + len(split.forget) * own) / total
        if self.stored is not None and engine.rank == 0:
            made = engine.stages[-1]
            cost = [made.seconds, made.units]
            save_tensors(self.stored, {ALL: whole}, {"made_with": key, "data": data, "examples": total, "cost": cost})
        return whole, total


def adaptive_alpha(ratios: torch.Tensor, share: float) -> float:
    """The ratio I_F / I_D that ln(1 + 100 · ``share``) per cent of the weights exceed; weights that matter to none don't."""
    sorted_down = ratios.nan_to_num(0.0).sort(descending=True).values
    count = round(len(ratios) * math.log1p(100 * share) / 100)
    return float(sorted_down[min(count, len(ratios) - 1)])
