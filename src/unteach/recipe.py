"""How a classifier is trained from scratch: everything that a retrained model must share with the original."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch

from unteach.data.augment import LATER, Augment
from unteach.engine import Engine
from unteach.prune import Prune, Snapshot, prune_and_rewind
from unteach.store import record
from unteach.trades import Trades
from unteach.train import Batch, Loss, Sgd, Source, fit
from unteach.types import Examples, Refusal, Task


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
    prune: Prune | None = field(default=None, metadata=LATER)
    """Sparse training: prune the smallest convolution weights once, wind back and train again."""

    def __post_init__(self) -> None:
        if not 0 <= self.smoothing < 1:
            raise Refusal(f"expected smoothing to be at least 0 and below 1, got {self.smoothing}; 0.1 is usual")
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
        kinds = {"optim": Sgd, "augment": Augment, "trades": Trades, "prune": Prune}
        made = {name: kinds[name](**value) if name in kinds and value else value for name, value in values.items()}
        return Recipe(**made)

    @property
    def cost(self) -> float:
        """What it costs, in plain epochs: pruning trains its last part twice, TRADES seeks a worst point in every step."""
        again = self.optim.epochs - self.prune.rewind if self.prune else 0
        harder = 2 + (1 + 2 * self.trades.steps) / 3 if self.trades else 1.0
        return (self.optim.epochs + again) * harder

    def __call__(
        self, model: torch.nn.Module, examples: Examples, *, seed: int, engine: Engine, label: str = "training"
    ) -> list[dict[str, float]]:
        """Train a network in place on these examples; returns the log of ``fit``."""
        loss, sources = self._loss(examples.task), [Source(examples, self.augment)]
        identity = repr((self.smoothing, self.trades)) if loss else ""
        if self.prune is None:
            return fit(model, sources, self.optim, seed=seed, engine=engine, loss=loss, identity=identity, label=label)
        steps = max(1, -(-len(examples) // self.optim.batch))
        early = Snapshot(self.prune.rewind * steps)
        dense = fit(
            model,
            sources,
            self.optim,
            seed=seed,
            engine=engine,
            loss=loss,
            identity=identity,
            after_step=early,
            carry={"early": early},
            label=f"{label}, dense",
        )
        prune_and_rewind(model, self.prune.share, early.taken)
        again = fit(
            model,
            sources,
            self.optim,
            seed=seed,
            engine=engine,
            loss=loss,
            identity=identity,
            begin=self.prune.rewind,
            label=f"{label}, sparse",
        )
        return dense + again

    def _loss(self, task: Task) -> Loss | None:
        trades, smoothing = self.trades, self.smoothing
        if trades is not None:
            return lambda network, batch: trades(network, batch, task, smoothing)
        if not smoothing:
            return None

        def smooth(network: torch.nn.Module, batch: Batch) -> torch.Tensor:
            return task.loss(network(batch.inputs), batch.labels, smoothing)

        return smooth
