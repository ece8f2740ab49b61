"""Training: the optimiser's settings, and the one loop that every method that trains goes through."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch

from unteach.data.augment import LATER, Augment, Resident
from unteach.engine import Engine, Stage
from unteach.models.masks import keep_pruned
from unteach.resume import Resume, Stateful
from unteach.schedule import rate
from unteach.store import fingerprint
from unteach.types import Examples, Refusal

BATCH_NORM = ("train", "frozen", "eval")


@dataclass(frozen=True, kw_only=True)
class Sgd:
    """Stochastic gradient descent with momentum, and how its learning rate moves."""

    lr: float = 0.1
    """Learning rate at its highest."""
    epochs: int = 10
    """Passes over the data."""
    batch: int = 128
    """Examples in a step; an epoch is cut into equal steps of about this size, so none is left ragged."""
    momentum: float = 0.9
    """Share of the last step kept in the next."""
    nesterov: bool = False
    """Nesterov's form of momentum."""
    weight_decay: float = 5e-4
    """Added to the gradient as weight_decay × weight, on every trained tensor."""
    bias_lr: float = field(default=1.0, metadata=LATER)
    """Factor on the learning rate of biases and of batch norm's scales and shifts, above 0; their decay per step stays."""
    schedule: str = "cosine"
    """Learning rate over time: constant, step:EPOCHS[,FACTOR], multistep:E1,E2,…, cosine, onecycle[:WARMUP SHARE]."""
    batch_norm: str = field(default="train", metadata=LATER)
    """What batch norm does in training: train (standardises by the batch, running statistics follow), frozen (by the batch,
    running statistics stay), eval (by the running statistics, which stay). Its scales and shifts are trained in all three."""

    def __post_init__(self) -> None:
        if self.batch_norm not in BATCH_NORM:
            raise Refusal(
                f"expected batch_norm to be one of {', '.join(BATCH_NORM)}, got {self.batch_norm!r}; train is usual"
            )
        for name, low in (("lr", 0.0), ("epochs", 1), ("batch", 1), ("momentum", 0.0), ("weight_decay", 0.0)):
            value = getattr(self, name)
            if not value >= low:
                raise Refusal(f"expected {name} to be at least {low}, got {value}; choose a larger one")
        if not 0 < self.bias_lr < math.inf:
            raise Refusal(f"expected bias_lr above 0, got {self.bias_lr}; 1 treats all weights alike")
        rate(self.schedule, 0.0, self.epochs)

    def optimizer(self, model: torch.nn.Module) -> torch.optim.SGD:
        """Torch's optimiser of the weights that are trained; each group's ``pace`` is the factor on its learning rate."""
        trained = [weight for weight in model.parameters() if weight.requires_grad]
        groups: list[dict[str, Any]] = [{"params": trained, "pace": 1.0}]
        if self.bias_lr != 1:
            flat = {
                "params": [weight for weight in trained if weight.ndim < 2],
                "pace": self.bias_lr,
                "weight_decay": self.weight_decay / self.bias_lr,
            }
            groups = [{"params": [weight for weight in trained if weight.ndim > 1], "pace": 1.0}, flat]
        return torch.optim.SGD(
            [group for group in groups if group["params"]],
            lr=self.lr,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
            nesterov=self.nesterov,
        )


@dataclass(frozen=True, eq=False)
class Source:
    """Examples to train on, and how their images are varied; sources are shuffled together."""

    examples: Examples
    augment: Augment | None = None


@dataclass(frozen=True, eq=False)
class Batch:
    """One step's examples on the device.

    ``inputs``: float, pixels in 0–1. ``labels``: as in the data. ``part``: which source each comes from (the source
    alongside is the last number). ``row``: its position in that source. ``size``: the step's examples on all processes.
    """

    inputs: torch.Tensor
    labels: torch.Tensor
    part: torch.Tensor
    row: torch.Tensor
    size: int


Loss = Callable[["torch.nn.Module", Batch], "torch.Tensor"]


def draw_seed(rng: torch.Generator) -> int:
    """A new seed from a generator: how one argument of randomness serves several stages."""
    return int(torch.randint(0, 2**40, (1,), generator=rng))


