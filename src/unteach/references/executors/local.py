"""Workers on this machine: long-lived processes of one thread each, or this process alone."""

from __future__ import annotations

import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path

import torch

from unteach.data.augment import LATER
from unteach.references import work
from unteach.references.executors.outcome import attempt, refusal
from unteach.runtime import settle_allocator
from unteach.types import Refusal


@dataclass(frozen=True, kw_only=True)
class Local:
    """Do the jobs on this machine, several at a time.

    Each worker is a process that loads the data once and does job after job; which worker does a job doesn't change its bytes.
    One worker, or a single job, works in this process. A worker that dies (out of memory, killed) is replaced once and its job
    done again.

    On GPUs workers are dealt to the visible cards in turn, each with a CUDA context (some 0.5 GiB) and the data of its own on
    its card. One that finds no room there leaves, and its job waits for the others. Without NVIDIA's multi-process service
    (nvidia-cuda-mps-control -d) workers on one card take turns rather than work at the same moment.
    """

    workers: int = 0
    """Processes, 1 or more; 0 for one a core, or on GPUs one a slot."""
    threads: int = 1
    """CPU threads of each, 1 or more; another number may change the last bits of a model."""
    slots: int = 1
    """Models at a time on one GPU, 1 or more; small networks leave room for several."""
    device: str = "auto"
    """auto (GPUs if there are any), cpu or cuda."""
    compile: bool = field(default=False, metadata=LATER)
    """Whether networks are compiled for training, on a GPU with each step as one CUDA graph: once a worker for all networks
    of one architecture. It changes the last digits."""

    def __post_init__(self) -> None:
        for name, low in (("workers", 0), ("threads", 1), ("slots", 1)):
            if getattr(self, name) < low:
                raise Refusal(f"expected {name} to be {low} or more, got {getattr(self, name)}; give a larger number")
        if self.device not in ("auto", "cpu", "cuda"):
            raise Refusal(f"expected device auto, cpu or cuda, got {self.device!r}; choose one of these")

    @property
    def places(self) -> int:
        """How many models are made at a time."""
        if self.workers:
            return self.workers
        return max(1, self._cards * self.slots if self._cards else _cores() // self.threads)

    @property
    def _cards(self) -> int:
        return 0 if self.device == "cpu" else torch.cuda.device_count()

    def __call__(self, manifest: Path, numbers: Sequence[int], tell: Callable[[int], None]) -> None:
        """Do these jobs; see ``Executor``."""
        if self.device == "cuda" and not self._cards:
            raise Refusal("expected GPUs for executor device cuda, got none that torch can see; give cpu")
        places = min(self.places, len(numbers))
        if places <= 1:
            failed = self._here(manifest, numbers, tell)
        else:
            failed = _Pool(self, manifest, numbers, tell).work(places)
        if failed:
            raise refusal(failed, len(numbers))

    def _here(self, manifest: Path, numbers: Sequence[int], tell: Callable[[int], None]) -> dict[int, str]:
        failed = {}
        for number in numbers:
            reason = attempt(partial(work.do, compiles=self.compile), manifest, number, self.device, self.threads)
            if reason is None:
                tell(number)
            else:
                failed[number] = reason
        return failed


@dataclass
class _Worker:
    place: int
    process: BaseProcess
    pipe: Connection
    job: int | None = None


@dataclass
class _Pool:
    """The workers of one call, what they are at, and what is still to be done."""

    settings: Local
    manifest: Path
    numbers: Sequence[int]
    tell: Callable[[int], None]
    workers: dict[Connection, _Worker] = field(default_factory=dict)
    failed: dict[int, str] = field(default_factory=dict)
    spare: int = 1  # how many dead workers are replaced

    def work(self, places: int) -> dict[int, str]:
        """All jobs; returns why some failed."""
        self.waiting = deque(self.numbers)
        try:
            with _inherited(OMP_NUM_THREADS=str(self.settings.threads)):
                for place in range(places):
                    self._hire(place)
                while any(worker.job is not None for worker in self.workers.values()):
                    for pipe in wait(list(self.workers)):
                        self._hear(self.workers[pipe])  # type: ignore[index]
        finally:
            for worker in self.workers.values():
                worker.pipe.close()  # the end of its work
                worker.process.terminate()
            for worker in self.workers.values():
                worker.process.join()
        return self.failed | dict.fromkeys(self.waiting, "no worker was left to do it")

    def _hire(self, place: int) -> None:
        ours, theirs = get_context("spawn").Pipe()
        card = place % self.settings._cards if self.settings._cards else None
        arguments = (theirs, self.manifest, self.settings, card)
        process = get_context("spawn").Process(target=serve, args=arguments, name=f"worker {place}", daemon=True)
        process.start()
        theirs.close()  # so that its death ends the pipe
        self.workers[ours] = _Worker(place, process, ours)
        self._give(self.workers[ours])

    def _give(self, worker: _Worker) -> None:
        worker.job = self.waiting.popleft() if self.waiting else None
        if worker.job is not None:
            with suppress(OSError):  # it is dead: its pipe ends, which is heard
                worker.pipe.send(worker.job)

    def _hear(self, worker: _Worker) -> None:
        try:
            number, reason, full = worker.pipe.recv()
        except (EOFError, OSError):
            self._bury(worker)
            return
        if full and len(self.workers) > 1:
            self._release(worker, reason)
            return
        if reason is None:
            self.tell(number)
        else:
            self.failed[number] = reason
        self._give(worker)

    def _release(self, worker: _Worker, reason: str) -> None:
        """Let a worker go for which its card has no room; what it leaves free may be what the others lack."""
        print(f"unteach: {worker.process.name} leaves at job {worker.job}: {reason}", file=sys.stderr, flush=True)
        assert worker.job is not None
        self.waiting.appendleft(worker.job)
        del self.workers[worker.pipe]
        worker.pipe.close()
        worker.process.join()
        for idle in [one for one in self.workers.values() if one.job is None]:
            self._give(idle)

    def _bury(self, worker: _Worker) -> None:
        del self.workers[worker.pipe]
        worker.process.join()
        job, how = worker.job, _death(worker.process.exitcode)
        print(f"unteach: {worker.process.name} {how} while at job {job}", file=sys.stderr, flush=True)
        if job is None:
            return
        if self.spare:
            self.spare -= 1
            self.waiting.appendleft(job)
            self._hire(worker.place)
        else:
            self.failed[job] = f"the worker {how}; try fewer workers"


def serve(pipe: Connection, manifest: Path, settings: Local, card: int | None) -> None:
    """A worker's life: jobs from the pipe, answers into it, until it is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent ends the workers
    if card is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = visible(card, os.environ.get("CUDA_VISIBLE_DEVICES"))
    settle_allocator()
    torch.set_num_threads(settings.threads)
    do = partial(work.do, compiles=settings.compile)
    try:
        while True:
            number = pipe.recv()
            try:
                reason = attempt(
                    do, manifest, number, settings.device, settings.threads, through=(torch.OutOfMemoryError,)
                )
                pipe.send((number, reason, False))
            except torch.OutOfMemoryError as error:
                told = str(error).partition(". ")[0]
                pipe.send((number, f"no room on its card ({told}); give fewer executor slots or workers", True))
    except (EOFError, OSError):  # the parent closed the pipe, or died
        return


def visible(card: int, told: str | None) -> str:
    """What CUDA_VISIBLE_DEVICES must say for a process to see this card alone, of those that it says now."""
    return told.split(",")[card].strip() if told else str(card)


def _death(code: int | None) -> str:
    if code is None or code >= 0:
        return f"ended with exit code {code}"
    name = signal.Signals(-code).name
    return f"was killed by {name}" + (", perhaps for want of memory" if name == "SIGKILL" else "")


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def _inherited(**variables: str) -> Iterator[None]:
    """Environment variables for the processes that are started meanwhile: OpenMP reads its own as torch is loaded."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
