"""Training: the optimiser's settings, and the one loop that every method that trains goes through."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch

from unteach.data.augment import LATER
from unteach.engine import Engine, Stage
from unteach.feed import Batch, Feed, Source
from unteach.models.masks import keep_pruned, masks_of
from unteach.models.preprocess import is_ours
from unteach.resume import Resume, Stateful
from unteach.schedule import rate
from unteach.store import fingerprint
from unteach.types import Examples, Refusal

__all__ = ["BATCH_NORM", "Batch", "Loss", "Sgd", "Source", "draw_seed", "fit", "normalising"]

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
    sample: int = field(default=0, metadata=LATER)
    """Most examples of one set that an epoch shows, drawn anew for each epoch; 0 for all. With it, what a method costs that
    trains on retained examples goes with the request, not with the data."""

    def __post_init__(self) -> None:
        if self.batch_norm not in BATCH_NORM:
            raise Refusal(
                f"expected batch_norm to be one of {', '.join(BATCH_NORM)}, got {self.batch_norm!r}; train is usual"
            )
        least = {"lr": 0.0, "epochs": 1, "batch": 1, "momentum": 0.0, "weight_decay": 0.0, "sample": 0}
        for name, low in least.items():
            value = getattr(self, name)
            if not value >= low:
                raise Refusal(f"expected {name} to be at least {low}, got {value}; choose a larger one")
        if not 0 < self.bias_lr < math.inf:
            raise Refusal(f"expected bias_lr above 0, got {self.bias_lr}; 1 treats all weights alike")
        rate(self.schedule, 0.0, self.epochs)

    def steps(self, *sizes: int) -> int:
        """Updates in an epoch over sets of these sizes."""
        return max(1, -(-sum(min(size, self.sample or size) for size in sizes) // self.batch))

    def shown(self, size: int) -> int:
        """How often all epochs together show an example of a set of this size."""
        return self.epochs * min(size, self.sample or size)

    def optimizer(self, model: torch.nn.Module) -> torch.optim.SGD:
        """Torch's optimiser of the weights that are trained; each group's ``pace`` is the factor on its learning rate."""
        trained = [weight for weight in model.parameters() if weight.requires_grad]
        if not trained:
            raise Refusal(
                "expected weights to train, got a network with all of them frozen; let some have requires_grad"
            )
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

    In every epoch all sources, or what ``optim.sample`` draws of each, are shuffled together and gone through once.
    ``alongside`` adds to each step as many examples of each further source, in endless shuffles of their own.
    ``loss(model, batch)`` gives one value per example; their mean is minimised (default: the task's loss).
    ``after_step(model)`` is called after every update. ``pace(step)`` multiplies the learning rate of that step (counted from 0
    over all epochs). ``optimizer``: one that ``optim`` made of this model and that an earlier training has moved, to go on with
    its momentum. ``begin`` leaves out that many first epochs, as if they had been done. A pruned network stays pruned
    (``models.masks``).

    When the engine has a scratch folder, the state after each whole epoch is kept there, and a training with the same
    label, start, settings, data and seed goes on from it: it ends with the same bytes as if never interrupted. ``carry``
    names what else has a state that must go on (a second network, its optimiser); ``identity`` tells what the loss depends on,
    so that a training under another loss does not go on from this one's state.
    Raises: Refusal when the loss is no longer finite.
    """
    feed = Feed([s for s in sources if len(s.examples)], alongside, engine.device, optim.sample)
    steps = optim.steps(*feed.sizes)
    objective = loss or _task_loss(sources[0].examples)
    engine.place(model)
    if after_step or optimizer or carry or masks_of(model) or _hooked(model):
        engine.refuse_if_divided(label)
    optimizer = optimizer or optim.optimizer(model)
    start_from = {"optim": repr(optim), "seed": seed, "data": feed.identity, "model": fingerprint(model)}
    if identity:
        start_from["loss"] = identity
    if engine.watch is not None:
        start_from["watched"] = True
    if engine.compiles:
        start_from["compiled"] = True
    # A divided optimiser's state is on no process whole: such a training starts anew.
    keep = None if engine.divides_weights else engine.scratch
    state = Resume(keep and keep / f"{label.replace(' ', '-')}.resume", start_from)
    watch = engine.watch
    carried = {"optimizer": optimizer, **(carry or {}), **({} if watch is None else {"watch": watch})}
    log = state.load(model, carried)
    if log:
        done = len(log) * feed.total * (1 + len(alongside))
        engine.stages.append(Stage(f"{label}, before it was stopped", sum(r["seconds"] for r in log), float(done)))
    if engine.divides_weights:
        wrapped, stepper = engine.setup_divided(model, optim.optimizer)
    else:
        wrapped, stepper = engine.setup(model, optimizer, feed.step_sizes(steps))
    norms = [module for module in wrapped.modules() if isinstance(module, torch.nn.modules.batchnorm._BatchNorm)]
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
                wrapped.train(batch.size > 1)
                # Processes average their gradients, so each counts its part of the whole step's mean.
                weight = (1 if batch.whole else engine.world) / batch.size
                stepper.zero_grad(set_to_none=True)
                with nullcontext() if batch.whole else engine.together(wrapped):
                    with normalising(norms, optim.batch_norm), engine.autocast():
                        value = objective(wrapped, batch).float().sum() * weight
                    engine.backward(value)
                stepper.step()
                keep_pruned(model)
                if after_step is not None:
                    after_step(model)
                total += value.detach()
                engine.meter.trained += len(batch.labels)
                engine.events.progress(label, epoch * steps + step + 1, optim.epochs * steps)
            mean = float(engine.total(total)) / engine.world / steps
            if not math.isfinite(mean):
                raise Refusal(
                    f"expected a finite loss while {label}, got {mean} in epoch {epoch + 1}; lower the learning rate"
                )
            record = {"epoch": epoch + 1, "loss": mean, "seconds": time.perf_counter() - start}
            log.append(record)
            engine.events.emit("epoch", stage=label, **record)
            if engine.divides_weights:
                engine.collect(wrapped, model)
            engine.agree(model)
            if watch is not None:
                watch(model, label, epoch + 1)
            if engine.rank == 0:
                state.save(model, carried, log)
    model.eval()
    optimizer.zero_grad(set_to_none=True)
    engine.settle()
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


def _hooked(model: torch.nn.Module) -> bool:
    """Whether something waits for gradients of its weights or for its passes, which a copy of it would not tell."""
    hooks = [h for m in model.modules() for h in (*m._forward_hooks.values(), *m._forward_pre_hooks.values())]
    return not all(map(is_ours, hooks)) or any(weight._backward_hooks for weight in model.parameters())


def _task_loss(examples: Examples) -> Loss:
    task = examples.task
    return lambda model, batch: task.loss(model(batch.inputs), batch.labels)
