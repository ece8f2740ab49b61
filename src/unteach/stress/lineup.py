"""Who is put under stress, on which examples, and how a number of all of them becomes a finding."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar, runtime_checkable

import numpy as np
import torch

from unteach.audit.finding import Finding, Measured
from unteach.audit.resample import auc_estimate, mean_draws, percentile
from unteach.audit.statistics import auc, clopper_pearson
from unteach.engine import Engine
from unteach.types import Examples, MultiClass, Refusal

T = TypeVar("T")
S = TypeVar("S")


@dataclass(frozen=True, kw_only=True, eq=False)
class Lineup(Generic[T]):
    """One thing for each model: networks at first, then what was read from them.

    ``unlearned``: the judged one. ``retrained``: the target and, compared with each other, the floor. ``original``: the one that
    forgot nothing; a test in which it looks like the retrained ones sees nothing.
    """

    unlearned: T
    retrained: tuple[T, ...] = ()
    original: T | None = None

    def map(self, change: Callable[[T], S]) -> Lineup[S]:
        """The same for what ``change`` makes of each."""
        return Lineup(
            unlearned=change(self.unlearned),
            retrained=tuple(map(change, self.retrained)),
            original=None if self.original is None else change(self.original),
        )

    def zip(self, other: Lineup[S]) -> Lineup[tuple[T, S]]:
        """Pairs of what two hold for each model."""
        both = self.original is not None and other.original is not None
        return Lineup(
            unlearned=(self.unlearned, other.unlearned),
            retrained=tuple(zip(self.retrained, other.retrained)),
            original=(self.original, other.original) if both else None,  # type: ignore[arg-type]
        )

    def against(self, compare: Callable[[T, tuple[T, ...]], S]) -> Lineup[S]:
        """The unlearned and the original beside all retrained ones, and each retrained one beside the others."""
        others = [self.retrained[:at] + self.retrained[at + 1 :] for at in range(len(self.retrained))]
        return Lineup(
            unlearned=compare(self.unlearned, self.retrained),
            retrained=tuple(compare(one, rest) for one, rest in zip(self.retrained, others) if rest),
            original=None if self.original is None else compare(self.original, self.retrained),
        )


if TYPE_CHECKING:
    Models = Lineup[torch.nn.Module]
else:
    Models = Lineup  # naming torch's class would load torch, which the settings of verbs must not


@dataclass(frozen=True, kw_only=True, eq=False)
class Parts:
    """The examples of a stress test, all as they were before anybody tampered with training data.

    ``retain`` is None when it is no longer held. ``unseen``: what no model was trained on, to compare forgotten ones with.
    ``test``: what utility is measured on, where these are others than the unseen ones.
    """

    forget: Examples
    retain: Examples | None
    unseen: Examples
    test: Examples | None = None

    @property
    def useful(self) -> Examples:
        """The examples that utility is measured on."""
        return self.unseen if self.test is None else self.test

    @property
    def whole_classes(self) -> tuple[int, ...]:
        """The classes that were forgotten as a whole: those of the forget set, if no retained example has one of them."""
        if self.retain is None or self.forget.labels.ndim != 1:
            return ()
        gone = set(self.forget.labels.tolist())
        return () if gone & set(self.retain.labels.tolist()) else tuple(sorted(gone))

    @property
    def matched(self) -> Examples:
        """Unseen examples to compare forgotten ones with: of the same classes where whole classes were forgotten."""
        gone = self.whole_classes
        return self.unseen.take(np.isin(self.unseen.labels.numpy(), gone)) if gone else self.unseen


@runtime_checkable
class Stress(Protocol):
    """A stress test: a frozen dataclass of settings, called on models and examples. The models stay bit-identical."""

    def __call__(self, models: Models, parts: Parts, *, seed: int, engine: Engine) -> Measured: ...


def finding(
    numbers: Lineup[float],
    *,
    name: str,
    part: str,
    interval: tuple[float, float] | None = None,
    two_sided: bool = True,
    trace: str = "",
    control: bool = True,
    unit: str = "",
    size: int = 0,
    doubts: tuple[str, ...] = (),
    source: str = "",
) -> Finding:
    """The unlearned model's number beside the retrained ones'.

    ``control``: the original, which forgot nothing, should stand out; a doubt tells where it does not.
    """
    if control and numbers.original is not None and len(numbers.retrained) > 1:
        low, high = min(numbers.retrained), max(numbers.retrained)
        if numbers.original <= high and (not two_sided or numbers.original >= low):
            doubts = (
                *doubts,
                "The original model lies among the retrained ones as well: this number sees nothing here.",
            )
    return Finding(
        name=name,
        family="behaviour",
        part=part,
        value=numbers.unlearned,
        retrained=numbers.retrained,
        interval=interval,
        two_sided=two_sided,
        trace=trace,
        unit=unit,
        size=size,
        doubts=doubts,
        source=source,
    )


def auc_finding(
    scores: Lineup[tuple[np.ndarray, np.ndarray]],
    name: str,
    part: str,
    groups: tuple[np.ndarray | None, np.ndarray | None],
    seed: int,
    doubts: tuple[str, ...] = (),
) -> Finding:
    """AUC of the first against the second scores of each model; the interval is the unlearned one's, by group where there are."""
    plus, minus = scores.unlearned
    first, second = groups
    units = None if first is None or second is None else (first, second)
    estimate = auc_estimate(plus[None], minus[None], np.ones(1), units, seed)
    return finding(
        scores.map(lambda one: auc(*one)),
        name=name,
        part=part,
        interval=estimate.interval(least=0.0),
        trace="above",
        size=len(plus) + len(minus),
        doubts=doubts,
    )


def answers(model: torch.nn.Module, examples: Examples, engine: Engine) -> torch.Tensor:
    """A model's logits of these examples, float32 ``n × classes``, exact and in eval mode; NaN and infinity are refused."""
    logits = engine.logits(model, examples.inputs)
    if not bool(torch.isfinite(logits).all()):
        raise Refusal("expected finite logits, got NaN or infinity; check the checkpoints and the inputs")
    return logits


def right(model: torch.nn.Module, examples: Examples, engine: Engine) -> np.ndarray:
    """Shares of right answers, float64 ``n``: 0 or 1 where there is one class each."""
    return examples.task.correct(answers(model, examples, engine), examples.labels).numpy()


def share_interval(values: np.ndarray, groups: np.ndarray | None, seed: int) -> tuple[float, float]:
    """95 % interval of the mean of values in 0–1: exact binomial, widened by the bootstrap over groups where there are any."""
    low, high = clopper_pearson(float(values.sum()), len(values))
    if groups is None:
        return low, high
    drawn = percentile(mean_draws(values[None], np.ones(1), groups, seed=seed))
    return min(low, drawn[0]), max(high, drawn[1])


def sampled(examples: Examples, most: int, seed: int) -> Examples:
    """At most this many of the examples, drawn without repetition, in the order of the data."""
    if len(examples) <= most:
        return examples
    return examples.take(np.sort(np.random.default_rng(seed).permutation(len(examples))[:most]))


def one_class_each(examples: Examples, who: str) -> None:
    """Refuses multi-label data."""
    if not isinstance(examples.task, MultiClass):
        raise Refusal(f"expected one class for each example for {who}, got several labels; leave it out")
