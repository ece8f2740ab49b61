"""Jobs as tasks of a Ray cluster: as many machines as it has, and another one when one dies."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from unteach.references import work
from unteach.runtime import settle_allocator
from unteach.types import Refusal
from unteach.workers import attempt, refusal

OBJECT_STORE = 128 << 20  # bytes of a cluster started here: what jobs make goes to the cache folder, not through Ray


@dataclass(frozen=True, kw_only=True)
class Ray:
    """Do each job as a task of a Ray cluster.

    Joins the cluster, or starts one on this machine; submits a task for each job; tells each job as it is done; leaves. A
    cluster that was joined runs on, one that was started here is stopped, and a session that the caller opened with
    ``ray.init`` is used and stays open. A task whose process or machine died runs again, up to ``retries`` times; what a job
    itself raises would come again and is not tried twice.

    On processor cores a worker process does task after task and loads the data once. With ``gpus`` every job has a process of
    its own: CUDA keeps to the card it met first, and Ray may give the next task another one.

    Manifest, cache folder and data are at the same paths on every machine, and so is the same unteach and PyTorch.
    """

    address: str = "auto"
    """Cluster: host:port of its head, auto for the one that this machine belongs to, local for a new one on this machine."""
    cpus: int = 1
    """Processor cores of a job, 1 or more, and the threads it computes with: another number may change the last bits."""
    gpus: float = 0.0
    """Share of a GPU that a job gets, 0 to 1: 0.25 trains four networks on a card, 0 trains on processor cores."""
    retries: int = 3
    """How often a job is started again after its process or machine died, 0 or more."""

    def __post_init__(self) -> None:
        if self.cpus < 1 or self.retries < 0:
            raise Refusal(f"expected cpus ≥ 1 and retries ≥ 0, got {self.cpus} and {self.retries}; give larger numbers")
        if not 0 <= self.gpus <= 1:
            raise Refusal(f"expected gpus from 0 to 1, got {self.gpus}; a job computes on one device")

    def __call__(self, manifest: Path, numbers: Sequence[int], tell: Callable[[int], None]) -> None:
        """Do these jobs of the manifest, and tell each that is done.

        Raises: Refusal naming the failed jobs and their reasons, after all others are done.
        """
        if not numbers:
            return
        failed: dict[int, str] = {}
        with self._session() as ray:
            self._check_room(ray.nodes())
            # In these options, not in a later `.options`: only here does a share of a GPU end the process with its job.
            task = ray.remote(num_cpus=self.cpus, num_gpus=self.gpus, max_retries=self.retries)(_do)
            device, threads = ("cuda" if self.gpus else "cpu"), self.cpus
            waiting = {task.remote(work.do, manifest.absolute(), n, device, threads): n for n in numbers}
            try:
                while waiting:
                    for ended in ray.wait(list(waiting))[0]:
                        number, reason = waiting.pop(ended), _reason(ray, ended)
                        if reason is None:
                            tell(number)
                        else:
                            failed[number] = reason
            finally:
                for left in waiting:  # we were stopped: in a session that stays open they would go on
                    ray.cancel(left, force=True)
        if failed:
            raise refusal(failed, len(numbers))

    @contextmanager
    def _session(self) -> Iterator[Any]:
        try:
            import ray
        except ImportError as error:
            raise Refusal("expected the package ray, got none; pip install 'unteach[ray]'") from error
        if ray.is_initialized():
            yield ray
            return
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        here = self.address == "local"
        try:
            if self.address not in ("auto", "local"):  # where nobody answers, Ray itself would try for minutes
                host, _, port = self.address.rpartition(":")
                socket.create_connection((host, int(port)), timeout=10).close()
            ray.init(
                address=self.address,
                include_dashboard=False if here else None,
                object_store_memory=OBJECT_STORE if here else None,
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
        except (OSError, RuntimeError, ValueError) as error:
            raise Refusal(
                f"expected a Ray cluster at {self.address}, got: {_first_line(error)}; "
                "start one (ray start --head), or give address local"
            ) from error
        try:
            yield ray
        finally:
            ray.shutdown()

    def _check_room(self, nodes: list[dict[str, Any]]) -> None:
        """Refuse what no machine could do: Ray would wait for one for ever, without a word."""
        rooms = [node["Resources"] for node in nodes if node["Alive"]]
        if not any(room.get("CPU", 0) >= self.cpus and room.get("GPU", 0) >= self.gpus for room in rooms):
            raise Refusal(
                f"expected a machine with {self.cpus} cores and {self.gpus:g} GPUs in the cluster, got none of {len(rooms)}; "
                "ask for less, or start one (of a cluster that grows by itself: one such machine beforehand)"
            )


def _reason(ray: Any, ended: Any) -> str | None:
    """Why a task that ended did not do its job; None when it did."""
    try:
        told: str | None = ray.get(ended)
    except ray.exceptions.RayError as error:
        return f"{type(error).__name__}: {_first_line(error)}"
    return told


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0].rstrip(".")


def _do(do: Callable[..., None], manifest: Path, number: int, device: str, threads: int) -> str | None:
    """The task: one job in a worker process of Ray's."""
    settle_allocator()
    return attempt(partial(do, manifest, number, device=device, threads=threads))
