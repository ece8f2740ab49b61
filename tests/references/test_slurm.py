"""SLURM: fates of tasks by a stand-in executor; real processes by submitit's local one; arrays by stand-ins of the commands."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("submitit")

from submitit.core.utils import UncompletedJobError

from unteach.references import stages, work
from unteach.references.executors import Local, slurm
from unteach.references.executors.slurm import Slurm
from unteach.references.manifest import Manifest
from unteach.types import Refusal

FATES = {"lost": "NODE_FAIL", "preempted": "PREEMPTED", "cancelled": "CANCELLED by 1000"}


class Task:
    """A task as submitit tells of it: it did ``done`` of its jobs, and met its fate."""

    def __init__(self, function: partial[None], fate: str, done: int) -> None:
        self.function, self.state, self.cancelled, self.looks = function, FATES.get(fate, "COMPLETED"), False, 0
        do, manifest, numbers, *rest = function.args
        function.func(do, manifest, numbers if fate == "done" else numbers[:done], *rest)

    def done(self) -> bool:
        self.looks += 1
        return self.looks > 1 and self.state != "PREEMPTED"

    def cancel(self, check: bool) -> None:
        self.cancelled = True

    def stderr(self) -> str:
        return "first line\nNODE FAILURE\n\n"

    @property
    def paths(self) -> Any:
        return type("Paths", (), {"stderr": "/logs/1_0_log.err"})


class Arrays:
    """Submits arrays whose tasks meet these fates in turn, after ``done`` jobs; then all go well."""

    def __init__(self, *fates: str, done: int = 0) -> None:
        self.fates, self.done, self.arrays = iter(fates), done, list[list[Task]]()

    def submit_array(self, functions: Sequence[partial[None]]) -> list[Task]:
        self.arrays.append([Task(function, next(self.fates, "done"), self.done) for function in functions])
        return self.arrays[-1]

    @property
    def shares(self) -> list[list[list[int]]]:
        return [[task.function.args[2] for task in array] for array in self.arrays]


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The jobs that were tried, in order; job 13 always fails."""
    tried: list[int] = []

    def do(manifest: Path, number: int, *, device: str, threads: int) -> None:
        tried.append(number)
        if number == 13:
            raise Refusal("expected luck, got none; wait")

    monkeypatch.setattr(work, "do", do)
    monkeypatch.setattr(slurm, "POLL", 0.0)
    monkeypatch.setattr(slurm, "GRACE", 0.0)
    return tried


@pytest.fixture
def submit(monkeypatch: pytest.MonkeyPatch, tried: list[int], tmp_path: Path) -> Callable[..., list[int]]:
    """Runs these jobs through a stand-in executor; returns what was told."""

    def run(
        arrays: Arrays, numbers: Sequence[int], tell: Callable[[int], None] | None = None, **settings: Any
    ) -> list[int]:
        told: list[int] = []
        monkeypatch.setattr(Slurm, "_executor", lambda self, folder: arrays)
        Slurm(**settings)(tmp_path / "manifest.json", numbers, tell or told.append)
        return told

    return run


def test_jobs_are_dealt_evenly_and_told_once(submit: Callable[..., list[int]], tried: list[int]) -> None:
    arrays = Arrays()
    told = submit(arrays, range(7), at_once=3)
    assert arrays.shares == [[[0, 3, 6], [1, 4], [2, 5]]]
    assert sorted(told) == sorted(tried) == list(range(7))


def test_a_job_is_told_before_its_task_ends(submit: Callable[..., list[int]], tried: list[int]) -> None:
    arrays = Arrays()

    def tell(number: int) -> None:
        assert arrays.arrays[0][0].looks == 1  # it was last seen at work

    submit(arrays, [0, 1], tell, at_once=1)


def test_a_job_that_fails_is_named_after_the_others_are_done_and_not_tried_again(
    submit: Callable[..., list[int]], tried: list[int]
) -> None:
    with pytest.raises(Refusal, match=r"all 4 jobs .* got 1 that failed \(job 13: expected luck, got none; wait\)"):
        submit(Arrays(), [12, 13, 14, 15], at_once=1)
    assert tried == [12, 13, 14, 15]


