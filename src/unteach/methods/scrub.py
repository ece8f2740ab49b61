"""SCRUB: away from the teacher on the forget set, back to it on the retain set, in turns."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch

from unteach.data.augment import Augment
from unteach.distill import answers, check_temperature, divergence
from unteach.engine import Engine
from unteach.schedule import rate
from unteach.train import Batch, Sgd, Source, draw_seed, fit
from unteach.types import Card, Choice, Examples, Range, Refusal, Split


@dataclass(frozen=True, kw_only=True)
class Scrub:
    """Alternate between epochs that climb KL to the original on the forget set and epochs that descend on the retain set.

    The teacher is the original in eval mode, d(x) = T² · KL(teacher(x) ‖ student(x)); of several labels:
    ``distill.divergence``. In each of ``optim.epochs`` epochs:

    1. *max*, in the first ``msteps`` epochs only: one pass over the forget images as they are, minimising −d(x).
    2. *min*: one pass over the retain set, minimising α · d(x) + γ · loss(x, y).

    With ``rewind`` (SCRUB+R) the network is kept after every epoch, on the CPU, with its error on the forget set. Returned is
    the one whose forget error is nearest to the last network's error on validation examples, weighed so that their classes
    come as often as the forget set's (of several labels: on all of them); of equally near ones the latest.
    Each pass is a training of its own: an interrupted job goes on after the last whole one. The learning rate's schedule runs
    over the epochs, in both passes alike. Batch norm in training mode standardises a max pass by forgotten examples alone and
    its running statistics follow, as in the authors' code; the min pass after it brings them back. As long as the student is
    the teacher, d is flat: without batch norm in training mode or dropout the first max pass moves nothing.
    *Source:* Kurmanji et al., Towards unbounded machine unlearning, NeurIPS 2023, arXiv 2302.09880, section 3; rewinding is its
    SCRUB+R. *Departs:* momentum starts anew with each pass unless ``carry_momentum``, as in the authors' code, whose one
    optimiser takes it along: what a max pass set moving then goes on in the min pass, which forgets far more and is easily
    too much. Their code for large data has α = 0.001, γ = 0.99, T = 4 and 2 max passes in 3 epochs.
    """

    alpha: float = 0.05
    """Weight of the divergence from the original on the retain set, 0 or more."""
    gamma: float = 1.0
    """Weight of the loss under true labels on the retain set, 0 or more."""
    temperature: float = 4.0
    """Temperature that softens teacher and student alike, above 0."""
    msteps: int = 3
    """Epochs, from the first on, that begin with a pass over the forget set; 0 or more, and all from optim.epochs on."""
    forget_batch: int = 32
    """Forget examples in a step of such a pass, at least 1; a smaller batch makes more steps, and so forgets more."""
    carry_momentum: bool = False
    """Whether one optimiser's momentum goes from pass to pass, as in the authors' code; take forget_batch 128 then."""
    rewind: bool = False
    """Whether to return to the epoch after which the forget error was nearest to the error on validation data."""
    optim: Sgd = field(default_factory=lambda: Sgd(lr=0.01, epochs=5))
    """Optimiser of both passes; its batch is the retain set's."""
    augment: Augment | None = None
    """How retained images vary; forget images are shown as they are."""
    card: ClassVar[Card] = Card(
        does="Pushes the network's answers on the forgotten examples away from what they were, and pulls them back on the "
        "retained ones, in turns. Nothing bounds the push: with too much of it the forgotten examples stand out again, which "
        "rewinding to an earlier epoch may mend.",
        suits=("random", "class", "group"),
        cost="a forward pass over all data, then as many epochs over the retained data as it is given, and some over the "
        "forgotten",
        knobs={
            "optim.lr": "raise it to forget more, lower it when accuracy falls everywhere",
            "msteps": "more epochs of pushing forget more; leave some to mend, and without batch norm the first is idle",
            "forget_batch": "smaller makes more steps and forgets more",
            "alpha": "larger holds the retained answers nearer to the original's",
            "rewind": "true for privacy, when validation data are at hand",
        },
        search={
            "optim.lr": Range(low=0.003, high=1.0, log=True),
            "msteps": Range(low=1, high=5),
            "alpha": Range(low=1e-3, high=1.0, log=True),
            "forget_batch": Choice(values=(16, 32, 64, 128)),
        },
        more=("optim.lr", "up"),
    )

    def __post_init__(self) -> None:
        check_temperature(self.temperature)
        for name, low in (("alpha", 0.0), ("gamma", 0.0), ("msteps", 0), ("forget_batch", 1)):
            if not low <= getattr(self, name) < float("inf"):
                raise Refusal(f"expected {name} to be at least {low}, got {getattr(self, name)}; choose a larger one")

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"retain", "validation"} if self.rewind else {"retain"})

    def __call__(self, model: torch.nn.Module, split: Split, rng: torch.Generator, engine: Engine) -> torch.nn.Module:
        assert split.retain is not None
        weights = alike(split) if self.rewind else None  # before any work: it may refuse
        new, teacher = (engine.place(copy.deepcopy(model)) for _ in range(2))
        forgotten, retained = Source(split.forget), Source(split.retain, self.augment)
        with engine.stage("scrub answers"):
            away = answers([teacher], [forgotten], engine)
            back = answers([teacher], [retained], engine, self.optim)
        task = split.task

        def climb(network: torch.nn.Module, batch: Batch) -> torch.Tensor:
            return -divergence(task, network(batch.inputs), away(batch), self.temperature)

        def descend(network: torch.nn.Module, batch: Batch) -> torch.Tensor:
            logits = network(batch.inputs)
            near = divergence(task, logits, back(batch), self.temperature)
            return self.alpha * near + self.gamma * task.loss(logits, batch.labels)

        one = self.optim.optimizer(new) if self.carry_momentum else None
        passes = [("max", forgotten, self.forget_batch, climb), ("min", retained, self.optim.batch, descend)]
        ends: list[tuple[float, dict[str, torch.Tensor]]] = []
        for epoch in range(self.optim.epochs):
            with engine.stage(f"scrub epoch {epoch + 1}"):
                for what, source, batch, loss in passes if epoch < self.msteps else passes[1:]:
                    fit(
                        new,
                        [source],
                        replace(self.optim, epochs=1, batch=batch, schedule="constant"),
                        seed=draw_seed(rng),
                        engine=engine,
                        loss=loss,
                        pace=self._pace(epoch, replace(self.optim, batch=batch).steps(len(source.examples))),
                        optimizer=one,
                        identity=repr(self),
                        label=f"scrub {what} {epoch + 1}",
                    )
            if weights is not None:
                with engine.stage("scrub rewind"):
                    error = 1 - float(right(new, split.forget, engine).mean())
                ends.append((error, {name: value.cpu().clone() for name, value in new.state_dict().items()}))
        if weights is not None:
            assert split.validation is not None
            with engine.stage("scrub rewind"):
                reference = 1 - float((weights * right(new, split.validation, engine)).sum())
            chosen = nearest([error for error, _ in ends], reference)
            engine.events.emit("rewind", epoch=chosen + 1, forget_error=ends[chosen][0], reference=reference)
            new.load_state_dict(ends[chosen][1])
        return new

    def _pace(self, epoch: int, steps: int) -> Callable[[int], float]:
        """The schedule's factors in one pass of this epoch, which ``fit`` takes for a whole training."""
        return lambda step: rate(self.optim.schedule, epoch + step / steps, self.optim.epochs)


