"""Events: to the file and to the ears, and the end of the job told whether well or not."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from unteach.events import Events


@dataclass
class Notes:
    heard: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    ends: list[bool] = field(default_factory=list)

    def __call__(self, event: str, fields: Mapping[str, Any]) -> None:
        self.heard.append((event, dict(fields)))

    def conclude(self, numbers: Mapping[str, float], tags: Mapping[str, str]) -> None:
        self.heard.append(("conclusion", {**numbers, **tags}))

    def close(self, failed: bool) -> None:
        self.ends.append(failed)


def test_ears_hear_what_the_file_holds_from_when_they_listen(tmp_path: Path) -> None:
    ear = Notes()
    with Events(tmp_path / "events.jsonl") as events:
        events.emit("before", x=0)
        events.listen(ear)
        events.emit("epoch", stage="training", loss=0.5)
        events.conclude({"x": 1.0}, {"data": "digits"})
        assert not ear.ends
    lines = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert [line["event"] for line in lines] == ["before", "epoch"]
    assert ear.heard == [("epoch", {"stage": "training", "loss": 0.5}), ("conclusion", {"x": 1.0, "data": "digits"})]
    assert ear.ends == [False]


def test_a_job_that_fails_ends_its_ears_once() -> None:
    ear, events = Notes(), Events()
    events.listen(ear)
    with pytest.raises(KeyboardInterrupt), events:
        raise KeyboardInterrupt
    with events:  # again, as a job within a job might
        pass
    assert ear.ends == [True]
