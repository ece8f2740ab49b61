"""The runs of a queue: what is due is forgotten in the model in use, and what was started is gone on with."""

from __future__ import annotations

from contextlib import redirect_stdout, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unteach.checkpoint import Checkpoint
from unteach.data import DataSet
from unteach.ledger import Queue, Run, State
from unteach.ledger.chain import keep_names
from unteach.ledger.queue import sha256
from unteach.ledger.state import OPEN
from unteach.methods import Retrain
from unteach.recipe import Recipe
from unteach.store import load_tensors, read_json, write, write_json
from unteach.types import Refusal
from unteach.verbs.forget import Forget
from unteach.verbs.network import checkpoint_at
from unteach.verbs.requests import Requests
from unteach.verbs.settings import Output
from unteach.verbs.wear import wear


def work_off(settings: Requests, queue: Queue) -> int:
    """Do the run that was started and not ended, then those that are due, or a retraining; 3 if a model was rejected.

    Raises: Refusal, after all runs, for the first that could not be done; its requests wait again.
    """
    with queue.runner():
        tried: list[Run | Refusal] = []
        started = queue.state().running
        if started is not None:
            print(f"run {started.number} was started before and is gone on with")
            tried.append(_try(settings, queue, started))
        _refuse_unknown(settings, queue)
        if started is None or not (started.retrain and settings.retrain):
            for requests in _planned(settings, queue):
                references = _references(settings, queue.state())
                run = queue.start(requests, retrain=settings.retrain, references=references)
                tried.append(_try(settings, queue, run))
    for one in tried:
        if isinstance(one, Refusal):
            raise one
    return 3 if any(isinstance(one, Run) and one.status == "rejected" for one in tried) else 0


def _refuse_unknown(settings: Requests, queue: Queue) -> None:
    """Close the open requests that name what is not in the data, lest they spoil the runs of others.

    Ids of requests that are done are known, whether the data still hold them or not.
    """
    state = queue.state()
    if not (waiting := state.with_status(*OPEN)):
        return
    known = set(settings.source.load().train.ids.tolist())
    known |= {name for request in state.with_status("done") for name in queue.ids(request)}
    for request in waiting:
        if unknown := set(queue.ids(request)) - known:
            why = f"{len(unknown)} of its {request.count} ids are not in the training data"
            queue.refuse(request.number, why)
            print(f"request {request.number}: refused, {why}")


def _try(settings: Requests, queue: Queue, run: Run) -> Run | Refusal:
    """Do a run and say what came of it; returns the run as recorded, or why it could not be done."""
    try:
        state = Doing(settings, queue, run)()
    except Refusal as refusal:
        with suppress(Refusal):  # on a full disk not even this can be written: then the run is gone on with
            queue.fail(run.number, str(refusal))
        return refusal
    _tell(queue, state, run)
    return state.runs[run.number - 1]


def _planned(settings: Requests, queue: Queue) -> tuple[tuple[int, ...], ...]:
    """The requests of each run to start now."""
    state = queue.state()
    if settings.retrain:
        numbers = tuple(request.number for request in state.with_status(*OPEN))
        if not numbers and not state.since:
            raise Refusal(
                "expected something to retrain without, got no request since the last training from scratch; add one"
            )
        return (numbers,)
    waiting = state.with_status("waiting")
    if settings.now:
        return settings.policy.batches(waiting)
    planned = settings.policy(waiting, queue.clock())
    if not planned:
        told = (
            f"{len(waiting)} requests wait, as the policy says; --now true runs them" if waiting else "no request waits"
        )
        print(f"nothing to run: {told}")
    return planned


def _references(settings: Requests, state: State) -> int:
    due = settings.audit_every and (len(state.runs) + 1) % settings.audit_every == 0
    return settings.references if due else 0


