"""From events to trackers: the one place that decides what a tracker is told."""

from __future__ import annotations

import re
import sys
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Protocol

from unteach.tracking.figures import Plain, flattened


class Tracker(Protocol):
    """One run in a program that shows runs side by side; making it starts the run."""

    modules: ClassVar[tuple[str, ...]]
    """What must be installed, by the names of import."""

    def __init__(self, folder: Path, settings: Mapping[str, Plain]) -> None: ...

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """One point of each of these curves."""

    def finish(self, numbers: Mapping[str, float], tags: Mapping[str, str], failed: bool) -> None:
        """The run's end, with its final numbers and what it was about."""


class Following:
    """Follows a job's events with trackers.

    Of an event its numbers are told, as points of curves ``event/stage/field``; words and lists, which may hold ids, are not.
    A step is the event's ``epoch`` or ``number``, or the next one where that was told before, as by a second training of the
    same name. Trackers are told in a thread of their own: what they take does not count as the job's time. One that fails is
    left out from there on, which is said once: the job goes on.
    """

    def __init__(self, trackers: Mapping[str, type[Tracker]], folder: Path, settings: Mapping[str, Any]) -> None:
        from concurrent.futures import ThreadPoolExecutor

        self._running: dict[str, Tracker] = {}
        self._steps: defaultdict[str, set[int]] = defaultdict(set)
        self._finals: tuple[Mapping[str, float], Mapping[str, str]] = ({}, {})
        told = {spelled(name): value for name, value in flattened(settings).items()}
        for name, kind in trackers.items():  # here and now: imports in two threads may get into each other's way
            self._try(name, self._start, name, kind, folder, told)
        self._thread = ThreadPoolExecutor(1, "tracking")

    def __call__(self, event: str, fields: Mapping[str, Any]) -> None:
        """Tell the trackers what is new."""
        curve = spelled("/".join(str(part) for part in (event, fields.get("stage")) if part is not None))
        values = {
            f"{curve}/{spelled(name)}": float(value)
            for name, value in fields.items()
            if name not in ("epoch", "number") and isinstance(value, int | float) and not isinstance(value, bool)
        }
        if values:
            step = self._step(curve, fields.get("epoch", fields.get("number", 0)))
            self._thread.submit(self._each, lambda tracker: tracker.scalars(step, values))

    def conclude(self, numbers: Mapping[str, float], tags: Mapping[str, str]) -> None:
        """Keep the final numbers and tags, which are told at the end."""
        told = {name: str(value) for name, value in flattened(tags).items()}
        self._finals = ({spelled(name): value for name, value in numbers.items()}, told)

    def close(self, failed: bool) -> None:
        """The end of the job, whether well or not; waits for the trackers."""
        numbers, tags = self._finals
        self._thread.submit(self._each, lambda tracker: tracker.finish(numbers, tags, failed))
        self._thread.shutdown()

    def _start(self, name: str, kind: type[Tracker], folder: Path, settings: Mapping[str, Plain]) -> None:
        self._running[name] = kind(folder, settings)

    def _each(self, tell: Callable[[Tracker], None]) -> None:
        for name, tracker in list(self._running.items()):
            self._try(name, tell, tracker)

    def _try(self, name: str, do: Callable[..., None], *arguments: object) -> None:
        try:
            do(*arguments)
        except Exception as error:  # whatever a tracker or its server is about: the job is worth more
            self._running.pop(name, None)
            reason = " ".join(str(error).split()) or type(error).__name__
            print(f"unteach: {name} failed, and the job goes on without it: {reason[:300]}", file=sys.stderr)

    def _step(self, curve: str, given: int) -> int:
        taken = self._steps[curve]
        step = max(taken) + 1 if given in taken else given
        taken.add(step)
        return step


def spelled(name: str) -> str:
    """A curve's name in characters that all trackers take."""
    return re.sub(r"[^\w/ .-]", "_", name, flags=re.ASCII)[:200]
