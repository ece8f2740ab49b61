"""Population membership scores: what one model's answers alone tell about its training examples.

All scores are float64 from float32 logits and oriented so that *higher = more like a member*; a score of
several views is the mean over them. `MEMBERSHIP` is the list of contents.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch

from unteach.types import MultiClass, MultiLabel, Refusal, Signals, Task


@runtime_checkable
class MembershipTest(Protocol):
    """A membership test: a frozen dataclass of settings that is called on the signals and one model's index.

    Returns float64 scores, one per example, *higher = more like a member*.
    """

    def __call__(self, signals: Signals, target: int) -> np.ndarray: ...


def task_of(signals: Signals) -> Task:
    """What the labels ask: one class each (labels of shape ``n``) or yes-or-no labels (``n × k``)."""
    classes = signals.logits.shape[-1]
    return MultiLabel(classes) if signals.labels.ndim == 2 else MultiClass(classes)


def logits_of(signals: Signals, target: int) -> np.ndarray:
    """One model's logits in float64, a writable copy of shape ``views × examples × classes``.

    Half precision is refused: it rounds away the tails of the confidence, where membership shows.
    """
    if signals.logits.dtype not in (np.float32, np.float64):
        raise Refusal(f"expected logits in float32, got {signals.logits.dtype}; store them in float32")
    if signals.logits.ndim != 4:
        raise Refusal(f"expected logits as models × views × examples × classes, got {signals.logits.shape}; reshape")
    if signals.labels.ndim == 1 and signals.logits.shape[-1] < 2:
        raise Refusal("expected logits of at least 2 classes, got 1; store one column per class")
    z: np.ndarray = signals.logits[target].astype(np.float64)
    if not np.isfinite(z).all():
        raise Refusal(
            f"expected finite logits, got NaN or infinity from model {signals.models[target]!r}; "
            "check the checkpoint and the inputs"
        )
    return z


def _labels(signals: Signals) -> torch.Tensor:
    kind = np.int64 if signals.labels.ndim == 1 else np.float32
    return torch.from_numpy(signals.labels.astype(kind))


def correctness(signals: Signals, target: int) -> np.ndarray:
    """Share of right answers per example (a share of its labels if multi-label), on the first view."""
    z = torch.from_numpy(logits_of(signals, target)[0])
    return np.asarray(task_of(signals).correct(z, _labels(signals)))


def predictions(signals: Signals, target: int) -> np.ndarray:
    """The model's answers on the first view, int64: ``n``, or ``n × k`` of 0 and 1."""
    z = torch.from_numpy(logits_of(signals, target)[0])
    return task_of(signals).predict(z).numpy().astype(np.int64)


