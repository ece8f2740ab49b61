"""What a process may set about the machine before it works; nothing happens when this is imported."""

from __future__ import annotations

import ctypes
import os
import sys
import time

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3  # names of malloc.h
_ALL = -1  # as a size: the largest there is


def settle_allocator() -> bool:
    """Let glibc keep the memory it has: large tensors are reused from step to step, not given back and faulted in anew.

    Sets M_MMAP_THRESHOLD to 1 GiB, M_TRIM_THRESHOLD to the largest size and M_TOP_PAD to 64 MiB, for the whole process
    and until its end: what it once held at most, it holds. So it is for programs to call at their start, before the
    first large tensor, and not for libraries; processes that were forked have it, spawned ones call it again.
    Returns whether all three were set: False where the C library is not glibc, and then nothing was touched.

    Measured by ``benchmarks/training.py`` on two Zen 5 cores with neighbours, torch 2.13, one thread, own CPU time, fresh
    processes, median of 5 rounds in three runs: training ``small-cnn`` 1.22–1.27 times as fast (single rounds 0.91–1.32),
    ``airbench-small`` 1.02–1.09 (0.98–1.14); page faults per step from 900–3,600 to under 200; 33–67 MiB more held. In a
    process that had loaded a whole data set the heap has grown already: 1.0–1.1 there, from runs minutes apart.
    """
    try:
        if not (os.confstr("CS_GNU_LIBC_VERSION") or "").startswith("glibc"):
            return False
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, ValueError):
        return False
    wanted = ((_MMAP_THRESHOLD, 1 << 30), (_TRIM_THRESHOLD, _ALL), (_TOP_PAD, 64 << 20))
    taken = [mallopt(ctypes.c_int(name), ctypes.c_int(size)) == 1 for name, size in wanted]
    return all(taken)


WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")  # what says how OpenMP's threads wait
SHARED = 0.5  # cores that others use, from which on a machine counts as shared


class Others:
    """What other processes use of this machine's cores, from when it is made on; nothing where /proc does not tell."""

    def __init__(self) -> None:
        self.start = _spent()

    def cores(self) -> float:
        """Cores' worth of time that others, or the host, took since then."""
        (machine, own, wall), (machine_then, own_then, wall_then) = _spent(), self.start
        return max(0.0, (machine - machine_then) - (own - own_then)) / max(1e-3, wall - wall_then)


def _spent() -> tuple[float, float, float]:
    """Seconds: of all cores at work or taken by the host, of this process, by the clock."""
    try:
        with open("/proc/stat") as file:
            user, nice, system, _idle, _disk, hard, soft, stolen = map(int, file.readline().split()[1:9])
        machine = (user + nice + system + hard + soft + stolen) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError):
        machine = 0.0
    return machine, time.process_time(), time.perf_counter()


def settle_waiting(others: float) -> bool:
    """Let OpenMP's threads sleep while they wait, where ``others`` use half a core or more; returns whether that was set.

    Threads that wait in a loop, as they do by default, are quickest where all cores are theirs; with a neighbour on one core
    they wait for the thread there, and burn what it needs. Nothing is touched where somebody has said how to wait, or torch is
    loaded already: it reads this once. No byte of a result depends on it.
    *Source:* libgomp's manual, OMP_WAIT_POLICY. Training ``small-cnn`` on two Zen 5 cores, wall-clock ms an example, one run
    each: with a neighbour one thread 0.28, two 0.67, two that sleep 0.31; alone 0.25, 0.14 and 0.19.
    """
    if others < SHARED or "torch._C" in sys.modules or any(name in os.environ for name in WAITING):
        return False
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    return True


def load_optimisers() -> None:
    """Let torch load what its first optimiser loads (its compiler, some seconds), before a clock runs for a method's work."""
    import torch

    torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
