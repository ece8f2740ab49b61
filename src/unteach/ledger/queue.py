"""A folder that requests are brought to: the ledger, the ids of each request, and a folder for each run."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from unteach.ledger.chain import Ledger, keep_names, now
from unteach.ledger.policy import Budget
from unteach.ledger.state import OPEN, Request, Run, State, added_up
from unteach.store import read_json, write, write_json
from unteach.types import Refusal


@dataclass(frozen=True)
class Queue:
    """Requests to forget, one after the other, for one model.

    ``ledger.sqlite`` holds what happened, for good; of ids no more than their number and a digest with a secret salt (``salt``),
    since what is in it can't be taken out again. The ids themselves are in ``requests/``. Any number of processes may add and
    read at once, one runs. Whatever is killed when, what was promised is there: an id list is on the disk before its request is
    in the ledger, and a run that was started and not ended is gone on with.
    """

    folder: Path
    clock: Callable[[], datetime] = now

    @property
    def ledger(self) -> Ledger:
        """The chain of all that happened."""
        return Ledger(self.folder / "ledger.sqlite", self.clock)

    def open(self, settings: Mapping[str, Any], model: str) -> None:
        """Begin a queue for the model whose file has this SHA-256. ``settings``: plain values, with which every run is done.

        Raises: Refusal when there is one with other settings; the same ones again change nothing.
        """
        told = json.loads(json.dumps(settings))
        with self.ledger.turn() as turn:
            known = added_up(turn.entries())
            if known is None:
                _make_salt(self.folder / "salt")
                turn.append("opened", {"settings": told, "model": model})
                return
        if known.model != model or known.settings != told:
            differ = sorted(name for name in {*told, *known.settings} if told.get(name) != known.settings.get(name))
            raise Refusal(
                f"expected {self.folder} to be new or of this model and these settings, got a queue with other "
                f"{', '.join(differ) or 'weights'}; choose another --queue"
            )

    def state(self) -> State:
        """All that is known, read from the ledger.

        Raises: Refusal when there is no queue, or its ledger was changed.
        """
        known = added_up(self.ledger.entries()) if self.ledger.path.is_file() else None
        if known is None:
            raise Refusal(f"expected a queue in {self.folder}, got none; begin one with unteach request open")
        return known

    def add(self, ids: Sequence[str], *, due: str = "", note: str = "", key: str = "") -> Request:
        """Record a request; it is safe on the disk when this returns.

        ``due``: a date or time in ISO 8601. ``key``: the caller's own name for it; the same key and ids again are the same
        request, so a call whose answer was lost may be repeated. Neither ``note`` nor ``key`` may hold what must be erased one
        day: they stay in the ledger. Raises: Refusal for no ids, one twice, one that is no line of text, or a date that is none.
        """
        _check(ids)
        due = _moment(due)
        with self.ledger.turn() as turn:
            state = added_up(turn.entries())
            if state is None:
                raise Refusal(f"expected a queue in {self.folder}, got none; begin one with unteach request open")
            digest = self._digest(ids)
            if same := next((request for request in state.requests if key and request.key == key), None):
                if same.digest != digest:
                    raise Refusal(
                        f"expected the ids of request {same.number} under the key {key!r}, got others; give a new request a key "
                        "of its own"
                    )
                return same
            number = len(state.requests) + 1
            file = self._ids_file(number)
            write_json(file, list(ids))
            keep_names(file.parent)
            keep_names(self.folder)
            made: dict[str, Any] = {
                "number": number,
                "count": len(ids),
                "digest": digest,
                "due": due,
                "note": note,
                "key": key,
            }
            return Request(received=turn.append("received", made).at, **made)

    def withdraw(self, number: int) -> None:
        """Take back a request that is waiting or was rejected."""
        with self._turn() as (state, append):
            if (status := state.request(number).status) not in OPEN:
                raise Refusal(
                    f"expected request {number} to be waiting or rejected, got one that is {status}; leave it"
                )
            append("withdrawn", {"request": number})

    def refuse(self, number: int, why: str) -> None:
        """Close an open request that can't be done, and say why without naming its ids: the ledger keeps it for good."""
        with self._turn() as (state, append):
            if (status := state.request(number).status) not in OPEN:
                raise Refusal(f"expected request {number} to be open, got one that is {status}; leave it")
            append("refused", {"request": number, "why": why})

    def ids(self, request: Request) -> list[str]:
        """The ids of a request.

        Raises: Refusal when they are not those that were received.
        """
        file = self._ids_file(request.number)
        found = read_json(file)
        if not isinstance(found, list) or self._digest(found) != request.digest:
            raise Refusal(
                f"expected the ids of request {request.number} as received in {file}, got others; restore the file"
            )
        return found

    @contextmanager
    def runner(self) -> Iterator[None]:
        """Be the one who runs; the lock goes with the process, however it ends.

        Raises: Refusal while another process is.
        """
        import fcntl  # which Windows lacks; all else works there

        handle = os.open(self.folder / "runner.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise Refusal(f"expected nobody else to run {self.folder}, got another process; wait for it") from error
            yield
        finally:
            os.close(handle)

    def start(self, requests: Sequence[int], *, retrain: bool = False, references: int = 0) -> Run:
        """Record that these requests are now run, from the model in use or from scratch, and give the run its number."""
        with self._turn() as (state, append):
            for number in requests:
                if (status := state.request(number).status) not in OPEN:
                    raise Refusal(f"expected request {number} to be waiting, got one that is {status}; start another")
            parent = 0 if retrain or state.current is None else state.current.number
            told: dict[str, Any] = {"number": len(state.runs) + 1, "requests": list(requests), "parent": parent}
            told |= {"retrain": retrain, "references": references}
            at = append("started", told).at
        return Run(started=at, **{**told, "requests": tuple(requests)})

    def finish(self, run: int, model: str, numbers: Mapping[str, Any], budget: Budget) -> State:
        """Record what came of a run, whether its model is taken into use, and whether it is time to retrain."""
        with self.ledger.turn() as turn:
            why = budget.rejection(dict(numbers))
            told = {"run": run, "model": model, "numbers": dict(numbers), "accepted": not why, "why": why}
            turn.append("finished", told)
            state = added_up(turn.entries())
            assert state is not None
            if reasons := budget.reasons(state):
                turn.append("advised", {"run": run, "reasons": list(reasons)})
        return self.state()

    def fail(self, run: int, why: str) -> None:
        """Record that a run could not be done, without the names in quotes; its requests wait again."""
        self.ledger.append("failed", {"run": run, "why": re.sub(r"'[^']*'|\"[^\"]*\"", "…", why)})

    def run_folder(self, number: int) -> Path:
        """Where a run's checkpoint, findings and report are."""
        return self.folder / "runs" / f"{number:04d}"

    def model_of(self, run: int, state: State) -> Path:
        """The checkpoint that a run made, 0 for the one the queue was opened with.

        Raises: Refusal when it is not the file that was recorded.
        """
        file = self.run_folder(run) / "model.safetensors" if run else Path(state.settings["checkpoint"])
        expected = state.runs[run - 1].model if run else state.model
        if (found := sha256(file)) != expected:
            raise Refusal(f"expected {file} as recorded ({expected[:12]}…), got a file of {found[:12]}…; restore it")
        return file

    @contextmanager
    def _turn(self) -> Iterator[tuple[State, Callable[..., Any]]]:
        self.state()  # a ledger is not made by those who only ask
        with self.ledger.turn() as turn:
            state = added_up(turn.entries())
            assert state is not None
            yield state, turn.append

    def _ids_file(self, number: int) -> Path:
        return self.folder / "requests" / f"{number:04d}.json"

    def _digest(self, ids: Sequence[str]) -> str:
        try:
            salt = (self.folder / "salt").read_bytes()
        except OSError as error:
            raise Refusal(f"expected the salt of {self.folder}, got: {error.strerror}; restore the file") from error
        return hmac.new(salt, json.dumps(sorted(map(str, ids))).encode(), hashlib.sha256).hexdigest()

    def as_json(self) -> dict[str, Any]:
        """The state as plain values, for programs."""
        state = self.state()
        return {
            "settings": state.settings,
            "model": str(self.model_of(state.current.number if state.current else 0, state)),
            "requests": [asdict(each) | {"overdue": each.overdue(self.clock())} for each in state.requests],
            "runs": [asdict(each) for each in state.runs],
            "advice": asdict(state.advised) | {"first": state.first_advised} if state.advised else None,
            "head": list(self.ledger.head()),
        }


def sha256(path: Path) -> str:
    """Of a file's bytes."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise Refusal(f"expected a readable file at {path}, got: {error.strerror}; check the path") from error


def _make_salt(path: Path) -> None:
    """A fresh secret that only its owner can read."""
    write(path, lambda made: made.write_text(secrets.token_hex(32)), mode=0o600)
    keep_names(path.parent)


def _check(ids: Sequence[str]) -> None:
    if not ids:
        raise Refusal("expected at least one id to forget, got none; name what is to be forgotten")
    if odd := [each for each in ids if not isinstance(each, str) or not each.strip() or set("\n\r\0") & set(each)]:
        raise Refusal(f"expected ids that are lines of text, got {odd[0]!r}; mend it")
    if len(set(ids)) < len(ids):
        raise Refusal(f"expected every id once, got {len(ids) - len(set(ids))} again; name each once")


def _moment(due: str) -> str:
    """A date or time as a time in UTC; a date alone is its end."""
    if not due:
        return ""
    try:
        moment = datetime.fromisoformat(due)
        if len(due) == 10:
            moment = moment.replace(hour=23, minute=59, second=59)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC).isoformat()
    except (ValueError, OverflowError) as error:
        raise Refusal(f"expected a date such as 2027-03-31, got {due!r}; write it so") from error
