"""Tuning a method for a model and a kind of request, and what comes of it."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from unteach.api import named
from unteach.engine import Engine
from unteach.knobs import USUAL_PEAK, Value, is_rate, turned
from unteach.recipe import Recipe
from unteach.references.unlearning import settled, told
from unteach.store import digest_of, fingerprint
from unteach.tuning import search
from unteach.tuning.budget import Budget, attempt, cap_of, probed, within
from unteach.tuning.judge import Reading
from unteach.tuning.space import space_of
from unteach.tuning.targets import Aim, Case, Proxy, Target
from unteach.types import Choice, Method, Range, Refusal, Split


@dataclass(frozen=True, eq=False, kw_only=True)
class Tuned:
    """The best settings that were found, and all that led there.

    ``method``: with them. ``best``: the trial with the lowest score. ``sensitivity``: the best settings again with a third of
    and three times the learning rate. ``unchanged``: score and reading of the model as it was. ``target``, ``floor``,
    ``limit``: see ``Aim``. ``seconds``: of all trials; ``prepared``: before them, less what was there already.
    """

    method: Method
    aim: str
    best: search.Trial
    trials: tuple[search.Trial, ...]
    sensitivity: dict[str, search.Trial]
    importance: dict[str, float]
    unchanged: tuple[float, Reading]
    target: Reading | None
    floor: float | None
    limit: float
    peak: float
    cap: float
    seconds: float
    prepared: float

    def words(self) -> list[str]:
        """What a person should know, in sentences."""
        counts = {state: sum(t.state == state for t in self.trials) for state in (search.COLLAPSED, search.OVER)}
        bad = "".join(f", {count} {state}" for state, count in counts.items() if count)
        first = self.trials[0].score
        second = f", a second retrained model {self.floor:.4f}" if self.floor is not None else ""
        lines = [
            f"Target: {self.aim}.",
            f"{len(self.trials)} trials{bad}, each of at most {self.cap:.2f} epochs of the training data.",
            f"They took {self.seconds:.0f} s, and what went before them {self.prepared:.0f} s.",
        ]
        scores = {"best": self.best.score, "own settings": first, "model unchanged": self.unchanged[0]}
        told_scores = ", ".join(f"{what} {_number(score)}" for what, score in scores.items())
        lines.append(f"Score (lower is better): {told_scores}{second}.")
        if self.importance:
            name, share = next(iter(self.importance.items()))
            lines.append(f"{name} mattered most: it alone explains {100 * share:.0f} % of the score's spread.")
        if self.sensitivity:
            near = ", ".join(
                f"{what} {_number(trial.score)}" + ("" if trial.score is not None else f" ({trial.state})")
                for what, trial in self.sensitivity.items()
            )
            lines.append(f"Score with another learning rate: {near}.")
        if self.best.score is not None and self.best.score > self.limit:
            lines.append("No trial kept the accuracy that was asked for; allow more loss, or try another method.")
        if self.floor is not None and self.best.score is not None and self.best.score <= self.floor:
            lines.append(
                "The best settings are as near to the target as a second retrained model: there is no better to find."
            )
        return lines


def tune(
    method: str | Method,
    model: torch.nn.Module,
    split: Split,
    *,
    target: Target = Proxy(),  # noqa: B008 - frozen
    retrained: Sequence[torch.nn.Module] = (),
    recipe: Recipe | None = None,
    trials: int = 20,
    max_epochs: float = 0.0,
    seed: int = 0,
    engine: Engine | None = None,
    folder: Path | None = None,
) -> Tuned:
    """Search for settings of a method that bring a model near to ``target``, without a look at what a report will use.

    ``split``: the real request, with validation data that the model never saw; there is no test set in it. ``recipe``: how the
    model was trained; without it its highest learning rate is taken to be 0.1. What the card of the method names is
    searched, everything else stays as given. ``trials`` runs, the first with the method's own settings; each may cost
    ``max_epochs`` epochs of the training data (0: a tenth of retraining, at least 5). ``folder`` keeps study and
    proxy models: the same call goes on from there, with the same trials. The model is left bit-identical.
    Raises: Refusal for what can't be tuned, and when no trial leaves the network whole.
    """
    base, start = named(method), time.perf_counter()
    refuse_unless_tunable(
        base, split, target=target, recipe=recipe, retrained=len(retrained), trials=trials, max_epochs=max_epochs
    )
    case = Case(
        method=settled(base, recipe) if recipe else base,
        model=model,
        split=split,
        recipe=recipe,
        retrained=tuple(retrained),
        seed=seed,
        engine=engine or Engine(),
        folder=folder,
    )
    if case.engine.world > 1:
        raise Refusal(f"expected one process for tuning, got {case.engine.world}; leave --devices at 1")
    peak = recipe.optim.lr if recipe else USUAL_PEAK
    space, cap = space_of(case.method, peak), cap_of(case, max_epochs)
    with search.study_in(folder, _name(case, target, space, cap)) as study:
        return _searched(study, case, target(case), space, cap, trials, peak, start)


def refuse_unless_tunable(
    method: Method,
    split: Split,
    *,
    target: Target,
    recipe: Recipe | None,
    retrained: int,
    trials: int,
    max_epochs: float,
) -> None:
    """Refuse what ``tune`` can't do, before anything is done or written."""
    if trials < 1:
        raise Refusal(f"expected at least 1 trial, got {trials}; 20 is the default")
    if not 0 <= max_epochs < math.inf:
        raise Refusal(f"expected max_epochs of 0 or more, got {max_epochs}; 0 takes a tenth of retraining")
    if split.retain is None:
        raise Refusal("expected a retain set to tune on, got none; give one")
    space_of(method, USUAL_PEAK)
    target.check(split, recipe, retrained)