@dataclass(frozen=True)
class Doing:
    """One run, from its requests to its entry in the ledger; done again from any point it gives the same model."""

    settings: Requests
    queue: Queue
    run: Run

    def __call__(self) -> State:
        state = self.queue.state()
        folder, parent = self.queue.run_folder(self.run.number), self.queue.model_of(self.run.parent, state)
        forgotten = self._forgotten(state)
        known = [*forgotten] if self.run.retrain else self.run.requests
        wanted = [name for number in known for name in forgotten.get(number, ())]
        data = self.settings.source.load()
        here = set(data.train.ids.tolist())
        if self.run.retrain and (gone := [name for name in wanted if name not in here]):
            raise Refusal(
                f"expected data that still hold all that was asked for, got some without {len(gone)} of it; train on them as "
                "they are (unteach train), and open a new queue with that model"
            )
        if wanted:
            self._forget(folder, parent, wanted)
            cost = read_json(folder / "findings.json")["cost"]
        else:  # all of it was forgotten before
            write(folder / "model.safetensors", lambda path: path.write_bytes(parent.read_bytes()))
            cost = {"forget_seconds": 0.0, "forget_epochs": 0.0}
        seen = {number: [name for name in ids if name in here] for number, ids in forgotten.items()}
        numbers = self._numbers(state, folder, data, seen) | {
            "seconds": cost["forget_seconds"],
            "epochs": cost["forget_epochs"],
        }
        if self.run.retrain:
            numbers |= {"retrain_seconds": numbers["seconds"], "retrain_epochs": numbers["epochs"]}
        for there in (
            folder,
            folder.parent,
            self.queue.folder,
        ):  # the ledger must not outlive the model that it tells of
            keep_names(there)
        return self.queue.finish(self.run.number, sha256(folder / "model.safetensors"), numbers, self.settings.budget)

    def _forgotten(self, state: State) -> dict[int, list[str]]:
        """What each request took out of the training data, those of this run included; an id counts where it came first."""
        done = [number for run in state.accepted for number in run.requests]
        gone = set(load_tensors(self.queue.model_of(0, state))[1].get("trained_on", {}).get("left_out", []))
        found: dict[int, list[str]] = {}
        for number in dict.fromkeys([*done, *self.run.requests]):
            found[number] = [name for name in self.queue.ids(state.request(number)) if name not in gone]
            gone |= set(found[number])
        return found

    def _forget(self, folder: Path, parent: Path, wanted: list[str]) -> None:
        settings = self.settings
        write_json(folder / "asked.json", wanted)
        forget = Forget(
            checkpoint=parent,
            like=settings.checkpoint,
            model=settings.model,
            model_args=settings.model_args,
            preprocess=settings.preprocess,
            source=settings.source,
            ids=str(folder.absolute() / "asked.json"),
            validation=settings.validation,
            method=Retrain(training=settings.recipe) if self.run.retrain else settings.method,
            preset=settings.preset,
            references=self.run.references,
            recipe=settings.recipe,
            retain_sample=settings.retain_sample,
            seed=settings.seed + self.run.number - 1,
            guard=settings.guard,
            reuse=False,
            output=Output(out=folder, overwrite=True, quiet=settings.quiet),
            machine=settings.machine,
        )
        try:
            with (folder / "log.txt").open("a") as log, redirect_stdout(log):
                forget()
        except OSError as error:  # a full disk also when the log is closed, and then without a name
            where = error.filename or folder / "log.txt"
            raise Refusal(f"expected to be able to write {where}, got: {error.strerror}; free some space") from error

    def _numbers(self, state: State, folder: Path, data: DataSet, forgotten: dict[int, list[str]]) -> dict[str, Any]:
        """What is seen of the new model, and what retraining would cost. ``forgotten``: what the data still hold of it."""
        settings = self.settings
        new = self._load(folder / "model.safetensors", data)
        original = self._load(self.queue.model_of(0, state), data)
        base = new
        if not self.run.retrain:
            base = self._load(self.queue.model_of(state.base, state), data) if state.base else original
        with settings.machine.engine(None, False) as engine:
            seen = wear(
                data,
                base,
                new,
                forgotten,
                self.run.requests,
                retain_sample=settings.retain_sample,
                seed=settings.seed,
                engine=engine,
            )
        before = state.current.numbers["test"] if state.current else seen["base"]
        told = new.provenance.made_by.get("diagnosis", {}) if any(forgotten[n] for n in self.run.requests) else {}
        recipe = settings.recipe or (
            Recipe.from_json(original.provenance.recipe) if original.provenance.recipe else None
        )
        verdict = read_json(folder / "findings.json")["verdict"] if self.run.references else ""
        return seen | {
            "before": seen["test"] if self.run.retrain else before,
            "collapsed": told.get("kind") in ("collapsed", "kept"),
            "diagnosis": told.get("sentence", ""),
            "retrain_seconds": original.provenance.seconds or None,
            "retrain_epochs": recipe.cost if recipe else None,
            "verdict": verdict,
        }

    def _load(self, path: Path, data: DataSet) -> Checkpoint:
        return checkpoint_at(self.settings, path, data.train, tell=False)


def _tell(queue: Queue, state: State, run: Run) -> None:
    """A line on what came of a run, and the advice if there is any."""
    done = state.runs[run.number - 1]
    ids = sum(state.request(number).count for number in run.requests)
    what = f"run {run.number}, {requests_named(run.requests)} ({ids} ids)"
    if run.retrain:
        what = f"run {run.number}, training from scratch without the {len(state.with_status('done'))} requests so far"
    if done.status == "rejected":
        print(f"{what}: rejected, {done.why}; the model in use stays as it was")
    else:
        _tell_numbers(queue, done, what)
    if state.advised and state.advised.run == run.number:
        print(f"time to retrain: {'; '.join(state.advised.reasons)}")
        print(f"unteach request run --queue {queue.folder} --retrain true does it")


def _tell_numbers(queue: Queue, done: Run, what: str) -> None:
    numbers = done.numbers
    attack = numbers["current"] or numbers["so_far"]
    print(
        f"{what}: {numbers['seconds']:.1f} s, {numbers['epochs']:.2f} epochs; test accuracy {100 * numbers['test']:.2f} % "
        f"({100 * numbers['before']:.2f} before)"
        + (f"; attack's AUC {attack[0]:.3f} ({attack[1]:.3f} to {attack[2]:.3f})" if attack else "")
        + (f"; {numbers['verdict']}" if numbers["verdict"] else "")
    )
    print(f"model in use: {queue.run_folder(done.number) / 'model.safetensors'}")


def requests_named(numbers: tuple[int, ...]) -> str:
    """Requests as a reader meets them: "requests 3, 4"."""
    return f"request{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers))}"
