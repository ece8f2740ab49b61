"""Workers on this machine: long-lived processes of one thread each, or this process alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch

from unteach.data.augment import LATER
from unteach.references import work
from unteach.types import Refusal
from unteach.workers import Do, Workers, attempt, cores, refusal


@dataclass(frozen=True, kw_only=True)
class Local:
    """Do the jobs on this machine, several at a time, see ``Workers``.

    Each worker loads the data once and does job after job; which worker does a job doesn't change its bytes. One worker, or a
    single job, works in this process.

    On GPUs workers are dealt to the visible cards in turn, each with a CUDA context (some 0.5 GiB) and the data of its own on
    its card. Without NVIDIA's multi-process service
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
        return max(1, self._cards * self.slots if self._cards else cores() // self.threads)

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
            workers = Workers(places=places, threads=self.threads, cards=self._cards)
            failed = workers(partial(doing, manifest, self), numbers, tell)
        if failed:
            raise refusal(failed, len(numbers))

    def _here(self, manifest: Path, numbers: Sequence[int], tell: Callable[[int], None]) -> dict[int, str]:
        do, failed = doing(manifest, self), {}
        for number in numbers:
            reason = attempt(partial(do, number))
            if reason is None:
                tell(number)
            else:
                failed[number] = reason
        return failed


def doing(manifest: Path, settings: Local) -> Do:
    """What does one job of this manifest in the process that asks."""

    def do(number: int) -> None:
        work.do(manifest, number, device=settings.device, threads=settings.threads, compiles=settings.compile)

    return do
