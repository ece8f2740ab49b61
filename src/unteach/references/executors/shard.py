"""This machine's share of a manifest: several machines that see one cache folder do it together, without a scheduler."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from unteach.references.executors.local import Local
from unteach.references.manifest import read
from unteach.types import Refusal


@dataclass(frozen=True, kw_only=True)
class Shard:
    """Do every of-th family of jobs here, and leave the rest to the others.

    A family is an original with all models made from it, so that no machine waits for another's.
    """

    index: int = 0
    """Which share, 0 to of − 1."""
    of: int = 1
    """How many shares, 1 or more."""
    local: Local = field(default_factory=lambda: Local(workers=1))
    """How this share is done here."""

    def __post_init__(self) -> None:
        if not 0 <= self.index < self.of:
            raise Refusal(f"expected index from 0 to {self.of - 1} for of {self.of}, got {self.index}; count from 0")

    @property
    def places(self) -> int:
        """How many models are made here at a time."""
        return self.local.places

    def share(self, manifest: Path, numbers: Sequence[int]) -> list[int]:
        """Those of these jobs that are done here."""
        found = read(manifest)
        place = {number: rank for rank, number in enumerate(found.stages[0])}
        roots = [number if found.parents[number] < 0 else found.parents[number] for number in numbers]
        return [number for number, root in zip(numbers, roots) if place[root] % self.of == self.index]

    def __call__(self, manifest: Path, numbers: Sequence[int], tell: Callable[[int], None]) -> None:
        """Do this share of these jobs; see ``Executor``."""
        self.local(manifest, self.share(manifest, numbers), tell)