def _log_probabilities(z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """log p and log(1 − p) of every class, both exact in the tails; shapes as ``z`` (last axis: classes)."""
    top = z.argmax(-1)[..., None]
    gaps = z - np.take_along_axis(z, top, -1)
    losers = gaps.copy()
    np.put_along_axis(losers, top, -np.inf, -1)
    total = np.log1p(np.exp(losers).sum(-1, keepdims=True))
    logp = gaps - total
    # For all but the winning class 1 − p ≥ ½, so log1p loses nothing; the winner's 1 − p is the others' mass.
    log1m = np.log1p(-np.minimum(np.exp(logp), 0.5))
    second = losers.max(-1, keepdims=True)
    winner = second + np.log(np.exp(losers - second).sum(-1, keepdims=True)) - total
    np.put_along_axis(log1m, top, winner, -1)
    return logp, log1m


def _as_classes(signals: Signals, target: int) -> tuple[np.ndarray, np.ndarray]:
    """Logits ``views × n × … × classes`` and the true classes; a yes-or-no label is two classes, (0, z)."""
    z = logits_of(signals, target)
    if signals.labels.ndim == 2:
        z = np.stack([np.zeros_like(z), z], -1)
    true = np.broadcast_to(signals.labels.astype(np.int64), z.shape[:-1])
    return z, true[..., None]


def _per_example(values: np.ndarray) -> np.ndarray:
    """Mean over the views (first axis) and, if multi-label, over the labels (last of three axes)."""
    return np.asarray(values.mean(axis=(0, 2) if values.ndim == 3 else 0))


@dataclass(frozen=True, kw_only=True)
class Confidence:
    """Logit-scaled confidence φ = f_y − logsumexp of the other logits: high on what was trained on.

    *Source:* Carlini et al., LiRA, 2022, arXiv 2112.03570, section IV. *Departs:* nowhere known.
    """

    def __call__(self, signals: Signals, target: int) -> np.ndarray:
        task, labels = task_of(signals), _labels(signals)
        views = [task.confidence(torch.from_numpy(z), labels).numpy() for z in logits_of(signals, target)]
        return np.asarray(np.mean(views, axis=0))


@dataclass(frozen=True, kw_only=True)
class Loss:
    """Minus the cross-entropy (nats): low loss speaks for membership.

    In float64, so that confident examples keep different losses instead of all tying at zero. With one label
    per example it orders them as φ does: ℓ = log(1 + exp(−φ)). *Source:* Yeom et al., 2018, arXiv 1709.01604,
    adversary 2. *Departs:* a score, not a fixed threshold.
    """

    def __call__(self, signals: Signals, target: int) -> np.ndarray:
        z, true = _as_classes(signals, target)
        others = z.copy()
        np.put_along_axis(others, true, -np.inf, -1)
        peak = others.max(-1, keepdims=True)
        lse = peak[..., 0] + np.log(np.exp(others - peak).sum(-1))
        phi = np.take_along_axis(z, true, -1)[..., 0] - lse
        return -_per_example(np.logaddexp(0.0, -phi))


@dataclass(frozen=True, kw_only=True)
class Entropy:
    """Minus the entropy −Σ p log p (nats) of the answer: sure answers speak for membership; no labels.

    *Source:* Shokri et al., 2017, arXiv 1610.05820; Salem et al., 2019, arXiv 1806.01246. *Departs:* nowhere
    known.
    """

    def __call__(self, signals: Signals, target: int) -> np.ndarray:
        logp, _ = _log_probabilities(_as_classes(signals, target)[0])
        return _per_example((np.exp(logp) * logp).sum(-1))


@dataclass(frozen=True, kw_only=True)
class ModifiedEntropy:
    """Minus −(1 − p_y) log p_y − Σ_{k≠y} p_k log(1 − p_k): sure *and right* speaks for membership.

    *Source:* Song and Mittal, 2021, arXiv 2003.10595. *Departs:* nowhere known (the form with log
    p_k found in public unlearning code is a mistake).
    """

    def __call__(self, signals: Signals, target: int) -> np.ndarray:
        z, true = _as_classes(signals, target)
        logp, log1m = _log_probabilities(z)
        terms = np.exp(logp) * log1m
        own = np.exp(np.take_along_axis(log1m, true, -1)) * np.take_along_axis(logp, true, -1)
        np.put_along_axis(terms, true, own, -1)
        return _per_example(terms.sum(-1))


@dataclass(frozen=True, kw_only=True)
class TwoSided:
    """Distance |φ − median φ of unseen examples|: sees a forget set that stands out on both sides.

    Unseen are the examples that none of the models in the signals was trained on, references aside.
    *Source:* our own; the Streisand check of the evaluation notes. *Departs:* nowhere known.
    """

    by_class: bool = False
    """Take the median among unseen examples of the same class (for forgetting whole classes)."""

    def __call__(self, signals: Signals, target: int) -> np.ndarray:
        phi = Confidence()(signals, target)
        judged = [at for at in range(len(signals.models)) if at not in signals.references]
        unseen = ~signals.members[judged].any(0)
        if not unseen.any():
            raise Refusal(
                "expected some examples that no model was trained on, got none; add a test set to the signals"
            )
        centre = np.full(len(phi), np.median(phi[unseen]))
        if self.by_class and signals.labels.ndim == 1:
            for label in np.unique(signals.labels[unseen]):
                same = signals.labels == label
                centre[same] = np.median(phi[same & unseen])
        return np.asarray(np.abs(phi - centre))


MEMBERSHIP: dict[str, type[MembershipTest]] = {
    "confidence": Confidence,
    "loss": Loss,
    "entropy": Entropy,
    "modified-entropy": ModifiedEntropy,
    "two-sided": TwoSided,
}
