"""The process that works a queue off: started by the service, never a part of it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence

from unteach.ledger import Policy, Queue, State
from unteach.service.tokens import VARIABLE
from unteach.store import restored
from unteach.types import Refusal

DAY = 86_400.0  # seconds
DONE = (0, 3)  # exit codes: all went well, or a model was rejected


class Worker:
    """Starts ``command``, as ``running`` gives it, for a queue, one at a time.

    It is a session of its own: when the service stops, the run goes on, and a service that starts later finds it by the
    queue's lock. Killed, it is gone on with by the next. What it prints is in ``worker.log`` in the queue's folder.
    """

    def __init__(self, queue: Queue, command: Sequence[str]) -> None:
        self.queue, self.command = queue, tuple(command)
        self._child: subprocess.Popen[bytes] | None = None
        self._turn = threading.RLock()
        self._closed = False
        self._asked = self._misses = 0  # requests at the last start by the clock; starts in a row that came to nothing
        self._again = 0.0  # when the next of these may be, by the monotonic clock

    def start(self, *, now: bool = False, retrain: bool = False) -> None:
        """Begin to work the queue off. ``now``: also what is to wait by the policy; ``retrain``: train from scratch.

        Raises: Refusal while it is worked off, and once the service stops.
        """
        with self._turn:
            if self._closed:
                raise Refusal("expected a service that goes on, got one that is stopping; ask again when it is back")
            if self.working or self.elsewhere():
                raise Refusal("expected no run at work, got one; wait for it")
            self._begin(now, retrain)

    def start_if_due(self, every: float) -> bool:
        """Begin if the policy says so, or a run was left unfinished; returns whether it did.

        While nobody asks for anything else, what came to nothing is tried again after ``every`` seconds, then after twice as
        many, at last once a day.
        """
        with self._turn:
            state = self.queue.state()
            if self._closed or self.working or not _due(state, self.queue) or self.elsewhere():
                return False
            asked = len(state.requests) + len(state.with_status("withdrawn"))
            in_vain = self.exit not in (None, *DONE) and asked == self._asked
            if in_vain and time.monotonic() < self._again:
                return False
            self._misses = min(self._misses + 1, 30) if in_vain else 0
            self._asked, self._again = asked, time.monotonic() + min(every * 2**self._misses, DAY)
            self._begin(False, False)
            return True

    @property
    def working(self) -> bool:
        """Whether the process that was started here is at work."""
        return self._child is not None and self._child.poll() is None

    def elsewhere(self) -> bool:
        """Whether another process works the queue off; asking takes the lock for an instant, so ask seldom."""
        try:
            with self.queue.runner():
                return False
        except Refusal:
            return True

    @property
    def exit(self) -> int | None:
        """How the last process ended that was started here: 0 well, 2 refused, 3 a model was rejected; None without one."""
        return None if self._child is None else self._child.poll()

    @property
    def said(self) -> str:
        """The last line of a process that came to nothing; empty where all is well."""
        if self.exit in (None, *DONE):
            return ""
        try:
            text = (self.queue.folder / "worker.log").read_text("utf-8", "replace")
        except OSError:
            text = ""
        return next((line.strip() for line in reversed(text.split("\n")) if line.strip()), f"exit code {self.exit}")

    def close(self) -> None:
        """Start nothing any more. What is at work goes on."""
        with self._turn:
            self._closed = True

    def _begin(self, now: bool, retrain: bool) -> None:
        command = [*self.command, "--now", str(now).lower(), "--retrain", str(retrain).lower()]
        environment = {name: value for name, value in os.environ.items() if name != VARIABLE}  # it may run users' code
        with (self.queue.folder / "worker.log").open("wb") as log:
            self._child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )


def running(queue: Queue, flags: Sequence[str] = ()) -> list[str]:
    """The command that works a queue off; ``flags``: further ones."""
    words = [sys.executable, "-m", "unteach.cli", "request", "run", "--queue", str(queue.folder.absolute())]
    return [*words, "--quiet", "true", *flags]


def _due(state: State, queue: Queue) -> bool:
    policy = restored(Policy, state.settings["policy"])
    return state.running is not None or bool(policy(state.with_status("waiting"), queue.clock()))
