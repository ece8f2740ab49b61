"""What tuning sees of a model: three accuracies and one attack, on data that no report uses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch

from unteach.audit.statistics import auc
from unteach.data.request import kind_of
from unteach.engine import Engine
from unteach.types import Examples, MultiLabel, Refusal, Split

SAMPLE = 10_000


@dataclass(frozen=True, kw_only=True)
class Reading:
    """Accuracies (0–1) on retained, forgotten and validation examples, and the AUC (0–1) of an attack by confidence.

    The attack tells forgotten from validation examples (FT). Without validation data it tells retained from forgotten ones
    (FR), and ``validation`` is None.
    """

    retain: float
    forget: float
    validation: float | None
    auc: float


@dataclass(frozen=True, eq=False)
class Judge:
    """Reads a model on fixed examples.

    ``unseen``: what the attack compares the forgotten examples with; of whole classes, validation examples of these classes,
    and ``validation`` then has the others, as in the audit. None and None without validation data.
    """

    retain: Examples
    forget: Examples
    validation: Examples | None
    unseen: Examples | None

    def __call__(self, model: torch.nn.Module, engine: Engine) -> Reading | None:
        """What is seen of the model; None when its answers are no longer finite."""
        parts = {"retain": self.retain, "forget": self.forget, "validation": self.validation, "unseen": self.unseen}
        accuracy: dict[str, float] = {}
        scores: dict[str, np.ndarray] = {}
        for name, part in parts.items():
            if part is None:
                continue
            if name == "unseen" and part is self.validation:
                scores[name] = scores["validation"]
                continue
            logits = engine.logits(model, part.inputs)
            if not torch.isfinite(logits).all():
                return None
            accuracy[name] = float(part.task.correct(logits, part.labels).mean())
            scores[name] = part.task.confidence(logits, part.labels).numpy()
        sides = (
            (scores["forget"], scores["unseen"]) if self.unseen is not None else (scores["retain"], scores["forget"])
        )
        return Reading(
            retain=accuracy["retain"],
            forget=accuracy["forget"],
            validation=accuracy.get("validation"),
            auc=auc(*sides),
        )

    @property
    def constant(self) -> float:
        """Accuracy on the retained examples of always giving the same answer, the commonest: what a collapsed model has."""
        labels = self.retain.labels
        if isinstance(self.retain.task, MultiLabel):
            ones = labels.mean(0)
            return float(torch.maximum(ones, 1 - ones).mean())
        return float(labels.bincount().max()) / len(labels)


def judge_of(split: Split, *, seed: int, validation: Examples | None) -> Judge:
    """The judge of a request: at most 10,000 retained examples, drawn once, all forgotten ones and these validation data.

    Raises: Refusal when whole classes are forgotten and no validation example is of them, or none of the others.
    """
    assert split.retain is not None
    rows = np.sort(np.random.default_rng([seed, 12]).permutation(len(split.retain))[:SAMPLE])
    retain = split.retain.take(rows)
    if validation is None or kind_of(split) != "class":
        return Judge(retain, split.forget, validation, validation)
    inside = torch.isin(validation.labels, split.forget.labels).numpy()
    if inside.all() or not inside.any():
        raise Refusal(
            "expected validation examples of the classes to be forgotten and of others, got "
            f"{int(inside.sum())} and {int((~inside).sum())}; hold out more in training (unteach train --validation)"
        )
    return Judge(retain, split.forget, validation.take(~inside), validation.take(inside))


def mean_of(readings: Sequence[Reading]) -> Reading:
    """Each number averaged over several models."""
    means = {
        item.name: None
        if getattr(readings[0], item.name) is None
        else float(np.mean([getattr(reading, item.name) for reading in readings]))
        for item in fields(Reading)
    }
    return Reading(**means)  # type: ignore[arg-type]


def gap(reading: Reading, target: Reading) -> float:
    """Mean |difference| of the accuracies plus |difference| of the attack's AUC, 0–2: 0 is the target itself.

    *Source:* evaluation notes 7.1; the accuracies' thirds are those of Cadet et al., Deep Unlearn, 2024, arXiv 2410.01276.
    *Departs:* without validation data two accuracies are averaged and the attack is FR.
    """
    pairs = [(getattr(reading, name), getattr(target, name)) for name in ("retain", "forget", "validation")]
    known = [abs(one - other) for one, other in pairs if one is not None and other is not None]
    return float(np.mean(known)) + abs(reading.auc - target.auc)
