"""The ledger's requests and runs as the forms that callers are told."""

from __future__ import annotations

import contextlib
import json
import os
from datetime import datetime
from pathlib import Path

from unteach.ledger import Request, Run, State
from unteach.service.forms import Progress, RequestForm, RunForm

REPORT, EVIDENCE = "report.html", "evidence.json"  # names in a run's folder; no other file is ever sent


def request_form(request: Request, state: State, at: datetime) -> RequestForm:
    """A request with what became of it."""
    run = state.runs[request.run - 1] if request.run else None
    return RequestForm(
        number=request.number,
        received=request.received,
        due=request.due,
        overdue=request.overdue(at),
        count=request.count,
        digest=request.digest,
        note=request.note,
        key=request.key,
        status=request.status,
        run=request.run,
        why=run.why if run and request.status in ("waiting", "rejected") else request.why,
    )


def run_form(run: Run, folder: Path) -> RunForm:
    """A run with what lies in its folder."""
    return RunForm(
        number=run.number,
        started=run.started,
        requests=list(run.requests),
        parent=run.parent,
        retrain=run.retrain,
        status=run.status,
        model=run.model,
        why=run.why,
        numbers=run.numbers,
        progress=progress_in(folder / "events.jsonl") if run.status == "running" else None,
        report=(folder / REPORT).is_file(),
        evidence=(folder / EVIDENCE).is_file(),
    )


def progress_in(path: Path) -> Progress | None:
    """The last whole line of a run's events; None where there is none."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 65_536))
            lines = file.read().split(b"\n")
    except OSError:
        return None
    for line in reversed(lines):
        with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
            told = json.loads(line)
            stage, epoch = told.get("stage", ""), told.get("epoch", 0)
            return Progress(at=float(told["at"]), event=str(told["event"]), stage=str(stage), epoch=int(epoch))
    return None
