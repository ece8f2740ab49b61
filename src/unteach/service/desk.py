"""The answers of the service: what is asked of a queue over HTTP, and by whom it is done."""

from __future__ import annotations

import threading
from datetime import date
from typing import Annotated

from fastapi import Path, Query
from starlette.exceptions import HTTPException
from starlette.responses import FileResponse, Response

from unteach.data.dataset import writable
from unteach.ledger import Head, Queue, Request, Run, State
from unteach.ledger.policy import spent
from unteach.ledger.state import OPEN
from unteach.service.forms import (
    AdviceForm,
    Asked,
    Health,
    ModelForm,
    Order,
    RequestForm,
    RunForm,
    Started,
    Status,
    WorkerForm,
)
from unteach.service.shown import EVIDENCE, REPORT, request_form, run_form
from unteach.service.worker import Worker
from unteach.types import Refusal

Number = Annotated[int, Path(ge=1, le=2**31, description="Its number, from 1.")]
After = Annotated[int, Query(ge=0, le=2**31, description="Leave out the numbers up to this.")]
Limit = Annotated[int, Query(ge=1, le=1000, description="How many at most.")]
# A report is a page of its own: its styles are within it, and nothing in it runs.
REPORT_POLICY = "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'"


class Desk:
    """One queue and who works it off; each public method answers one kind of call, and its docstring describes it there."""

    def __init__(self, queue: Queue, worker: Worker) -> None:
        self.queue, self.worker = queue, worker
        self._adding = threading.Lock()
        self._known: tuple[Head, State] | None = None

    def health(self) -> Health:
        """Whether the service answers. Needs no token and tells nothing else."""
        return Health()

    def add(self, asked: Asked, response: Response) -> RequestForm:
        """Record a request to forget; it is safe on the disk when the answer comes.

        The same key and ids again are the same request (200), so a call whose answer was lost may be sent again; other ids under
        that key are refused (409). Whether the ids are in the data is seen when the request is run.
        """
        if wrong := _wrong(asked):
            raise HTTPException(422, wrong)
        with self._adding:  # so that of several calls with one key exactly one is told that it made the request
            before = len(self._state().requests)
            try:
                made = self.queue.add(asked.ids, due=asked.due, note=asked.note, key=asked.key)
            except Refusal as refusal:
                if asked.key and any(each.key == asked.key for each in self._state().requests):
                    raise HTTPException(409, str(refusal)) from refusal
                raise
        response.status_code = 200 if made.number <= before else 201
        response.headers["location"] = f"/requests/{made.number}"
        return self.request(made.number)

    def requests(self, after: After = 0, limit: Limit = 1000) -> list[RequestForm]:
        """The requests in the order they came."""
        state, at = self._state(), self.queue.clock()
        return [request_form(each, state, at) for each in state.requests[after : after + limit]]

    def request(self, number: Number) -> RequestForm:
        """One request."""
        return request_form(self._request(number), self._state(), self.queue.clock())

    def withdraw(self, number: Number) -> RequestForm:
        """Take a request back that is waiting or was rejected; one that is running or done stays (409)."""
        self._request(number)
        try:
            self.queue.withdraw(number)
        except Refusal as refusal:
            if self._request(number).status in OPEN:
                raise
            raise HTTPException(409, str(refusal)) from refusal
        return self.request(number)

    def status(self) -> Status:
        """How the queue stands: the model in use, what waits, what runs, what it cost so far, whether to retrain."""
        state, at = self._state(), self.queue.clock()
        current, advice, running = state.current, state.advised, state.running
        counts: dict[str, int] = {}
        for request in state.requests:
            counts[request.status] = counts.get(request.status, 0) + 1
        model = ModelForm(run=current.number, sha256=current.model) if current else ModelForm(run=0, sha256=state.model)
        working = self.worker.working or (running is not None and self.worker.elsewhere())
        return Status(
            model=model,
            requests=len(state.requests),
            runs=len(state.runs),
            counts=counts,
            overdue=[request.number for request in state.requests if request.overdue(at)],
            worker=WorkerForm(working=working, exit=self.worker.exit, said=self.worker.said),
            running=self._run_form(running) if running else None,
            advice=AdviceForm(run=advice.run, at=advice.at, reasons=list(advice.reasons)) if advice else None,
            spent=spent(state),
            curves=[self._run_form(run) for run in state.accepted],
            head=self.queue.ledger.head(),
        )

    def start(self, order: Order | None = None) -> Started:
        """Begin to work the queue off, in a process of its own; 409 while that is being done."""
        asked, before = order or Order(), len(self._state().runs)
        try:
            self.worker.start(now=asked.now, retrain=asked.retrain)
        except Refusal as refusal:
            raise HTTPException(409, str(refusal)) from refusal
        return Started(runs=before)

    def runs(self, after: After = 0, limit: Limit = 1000) -> list[RunForm]:
        """The runs in the order they were started."""
        return [self._run_form(each) for each in self._state().runs[after : after + limit]]

    def run(self, number: Number) -> RunForm:
        """One run, with what it last told of itself while it is at work."""
        return self._run_form(self._run(number))

    def report(self, number: Number) -> Response:
        """The report of a run, a page that needs no other file."""
        return self._file(number, REPORT, "text/html; charset=utf-8", {"content-security-policy": REPORT_POLICY})

    def evidence(self, number: Number) -> Response:
        """The evidence of a run, as `unteach evidence` wrote it and `unteach verify` checks it."""
        return self._file(number, EVIDENCE, "application/json", {})

    def _state(self) -> State:
        """What is known, read anew when the ledger has grown."""
        head = self.queue.ledger.head()
        if self._known is None or self._known[0] != head:
            self._known = head, self.queue.state()
        return self._known[1]

    def _request(self, number: int) -> Request:
        known = self._state().requests
        if number > len(known):
            raise HTTPException(404, f"expected a request that is there, got {number} of {len(known)}; see /requests")
        return known[number - 1]

    def _run(self, number: int) -> Run:
        known = self._state().runs
        if number > len(known):
            raise HTTPException(404, f"expected a run that was started, got {number} of {len(known)}; see /runs")
        return known[number - 1]

    def _run_form(self, run: Run) -> RunForm:
        return run_form(run, self.queue.run_folder(run.number))

    def _file(self, number: int, name: str, kind: str, headers: dict[str, str]) -> Response:
        path = self.queue.run_folder(self._run(number).number) / name
        if not path.is_file():
            raise HTTPException(
                404, f"expected {name} of run {number}, got none so far; see whether /runs/{number} has one"
            )
        return FileResponse(path, headers=headers, media_type=kind)


def _wrong(asked: Asked) -> str:
    """What is wrong with a request beyond its form; nothing for a sound one."""
    if odd := [name for name in asked.ids if not writable(name)]:
        return f"expected ids without line breaks, outer spaces or # in front, got {odd[0]!a}; mend it"
    if again := len(asked.ids) - len(set(asked.ids)):
        return f"expected every id once, got {again} again; name each once"
    if not (asked.note + asked.key).isprintable():
        return "expected a note and a key of one line of printable text, got others; mend them"
    try:
        date.fromisoformat(asked.due or "2000-01-01")
    except ValueError:
        return f"expected a date such as 2027-03-31, got {asked.due}; write it so"
    return ""
