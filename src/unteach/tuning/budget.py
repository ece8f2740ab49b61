"""What a trial costs and may cost, in epochs of the original's training data; the same for every method."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch

from unteach.api import apply
from unteach.knobs import Value, has, knob, turned
from unteach.tuning.judge import Reading
from unteach.tuning.space import are_epochs
from unteach.tuning.targets import Aim, Case
from unteach.types import Choice, Method, Range, Refusal

SHARE = 0.1
LEAST = 5.0
DIVERGED = ("expected a finite loss", "expected finite weights")  # how ``fit`` and ``apply`` tell a rate too high


@dataclass(frozen=True, eq=False)
class Attempt:
    """One run of a method: what is seen of the new model, or why there is nothing to see, and what it cost."""

    reading: Reading | None
    why: str
    epochs: float
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Budget:
    """The most a trial may cost, and what one is expected to: ``fixed`` + Σ ``slopes`` · epochs, linear in the epochs knobs."""

    cap: float
    fixed: float
    slopes: dict[str, float] = field(default_factory=dict)

    def expected(self, knobs: Mapping[str, Value]) -> float:
        """Epochs of training data that a run with these knobs costs."""
        return self.fixed + sum(slope * float(knobs[path] or 0) for path, slope in self.slopes.items())

    def allows(self, method: Method) -> bool:
        """Whether a run of this method is expected to be within the cap."""
        return self.expected({path: knob(method, path) for path in self.slopes}) <= self.cap + 1e-9

    def most(self, path: str) -> int:
        """The largest value of an epochs knob that fits while the others are at 1."""
        others = self.expected(dict.fromkeys(self.slopes, 1.0)) - self.slopes[path]
        return max(1, int((self.cap - others) / self.slopes[path] + 1e-9))


def cap_of(case: Case, asked: float) -> float:
    """Epochs that a trial may cost: what was asked for, or a tenth of what retraining takes, but no less than 5.

    *Source:* evaluation notes 7.1. *Departs:* the 5, for of a training of 15 epochs a tenth is less than any method takes.
    """
    kept = len(case.split.retain) if case.split.retain else 0
    tenth = SHARE * case.recipe.cost * kept / case.size if case.recipe else 0.0
    return asked or max(LEAST, tenth)


def attempt(case: Case, aim: Aim, method: Method) -> Attempt:
    """Run a method on the aim's request and read what comes out.

    A run whose loss is no longer finite is an answer too. Reading is not billed; examples of an earlier trial that are used
    again are, as if they had been made anew.
    """
    engine, before = case.engine, replace(case.engine.meter)
    scratch, billed, start = engine.scratch, len(engine.stages), time.perf_counter()
    engine.scratch = case.folder and case.folder / "trial"
    if engine.scratch:
        engine.scratch.mkdir(parents=True, exist_ok=True)
    model, why = None, ""
    try:
        model = apply(method, case.model, aim.split, torch.Generator().manual_seed(case.seed), engine)
    except Refusal as refusal:
        if not str(refusal).startswith(DIVERGED):
            raise
        why = "the loss or the weights were no longer finite"
    finally:
        trial, engine.scratch = engine.scratch, scratch
    stages = engine.stages[billed:]
    seconds = max(time.perf_counter() - start, sum(stage.seconds for stage in stages))
    units = max(engine.meter.units_since(before), sum(stage.units for stage in stages))
    reading = aim.judge(model, engine) if model is not None else None
    if trial:
        shutil.rmtree(trial)
    if model is not None and reading is None:
        why = "the answers were no longer finite"
    elif reading is not None and reading.retain <= aim.judge.constant:
        why = "no more right on retained examples than one answer for all"
    return Attempt(reading, why, units / case.size, seconds)


def epochs_knobs(method: Method, space: Mapping[str, Range | Choice]) -> list[str]:
    """The knobs that count passes: those that are searched, or else the optimiser's own."""
    searched = [path for path in space if are_epochs(path)]
    return searched or [path for path in ("optim.epochs",) if has(method, path)]


def probed(case: Case, aim: Aim, space: Mapping[str, Range | Choice], cap: float) -> Budget:
    """Find out what a run costs: one with every epochs knob at 1, and one more for each of them at 2.

    Raises: Refusal when not even the shortest run is within the cap.
    """
    paths = epochs_knobs(case.method, space)
    ones: dict[str, Value] = dict.fromkeys(paths, 1)
    shortest = attempt(case, aim, turned(case.method, ones)).epochs
    if shortest > cap:
        raise Refusal(
            f"expected a method whose shortest run costs at most {cap:.2f} epochs of the training data, got {shortest:.2f} of "
            f"{type(case.method).__name__}; raise --max_epochs"
        )
    longer = {path: attempt(case, aim, turned(case.method, {**ones, path: 2})).epochs for path in paths}
    slopes = {path: max(cost - shortest, 1e-9) for path, cost in longer.items()}
    return Budget(cap=cap, fixed=shortest - sum(slopes.values()), slopes=slopes)


def within(case: Case, budget: Budget, space: Mapping[str, Range | Choice]) -> tuple[Method, dict[str, Range | Choice]]:
    """The method and the space with every number of epochs brought down to what the budget allows."""
    method, kept = case.method, dict(space)
    for path in budget.slopes:
        most, values = budget.most(path), space.get(path)
        if isinstance(values, Range):
            kept[path] = Range(low=min(int(values.low), most), high=min(int(values.high), most), log=values.log)
        elif isinstance(values, Choice):
            fits = tuple(value for value in values.values if float(value or 0) <= most)
            kept[path] = Choice(values=fits or (1,))
        elif knob(method, path) > most:
            method = turned(method, {path: most})
    return method, kept
