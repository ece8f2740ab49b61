"""Jobs as a SLURM job array, submitted by submitit."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from unteach.references import work
from unteach.runtime import settle_allocator
from unteach.store import read_json, write_json
from unteach.types import Refusal
from unteach.workers import attempt, refusal

if TYPE_CHECKING:
    from submitit import AutoExecutor, Job

POLL = 1.0  # seconds between two looks at the folder
GRACE = 15.0  # seconds in which a shared file system shows everyone what one machine wrote
NOTICE = 30  # seconds before its time limit that SLURM warns a task, and up to 60 earlier


@dataclass(frozen=True, kw_only=True)
class Slurm:
    """Deal the jobs evenly to the tasks of a SLURM job array.

    A task does its jobs one after the other and loads the data once. Beside its logs it leaves a small file for each job,
    which the waiting process reads: a job is told when it is done, not when its task ends. What was lost because tasks were
    preempted, ran out of time or died is dealt out and submitted again, ``retries`` times; what a job itself raises would
    come again and is not tried twice, nor is what somebody cancelled. Stopping the waiting process cancels the array.

    Manifest, cache folder, data and ``folder`` are on a file system that all machines share. What else a cluster asks for
    is given by sbatch's own variables, such as SBATCH_ACCOUNT or SBATCH_QOS.
    """

    partition: str = ""
    """Partition of the cluster; left out, its usual one."""
    minutes: int = 60
    """Time limit of a task, in minutes, 2 or more: enough for its share of the jobs."""
    cpus: int = 1
    """Processor cores of a task, 1 or more, and the threads it computes with: another number may change the last bits."""
    gpus: int = 0
    """GPUs of a task, 0 or 1; with 0 networks are trained on processor cores."""
    at_once: int = 64
    """Tasks at most, 1 or more; on this machine (cluster local) no more than its cores allow."""
    retries: int = 1
    """How often lost jobs are submitted again, 0 or more."""
    folder: Path | None = None
    """Folder for logs, on the shared file system; left out, slurm beside the manifest."""
    cluster: str = "slurm"
    """Where tasks run: slurm, or local for processes on this machine."""

    def __post_init__(self) -> None:
        for name, low in (("minutes", 2), ("cpus", 1), ("gpus", 0), ("at_once", 1), ("retries", 0)):
            if getattr(self, name) < low:
                raise Refusal(f"expected {name} to be at least {low}, got {getattr(self, name)}; choose a larger one")
        if self.gpus > 1:
            raise Refusal(f"expected gpus to be 0 or 1, got {self.gpus}; a job computes on one device")
        if self.cluster not in ("slurm", "local"):
            raise Refusal(f"expected cluster to be slurm or local, got {self.cluster!r}; choose one of these")

    @property
    def places(self) -> int:
        """How many tasks there are at most, each with one job at a time."""
        if self.cluster == "slurm":
            return self.at_once
        return max(1, min(self.at_once, (os.cpu_count() or 1) // self.cpus))

    def __call__(self, manifest: Path, numbers: Sequence[int], tell: Callable[[int], None]) -> None:
        """Do these jobs of the manifest, and tell each that is done.

        Raises: Refusal naming the failed jobs and their reasons, after all others are done.
        """
        if not numbers:
            return
        folder = self._new_folder(manifest)
        executor = self._executor(folder)
        board = _Board(folder, numbers, tell)
        lost: dict[int, str] = {}
        for _ in range(1 + self.retries):
            if board.open:
                lost = self._submit_and_wait(executor, manifest.absolute(), board)
        failed = board.failed | {number: lost[number] for number in board.open}
        if failed:
            raise refusal(failed, len(numbers))

    def _submit_and_wait(self, executor: AutoExecutor, manifest: Path, board: _Board) -> dict[int, str]:
        """One array for the jobs that are open; which of them it lost, and how."""
        running = self._submit(executor, manifest, board)
        lost: dict[int, str] = {}
        try:
            while running:
                time.sleep(POLL)
                # submitit waits for a preempted task to be put back into the queue, which not every cluster does.
                ended = [job for job in running if job.done() or job.state == "PREEMPTED"]
                board.read()
                if self.cluster == "slurm" and any(board.open.intersection(running[job]) for job in ended):
                    time.sleep(GRACE)
                    board.read()
                for job in ended:
                    missing = board.open.intersection(running.pop(job))
                    if missing:
                        reasons = dict.fromkeys(missing, _end_of(job))
                        if job.state.startswith("CANCELLED"):
                            board.fail(reasons)
                        elif not job.done():
                            job.cancel(check=False)
                        lost |= reasons
        finally:
            for job in running:
                job.cancel(check=False)
        return lost

    def _submit(self, executor: AutoExecutor, manifest: Path, board: _Board) -> dict[Job[None], list[int]]:
        """An array of tasks, each with its share of the open jobs."""
        jobs = sorted(board.open)
        shares = [jobs[first :: self.places] for first in range(min(self.places, len(jobs)))]
        device = "cuda" if self.gpus else "cpu"
        tasks = [partial(_work_off, work.do, manifest, share, board.folder, device, self.cpus) for share in shares]
        try:
            return dict(zip(executor.submit_array(tasks), shares))
        except RuntimeError as error:  # sbatch's own words
            raise Refusal(f"expected sbatch to take {len(shares)} tasks, got: {error}; change the settings") from error

    def _executor(self, folder: Path) -> AutoExecutor:
        try:
            from submitit import AutoExecutor
        except ImportError as error:
            raise Refusal("expected the package submitit, got none; pip install 'unteach[slurm]'") from error
        missing = [command for command in ("sbatch", "srun", "sacct", "scancel") if shutil.which(command) is None]
        if self.cluster == "slurm" and missing:
            raise Refusal(
                f"expected the commands of SLURM, got no {' nor '.join(missing)}; "
                "run this where sbatch works, such as a login node, or give cluster local"
            )
        executor = AutoExecutor(folder=folder, cluster=self.cluster)
        executor.update_parameters(
            name="unteach",
            timeout_min=self.minutes,
            cpus_per_task=self.cpus,
            gpus_per_node=self.gpus or None,
            slurm_partition=self.partition or None,
            slurm_signal_delay_s=NOTICE,
            # Since SLURM 22.05 a step does not take over the cores of its job.
            slurm_srun_args=[f"--cpus-per-task={self.cpus}"],
        )
        return executor

    def _new_folder(self, manifest: Path) -> Path:
        """A folder of this run alone, so that what another run left is not read as its own."""
        logs = (self.folder or manifest.parent / "slurm").absolute()
        try:
            logs.mkdir(parents=True, exist_ok=True)
            return Path(tempfile.mkdtemp(prefix=time.strftime("%Y%m%d-%H%M%S-"), dir=logs))
        except OSError as error:
            raise Refusal(
                f"expected to be able to write to {logs}, got: {error.strerror}; choose another folder"
            ) from error


class _Board:
    """What tasks pinned up about their jobs: open until a job is told as done or failed."""

    def __init__(self, folder: Path, numbers: Sequence[int], tell: Callable[[int], None]) -> None:
        self.folder, self.open, self.failed, self._tell = folder, set(numbers), dict[int, str](), tell

    def read(self) -> None:
        """Tell the jobs that were done since, and note those that failed."""
        for number in sorted(self.open.intersection(int(path.stem) for path in self.folder.glob("*.json"))):
            reason = read_json(self.folder / f"{number}.json")
            if reason is None:
                self.open.remove(number)
                self._tell(number)
            else:
                self.fail({number: reason})

    def fail(self, reasons: Mapping[int, str]) -> None:
        """Jobs that are not to be done again."""
        self.failed |= reasons
        self.open -= reasons.keys()


def _work_off(
    do: Callable[..., None], manifest: Path, numbers: Sequence[int], folder: Path, device: str, threads: int
) -> None:
    """A task of the array: its jobs in turn, each with a file that says how it ended."""
    from submitit.core.utils import UncompletedJobError

    settle_allocator()
    for number in numbers:
        # At the time limit a signal of submitit's raises this wherever the job stands: it is the task that failed.
        job = partial(do, manifest, number, device=device, threads=threads)
        reason = attempt(job, through=(UncompletedJobError,))
        write_json(folder / f"{number}.json", reason)


def _end_of(job: Job[None]) -> str:
    """How a task ended without having done its jobs: the last line of its log, or what SLURM calls it."""
    lines = (job.stderr() or "").strip().splitlines()
    return f"its task was lost: {lines[-1] if lines else job.state}, see {job.paths.stderr}"