def right(model: torch.nn.Module, examples: Examples, engine: Engine) -> torch.Tensor:
    """Share of right answers of each example, float64 ``n``."""
    return examples.task.correct(engine.logits(model, examples.inputs), examples.labels)


def alike(split: Split) -> torch.Tensor:
    """Weights of the validation examples, sum 1, under which their classes come as often as in the forget set; float64 ``n``.

    Classes without validation examples are left out; examples of several labels weigh alike.
    Raises: Refusal when no validation example is of a forgotten class.
    """
    assert split.validation is not None
    held, gone = split.validation.labels, split.forget.labels
    if held.ndim == 2:
        return torch.full((len(held),), 1 / len(held), dtype=torch.float64)
    count = int(torch.cat((held, gone)).max()) + 1
    weights = (gone.bincount(minlength=count).double() / held.bincount(minlength=count).clamp_min(1))[held]
    if not weights.any():
        raise Refusal(
            f"expected validation examples of the forgotten classes to rewind by, got none among {len(held)}; "
            "give some or set rewind=false"
        )
    return weights / weights.sum()


def nearest(errors: Sequence[float], reference: float) -> int:
    """Where the error nearest to the reference stands; of equally near ones the last."""
    return min(range(len(errors)), key=lambda at: (abs(errors[at] - reference), -at))
