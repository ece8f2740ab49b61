"""What ``gpu.py`` measures on, how it takes times there, and the notebook that keeps every reading."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from measure import tell
from unteach.engine import Engine
from unteach.models import Blueprint, build
from unteach.types import Examples, Refusal

Row = dict[str, float]
SHAPE, CLASSES = (3, 32, 32), 10


class OutOfTime(Exception):  # noqa: N818 - it is a plan, not a fault
    """The time for this piece is over."""


@dataclass(frozen=True)
class Rig:
    """The device, and whether everything is small."""

    device: torch.device
    small: bool

    def size(self, real: int, small: int) -> int:
        return small if self.small else real

    def engine(self, precision: str = "auto", *, compiles: bool = False) -> Engine:
        return Engine(accelerator=self.device.type, precision=precision, compiles=compiles)

    def network(self, name: str, seed: int = 0) -> torch.nn.Module:
        sample = self.examples(min(2000, self.size(2000, 64))).inputs.float() / 255
        made = build(Blueprint(name=name, classes=CLASSES, shape=SHAPE), seed=seed, sample=sample)
        return made.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]

    def examples(self, count: int) -> Examples:
        everything = self.images[0]
        return everything.take(np.arange(count) % len(everything)) if count != len(everything) else everything

    @cached_property
    def images(self) -> tuple[Examples, str]:
        """The training images, and what they are."""
        from unteach.data import load

        if not self.small:
            try:
                found = load("cifar10")
                return found.train, "CIFAR-10"
            except Refusal:
                pass
        return patterns(self.size(50_000, 512)), "patterns in noise"

    def seconds(self, call: Callable[[], object], *, least: float = 0.5, warm: int = 3) -> float:
        """Wall seconds of a call, the median of repeated ones; of short calls ten are made before the GPU is waited for."""
        for _ in range(1 if self.small else warm):
            call()
        once = self._elapsed(call, 1)
        if self.small:
            return once
        many, taken = 10 if once < 0.02 else 1, list[float]()
        while sum(taken) * many < least or len(taken) < 5:
            taken.append(self._elapsed(call, many))
        return statistics.median(taken)

    def _elapsed(self, call: Callable[[], object], many: int) -> float:
        self.wait()
        start = time.perf_counter()
        for _ in range(many):
            call()
        self.wait()
        return (time.perf_counter() - start) / many

    def wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()


def patterns(count: int, seed: int = 0) -> Examples:
    """Images of CIFAR-10's shape that a network can learn: one coarse pattern a class, shifted, in noise."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(40, 215, (CLASSES, 3, 8, 8)).repeat(4, 2).repeat(4, 3)
    labels = rng.integers(0, CLASSES, count)
    noise = rng.integers(-40, 41, (min(count, 5000), *SHAPE), dtype=np.int16)
    inputs = np.empty((count, *SHAPE), dtype=np.uint8)
    for at in range(count):
        shift = tuple(rng.integers(-4, 5, 2))
        inputs[at] = np.clip(np.roll(coarse[labels[at]], shift, (1, 2)) + noise[at % len(noise)], 0, 255)
    names = tuple(str(name) for name in range(CLASSES))
    return Examples(torch.from_numpy(inputs), torch.from_numpy(labels), np.arange(count).astype(str), None, names)


class Notebook:
    """Readings by piece and name, each written down as it is made; what is there is not measured again."""

    def __init__(self, folder: Path, seconds: float) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.end = folder, time.monotonic() + seconds
        self.until = self.end
        self.notes: list[str] = []

    def left(self) -> float:
        return self.until - time.monotonic()

    @contextmanager
    def at_most(self, seconds: float) -> Iterator[None]:
        """Inside, time is over after so many seconds, or at the end of all."""
        self.until = min(self.end, time.monotonic() + seconds)
        try:
            yield
        finally:
            self.until = self.end

    def rows(self, piece: str) -> dict[str, Row]:
        file = self.folder / f"{piece}.json"
        return json.loads(file.read_text()) if file.is_file() else {}

    def measured(self, piece: str, name: str, measure: Callable[[], Row], about: float) -> Row:
        """The reading of this name: as it was noted, or made now, if ``about`` so many seconds are left. Raises: OutOfTime."""
        rows = self.rows(piece)
        if name not in rows:
            if self.left() < about:
                raise OutOfTime(f"no time was left for {name} and what comes after it")
            rows[name] = measure()
            made = self.folder / f"{piece}.json.new"
            made.write_text(json.dumps(rows, indent=1))
            made.replace(self.folder / f"{piece}.json")
            tell(f"  {name}: {rows[name]}")
        return rows[name]

    def tried(self, piece: str, name: str, measure: Callable[[], Row], about: float = 3.0) -> Row | None:
        """The same, where a failure is noted and the next reading is taken."""
        try:
            return self.measured(piece, name, measure, about)
        except OutOfTime:
            raise
        except Exception as error:  # such as no compiler, or a card that is too small
            first = str(error).strip().partition("\n")[0]
            self.notes.append(f"{piece}, {name}: {type(error).__name__}: {first}")
            return None
