"""What a likelihood attack learns from: its reference models' readings of every example, and who trained on what."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch

from unteach.audit.membership import _labels, logits_of, task_of
from unteach.types import Refusal, Signals

Signal = Callable[[Signals, int], np.ndarray]
"""One number per view and example of one model, ``views × examples``, higher = more like a member."""


@dataclass(frozen=True, eq=False)
class Shadows:
    """``readings``: a signal of the reference models, ``references × views × examples``. ``members``: who trained on what,
    ``references × examples``. ``unseen``: bool, the examples that no model outside the references was trained on."""

    readings: np.ndarray
    members: np.ndarray
    unseen: np.ndarray


@runtime_checkable
class LikelihoodTest(Protocol):
    """A membership test that compares a model with reference models; calling it reads the models, ``score`` reads none."""

    @property
    def signal(self) -> Signal: ...

    @property
    def least(self) -> tuple[int, int]:
        """References that every example needs among those trained on it (IN) and among the others (OUT)."""
        ...

    def score(self, mine: np.ndarray, shadows: Shadows) -> np.ndarray: ...

    def __call__(self, signals: Signals, target: int) -> np.ndarray: ...


def confidences(signals: Signals, model: int) -> np.ndarray:
    """Logit-scaled confidence φ of one model in every view, ``views × examples``, float64."""
    task, labels = task_of(signals), _labels(signals)
    return np.stack([task.confidence(torch.from_numpy(z), labels).numpy() for z in logits_of(signals, model)])


def read(signals: Signals, signal: Signal) -> Shadows:
    """Read every reference model once, one at a time."""
    rows = list(signals.references)
    others = [at for at in range(len(signals.models)) if at not in signals.references]
    first = signal(signals, rows[0])
    readings = np.empty((len(rows), *first.shape))  # filled in place: a list to stack would take twice the memory
    readings[0] = first
    for number, at in enumerate(rows[1:], 1):
        readings[number] = signal(signals, at)
    return Shadows(
        readings=readings,
        members=signals.members[rows],
        unseen=np.asarray(~signals.members[others].any(0)),
    )


def lack(signals: Signals, least: tuple[int, int]) -> str:
    """What the references lack, in a sentence; empty when every example has ``least`` IN and OUT models."""
    if not signals.references:
        return "expected reference models, got none; train some on random halves of the data"
    members = signals.members[list(signals.references)]
    for world, inside, need in (("IN", members, least[0]), ("OUT", ~members, least[1])):
        counts = inside.sum(0)
        if short := int((counts < need).sum()):
            return (
                f"expected {need} or more {world} models of every example among the {len(members)} references, got "
                f"{int(counts.min())} for some ({short:,} of {len(counts):,} examples have too few); "
                "train more references, in pairs of complementary halves of all examples"
            )
    return ""


def attack(test: LikelihoodTest, signals: Signals, target: int) -> np.ndarray:
    """Scores of one model, ``examples``; refuses a target that is one of its own references, and too few references."""
    if target in signals.references:
        raise Refusal(
            f"expected a target that is none of the references, got {signals.models[target]!r}; "
            "take it out of the references"
        )
    if reason := lack(signals, test.least):
        raise Refusal(reason)
    return test.score(test.signal(signals, target), read(signals, test.signal))
