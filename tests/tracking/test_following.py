"""What trackers are told of a job's events, and that none can break the job."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unteach.tracking import Following, Tracker
from unteach.tracking.following import spelled


def told(**_: Any) -> type[Any]:
    """A tracker that keeps what it is told."""

    class Kept:
        modules: ClassVar[tuple[str, ...]] = ()
        points: ClassVar[list[tuple[int, dict[str, float]]]] = []
        ends: ClassVar[list[tuple[dict[str, float], dict[str, str], bool]]] = []
        settings: ClassVar[dict[str, Any]] = {}

        def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
            self.settings.update(settings)

        def scalars(self, step: int, values: Mapping[str, float]) -> None:
            self.points.append((step, dict(values)))

        def finish(self, numbers: Mapping[str, float], tags: Mapping[str, str], failed: bool) -> None:
            self.ends.append((dict(numbers), dict(tags), failed))

    return Kept


def failing(when: str) -> type[Tracker]:
    class Failing:
        modules: ClassVar[tuple[str, ...]] = ()

        def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
            self.fail("start")

        def scalars(self, step: int, values: Mapping[str, float]) -> None:
            self.fail("scalars")

        def finish(self, numbers: Mapping[str, float], tags: Mapping[str, str], failed: bool) -> None:
            self.fail("finish")

        def fail(self, now: str) -> None:
            if now == when:
                raise ConnectionError(f"no {now}\nfor you")

    return Failing


def test_numbers_become_curves_and_words_stay_at_home(tmp_path: Path) -> None:
    kept = told()
    ear = Following({"kept": kept}, tmp_path, {"optim": {"lr": 0.1}})
    ear("epoch", {"stage": "training", "epoch": 1, "loss": 0.5, "seconds": 2.0})
    ear("epoch", {"stage": "training", "epoch": 2, "loss": 0.25, "seconds": 2.0})
    ear("model", {"number": 7, "key": "abc", "seconds": None})
    ear("shards", {"of": 4, "retrained": [1, 2], "share": 0.5, "whole": True})
    ear("diagnosis", {"kind": "fine", "sentence": "Alice is forgotten"})
    ear.conclude({"gaps/test": 1.5}, {"method": "Amun", "data": "folder:/home/alice/photos"})
    ear.close(failed=False)
    assert kept.settings == {"optim.lr": 0.1}
    assert kept.points == [
        (1, {"epoch/training/loss": 0.5, "epoch/training/seconds": 2.0}),
        (2, {"epoch/training/loss": 0.25, "epoch/training/seconds": 2.0}),
        (0, {"shards/of": 4.0, "shards/share": 0.5}),
    ]
    assert kept.ends == [({"gaps/test": 1.5}, {"method": "Amun", "data": "folder:photos"}, False)]


def test_a_second_training_of_a_name_goes_on_where_the_first_ended(tmp_path: Path) -> None:
    kept = told()
    ear = Following({"kept": kept}, tmp_path, {})
    for epoch in (3, 4, 1, 2, 1, 2):  # resumed at 3; then two trials more
        ear("epoch", {"stage": "amun", "epoch": epoch, "loss": 1.0})
    for number in (5, 2, 3):  # as a cluster does them
        ear("model", {"number": number, "seconds": 1.0})
    ear.close(failed=True)
    steps = [step for step, _ in kept.points]
    assert len(set(steps[:6])) == 6
    assert steps == [3, 4, 1, 2, 5, 6, 5, 2, 3]
    assert kept.ends == [({}, {}, True)]


@pytest.mark.parametrize("when", ["start", "scalars", "finish"])
def test_a_failing_tracker_is_told_of_once_and_the_others_go_on(
    when: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = told()
    ear = Following({"bad": failing(when), "kept": kept}, tmp_path, {})
    for epoch in range(3):
        ear("epoch", {"stage": "training", "epoch": epoch, "loss": 0.5})
    ear.close(failed=False)
    said = capsys.readouterr().err
    assert said == f"unteach: bad failed, and the job goes on without it: no {when} for you\n"
    assert len(kept.points) == 3
    assert kept.ends == [({}, {}, False)]


def test_a_slow_tracker_does_not_hold_up_the_job(tmp_path: Path) -> None:
    go, kept = threading.Event(), told()
    kept.scalars = lambda self, step, values: (go.wait(30), kept.points.append((step, values)))
    ear = Following({"slow": kept}, tmp_path, {})
    ear("epoch", {"stage": "training", "epoch": 1, "loss": 0.5})
    assert not kept.points
    go.set()
    ear.close(failed=False)
    assert len(kept.points) == len(kept.ends) == 1


@given(st.text())
def test_names_are_of_characters_that_all_trackers_take(name: str) -> None:
    made = spelled(name)
    assert len(made) <= 200
    assert all((c.isascii() and c.isalnum()) or c in "_/ .-" for c in made)
    assert spelled(made) == made
