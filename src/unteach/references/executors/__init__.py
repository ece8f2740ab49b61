"""Who does the jobs of a manifest: workers on this machine, this machine's share of many, a Ray cluster, SLURM."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from unteach.references.executors.local import Local
from unteach.references.executors.ray import Ray
from unteach.references.executors.shard import Shard
from unteach.references.executors.slurm import Slurm


class Executor(Protocol):
    """Does these jobs of a manifest by ``work.do``, in whatever process, and calls ``tell`` as each is done.

    Raises: Refusal naming the failed jobs and their reasons, after the others have been done.
    """

    def __call__(self, manifest: Path, numbers: Sequence[int], tell: Callable[[int], None]) -> None: ...


EXECUTORS: dict[str, type[Executor]] = {"local": Local, "shard": Shard, "ray": Ray, "slurm": Slurm}

__all__ = ["EXECUTORS", "Executor", "Local", "Ray", "Shard", "Slurm"]
