"""Two processes on one queue, a clock that goes back, and what must be on the disk before what."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from unteach.ledger import Ledger, Queue
from verbs.conftest import Case, Ran

FAST = ("--device", "cpu", "--precision", "fp32", "--threads", "1")
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}
# Adds requests one after the other, as a user with a loop would, but for the start of Python.
ADDER = """
import sys
from unteach.cli import main
queue, start, ids = sys.argv[1], int(sys.argv[2]), sys.argv[3]
for number in range(start, start + 50):
    open(ids, "w").write(f"record {number}\\n")
    assert main(["request", "add", "--queue", queue, "--ids", ids, "--key", f"{start} {number}"]) == 0
"""


@pytest.fixture
def queue(case: Case, tmp_path: Path, run: Callable[..., Ran]) -> Queue:
    method = ("--method", "finetune", "--optim.epochs", "1", "--optim.batch", "16", "--budget.drop", "100")
    opened = ("--checkpoint", case.original, "--data", case.data, *FAST, *method)
    assert run("request", "open", "--queue", tmp_path / "queue", *opened).code == 0
    return Queue(tmp_path / "queue")


def test_one_runs_and_the_other_says_so(queue: Queue, run: Callable[..., Ran]) -> None:
    queue.add(["record 1"])
    there, here = os.pipe()
    child = os.fork()
    if not child:
        with queue.runner():
            os.write(here, b"x")
            signal.pause()
    os.read(there, 1)
    run("request", "run", "--queue", queue.folder, *FAST).refused("nobody else to run", "wait for it")
    assert queue.state().runs == ()
    assert queue.add(["record 2"]).number == 2, "requests come in meanwhile"
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert run("request", "run", "--queue", queue.folder, *FAST).code == 0
    assert [each.status for each in queue.state().requests] == ["done", "done"]
    for end in (there, here):
        os.close(end)


@pytest.mark.slow
def test_two_run_at_once(queue: Queue) -> None:
    for number in range(3):
        queue.add([f"record {number}"])
    command = [sys.executable, "-m", "unteach.cli", "request", "run", "--queue", str(queue.folder), *FAST]
    both = [subprocess.Popen(command, stderr=subprocess.PIPE, env=ENVIRONMENT, text=True) for _ in range(2)]
    told = [child.communicate()[1] for child in both]
    codes = [child.returncode for child in both]
    assert sorted(codes) == [0, 2], told
    assert told[codes.index(2)].startswith("unteach: expected nobody else to run")
    assert [(each.requests, each.status) for each in queue.state().runs] == [((n,), "accepted") for n in (1, 2, 3)]


@pytest.mark.slow
def test_two_add_fifty_each(queue: Queue, tmp_path: Path) -> None:
    both = []
    for start in (0, 46):
        command = [sys.executable, "-c", ADDER, str(queue.folder), str(start), str(tmp_path / f"{start}.txt")]
        both.append(
            subprocess.Popen(command, env=ENVIRONMENT, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
        )
    for child in both:
        told = child.communicate()[1]
        assert child.returncode == 0, told
    requests = queue.state().requests
    assert [each.number for each in requests] == list(range(1, 101))
    assert {each.key for each in requests} == {f"{start} {start + number}" for start in (0, 46) for number in range(50)}
    assert all(queue.ids(each) == [f"record {each.key.split()[1]}"] for each in requests)
    assert queue.ledger.faults() == []


def test_a_clock_that_goes_back(queue: Queue, run: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch) -> None:
    at = datetime(2027, 3, 1, tzinfo=UTC)

    class Clock(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:  # type: ignore[override]
            return at

    monkeypatch.setattr("unteach.ledger.chain.datetime", Clock)
    due = {"due": "2027-02-01"}
    queue.add(["record 1"], due="2027-03-31")
    at -= timedelta(days=400)
    queue.add(["record 2"], **due)
    assert not queue.state().requests[1].overdue(queue.clock())
    assert run("request", "run", "--queue", queue.folder, *FAST).code == 0
    at += timedelta(days=500)
    assert run("request", "add", "--queue", queue.folder, "--ids", "random:2", *FAST).code == 0
    state = queue.state()
    assert [each.number for each in state.requests] == [1, 2, 3]
    assert [(each.requests, each.parent) for each in state.runs] == [((1,), 0), ((2,), 1)], "in the order they came"
    told = run("request", "status", "--queue", queue.folder).out
    assert told.count("the clock said 2026-01-25") == 1
    assert "order is by number" in told
    assert Ledger(queue.folder / "ledger.sqlite").faults() == []


def test_a_model_is_on_the_disk_before_the_ledger_tells_of_it(
    queue: Queue, run: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file and its name, or a power cut may leave a run that is over and has no model."""
    queue.add(["record 1"])
    synced: list[int] = []
    told: list[set[Path]] = []
    fsync, finish = os.fsync, Queue.finish

    def syncing(handle: int) -> None:
        fsync(handle)
        synced.append(os.fstat(handle).st_ino)

    def finishing(self: Queue, number: int, *more: Any) -> Any:
        folder = self.run_folder(number)
        needed = {folder / "model.safetensors", folder, folder.parent, self.folder}
        told.append({path for path in needed if path.stat().st_ino not in synced})
        return finish(self, number, *more)

    monkeypatch.setattr(os, "fsync", syncing)
    monkeypatch.setattr(Queue, "finish", finishing)
    assert run("request", "run", "--queue", queue.folder, *FAST).code == 0
    assert told == [set()]
