"""The collapse guard: watches retained accuracy while a method trains, and keeps the last state that was safe."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch

from unteach.engine import Engine
from unteach.types import Examples, MultiClass, Refusal, Split


@dataclass(frozen=True, kw_only=True)
class Guard:
    """When a network counts as collapsed: it lost too much of what it knew about examples it was to keep.

    Accuracy is read on ``sample`` retained examples (validation examples where there are none), evenly spread. A state is safe
    while its accuracy keeps the share ``keep`` of what the original has above chance, the commonest answer's share.
    *Source:* our own.
    """

    keep: float = 0.5
    """Share (0–1) of the original's accuracy above chance that a safe state keeps; 0 switches the guard off."""
    sample: int = 512
    """Retained examples that are looked at after each epoch, 1 or more."""

    def __post_init__(self) -> None:
        if not 0 <= self.keep <= 1 or self.sample < 1:
            raise Refusal(
                f"expected guard.keep of 0 to 1 and guard.sample of 1 or more, got {self.keep} and {self.sample}; "
                "0.5 and 512 are usual"
            )

    def watch(self, model: torch.nn.Module, split: Split, *, repairs: bool, engine: Engine) -> Watch | None:
        """Someone who watches the copies of this model that are trained; None when switched off or there is nothing to see.

        ``repairs``: whether the method trains on retained examples too, so that a bad state may be made good again.
        """
        seen = split.retain if split.retain is not None else split.validation
        if not self.keep or seen is None or not len(seen):
            return None
        known = seen.take(torch.linspace(0, len(seen) - 1, min(self.sample, len(seen))).round().long())
        start = accuracy(model, known, engine)
        chance = _chance(known)
        if start <= chance:
            return None
        return Watch(known, start, chance + self.keep * (start - chance), model, repairs, engine)


class Watch:
    """The state of the guard in one job: what was seen after each epoch, and the last safe state.

    Given to ``train.fit`` as ``engine.watch``. Networks with other weights than the watched model's are none of its business.
    """

    def __init__(
        self,
        known: Examples,
        start: float,
        least: float,
        model: torch.nn.Module,
        repairs: bool,
        engine: Engine,
    ) -> None:
        self.known, self.start, self.least, self.repairs, self.engine = known, start, least, repairs, engine
        self.shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
        self.safe: dict[str, torch.Tensor] | None = None
        self.safe_at: tuple[str, int, float] = ("", 0, 0.0)
        self.stopped = False

    def __call__(self, model: torch.nn.Module, label: str, epoch: int) -> bool:
        """Look at a state; whether to stop. ``epoch``: whole epochs done, of the training with this label."""
        state = model.state_dict()
        if {name: tuple(value.shape) for name, value in state.items()} != self.shapes:
            return False
        now = accuracy(model, self.known, self.engine)
        if now >= self.least:
            self.safe = {name: value.detach().clone() for name, value in state.items()}
            self.safe_at = (label, epoch, now)
        elif not self.repairs:
            self.stopped = True
            self.engine.events.emit("collapsed", stage=label, epoch=epoch, retained=now, original=self.start)
        return self.stopped

    def settle(self, model: torch.nn.Module) -> tuple[torch.nn.Module, float, bool]:
        """The model, its retained accuracy, and whether it is the last safe state in place of a collapsed end."""
        now = accuracy(model, self.known, self.engine)
        if now >= self.least or self.safe is None:
            return model, now, False
        kept = copy.deepcopy(model)
        kept.load_state_dict(self.safe)
        label, epoch, then = self.safe_at
        self.engine.events.emit("safe state kept", stage=label, epoch=epoch, retained=then, collapsed=now)
        return kept, then, True

    def state_dict(self) -> dict[str, Any]:
        """What goes on after an interruption."""
        return {"safe": self.safe, "safe_at": list(self.safe_at), "stopped": self.stopped}

    def load_state_dict(self, state: Any) -> None:
        """Go on from there."""
        label, epoch, then = state["safe_at"]
        self.safe, self.safe_at, self.stopped = state["safe"], (label, epoch, then), state["stopped"]


def accuracy(model: torch.nn.Module, examples: Examples, engine: Engine) -> float:
    """Share of right answers (0–1), eval mode; not billed, for it is no part of the method."""
    billed = engine.meter.forwards
    logits = engine.logits(engine.place(model), examples.inputs, exact=False)
    engine.meter.forwards = billed
    if not bool(torch.isfinite(logits).all()):
        return 0.0
    return float(examples.task.correct(logits, examples.labels).mean())


def _chance(examples: Examples) -> float:
    """What the commonest answer alone gets right."""
    if isinstance(examples.task, MultiClass):
        return float(examples.labels.bincount().max()) / len(examples)
    yes = examples.labels.mean(0)
    return float(torch.maximum(yes, 1 - yes).mean())
