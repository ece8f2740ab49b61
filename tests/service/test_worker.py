"""The process that works a queue off."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from unteach.ledger import Policy, Queue
from unteach.service import Worker, running
from unteach.service import worker as room
from unteach.store import record
from unteach.types import Refusal

Make = Callable[[str], Worker]
FAIL = "import sys; print('before'); sys.exit('unteach: expected more, got less')"


def over(worker: Worker) -> Worker:
    """The same, once its process has ended."""
    end = time.monotonic() + 30
    while worker.working:
        assert time.monotonic() < end
        time.sleep(0.01)
    return worker


def test_it_is_told_what_to_do(queue: Queue, worker: Make) -> None:
    one = worker("import os, sys; print(sys.argv[1:], 'UNTEACH_TOKEN' in os.environ, os.getsid(0) == os.getpid())")
    assert (one.working, one.exit, one.said) == (False, None, "")
    os.environ["UNTEACH_TOKEN"] = "x" * 40
    try:
        one.start(retrain=True)
    finally:
        del os.environ["UNTEACH_TOKEN"]
    assert (over(one).exit, one.said) == (0, "")
    written = (queue.folder / "worker.log").read_text()
    assert written == "['--now', 'false', '--retrain', 'true'] False True\n"


def test_the_command_is_the_one_of_the_command_line(queue: Queue) -> None:
    words = running(queue, ["--device", "cpu"])
    assert words[:5] == [sys.executable, "-m", "unteach.cli", "request", "run"]
    assert words[words.index("--queue") + 1] == str(queue.folder)
    assert words[-2:] == ["--device", "cpu"]


def test_one_at_a_time(queue: Queue, worker: Make) -> None:
    one = worker("import time; time.sleep(60)")
    one.start()
    assert one.working
    with pytest.raises(Refusal, match="no run at work"):
        one.start()
    other = worker("")
    with queue.runner(), pytest.raises(Refusal, match="no run at work"):
        other.start()
    other.start()


def test_why_it_came_to_nothing(worker: Make) -> None:
    one = worker(FAIL)
    one.start()
    assert (over(one).exit, one.said) == (1, "unteach: expected more, got less")
    (one.queue.folder / "worker.log").unlink()
    assert one.said == "exit code 1"
    rejected = worker("raise SystemExit(3)")
    rejected.start()
    assert (over(rejected).exit, rejected.said) == (3, ""), "a rejected model is no fault"


def test_nothing_begins_once_the_service_stops_and_what_is_at_work_goes_on(queue: Queue, worker: Make) -> None:
    queue.add(["a"])
    one = worker("import time; time.sleep(60)")
    one.start()
    one.close()
    assert one.working
    two = worker("")
    two.close()
    with pytest.raises(Refusal, match="stopping"):
        two.start()
    assert not two.start_if_due(1)


def test_by_the_clock_it_begins_what_is_due(queue: Queue, worker: Make) -> None:
    one = worker("")
    assert not one.start_if_due(1), "no request waits"
    queue.add(["a"])
    with queue.runner():
        assert not one.start_if_due(1), "another process is at it"
    assert one.start_if_due(1)
    run = queue.start([1])
    assert over(one).start_if_due(1), "a run that was started and not ended is gone on with"
    queue.fail(run.number, "no room")
    queue.withdraw(1)
    assert not over(one).start_if_due(1)


def test_by_the_clock_it_waits_as_the_policy_says(tmp_path: Path) -> None:
    queue = Queue(tmp_path / "waiting")
    queue.open({"policy": record(Policy(wait_ids=3))}, "m0")
    one = Worker(queue, [sys.executable, "-S", "-c", ""])
    queue.add(["a", "b"])
    assert not one.start_if_due(1)
    queue.add(["c"])
    assert one.start_if_due(1)
    over(one)


def test_what_comes_to_nothing_is_tried_ever_more_seldom(
    queue: Queue, worker: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(room.time, "monotonic", lambda: now[0])
    queue.add(["a"])
    one = worker(FAIL)
    begun = []
    for second in range(0, 400, 10):
        now[0] = float(second)
        if one.start_if_due(10):
            begun.append(second)
            one._child.wait()  # type: ignore[union-attr]
    assert begun == [0, 10, 30, 70, 150, 310]
    queue.add(["b"])
    assert one.start_if_due(10), "something else was asked for"
