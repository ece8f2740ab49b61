"""What a long job tells the outside: events for a file, progress for a person. Silent unless given ears."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


class Events:
    """Sends events to a JSON-lines file and progress to a callable.

    ``progress(label, done, total)`` is called often and must be cheap. One event is one line of JSON with the keys
    ``event`` and ``at`` (seconds since the epoch) and whatever belongs to it.
    """

    def __init__(self, path: Path | None = None, progress: Callable[[str, int, int], None] | None = None) -> None:
        self.path = path
        self._progress = progress

    def emit(self, event: str, **fields: Any) -> None:
        """Append one event; a line is written whole, so a stopped run leaves at most one line unfinished."""
        if self.path is not None:
            line = json.dumps({"event": event, "at": round(time.time(), 3), **fields})
            with self.path.open("a") as file:
                file.write(line + "\n")

    def progress(self, label: str, done: int, total: int) -> None:
        """Tell how far the work has come."""
        if self._progress is not None:
            self._progress(label, done, total)