def fit(
    model: torch.nn.Module,
    sources: Sequence[Source],
    optim: Sgd,
    *,
    seed: int,
    engine: Engine,
    loss: Loss | None = None,
    alongside: Sequence[Source] = (),
    after_step: Callable[[torch.nn.Module], None] | None = None,
    pace: Callable[[int], float] | None = None,
    carry: Mapping[str, Stateful] | None = None,
    optimizer: torch.optim.SGD | None = None,
    begin: int = 0,
    identity: str = "",
    label: str = "training",
) -> list[dict[str, float]]:
    """Train a model in place; returns one record (epoch, loss, seconds) per epoch.

    In every epoch all sources are shuffled together and gone through once. ``alongside`` adds to each step as many
    examples of each further source, in endless shuffles of their own. ``loss(model, batch)`` gives one value per example;
    their mean is minimised (default: the task's loss). ``after_step(model)`` is called after every update. ``pace(step)``
    multiplies the learning rate of that step (counted from 0 over all epochs). ``optimizer``: one that ``optim`` made of this
    model and that an earlier training has moved, to go on with its momentum. ``begin`` leaves out that many first epochs, as if
    they had been done. A pruned network stays pruned (``models.masks``).

    When the engine has a scratch folder, the state after each whole epoch is kept there, and a training with the same
    label, start, settings, data and seed goes on from it: it ends with the same bytes as if never interrupted. ``carry``
    names what else has a state that must go on (a second network, its optimiser); ``identity`` tells what the loss depends on,
    so that a training under another loss does not go on from this one's state.
    Raises: Refusal when the loss is no longer finite.
    """
    feed = _Feed([s for s in sources if len(s.examples)], alongside, engine.device)
    objective = loss or _task_loss(sources[0].examples)
    engine.place(model)
    optimizer = optimizer or optim.optimizer(model)
    start_from = {"optim": repr(optim), "seed": seed, "data": feed.identity, "model": fingerprint(model)}
    if identity:
        start_from["loss"] = identity
    if engine.watch is not None:
        start_from["watched"] = True
    state = Resume(engine.scratch and engine.scratch / f"{label.replace(' ', '-')}.resume", start_from)
    watch = engine.watch
    carried = {"optimizer": optimizer, **(carry or {}), **({} if watch is None else {"watch": watch})}
    log = state.load(model, carried)
    if log:
        done = len(log) * feed.total * (1 + len(alongside))
        engine.stages.append(Stage(f"{label}, before it was stopped", sum(r["seconds"] for r in log), float(done)))
    wrapped, stepper = engine.setup(model, optimizer)
    norms = [module for module in model.modules() if isinstance(module, torch.nn.modules.batchnorm._BatchNorm)]
    steps = max(1, -(-feed.total // optim.batch))
    with torch.random.fork_rng(devices=[engine.device] if engine.device.type == "cuda" else []):
        for epoch in range(begin + len(log), optim.epochs):
            if watch is not None and watch.stopped:
                break
            start = time.perf_counter()
            torch.manual_seed(seed * 1_000_003 + epoch * 7919 + engine.rank)  # for dropout and its like
            total = torch.zeros((), device=engine.device)
            for step, batch in enumerate(feed.epoch(seed, epoch, steps, engine)):
                factor = rate(optim.schedule, epoch + step / steps, optim.epochs)
                factor *= pace(epoch * steps + step) if pace is not None else 1.0
                for group in stepper.param_groups:
                    group["lr"] = optim.lr * factor * group["pace"]
                # One example has no batch statistics: batch norm then takes the model's own.
                wrapped.train(len(batch.labels) > 1)
                with normalising(norms, optim.batch_norm), engine.autocast():
                    # Processes average their gradients, so each counts its part of the whole step's mean.
                    value = objective(wrapped, batch).float().sum() * (engine.world / batch.size)
                stepper.zero_grad(set_to_none=True)
                engine.backward(value)
                stepper.step()
                keep_pruned(model)
                if after_step is not None:
                    after_step(model)
                total += value.detach()
                engine.meter.trained += len(batch.labels)
                engine.events.progress(label, epoch * steps + step + 1, optim.epochs * steps)
            mean = float(total) / steps
            if not torch.isfinite(total):
                raise Refusal(
                    f"expected a finite loss while {label}, got {mean} in epoch {epoch + 1}; lower the learning rate"
                )
            record = {"epoch": epoch + 1, "loss": mean, "seconds": time.perf_counter() - start}
            log.append(record)
            engine.events.emit("epoch", stage=label, **record)
            if watch is not None:
                watch(model, label, epoch + 1)
            if engine.rank == 0:
                state.save(model, carried, log)
    model.eval()
    optimizer.zero_grad(set_to_none=True)
    return log


@contextmanager
def normalising(norms: Sequence[torch.nn.modules.batchnorm._BatchNorm], mode: str) -> Iterator[None]:
    """Inside, these batch norms do what ``Sgd.batch_norm`` says; to be entered after the network's training flag is set."""
    if mode == "train":
        yield
        return
    before = [(norm, norm.training, norm.track_running_stats) for norm in norms]
    for norm in norms:
        if mode == "eval":
            norm.training = False
        else:
            norm.track_running_stats = False  # in training torch then neither reads nor moves them
    try:
        yield
    finally:
        for norm, training, tracked in before:
            norm.training, norm.track_running_stats = training, tracked


def _task_loss(examples: Examples) -> Loss:
    task = examples.task
    return lambda model, batch: task.loss(model(batch.inputs), batch.labels)


class _Feed:
    """Shuffled batches from several resident sources."""

    def __init__(self, sources: Sequence[Source], alongside: Sequence[Source], device: torch.device) -> None:
        if not sources:
            raise Refusal("expected at least one example to train on, got none; check the request and the data")
        self.parts = [*sources, *alongside]
        self.images = [Resident(s.examples.inputs, s.augment, device) for s in self.parts]
        self.labels = [s.examples.labels.to(device) for s in self.parts]
        self.mixed = len(sources)
        sizes = torch.tensor([len(s.examples) for s in sources])
        self.total = int(sizes.sum())
        self.starts = torch.cat((torch.zeros(1, dtype=torch.long), sizes.cumsum(0)))
        self.device = device

    @property
    def identity(self) -> list[object]:
        """What tells these data from others, cheaply: sizes, first and last ids, augmentation."""
        return [
            [
                len(s.examples),
                str(s.examples.ids[0]),
                str(s.examples.ids[-1]),
                int(s.examples.labels.sum()),
                repr(s.augment),
            ]
            for s in self.parts
        ]

    def epoch(self, seed: int, epoch: int, steps: int, engine: Engine) -> Iterator[Batch]:
        order = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
        vary = torch.Generator().manual_seed(seed * 999_983 + epoch * 31 + engine.rank)
        beside = [
            _Endless(len(self.labels[number]), seed * 1_000_033 + epoch + (number - self.mixed) * 97)
            for number in range(self.mixed, len(self.parts))
        ]
        for chosen in torch.randperm(self.total, generator=order).tensor_split(steps):
            mine = chosen[engine.share(len(chosen))]
            part = torch.searchsorted(self.starts, mine, right=True) - 1
            picks = [(number, (mine - self.starts[number])[part == number]) for number in range(self.mixed)]
            for number, shuffle in enumerate(beside, self.mixed):
                rows = shuffle.take(len(chosen))
                picks.append((number, rows[engine.share(len(rows))]))
            size = len(chosen) * (1 + len(beside))
            yield self._gather([(number, rows) for number, rows in picks if len(rows)], vary, size)

    def _gather(self, picks: list[tuple[int, torch.Tensor]], vary: torch.Generator, size: int) -> Batch:
        inputs = [self.images[number].batch(rows, vary) for number, rows in picks]
        labels = [self.labels[number][rows.to(self.device)] for number, rows in picks]
        part = torch.cat([torch.full((len(rows),), number) for number, rows in picks]).to(self.device)
        row = torch.cat([rows for _, rows in picks]).to(self.device)
        joined = inputs[0] if len(inputs) == 1 else torch.cat(inputs)
        return Batch(joined, torch.cat(labels), part, row, size)


class _Endless:
    """Positions of a source in one shuffle after another, for an epoch."""

    def __init__(self, count: int, seed: int) -> None:
        self.count = count
        self.rng = torch.Generator().manual_seed(seed)
        self.ahead = torch.zeros(0, dtype=torch.long)

    def take(self, wanted: int) -> torch.Tensor:
        while len(self.ahead) < wanted:
            self.ahead = torch.cat((self.ahead, torch.randperm(self.count, generator=self.rng)))
        taken, self.ahead = self.ahead[:wanted], self.ahead[wanted:]
        return taken
