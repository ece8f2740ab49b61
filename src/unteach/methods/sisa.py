"""SISA: the model was trained as an ensemble on shards; only the shards that saw the request are trained again."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from unteach.engine import Engine
from unteach.recipe import Recipe
from unteach.types import Card, Refusal, Split


@dataclass(frozen=True, kw_only=True)
class Sisa:
    """Train the shards of an ensemble that saw any of the forgotten examples again, without them; leave the others.

    1. The shards of the request, from the hash of each id (or group). 2. Each starts from the same fresh weights as ever and is
    trained on its retained examples by the original's recipe and seed. All others stay bit-identical. The result has the bytes
    of an ensemble that was trained from scratch without the request, by the same seed, recipe and kind of machine.

    Of k random deletions at once 1 − (1 − 1/S)^k of the training is expected, of one 1/S. Exact for requests that do not depend
    on the models: whoever chooses what to delete by looking at them can undo it (Gupta et al., 2021, arXiv 2106.04378).
    *Source:* Bourtoule et al., Machine Unlearning (SISA), IEEE S&P 2021, arXiv 1912.03817, sections IV and V. *Departs:* shards
    are not cut into slices with a checkpoint before each; probabilities are averaged, see ``models.ensemble``.
    """

    training: Recipe | None = None
    """How the original was trained; the command line takes it from the checkpoint when it says."""
    card: ClassVar[Card] = Card(
        does="Trains only those networks of an ensemble again that saw a forgotten example; each was trained on its own part "
        "of the data. The result is that of training without the request. It must be chosen before training: "
        "unteach train --model sisa.",
        suits=("random", "class", "group", "sequence"),
        cost="one shard's training for one example, up to all of it for many: a share of 1 − (1 − 1/S)^k for k of them",
        knobs={},
        layers="an ensemble (the network sisa)",
    )

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"retain"})

    def __call__(self, model: torch.nn.Module, split: Split, rng: torch.Generator, engine: Engine) -> torch.nn.Module:
        from unteach.models.ensemble import Ensemble  # a class of torch's, which --help need not load

        assert split.retain is not None
        if not isinstance(model, Ensemble) or int(model.seed) < 0:
            raise Refusal(
                f"expected an ensemble of shards that unteach trained for sisa, got {type(model).__name__}; train one "
                "(unteach train --model sisa), or choose another method"
            )
        if self.training is None:
            raise Refusal(
                "expected to know how the original was trained, got no recipe; give training, the original's own"
            )
        touched, count = np.unique(model.places(split.forget)).tolist(), len(model.shards)
        engine.events.emit(
            "shards",
            of=count,
            retrained=[number + 1 for number in touched],
            share=len(touched) / count,
            expected_share=model.expected_share(len(split.forget)),
        )
        new = copy.deepcopy(model)
        with engine.stage(f"sisa, {len(touched)} of {count} shards"):
            self.training.train_shards(new, split.retain, touched, seed=int(model.seed), engine=engine, label="sisa")
        return new