def test_what_a_shared_folder_shows_late_is_not_lost(
    submit: Callable[..., list[int]], tried: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    arrays = Arrays("lost", "lost")  # or so it seems when they have ended

    def sleep(seconds: float) -> None:
        for task in arrays.arrays[0] if seconds == 9.0 else ():
            task.function()

    monkeypatch.setattr(slurm, "GRACE", 9.0)
    monkeypatch.setattr(slurm.time, "sleep", sleep)
    assert submit(arrays, [0, 1], at_once=2) == [0, 1]
    assert len(arrays.arrays) == 1


@pytest.mark.parametrize("fate", ["lost", "preempted"])
def test_what_a_task_lost_is_dealt_out_again(fate: str, submit: Callable[..., list[int]], tried: list[int]) -> None:
    arrays = Arrays("done", fate, done=1)
    told = submit(arrays, range(8), at_once=2)
    # The second task did job 1 of 1, 3, 5, 7 and was lost.
    assert arrays.shares == [[[0, 2, 4, 6], [1, 3, 5, 7]], [[3, 7], [5]]]
    assert sorted(told) == sorted(tried) == list(range(8))
    assert [task.cancelled for task in arrays.arrays[0]] == [False, fate == "preempted"]


def test_what_is_lost_again_and_again_fails_with_the_end_of_its_log(
    submit: Callable[..., list[int]], tried: list[int]
) -> None:
    arrays = Arrays(*["lost"] * 9)
    with pytest.raises(Refusal, match=r"2 that failed \(job 0: .*NODE FAILURE, see /logs/1_0_log.err"):
        submit(arrays, [0, 1], at_once=1, retries=2)
    assert len(arrays.arrays) == 3


def test_what_somebody_cancelled_is_not_submitted_again(submit: Callable[..., list[int]], tried: list[int]) -> None:
    arrays = Arrays("cancelled")
    with pytest.raises(Refusal, match="1 that failed"):
        submit(arrays, [0, 1], at_once=2)
    assert (tried, len(arrays.arrays)) == ([1], 1)


def test_being_stopped_cancels_what_runs(submit: Callable[..., list[int]], tried: list[int]) -> None:
    arrays = Arrays()

    def stop(number: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        submit(arrays, range(4), stop, at_once=2)
    assert all(task.cancelled for task in arrays.arrays[0])


def test_the_time_limit_is_no_failure_of_the_job(tmp_path: Path) -> None:
    def do(manifest: Path, number: int, *, device: str, threads: int) -> None:
        if number == 1:
            raise UncompletedJobError("timed-out")  # as submitit's signal handler does

    with pytest.raises(UncompletedJobError):
        slurm._work_off(do, tmp_path / "manifest.json", [0, 1, 2], tmp_path, "cpu", 1)
    assert [path.name for path in tmp_path.iterdir()] == ["0.json"]


@pytest.mark.parametrize(
    "settings", [{"minutes": 1}, {"cpus": 0}, {"gpus": 2}, {"at_once": 0}, {"retries": -1}, {"cluster": "pbs"}], ids=str
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(Refusal, match=f"expected {next(iter(settings))}"):
        Slurm(**settings)


def test_without_submitit_or_sbatch_a_sentence_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Refusal, match="got no sbatch nor srun nor sacct"):
        Slurm()(tmp_path / "manifest.json", [0], print)
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(Refusal, match=r"pip install 'unteach\[slurm\]'"):
        Slurm()(tmp_path / "manifest.json", [0], print)


def test_no_jobs_submit_nothing(tmp_path: Path) -> None:
    Slurm()(tmp_path / "manifest.json", [], print)
    assert not list(tmp_path.iterdir())


def dies_once(reason: int) -> Callable[..., None]:
    """Work that is killed at its first try of job 1. Made here, so that it is pickled whole and needs no module there."""

    def do(manifest: Path, number: int, *, device: str, threads: int) -> None:
        import os
        import signal

        marks = manifest.parent / f"{number}.tries"
        with marks.open("a") as file:
            file.write(f"{device}-{threads} ")
        if number == 1 and len(marks.read_text().split()) == 1:
            os.kill(os.getpid(), reason)
            signal.pause()

    return do


def test_tasks_run_in_processes_and_a_killed_one_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slurm, "POLL", 0.1)
    monkeypatch.setattr(work, "do", dies_once(9))
    told: list[int] = []
    Slurm(cluster="local", at_once=1, cpus=2)(tmp_path / "manifest.json", [0, 1, 2], told.append)
    assert told == [0, 1, 2]
    tries = {path.stem: path.read_text() for path in tmp_path.glob("*.tries")}
    assert tries == {"0": "cpu-2 ", "1": "cpu-2 cpu-2 ", "2": "cpu-2 "}


@pytest.mark.slow
def test_tasks_make_the_bytes_of_one_process(make: Callable[..., Manifest], tmp_path: Path) -> None:
    here, there = make(tmp_path / "here"), make(tmp_path / "there")
    assert stages.run(here.write(), Local(workers=1, device="cpu")) == []
    assert stages.run(there.write(), Slurm(cluster="local", at_once=2)) == []
    for key in here.keys:
        one, other = (manifest.cache.record(key).logits for manifest in (here, there))
        assert one == other
        assert there.cache.has_logits(key, 1, closely=True)


COMMANDS = {
    "sbatch": r"""
        id=$((100 + $(ls "$here/jobs" | wc -l)))
        mkdir "$here/jobs/$id" && cp "$1" "$here/jobs/$id/script"
        last=$(sed -n 's/^#SBATCH --array=0-\([0-9]*\)%.*/\1/p' "$1")
        for k in $(seq 0 "$last"); do
          echo RUNNING > "$here/jobs/$id/$k"
          (SLURM_JOB_ID=$((id + 1000 * k + 1000)) SLURM_ARRAY_JOB_ID=$id SLURM_ARRAY_TASK_ID=$k bash "$here/jobs/$id/script"
           code=$?; [ $code = 137 ] && state=PREEMPTED || state=COMPLETED; echo $state > "$here/jobs/$id/$k"
          ) > /dev/null 2>&1 &
        done
        echo "Submitted batch job $id" """,
    "srun": r"""
        while [[ "$1" == --* ]]; do
          case "$1" in --output) out=$2; shift 2;; --error) err=$2; shift 2;; *) shift;; esac
        done
        fill() { echo "$1" | sed "s/%A/$SLURM_ARRAY_JOB_ID/; s/%a/$SLURM_ARRAY_TASK_ID/; s/%t/0/"; }
        exec "$@" >> "$(fill "$out")" 2>> "$(fill "$err")" """,
    "sacct": r"""
        echo "JobID|State|NodeList"
        cd "$here/jobs" && for task in */[0-9]*; do echo "${task/\//_}|$(cat "$task")|here"; done""",
    "scancel": r"""echo "$@" >> "$here/cancelled" """,
}


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A SLURM of one machine: its commands as short scripts; a killed task counts as preempted and stays so."""
    from submitit.slurm.slurm import SlurmJob

    bin = tmp_path / "bin"
    (bin / "jobs").mkdir(parents=True)
    for name, body in COMMANDS.items():
        (bin / name).write_text(f'#!/bin/bash\nhere="{bin}"\n{body}\n')
        (bin / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(bin), prepend=os.pathsep)
    yield bin
    SlurmJob.watcher.clear()


@pytest.mark.slow
def test_an_array_is_submitted_watched_and_submitted_again(
    cluster: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slurm, "POLL", 0.2)
    monkeypatch.setattr(slurm, "GRACE", 0.5)
    monkeypatch.setattr(work, "do", dies_once(9))
    told: list[int] = []
    Slurm(partition="night", minutes=7, cpus=3, gpus=1, at_once=2)(tmp_path / "manifest.json", range(6), told.append)
    assert sorted(told) == list(range(6))
    # The second task held 1, 3 and 5 and died of job 1: all three come again.
    tries = {path.stem: path.read_text().split() for path in tmp_path.glob("*.tries")}
    assert tries == {"0": ["cuda-3"], "1": ["cuda-3"] * 2} | {str(k): ["cuda-3"] for k in (2, 3, 4, 5)}
    first = (cluster / "jobs" / "100" / "script").read_text()
    for line in ("partition=night", "time=7", "cpus-per-task=3", "gpus-per-node=1", "array=0-1%2", "signal=USR2@30"):
        assert f"#SBATCH --{line}\n" in first
    assert "--cpus-per-task=3 " in first.partition("srun --unbuffered")[2]
    assert sorted(path.name for path in (cluster / "jobs").iterdir()) == ["100", "101"]
    assert (cluster / "cancelled").read_text() == "100_1\n"
