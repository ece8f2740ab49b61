"""Relearning: how fast does a model find back what it was to forget, beside models that never knew it?"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from unteach.audit.finding import Finding, Measured, Skipped
from unteach.engine import Engine, pixels
from unteach.models import WHITENING_SAMPLE, fresh
from unteach.stress.lineup import Lineup, Models, Parts, finding, right, sampled
from unteach.train import Sgd, Source, fit
from unteach.types import Examples, Refusal

FEWEST_LOOKS = 20  # evaluations before the reference gets there; with fewer a ratio of steps is mostly rounding
BUDGETS = (0, 10, 100)
SOURCE = "Chundawat et al., 2023, arXiv 2201.05629 (Anamnesis index); Tarun et al., 2023, arXiv 2111.08947 (relearn time)"


@dataclass(frozen=True, kw_only=True)
class Relearn:
    """Train every model again on half of the forget set, by one fixed recipe, and watch both halves come back.

    1. The forget set is cut in two halves, class by class. A copy of each model is trained on one half, beside as many retained
       examples, or on these alone; its accuracy on both halves is taken before, every few steps, and at the end.
    2. Steps until a half's accuracy is (1 − α) of the original's. Anamnesis index: the model's steps over the mean of the
       retrained ones'; 1 is ideal, below 1 knowledge is left, above 1 the model resists more than one that never knew. It is
       skipped where a run never got there (such a run is told as censored, at no number of steps) or where the retrained ones
       got there within 20 evaluations.
    3. Recovery area ratio: the same with the area between that accuracy and the curve below it, which needs neither.
    4. Accuracies after 0, 10, 100 and all steps. A random start is run as well, to show the other end of the scale.

    *Source:* the index and the relearn time are those of Chundawat et al., Can Bad Teaching Induce Forgetting?, 2023, and Tarun
    et al., 2023. *Departs:* the other half, the areas and the floor of retrained models among themselves are ours; α is 5 %.
    """

    optim: Sgd = field(
        default_factory=lambda: Sgd(lr=0.01, epochs=10, batch=64, schedule="constant", weight_decay=0.0)
    )
    """How the models are trained again."""
    forget: bool = True
    """Whether half of the forget set is trained on."""
    retain: bool = False
    """Whether as many retained examples as half of the forget set are trained on."""
    steps: int = 200
    """Fewest steps, at least 1; a small half is gone through more often than ``optim`` says, until there are as many."""
    every: int = 5
    """Steps from one evaluation to the next, at least 1; more are quicker and coarser."""
    alpha: float = 0.05
    """Part of the original's accuracy that need not come back, 0 to below 1."""
    sample: int = 500
    """Most examples of each half that are evaluated, at least 1."""

    def __post_init__(self) -> None:
        if not (self.forget or self.retain):
            raise Refusal("expected forget or retain to relearn from, got neither; switch one on")
        for name in ("steps", "every", "sample"):
            if getattr(self, name) < 1:
                raise Refusal(f"expected {name} of at least 1, got {getattr(self, name)}; give more")
        if not 0 <= self.alpha < 1:
            raise Refusal(f"expected alpha to be at least 0 and below 1, got {self.alpha}; 0.05 is usual")

    @property
    def lesson(self) -> str:
        """What is trained on, in words."""
        if not self.forget:
            return "retain only"
        return "half of forget" + (" and as many of retain" if self.retain else "")

    def __call__(self, models: Models, parts: Parts, *, seed: int, engine: Engine) -> Measured:
        """Accuracies 0–1, steps, ratios; for the relearned and the held-out half."""
        if models.original is None:
            return (Skipped(name="relearning", family="behaviour", reason="no original model was given to set the mark"),)
        if self.retain and not parts.retain:
            return (Skipped(name=f"relearning {self.lesson}", family="behaviour", reason="there is no retain set"),)
        taught, held = halves(parts.forget, seed)
        sources = [taught] if self.forget else []
        if self.retain and parts.retain:
            sources.append(sampled(parts.retain, len(taught), seed))
        watched = sampled(taught, self.sample, seed), sampled(held, self.sample, seed)

        def run(model: torch.nn.Module) -> Curve:
            return self._run(model, sources, watched, seed, engine)

        with engine.stage("relearn"):
            curves, random = models.map(run), _random_start(models.unlearned, parts, seed)
            start = run(random) if random is not None else None
        found: list[Finding | Skipped] = []
        for at, half in enumerate(("relearned half" if self.forget else "one half", "held-out half")):
            part = f"{half} of forget, trained on {self.lesson}"
            runs = curves.map(lambda curve, at=at: Curve(curve.steps, curve.accuracy[:, at]))
            assert runs.original is not None
            mark = (1 - self.alpha) * float(runs.original.accuracy[0])
            blank = Curve(start.steps, start.accuracy[:, at]) if start is not None else None
            found += told(runs, blank, mark, part, len(watched[at]))
        return tuple(found)

    def _run(
        self,
        model: torch.nn.Module,
        sources: list[Examples],
        watched: tuple[Examples, Examples],
        seed: int,
        engine: Engine,
    ) -> Curve:
        learner = copy.deepcopy(model)
        per_epoch = -(-sum(map(len, sources)) // self.optim.batch)
        watch = Watch(watched, self.every, engine)
        watch.look(learner)
        fit(
            learner,
            [Source(part) for part in sources],
            replace(self.optim, epochs=max(self.optim.epochs, -(-self.steps // per_epoch))),
            seed=seed,
            engine=engine,
            after_step=watch,
            carry={"watch": watch},
            identity=f"{self!r}",
            label="relearn",
        )
        if watch.steps[-1] != watch.done:
            watch.look(learner)
        return Curve(np.array(watch.steps), np.array(watch.accuracy))


@dataclass(frozen=True, eq=False)
class Curve:
    """Accuracy (0–1) after so many steps, first and last one included."""

    steps: np.ndarray
    accuracy: np.ndarray

    def reached(self, mark: float) -> int | None:
        """Steps after which the accuracy first was at the mark; None if it never was (a censored run)."""
        at = np.flatnonzero(self.accuracy >= mark - 1e-12)
        return int(self.steps[at[0]]) if len(at) else None

    def area(self, mark: float) -> float:
        """Mean over the steps of how far the accuracy is below the mark, 0–1, by trapezoids."""
        missing = np.maximum(0.0, mark - self.accuracy)
        return float(np.trapezoid(missing, self.steps) / self.steps[-1])

    def after(self, steps: int) -> float:
        """Accuracy at the last evaluation up to this step."""
        return float(self.accuracy[np.searchsorted(self.steps, steps, "right") - 1])


class Watch:
    """Evaluates a network in training every few steps; goes on after an interruption with the training it watches."""

    def __init__(self, parts: tuple[Examples, ...], every: int, engine: Engine) -> None:
        self.parts, self.every, self.engine = parts, every, engine
        self.done = 0
        self.steps: list[int] = []
        self.accuracy: list[list[float]] = []

    def __call__(self, model: torch.nn.Module) -> None:
        self.done += 1
        if self.done % self.every == 0:
            self.look(model)

    def look(self, model: torch.nn.Module) -> None:
        """Write the accuracy on every part down."""
        self.steps.append(self.done)
        self.accuracy.append([float(right(model, part, self.engine).mean()) for part in self.parts])

    def state_dict(self) -> dict[str, Any]:
        return {"done": self.done, "steps": self.steps, "accuracy": self.accuracy}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.done, self.steps, self.accuracy = (state_dict[name] for name in ("done", "steps", "accuracy"))


def halves(examples: Examples, seed: int) -> tuple[Examples, Examples]:
    """Two halves with the classes shared out evenly, drawn at random, each in the order of the data."""
    if len(examples) < 2:
        raise Refusal(f"expected two or more examples to cut in halves, got {len(examples)}; forget more")
    order = np.random.default_rng(seed).permutation(len(examples))
    if examples.labels.ndim == 1:
        order = order[np.argsort(examples.labels.numpy()[order], kind="stable")]
    return examples.take(np.sort(order[::2])), examples.take(np.sort(order[1::2]))


def told(curves: Lineup[Curve], start: Curve | None, mark: float, part: str, size: int) -> list[Finding | Skipped]:
    """What the recovery curves of one half say; ``start`` is that of random weights, ``mark`` the accuracy to reach."""
    steps = curves.map(lambda curve: curve.reached(mark))
    areas = curves.map(lambda curve: curve.area(mark))
    found: list[Finding | Skipped] = []
    if why := _too_coarse(steps, curves.unlearned.steps):
        found += [
            Skipped(name=f"{name} ({part})", family="behaviour", reason=why)
            for name in ("relearn steps", "Anamnesis index")
        ]
    else:
        # Nothing is censored here, so that every number of steps is one.
        counts = steps.map(float)  # type: ignore[arg-type]
        found.append(finding(counts, name="relearn steps", part=part, unit="steps", size=size, source=SOURCE))
        found.append(finding(ratios(counts), name="Anamnesis index", part=part, size=size, source=SOURCE))
    if min(areas.retrained, default=0.0) > 0:
        ratio = ratios(areas)
        scale = f"The original model has {ratio.original:.2f}"
        if start is not None:
            scale += f", a random start {start.area(mark) / float(np.mean(areas.retrained)):.2f}"
        found.append(finding(ratio, name="recovery area ratio", part=part, size=size, doubts=(f"{scale}.",), source=SOURCE))
    else:
        reason = "retrained models have the accuracy to reach without relearning" if areas.retrained else "no retrained model"
        found.append(Skipped(name=f"recovery area ratio ({part})", family="behaviour", reason=reason))
    for budget in [step for step in BUDGETS if step < curves.unlearned.steps[-1]] + [int(curves.unlearned.steps[-1])]:
        after = curves.map(lambda curve, budget=budget: curve.after(budget))
        name = f"accuracy after {budget} relearning steps"
        found.append(finding(after, name=name, part=part, size=size, source=SOURCE))
    return found


def ratios(values: Lineup[float]) -> Lineup[float]:
    """Each value over the mean of the retrained models', theirs over the mean of the other ones'."""
    return values.against(lambda one, others: one / float(np.mean(others)))


def _too_coarse(steps: Lineup[int | None], looked: np.ndarray) -> str:
    """Why no ratio of steps can be told, or nothing."""
    if not steps.retrained:
        return "no retrained model was given"
    runs = [steps.unlearned, *steps.retrained]
    if None in runs:
        shown = [f"more than {looked[-1]} (censored)" if run is None else str(run) for run in runs]
        return (
            f"not every run got there: unlearned {shown[0]} steps, retrained {', '.join(shown[1:])}, median "
            f"{median(steps.retrained, int(looked[-1]))}; see the areas"
        )
    fewest = min(int(np.searchsorted(looked, run)) for run in steps.retrained if run is not None)
    if fewest < FEWEST_LOOKS:
        return f"a retrained model got there within {fewest} evaluations, {FEWEST_LOOKS} are needed; see the areas"
    return ""


def median(steps: Sequence[int | None], most: int) -> str:
    """Kaplan–Meier median of the steps, in words; all censored runs end at ``most``, so it is the plain one if it is below."""
    ordered = sorted(most + 1 if step is None else step for step in steps)
    middle = ordered[(len(ordered) - 1) // 2]
    return f"above {most}" if middle > most else str(middle)


def _random_start(model: torch.nn.Module, parts: Parts, seed: int) -> torch.nn.Module | None:
    """The same network with random weights, or None where it does not know how to be made anew."""
    known = parts.retain if parts.retain else parts.forget
    try:
        return fresh(model, seed=seed, sample=pixels(known.inputs[:WHITENING_SAMPLE]))
    except Refusal:
        return None
