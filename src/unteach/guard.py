"""The guard: watches a network while a method trains, keeps the last state that was safe, and stops where it is enough."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any

import torch

from unteach.data.augment import LATER
from unteach.engine import Engine
from unteach.types import Examples, MultiClass, Refusal, Split


@dataclass(frozen=True, kw_only=True)
class Guard:
    """When a network counts as collapsed, having lost too much of what it is to keep, and when it has forgotten enough.

    Accuracy is read on ``sample`` retained examples (validation examples where there are none), evenly spread. A state is safe
    while its accuracy keeps the share ``keep`` of what the original has above chance, the commonest answer's share. With ``near``
    a training ends with the first epoch after which confidence tells forgotten from validation examples, which the original
    never saw, no better than by an AUC of 0.5 + ``near``: a retrained model has seen neither.
    *Source:* our own.
    """

    keep: float = 0.5
    """Share (0–1) of the original's accuracy above chance that a safe state keeps; 0 switches the guard off."""
    sample: int = 512
    """Retained examples that are looked at after each epoch, 1 or more."""
    near: float = field(default=0.0, metadata=LATER)
    """Stop a training where forgotten examples look unseen: told from validation examples by an AUC of at most 0.5 plus this
    (0 to 0.5; 0.02 is usual); 0 to train to the end. Takes validation data, and a request that is no whole class."""

    def __post_init__(self) -> None:
        if not 0 <= self.near <= 0.5:
            raise Refusal(f"expected guard.near of 0 to 0.5, got {self.near}; 0.02 is usual, 0 trains to the end")
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
        aim = self._aim(split)
        if not (self.keep or aim) or seen is None or not len(seen):
            return None
        known = seen.take(torch.linspace(0, len(seen) - 1, min(self.sample, len(seen))).round().long())
        start = accuracy(model, known, engine)
        chance = _chance(known)
        if start <= chance and aim is None:
            return None
        least = chance + self.keep * (start - chance) if self.keep and start > chance else 0.0
        return Watch(known, start, least, model, repairs, engine, aim)

    def _aim(self, split: Split) -> Aim | None:
        """What tells when it is enough; None where nobody asked. Raises: Refusal where nothing can tell."""
        if not self.near:
            return None
        if split.validation is None or not len(split.validation):
            raise Refusal(
                "expected validation examples for guard.near, got none; hold some out in training (unteach train --validation)"
            )
        one = split.forget.labels.ndim == 1
        if one and not set(split.forget.labels.tolist()) <= set(split.validation.labels.tolist()):
            raise Refusal(
                "expected validation examples of the forgotten classes for guard.near, got none of some; hold out more"
            )
        if (
            one
            and split.retain is not None
            and not set(split.forget.labels.tolist()) & set(split.retain.labels.tolist())
        ):
            raise Refusal(
                "expected a request of examples for guard.near, got whole classes, which a retrained model knows "
                "nothing of; leave it out"
            )
        return Aim(split.forget, split.validation, 0.5 + self.near)


@dataclass(frozen=True, eq=False)
class Aim:
    """Forgotten examples beside some that were never seen, and the AUC at which one can hardly tell them apart."""

    forget: Examples
    unseen: Examples
    auc: float

    def seen(self, model: torch.nn.Module, engine: Engine) -> float:
        """Chance that a forgotten example is answered more surely than an unseen one, ties counting half; not billed."""
        from scipy.stats import rankdata

        billed = engine.meter.forwards
        sure = [
            part.task.confidence(engine.logits(model, part.inputs).nan_to_num(0.0), part.labels)
            for part in (self.forget, self.unseen)
        ]
        engine.meter.forwards = billed
        n, ranks = len(sure[0]), rankdata(torch.cat(sure).numpy())
        return float((ranks[:n].sum() - n * (n + 1) / 2) / (n * len(sure[1])))


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
        aim: Aim | None = None,
    ) -> None:
        self.aim, self.enough = aim, ""
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
        if self.aim is not None and not self.stopped and (told := self.aim.seen(model, self.engine)) <= self.aim.auc:
            self.stopped = True
            self.enough = f"{label} ended after epoch {epoch}, where forgotten examples look unseen (AUC {told:.3f})"
            self.engine.events.emit("enough", stage=label, epoch=epoch, auc=told)
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
        told = {"enough": self.enough} if self.enough else {}
        return {"safe": self.safe, "safe_at": list(self.safe_at), "stopped": self.stopped} | told

    def load_state_dict(self, state: Any) -> None:
        """Go on from there."""
        label, epoch, then = state["safe_at"]
        self.safe, self.safe_at, self.stopped = state["safe"], (label, epoch, then), state["stopped"]
        self.enough = state.get("enough", "")


def accuracy(model: torch.nn.Module, examples: Examples, engine: Engine) -> float:
    """Share of right answers (0–1), eval mode; not billed, for it is no part of the method."""
    billed = engine.meter.forwards
    logits = engine.logits(model, examples.inputs, exact=False)
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
