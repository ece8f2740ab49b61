"""The search: one trial after another, drawn by Optuna's TPE, kept in a file and taken up again where it stopped."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unteach.knobs import Value, knob, turned
from unteach.tuning.budget import Attempt, Budget, attempt
from unteach.tuning.judge import Reading
from unteach.tuning.space import is_whole, nearest
from unteach.tuning.targets import Aim, Case
from unteach.types import Choice, Method, Range, Refusal

if TYPE_CHECKING:
    import optuna

COMPLETE, COLLAPSED, OVER = "complete", "collapsed", "over budget"


@dataclass(frozen=True, eq=False, kw_only=True)
class Trial:
    """One run of the method, and what came of it.

    ``state``: complete, collapsed (no more right on retained examples than one answer for all, or no longer finite) or over
    budget (it cost more than expected and allowed); only the first have a ``score``. ``epochs``: of the original's training
    data; ``seconds``: on this machine.
    """

    number: int
    state: str
    knobs: dict[str, Value]
    score: float | None
    reading: Reading | None
    epochs: float
    seconds: float
    why: str = ""


@contextmanager
def study_in(folder: Path | None, name: str) -> Iterator[optuna.Study]:
    """The study of this name in the folder's file, or in memory only; Optuna says nothing but warnings meanwhile.

    Raises: Refusal where Optuna is not installed, or the file is no study.
    """
    try:
        import optuna
    except ImportError as error:
        raise Refusal('expected Optuna for tuning, got none installed; run pip install "unteach[tune]"') from error
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage: Any = None
    try:
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            storage = _storage(folder / "study.db")
        yield optuna.create_study(storage=storage, study_name=name, load_if_exists=True, direction="minimize")
    finally:
        if storage is not None:
            storage.remove_session()
            storage.engine.dispose()
        optuna.logging.set_verbosity(before)


def _storage(file: Path) -> Any:
    import optuna
    from sqlalchemy.exc import SQLAlchemyError

    try:
        return optuna.storages.RDBStorage(f"sqlite:///{file.absolute()}")
    except (SQLAlchemyError, RuntimeError) as error:
        raise Refusal(f"expected Optuna's study in {file}, got a file of another kind; choose another --out") from error


def run(
    study: optuna.Study,
    case: Case,
    aim: Aim,
    method: Method,
    space: Mapping[str, Range | Choice],
    budget: Budget,
    trials: int,
) -> list[Trial]:
    """So many trials, those that the study already holds included; the first is the method's own settings.

    Each trial's draw depends on the seed, its number and the trials before it, so a search that was stopped ends with the
    same trials. What is expected to cost more than the cap is not run and counts for nothing.
    Raises: Refusal when almost all draws are too dear.
    """
    from optuna.trial import TrialState

    for stale in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        study.tell(stale.number, state=TrialState.FAIL)
    distributions = {path: _distribution(values) for path, values in space.items()}
    first: dict[str, Value] = {path: nearest(values, knob(method, path)) for path, values in space.items()}
    if not budget.allows(turned(method, first)):
        first |= {path: nearest(space[path], 1) for path in budget.slopes if path in space}
    while len(done := trials_of(study)) < trials:
        drawn = len(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED)))
        if drawn > 20 * trials:
            raise Refusal(
                f"expected settings within {budget.cap:.2f} epochs, got hardly any in {drawn} draws; raise --max_epochs"
            )
        study.sampler = _sampler(case.seed, drawn)
        if not drawn and not study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
            study.enqueue_trial(first)
        asked = study.ask(fixed_distributions=distributions)
        if not budget.allows(turned(method, asked.params)):
            study.tell(asked, state=TrialState.PRUNED)
            continue
        made = judged(attempt(case, aim, turned(method, asked.params)), aim, budget, len(done), asked.params)
        asked.set_user_attr("trial", asdict(made))
        study.tell(asked, made.score, state=None if made.score is not None else TrialState.PRUNED)
        case.engine.events.emit("trial", number=made.number, state=made.state, score=made.score)
        case.engine.events.progress("tuning", len(done) + 1, trials)
    return trials_of(study)[:trials]


def judged(made: Attempt, aim: Aim, budget: Budget, number: int, knobs: Mapping[str, Value]) -> Trial:
    """An attempt as a trial: collapsed, over budget, or with its score."""
    # Costs are linear in the epochs only nearly: steps are rounded to whole ones.
    state = COLLAPSED if made.why else OVER if made.epochs > 1.05 * budget.cap else COMPLETE
    score = aim.score(made.reading) if state == COMPLETE and made.reading is not None else None
    return Trial(
        number=number,
        state=state,
        knobs=dict(knobs),
        score=score,
        reading=made.reading,
        epochs=made.epochs,
        seconds=made.seconds,
        why=made.why,
    )


def trials_of(study: optuna.Study) -> list[Trial]:
    """The trials that were run to their end, in order."""
    from optuna.trial import TrialState

    ended = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))
    return [told(trial.user_attrs["trial"]) for trial in ended if "trial" in trial.user_attrs]


def told(values: Mapping[str, Any]) -> Trial:
    """The trial that was kept as plain values."""
    reading = values["reading"]
    return Trial(**{**values, "reading": None if reading is None else Reading(**reading)})


def importance(study: optuna.Study, seed: int) -> dict[str, float]:
    """Share of the score's spread over complete trials that each knob alone explains, the largest first; empty for few trials.

    *Source:* Hutter, Hoos, Leyton-Brown, fANOVA, ICML 2014, as in Optuna.
    """
    from optuna.importance import FanovaImportanceEvaluator, get_param_importances

    scores = {trial.score for trial in trials_of(study) if trial.score is not None}
    if len(scores) < 4:
        return {}
    return dict(get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=seed)))


def _sampler(seed: int, number: int) -> optuna.samplers.BaseSampler:
    import numpy as np
    import optuna

    own = int(np.random.SeedSequence([seed, number]).generate_state(1)[0])
    return optuna.samplers.TPESampler(seed=own)


def _distribution(values: Range | Choice) -> optuna.distributions.BaseDistribution:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(values, Choice):
        return CategoricalDistribution(values.values)
    if is_whole(values):
        return IntDistribution(int(values.low), int(values.high), log=values.log)
    return FloatDistribution(values.low, values.high, log=values.log)
