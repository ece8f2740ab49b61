"""How a classifier is trained from scratch: everything that a retrained model must share with the original."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from unteach.data.augment import LATER, Augment
from unteach.engine import Engine, pixels
from unteach.models import WHITENING_SAMPLE, fresh
from unteach.models.masks import masks_of, set_masks
from unteach.prune import Prune, Snapshot, prune_and_rewind
from unteach.resume import Stateful
from unteach.spectral import Clip, Clipper, Gouk, Miyato
from unteach.store import record, restored
from unteach.trades import Trades
from unteach.train import Batch, Loss, Sgd, Source, draw_seed, fit
from unteach.types import Examples, Refusal, Task

if TYPE_CHECKING:
    from unteach.models.ensemble import Ensemble


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A training from scratch: optimiser, augmentation, and what else decides which network comes out."""

    optim: Sgd = field(default_factory=lambda: Sgd(lr=0.1, epochs=15, schedule="onecycle"))
    """Optimiser."""
    augment: Augment | None = None
    """How images vary in training; left out, the data set's usual way."""
    smoothing: float = field(default=0.0, metadata=LATER)
    """Label smoothing: the share of each label that is spread over all classes, 0 to below 1."""
    trades: Trades | None = field(default=None, metadata=LATER)
    """Adversarial training, so that the answer holds all over a small ball around each image."""
    clip: Clip | Gouk | Miyato | None = field(default=None, metadata=LATER)
    """Smooth training: hold the norm of every convolution and dense layer; clip and a number alone set the target."""
    prune: Prune | None = field(default=None, metadata=LATER)
    """Sparse training: prune the smallest convolution weights once, wind back and train again."""

    def __post_init__(self) -> None:
        if not 0 <= self.smoothing < 1:
            raise Refusal(f"expected smoothing to be at least 0 and below 1, got {self.smoothing}; 0.1 is usual")
        if self.optim.sample:
            raise Refusal(
                f"expected a training from scratch to show all its examples, got recipe.optim.sample {self.optim.sample}; "
                "leave it out, it is for methods that go on from a trained model"
            )
        if self.prune is not None and self.prune.rewind >= self.optim.epochs:
            raise Refusal(
                f"expected prune.rewind below the {self.optim.epochs} epochs of the training, got {self.prune.rewind}; "
                "wind back to an earlier epoch"
            )

    def as_json(self) -> dict[str, Any]:
        """The recipe as plain values, for provenance and keys; what is off is left out."""
        return record(self)

    @staticmethod
    def from_json(values: dict[str, Any]) -> Recipe:
        """The recipe that ``as_json`` told."""
        return restored(Recipe, values)

    @property
    def cost(self) -> float:
        """What it costs, in plain epochs: pruning trains its last part twice, TRADES seeks a worst point in every step."""
        again = self.optim.epochs - self.prune.rewind if self.prune else 0
        harder = 2 + (1 + 2 * self.trades.steps) / 3 if self.trades else 1.0
        return (self.optim.epochs + again) * harder

    def __call__(
        self, model: torch.nn.Module, examples: Examples, *, seed: int, engine: Engine, label: str = "training"
    ) -> list[dict[str, float]]:
        """Train a network in place on these examples; returns the log of ``fit``. An ensemble's shards: see ``train_shards``."""
        from unteach.models.ensemble import Ensemble  # a class of torch's, which --help need not load

        if isinstance(model, Ensemble):
            return self.train_shards(model, examples, range(len(model.shards)), seed=seed, engine=engine, label=label)
        loss, sources = self._loss(examples.task), [Source(examples, self.augment)]
        identity = repr((self.smoothing, self.trades, self.clip)) if loss or self.clip else ""

        def run(what: str, watch: Snapshot | None, carry: dict[str, Stateful], begin: int) -> list[dict[str, float]]:
            clipper = self._clipper(model, examples, seed)

            def after(network: torch.nn.Module) -> None:
                if clipper is not None:
                    clipper(network)
                if watch is not None:
                    watch(network)

            log = fit(
                model,
                sources,
                self.optim,
                seed=seed,
                engine=engine,
                loss=loss,
                after_step=after if clipper is not None or watch is not None else None,
                carry={**carry, **({"clipper": clipper} if clipper is not None else {})},
                begin=begin,
                identity=identity,
                label=what,
            )
            if clipper is not None:
                clipper.settle()
            return log

        if self.prune is None:
            return run(label, None, {}, 0)
        steps = self.optim.steps(len(examples))
        early = Snapshot(self.prune.rewind * steps)
        dense = run(f"{label}, dense", early, {"early": early}, 0)
        prune_and_rewind(model, self.prune.share, early.taken)
        return dense + run(f"{label}, sparse", None, {}, self.prune.rewind)

    def train_shards(
        self, ensemble: Ensemble, examples: Examples, numbers: Iterable[int], *, seed: int, engine: Engine, label: str
    ) -> list[dict[str, float]]:
        """Train these networks of an ensemble in place, each from fresh weights on its own examples; returns their logs.

        A network's bytes follow from the recipe, the seed, its number and its own examples, and from nothing else.
        """
        rng = torch.Generator().manual_seed(seed)
        seeds, parts = [draw_seed(rng) for _ in ensemble.shards], ensemble.parts(examples, numbers)
        engine.place(ensemble)
        ensemble.seed.fill_(seed)
        set_masks(ensemble, {})  # each network is pruned anew, at other places
        log = []
        for number, part in parts.items():
            shard, own = ensemble.shards[number], seeds[number]
            set_masks(shard, {})
            start = fresh(shard, seed=own, sample=partial(_first, part))
            shard.load_state_dict(start.state_dict())
            which = f"{label}, shard {number + 1} of {len(ensemble.shards)}"
            log += self(shard, part, seed=own, engine=engine, label=which)
        ensemble.eval()
        return log

    def _clipper(self, model: torch.nn.Module, examples: Examples, seed: int) -> Clipper | None:
        if self.clip is None:
            return None
        return Clipper(self.clip, model, examples.inputs.shape[1:], seed=seed, masks=masks_of(model))

    def _loss(self, task: Task) -> Loss | None:
        trades, smoothing = self.trades, self.smoothing
        if trades is not None:
            return lambda network, batch: trades(network, batch, task, smoothing)
        if not smoothing:
            return None

        def smooth(network: torch.nn.Module, batch: Batch) -> torch.Tensor:
            return task.loss(network(batch.inputs), batch.labels, smoothing)

        return smooth


def _first(examples: Examples) -> torch.Tensor:
    """What a data-dependent first layer is set from."""
    return pixels(examples.inputs[:WHITENING_SAMPLE])
