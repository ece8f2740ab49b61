"""What the entries of a queue's ledger add up to: requests, runs, and the model in use."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from typing import Any

from unteach.ledger.chain import Entry
from unteach.types import Refusal

OPEN = ("waiting", "rejected")  # what a retraining takes along
KINDS = ("opened", "received", "withdrawn", "refused", "started", "finished", "failed", "advised")


@dataclass(frozen=True, kw_only=True)
class Request:
    """A request to forget.

    ``received`` and ``due``: ISO 8601, ``due`` may be empty. ``count``: its ids; ``digest``: of the list of them, salted.
    ``status``: waiting, running, done, rejected (its run's model was not fit for use), withdrawn, or refused (it names what is
    not in the data; ``why`` says how much); ``run``: the last it was in.
    """

    number: int
    received: str
    count: int
    digest: str
    due: str = ""
    note: str = ""
    key: str = ""
    status: str = "waiting"
    run: int = 0
    why: str = ""

    def overdue(self, at: datetime) -> bool:
        """Whether it should have been done by then."""
        return (
            self.status not in ("done", "withdrawn", "refused")
            and bool(self.due)
            and datetime.fromisoformat(self.due) < at
        )


@dataclass(frozen=True, kw_only=True)
class Run:
    """An attempt to forget one or several requests, or a retraining without all of them.

    ``parent``: the run whose model it starts from, 0 for the model the queue was opened with. ``status``: running, accepted,
    rejected or failed. ``model``: SHA-256 of the checkpoint's file. ``why``: of a rejection or failure. ``numbers``: what it
    cost and what was seen of the model, see ``verbs.wear``.
    """

    number: int
    started: str
    requests: tuple[int, ...]
    parent: int
    retrain: bool = False
    references: int = 0
    status: str = "running"
    model: str = ""
    why: str = ""
    numbers: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Advice:
    """Why it was time to retrain after a run."""

    at: str
    run: int
    reasons: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class State:
    """All that is known of a queue. ``settings`` and ``model`` (SHA-256 of its file): what the queue was opened with."""

    settings: dict[str, Any]
    model: str
    requests: tuple[Request, ...] = ()
    runs: tuple[Run, ...] = ()
    advice: tuple[Advice, ...] = ()

    @cached_property
    def accepted(self) -> tuple[Run, ...]:
        """The runs whose models were taken into use, in order."""
        return tuple(run for run in self.runs if run.status == "accepted")

    @property
    def current(self) -> Run | None:
        """The run that made the model in use; None while it is the one the queue was opened with."""
        return self.accepted[-1] if self.accepted else None

    @property
    def running(self) -> Run | None:
        """The run that was started and is not over: at work, or killed and to be gone on with."""
        return self.runs[-1] if self.runs and self.runs[-1].status == "running" else None

    @property
    def base(self) -> int:
        """The last retraining that was accepted, from which cost and drift are counted; 0 for the opening model."""
        return max((run.number for run in self.accepted if run.retrain), default=0)

    @property
    def since(self) -> tuple[Run, ...]:
        """The accepted runs since the last retraining."""
        return tuple(run for run in self.accepted if run.number > self.base)

    @property
    def advised(self) -> Advice | None:
        """The advice to retrain that the last run that came to an end gave."""
        over = [run.number for run in self.runs if run.status in ("accepted", "rejected")]
        return self.advice[-1] if self.advice and over[-1:] == [self.advice[-1].run] else None

    @property
    def first_advised(self) -> int:
        """The run after which retraining was first advised since the last one; 0 where it was not."""
        return next((advice.run for advice in self.advice if advice.run > self.base), 0)

    def with_status(self, *wanted: str) -> tuple[Request, ...]:
        """The requests of these statuses, in the order they came."""
        return tuple(request for request in self.requests if request.status in wanted)

    def request(self, number: int) -> Request:
        """The request of this number."""
        if not 1 <= number <= len(self.requests):
            raise Refusal(f"expected a request from 1 to {len(self.requests)}, got {number}; see unteach request list")
        return self.requests[number - 1]


def added_up(entries: Iterable[Entry]) -> State | None:
    """The state after these entries; None before the queue is opened. Entries of other kinds are others' business.

    Raises: Refusal for entries that no queue would write.
    """
    state: State | None = None
    for entry in entries:
        if entry.kind not in KINDS:
            continue
        try:
            state = _after(state, entry.kind, entry.at, entry.body)
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            raise Refusal(
                f"expected the entries of a queue, got entry {entry.seq} ({entry.kind}) that does not fit: {error!r}; "
                "it was written by another version or by hand"
            ) from error
    return state


def _after(state: State | None, kind: str, at: str, body: Mapping[str, Any]) -> State:
    if kind == "opened":
        return State(settings=body["settings"], model=body["model"])
    if state is None:
        raise ValueError("the queue was not opened before")
    if kind == "received":
        if body["number"] != len(state.requests) + 1:
            raise ValueError(f"a request {body['number']} after {len(state.requests)}")
        return replace(state, requests=(*state.requests, Request(received=at, **body)))
    if kind == "withdrawn":
        return _marked(state, (body["request"],), "withdrawn")
    if kind == "refused":
        return _marked(state, (body["request"],), "refused", why=body["why"])
    if kind == "started":
        run = Run(started=at, **{**body, "requests": tuple(body["requests"])})
        if run.number != len(state.runs) + 1 or state.running:
            raise ValueError(f"a run {run.number} after {len(state.runs)}")
        return _marked(replace(state, runs=(*state.runs, run)), run.requests, "running", run.number)
    if kind == "advised":
        told = Advice(at=at, run=body["run"], reasons=tuple(body["reasons"]))
        return replace(state, advice=(*state.advice, told))
    return _over(state, kind, body)


def _over(state: State, kind: str, body: Mapping[str, Any]) -> State:
    """A run that has ended, whichever way. One that failed leaves its requests waiting."""
    run = state.runs[body["run"] - 1]
    if run.status != "running":
        raise ValueError(f"run {run.number} was over")
    told = {name: body[name] for name in ("model", "why", "numbers") if name in body}
    status = "failed" if kind == "failed" else "accepted" if body["accepted"] else "rejected"
    runs = tuple(replace(run, status=status, **told) if each is run else each for each in state.runs)
    left = {"failed": "waiting", "accepted": "done", "rejected": "rejected"}[status]
    return _marked(replace(state, runs=runs), run.requests, left, run.number)


def _marked(state: State, numbers: Iterable[int], status: str, run: int = 0, why: str = "") -> State:
    chosen = {state.request(number).number for number in numbers}
    return replace(
        state,
        requests=tuple(
            replace(each, status=status, run=run or each.run, why=why) if each.number in chosen else each
            for each in state.requests
        ),
    )
