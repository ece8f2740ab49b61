"""What a long job tells the outside: events for a file and for trackers, progress for a person. Silent unless given ears."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol


class Ear(Protocol):
    """Hears every event from some point on, what came of the job, and its end."""

    def __call__(self, event: str, fields: Mapping[str, Any]) -> None: ...

    def conclude(self, numbers: Mapping[str, float], tags: Mapping[str, str]) -> None: ...

    def close(self, failed: bool) -> None: ...


class Events:
    """Sends events to a JSON-lines file and to ears, and progress to a callable; left as a context, it closes the ears.

    ``progress(label, done, total)`` is called often and must be cheap. One event is one line of JSON with the keys
    ``event`` and ``at`` (seconds since the epoch) and whatever belongs to it.
    """

    def __init__(self, path: Path | None = None, progress: Callable[[str, int, int], None] | None = None) -> None:
        self.path = path
        self._progress = progress
        self._ears: list[Ear] = []

    def __enter__(self) -> Events:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        while self._ears:
            self._ears.pop().close(failed=kind is not None)

    def listen(self, ear: Ear) -> None:
        """Tell this ear every event to come."""
        self._ears.append(ear)

    def emit(self, event: str, **fields: Any) -> None:
        """Append one event, a line that is written whole or not at all. Then tell the ears."""
        if self.path is not None:
            line = json.dumps({"event": event, "at": round(time.time(), 3), **fields})
            _append(self.path, f"{line}\n".encode())
        for ear in self._ears:
            ear(event, fields)

    def conclude(self, numbers: Mapping[str, float], tags: Mapping[str, str]) -> None:
        """Tell the ears the final numbers and what the job was about; both have files of their own."""
        for ear in self._ears:
            ear.conclude(numbers, tags)

    def progress(self, label: str, done: int, total: int) -> None:
        """Tell how far the work has come."""
        if self._progress is not None:
            self._progress(label, done, total)


def _append(path: Path, line: bytes) -> None:
    with path.open("ab", buffering=0) as file:
        start = file.tell()
        try:
            while line:  # in one go, unless the disk is full: then in part, and not at all at the next try
                line = line[file.write(line) :]
        except OSError as error:
            file.truncate(start)
            raise OSError(error.errno, error.strerror, str(path)) from error
