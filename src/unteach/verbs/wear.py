"""What is seen of a model after each run of a queue, without any retrained model: use, drift, and what comes back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from unteach.audit.distances import disagreement, shannon
from unteach.audit.resample import auc_estimate
from unteach.audit.routing import log_shares
from unteach.checkpoint import Checkpoint
from unteach.data import DataSet
from unteach.engine import Engine
from unteach.types import Examples, MultiClass


def wear(
    data: DataSet,
    base: Checkpoint,
    model: Checkpoint,
    forgotten: Mapping[int, Sequence[str]],
    current: Sequence[int],
    *,
    retain_sample: int,
    seed: int,
    engine: Engine,
) -> dict[str, Any]:
    """Numbers of a model beside those of ``base``, the one that was last trained from scratch.

    ``forgotten``: by number of the request, the ids it took out of training; ``current``: the requests just done.
    Accuracies (0–1) on test, retained and forgotten examples; the base's agreement (share of equal answers) and Jensen–Shannon
    divergence (nats) on the test set; AUC with 95 % interval of confidence as an attack, forgotten against unseen examples of
    the same classes: on each request, the current ones, all earlier ones and all so far. 0.5 is chance; earlier requests that
    rise resurface. *Source:* the membership game of ``audit.sequence``; the measures of ``audit.distances``.
    """
    both = Scorer(base, engine), Scorer(model, engine)
    (before, was), (after, right) = (each.answers(data.test) for each in both)
    told: dict[str, Any] = {"test": float(right.mean()), "base": float(was.mean())}
    told["agreement"] = float(1 - _disagreement(before, after, data.test))
    told["divergence"] = _divergence(before, after) if isinstance(data.test.task, MultiClass) else None
    retained = _retained(data, model, retain_sample, seed)
    told["retain"] = float(both[1].answers(retained)[1].mean()) if len(retained) else None
    parts = {number: data.train.take(data.train.positions(ids)) for number, ids in forgotten.items() if len(ids)}
    every, earlier = [*parts], [number for number in parts if number not in current]
    mine = [number for number in parts if number in current]
    told["forget"] = _mean([both[1].answers(parts[number])[1] for number in every])
    told["each"] = {str(number): both[1].exposure(data, [parts[number]], seed) for number in every}
    for name, numbers in (("current", mine), ("earlier", earlier), ("so_far", every)):
        told[name] = both[1].exposure(data, [parts[number] for number in numbers], seed)
    told["at_first"] = both[0].exposure(data, [parts[number] for number in mine], seed)
    return told


class Scorer:
    """A model's answers, computed once."""

    def __init__(self, checkpoint: Checkpoint, engine: Engine) -> None:
        self.checkpoint, self.engine = checkpoint, engine
        self._seen: dict[int, torch.Tensor] = {}

    def logits(self, part: Examples) -> torch.Tensor:
        """Logits ``n × classes``."""
        if id(part) not in self._seen:
            self._seen[id(part)] = self.engine.logits(self.checkpoint.model, part.inputs)
        return self._seen[id(part)]

    def answers(self, part: Examples) -> tuple[torch.Tensor, np.ndarray]:
        """Logits, and for each example how right it is, 0–1."""
        logits = self.logits(part)
        return logits, part.task.correct(logits, part.labels).numpy()

    def exposure(self, data: DataSet, parts: Sequence[Examples], seed: int) -> list[float] | None:
        """AUC of confidence on these examples against unseen ones of their classes, low and high end of its interval."""
        if not parts:
            return None
        unseen = data.non_members
        kept = np.ones(len(unseen), dtype=bool)
        if isinstance(unseen.task, MultiClass):
            kept = np.isin(unseen.labels.numpy(), torch.cat([part.labels for part in parts]).numpy())
        if not kept.any():
            return None
        plus = np.concatenate([self._confidence(part) for part in parts])
        minus = self._confidence(unseen)[kept]
        pair = None
        if unseen.groups is not None and all(part.groups is not None for part in parts):
            pair = np.concatenate([np.asarray(part.groups) for part in parts]), unseen.groups[kept]
        estimate = auc_estimate(plus[None], minus[None], np.ones(1), pair, seed)
        return [estimate.value, *estimate.interval(least=0.0)]

    def _confidence(self, part: Examples) -> np.ndarray:
        return np.asarray(part.task.confidence(self.logits(part), part.labels).numpy())


def _retained(data: DataSet, model: Checkpoint, size: int, seed: int) -> Examples:
    """What the model is to know, or so many of it."""
    gone = model.provenance.trained_on.get("left_out", [])
    rows = np.flatnonzero(~np.isin(data.train.ids, np.asarray(gone, dtype=data.train.ids.dtype)))
    return data.train.take(np.sort(np.random.default_rng(seed).permutation(rows)[:size]))


def _disagreement(before: torch.Tensor, after: torch.Tensor, part: Examples) -> float:
    if isinstance(part.task, MultiClass):
        return float(disagreement(before.numpy(), after.numpy()).mean())
    return float((part.task.predict(before) != part.task.predict(after)).double().mean())


def _divergence(before: torch.Tensor, after: torch.Tensor) -> float:
    return max(0.0, float(shannon(log_shares(before.numpy(), ()), log_shares(after.numpy(), ())).mean()))


def _mean(parts: Sequence[np.ndarray]) -> float | None:
    return float(np.concatenate(parts).mean()) if parts else None
