"""How the benchmarks measure: interleaved rounds, the process's own CPU time, the machine's limit in the same minute.

A measurement is a table of arms, each a callable. Every round calls every arm once, in random order; a ratio is taken
within each round, and its median and range over rounds are reported. Neighbours on the machine slow both arms of a round
alike, and own CPU time does not count the time they take away.
"""

from __future__ import annotations

import os
import random
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

QUIET = 0.15


@dataclass(frozen=True)
class Spread:
    """A median over rounds, with the lowest and the highest."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        every = list(values)
        return cls(statistics.median(every), min(every), max(every))

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f}–{self.high:.2f})"

    def percent(self, digits: int = 0) -> str:
        return f"{self.median:.{digits}%} ({self.low:.{digits}%}–{self.high:.{digits}%})"

    def times(self, factor: float) -> Spread:
        return Spread(self.median * factor, self.low * factor, self.high * factor)


@dataclass
class Rounds:
    """``seconds``: own CPU seconds per arm and round. ``values``: what the arms returned. ``others``: per round, the CPU
    that everybody else used or the host took, as a share of one core's time."""

    seconds: dict[str, list[float]] = field(default_factory=dict)
    values: dict[str, list[Any]] = field(default_factory=dict)
    others: list[float] = field(default_factory=list)

    def take(self, arms: Mapping[str, Callable[[], Any]], order: random.Random, label: str = "") -> None:
        """One more round: every arm once, in random order."""
        with_others = Neighbours()
        for name in order.sample(list(arms), len(arms)):
            before = time.process_time()
            value = arms[name]()
            self.seconds.setdefault(name, []).append(time.process_time() - before)
            self.values.setdefault(name, []).append(value)
        self.others.append(with_others.share())
        tell(f"{label} round {len(self.others)}: others {self.others[-1]:.0%}")

    @property
    def quiet(self) -> tuple[int, int]:
        """How many rounds were quiet, and how many there were."""
        return sum(share < QUIET for share in self.others), len(self.others)

    @property
    def kept(self) -> list[int]:
        """The rounds to report: the quiet ones; all of them when fewer than three were quiet."""
        quiet = [i for i, share in enumerate(self.others) if share < QUIET]
        return quiet if len(quiet) >= 3 else list(range(len(self.others)))

    def of(self, arm: str) -> Spread:
        """Own CPU seconds."""
        return Spread.of(self.seconds[arm][i] for i in self.kept)

    def value(self, arm: str) -> Spread:
        """What an arm returned, a number."""
        return Spread.of(self.values[arm][i] for i in self.kept)

    def rate(self, arm: str, work: float, limit: str) -> Spread:
        """Share of the limit: ``work`` in GFLOP over the arm's time, over the GFLOP/s that ``limit`` returned in the round."""
        return Spread.of(work / self.seconds[arm][i] / self.values[limit][i] for i in self.kept)

    def ratio(self, slow: str, fast: str) -> Spread:
        """How many times ``fast`` is faster than ``slow``, round by round."""
        return Spread.of(self.seconds[slow][i] / self.seconds[fast][i] for i in self.kept)

    def share(self, part: str, *whole: str) -> Spread:
        """What part of the time of the arms in ``whole`` together ``part`` is, round by round."""
        return Spread.of(self.seconds[part][i] / sum(self.seconds[name][i] for name in whole) for i in self.kept)

    def note(self) -> str:
        quiet, rounds = self.quiet
        busy = statistics.median(self.others)
        kept = f"{len(self.kept)} used" if quiet >= 3 else "too few, so all are used: read the ratios only"
        return f"{rounds} rounds, {quiet} with others below {QUIET:.0%} of a core (median {busy:.0%}): {kept}"


def run_rounds(
    arms: Mapping[str, Callable[[], Any]], rounds: int, *, seed: int = 0, warm: int = 1, label: str = ""
) -> Rounds:
    """Call every arm once a round, in random order, after ``warm`` calls that are not counted."""
    for _ in range(warm):  # kernels are generated and memory grows in the first call
        for arm in arms.values():
            arm()
    found, drawn = Rounds(), random.Random(seed)
    for _ in range(rounds):
        found.take(arms, drawn, label)
    return found


def repeat(call: Callable[[], Any], count: int) -> Callable[[], None]:
    """An arm of several calls: one alone is too short to time."""

    def arm() -> None:
        for _ in range(count):
            call()

    return arm


class Neighbours:
    """What everybody else does from here on, from /proc/stat; nothing is seen where there is no such file."""

    def __init__(self) -> None:
        self.start = (machine_seconds(), own_seconds(), time.perf_counter())

    def share(self) -> float:
        """CPU of others and CPU stolen by the host, as a share of one core's time."""
        machine, own, wall = self.start
        rest = (machine_seconds() - machine) - (own_seconds() - own)
        return max(0.0, rest) / max(1e-9, time.perf_counter() - wall)


def own_seconds() -> float:
    """CPU seconds of this process and of its children that have ended."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def machine_seconds() -> float:
    """Busy and stolen CPU seconds of the whole machine since it started; 0 where it does not tell."""
    try:
        ticks = [int(v) for v in Path("/proc/stat").read_text().splitlines()[0].split()[1:]]
    except OSError:
        return 0.0
    user, nice, system, _idle, _wait, interrupts, soft, stolen, *_ = ticks
    return (user + nice + system + interrupts + soft + stolen) / os.sysconf("SC_CLK_TCK")


class Roofline:
    """The machine's limit: one 128 → 128 convolution, 3 × 3, on 16 × 16, batch 128, channels_last, forward and backward."""

    WORK = 3 * 2 * 128 * 128 * 9 * 16 * 16 * 128 / 1e9  # GFLOP: forward, input gradient, weight gradient

    def __init__(self, *, bf16: bool) -> None:
        self.bf16 = bf16
        self.conv = torch.nn.Conv2d(128, 128, 3, padding=1, bias=False).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        kind = torch.bfloat16 if bf16 else torch.float32
        self.x = torch.randn(128, 128, 16, 16).to(kind).contiguous(memory_format=torch.channels_last).requires_grad_()
        self.gradient = torch.randn_like(self.x)

    def call(self) -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bf16):
            out = self.conv(self.x)
        out.backward(self.gradient)
        self.x.grad = self.conv.weight.grad = None

    def gflops(self, seconds: float = 0.2) -> float:
        """GFLOP/s now: the best of the calls that fit into this time (at least two)."""
        best, spent, calls = float("inf"), 0.0, 0
        while spent < seconds or calls < 2:
            start = time.process_time()
            self.call()
            took = time.process_time() - start
            best, spent, calls = min(best, took), spent + took, calls + 1
        return self.WORK / best


def rooflines() -> dict[str, Callable[[], float]]:
    """Arms that return the limit in the round they are called in."""
    return {"limit bf16": Roofline(bf16=True).gflops, "limit fp32": Roofline(bf16=False).gflops}


def gflop(call: Callable[[], Any]) -> float:
    """Multiplications and additions of a call, in GFLOP, as torch counts them: convolutions and matrix products."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops() / 1e9


def standard_error(values: Sequence[float]) -> float:
    return statistics.stdev(values) / len(values) ** 0.5


def markdown(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [list(head), ["---"] * len(head), *([str(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def tell(text: str) -> None:
    """Progress, kept apart from the tables."""
    print(text, file=sys.stderr, flush=True)
