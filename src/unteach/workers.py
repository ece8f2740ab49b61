"""Processes of this machine that work off numbered jobs, each on cores or a card of its own."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache, partial
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

import torch

from unteach.runtime import settle_allocator
from unteach.types import Refusal

Do = Callable[[int], None]


@dataclass(frozen=True, kw_only=True)
class Workers:
    """``places`` processes with ``threads`` CPU threads each; with ``cards`` GPUs dealt to them in turn.

    A process lives as long as there are jobs: what takes long to load is loaded once. One that dies (out of memory, killed) is
    replaced once and its job done again. One that finds no room on its card leaves, and its job waits for the others.
    """

    places: int
    threads: int = 1
    cards: int = 0

    def __call__(self, begin: Callable[[], Do], numbers: Sequence[int], tell: Callable[[int], None]) -> dict[int, str]:
        """Do these jobs, in this order but for what others are at; returns why some failed, by number.

        ``begin`` goes to each process by pickle and is called there once; it returns what does one job. ``tell`` is called here
        as each is done.
        """
        return _Pool(self, begin, numbers, tell).work()


def attempt(do: Callable[[], None], *, through: tuple[type[Exception], ...] = ()) -> str | None:
    """Do one job in this process; why it failed, or None.

    The reason comes back as text: not every exception can be pickled, and a machine that fails must look different.
    ``through``: exceptions that say nothing about the job and are let through.
    """
    try:
        do()
    except through:
        raise
    except Refusal as refusal:
        return str(refusal)
    except Exception as error:  # a user's own code fails in any way it likes, and the other jobs go on
        traceback.print_exc()
        return f"{type(error).__name__}: {error}"
    return None


def refusal(failed: Mapping[int, str], total: int, names: Mapping[int, str] | None = None) -> Refusal:
    """What to raise for jobs that failed, with the reason of each of the first three; ``names``: what to call them."""
    told = {number: names[number] if names else f"job {number}" for number in sorted(failed)}
    shown = "; ".join(f"{told[number]}: {failed[number]}" for number in list(told)[:3])
    more = f"; and {len(failed) - 3} more" if len(failed) > 3 else ""
    return Refusal(
        f"expected all {total} jobs to be done, got {len(failed)} that failed ({shown}{more}); do them again"
    )


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass
class _Worker:
    place: int
    process: BaseProcess
    pipe: Connection
    job: int | None = None


@dataclass
class _Pool:
    """The workers of one call, what they are at, and what is still to be done."""

    settings: Workers
    begin: Callable[[], Do]
    numbers: Sequence[int]
    tell: Callable[[int], None]
    workers: dict[Connection, _Worker] = field(default_factory=dict)
    failed: dict[int, str] = field(default_factory=dict)
    spare: int = 1  # how many dead workers are replaced

    def work(self) -> dict[int, str]:
        """All jobs; returns why some failed."""
        self.waiting = deque(self.numbers)
        try:
            with _inherited(OMP_NUM_THREADS=str(self.settings.threads)):
                for place in range(self.settings.places):
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
        card = place % self.settings.cards if self.settings.cards else None
        arguments = (theirs, self.begin, self.settings.threads, card)
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


def serve(pipe: Connection, begin: Callable[[], Do], threads: int, card: int | None) -> None:
    """A worker's life: jobs from the pipe, answers into it, until it is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent ends the workers
    if card is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = visible(card, os.environ.get("CUDA_VISIBLE_DEVICES"))
    settle_allocator()
    torch.set_num_threads(threads)
    begun = cache(begin)

    def do(number: int) -> None:
        begun()(number)

    try:
        while True:
            number = pipe.recv()
            try:
                pipe.send((number, attempt(partial(do, number), through=(torch.OutOfMemoryError,)), False))
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