def _searched(
    study: Any,
    case: Case,
    aim: Aim,
    space: dict[str, Range | Choice],
    cap: float,
    trials: int,
    peak: float,
    start: float,
) -> Tuned:
    before = aim.judge(case.model, case.engine)
    assert before is not None
    kept = study.user_attrs.get("budget")
    budget = Budget(**kept) if kept else probed(case, aim, space, cap)
    if not kept:
        study.set_user_attr("budget", asdict(budget))
    method, space = within(case, budget, space)
    prepared = time.perf_counter() - start
    made = search.run(study, case, aim, method, space, budget, trials)
    whole = [(trial.score, trial.number, trial) for trial in made if trial.score is not None]
    if not whole:
        raise Refusal(
            f"expected some settings of {type(method).__name__} that leave the network whole, got {len(made)} trials of which "
            f"all are collapsed or over budget (such as: {made[-1].why or made[-1].state}); give other fixed settings"
        )
    best = min(whole)[2]
    return Tuned(
        method=turned(method, best.knobs),
        aim=aim.words,
        best=best,
        trials=tuple(made),
        sensitivity=_sensitivity(study, case, aim, method, budget, best),
        importance=search.importance(study, case.seed),
        unchanged=(aim.score(before), before),
        target=aim.target,
        floor=aim.floor,
        limit=aim.limit,
        peak=peak,
        cap=cap,
        seconds=sum(trial.seconds for trial in made),
        prepared=prepared,
    )


def _sensitivity(
    study: Any, case: Case, aim: Aim, method: Method, budget: Budget, best: search.Trial
) -> dict[str, search.Trial]:
    """The best settings with a third of the learning rate and with three times as much."""
    rates = [path for path in best.knobs if is_rate(path)]
    found: dict[str, search.Trial] = {}
    for factor, what in ((1 / 3, "× 1/3"), (3.0, "× 3")) if rates else ():
        knobs: dict[str, Value] = {**best.knobs, rates[0]: factor * float(best.knobs[rates[0]] or 0)}
        key = digest_of(knobs)[:16]
        if key not in study.user_attrs:
            made = attempt(case, aim, turned(method, knobs))
            study.set_user_attr(key, asdict(search.judged(made, aim, budget, best.number, knobs)))
        found[what] = search.told(study.user_attrs[key])
    return found


def _name(case: Case, target: Target, space: dict[str, Range | Choice], cap: float) -> str:
    """Digest of all that decides what a trial gives."""
    assert case.split.retain is not None
    validation = case.split.validation
    return digest_of(
        [
            told(case.method),
            repr(space),
            repr(target),
            cap,
            fingerprint(case.model),
            [fingerprint(model) for model in case.retrained],
            case.recipe.as_json() if case.recipe else None,
            case.split.forget.fingerprint(),
            case.split.retain.fingerprint(),
            validation.fingerprint() if validation else "",
            case.seed,
        ]
    )[:32]


def _number(score: float | None) -> str:
    return "-" if score is None else f"{score:.4f}"
