"""Who does the jobs: one process, several, shares, and processes that are killed; always the same bytes."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import pytest

from unteach.data import DataSet
from unteach.events import Events
from unteach.references import Local, Manifest, Shard, run
from unteach.references.manifest import read
from unteach.types import Refusal

ONE = Local(workers=1, device="cpu")


def test_two_shards_are_as_one(logits: Any, make: Any, whole: Manifest, tmp_path: Path) -> None:
    manifest = make(tmp_path)
    path = manifest.write()
    assert run(path, Shard(index=1, of=2, local=ONE)) == [0, 2, 4, 6], "families stay together"
    assert run(path, Shard(index=0, of=2, local=ONE)) == []
    assert logits(manifest) == logits(whole)
    with pytest.raises(Refusal, match="index from 0 to 1"):
        Shard(index=2, of=2)


@pytest.fixture
def pool(quick_processes: ForkServerContext, monkeypatch: pytest.MonkeyPatch) -> Local:
    """Two workers; as real processes as spawned ones."""
    monkeypatch.setattr("unteach.workers.get_context", lambda kind: quick_processes)
    return Local(workers=2, device="cpu")


def test_two_workers_are_as_one(logits: Any, make: Any, whole: Manifest, pool: Local, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    manifest = make(tmp_path)
    events = Events(tmp_path / "events.jsonl", lambda label, done, total: told.append((done, total)))
    assert run(manifest.write(), pool, events) == []
    assert logits(manifest) == logits(whole)
    assert told[-1] == (8, 8)
    lines = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert sorted(line["number"] for line in lines if line["event"] == "model") == list(range(8))


def test_a_killed_worker_is_replaced_once(
    logits: Any, make: Any, whole: Manifest, pool: Local, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    manifest = make(tmp_path)
    blows = iter([1, 0, 0, 0])

    def tell(number: int) -> None:
        if next(blows):
            os.kill(multiprocessing.active_children()[0].pid or 0, signal.SIGKILL)

    pool(manifest.write(), [0, 1, 2, 3], tell)
    assert manifest.left() == [4, 5, 6, 7]
    assert "was killed by SIGKILL" in capfd.readouterr().err

    def always(number: int) -> None:
        for child in multiprocessing.active_children():
            os.kill(child.pid or 0, signal.SIGKILL)

    with pytest.raises(Refusal, match="expected all 4 jobs to be done"):
        pool(manifest.write(), [4, 5, 6, 7], always)
    assert not multiprocessing.active_children()
    assert run(manifest.write(), ONE) == []
    assert logits(manifest) == logits(whole)


def test_ctrl_c_ends_the_workers(make: Any, pool: Local, tmp_path: Path) -> None:
    def stop(number: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pool(make(tmp_path).write(), [0, 1, 2, 3], stop)
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("workers", [1, 2])
def test_a_job_that_fails_is_named_after_the_others(
    workers: int, make: Any, whole: Manifest, data: DataSet, pool: Local, tmp_path: Path
) -> None:
    broken = replace(
        whole.jobs[1], recipe=replace(whole.jobs[1].recipe, optim=replace(whole.jobs[1].recipe.optim, lr=1e30))
    )  # type: ignore[union-attr]
    manifest = make(tmp_path, jobs=(whole.jobs[0], broken, whole.jobs[2]))
    with pytest.raises(Refusal, match=r"all 3 jobs to be done, got 1 .*job 1: expected a finite loss"):
        run(manifest.write(), replace(pool, workers=workers))
    assert manifest.left() == [1]


def test_two_processes_at_the_same_manifest(
    logits: Any, make: Any, whole: Manifest, quick_processes: ForkServerContext, tmp_path: Path
) -> None:
    manifest = make(tmp_path)
    both = [quick_processes.Process(target=run, args=(manifest.write(), ONE)) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join()
    assert [process.exitcode for process in both] == [0, 0]
    assert logits(manifest) == logits(whole)
    assert manifest.left() == []
    assert all(manifest.cache.whole(record, closely=True) for record in manifest.cache.records())


def test_killed_anywhere_it_goes_on(
    logits: Any, make: Any, whole: Manifest, quick_processes: ForkServerContext, tmp_path: Path
) -> None:
    manifest = make(tmp_path)
    path, dice, killed = manifest.write(), random.Random(4), 0

    def written() -> int:
        return sum(len(names) for _, _, names in os.walk(tmp_path))  # which lets folders vanish meanwhile

    for _ in range(6):
        # Killed by what it has done, not by the clock: a quick machine would be through in a second.
        end = written() + dice.randint(1, 4)
        process = quick_processes.Process(target=run, args=(path, ONE))
        process.start()
        while process.is_alive() and written() < end:
            time.sleep(0.001)
        killed += process.is_alive()
        process.kill()
        process.join()
        for record in manifest.cache.records():  # whatever counts as done is whole
            assert manifest.cache.whole(record, closely=True)
    assert killed >= 3
    assert run(path, ONE) == []
    assert logits(manifest) == logits(whole)
    assert not list(manifest.cache.leftovers(0)) or killed


@pytest.mark.slow
def test_the_command_killed_at_twenty_points(logits: Any, tmp_path: Path) -> None:
    """The verb itself on the digits, with two spawned workers: SIGKILL to the whole group, then on to the end."""
    asked = ["references", "--halves", "32", "--shadows", "1", "--shadow_size", "60", "--method", "finetune"]
    asked += ["--optim.epochs", "2", "--recipe.optim.epochs", "6", "--precision", "fp32", "--executor.device", "cpu"]

    def command(folder: Path, workers: int) -> list[str]:
        more = ["--folder", str(folder), "--executor.workers", str(workers)]
        return [sys.executable, "-m", "unteach.cli", *asked, *more]

    def files() -> set[Path]:
        return {Path(folder, name) for folder, _, names in os.walk(tmp_path / "struck") for name in names}

    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    assert subprocess.run(command(tmp_path / "whole", 1), env=environment, check=False).returncode == 0
    dice, killed = random.Random(0), 0
    for _ in range(20):
        before = files()
        process = subprocess.Popen(command(tmp_path / "struck", 2), env=environment, start_new_session=True)
        while process.poll() is None and len(files() - before) < 2:  # its workers are at work
            time.sleep(0.01)
        time.sleep(dice.uniform(0, 1))
        killed += process.poll() is None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert killed >= 15
    assert subprocess.run(command(tmp_path / "struck", 2), env=environment, check=False).returncode == 0
    [one], [other] = (list((tmp_path / name / "manifests").glob("*.json")) for name in ("whole", "struck"))
    assert one.name == other.name
    assert logits(read(one)) == logits(read(other))
