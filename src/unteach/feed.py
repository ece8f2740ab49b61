"""Batches to train on: several sources shuffled together, each process's share of every step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from unteach.data.augment import Augment, Resident
from unteach.engine import Engine
from unteach.types import Examples, Refusal


@dataclass(frozen=True, eq=False)
class Source:
    """Examples to train on, and how their images are varied; sources are shuffled together."""

    examples: Examples
    augment: Augment | None = None


@dataclass(frozen=True, eq=False)
class Batch:
    """One step's examples on the device.

    ``inputs``: float, pixels in 0–1. ``labels``: as in the data. ``part``: which source each comes from (the source
    alongside is the last number). ``row``: its position in that source. ``size``: the step's examples on all processes.
    ``whole``: whether all of them are here, because there is one process, or because they are too few to go round.
    """

    inputs: torch.Tensor
    labels: torch.Tensor
    part: torch.Tensor
    row: torch.Tensor
    size: int
    whole: bool = True


class Feed:
    """Shuffled batches from several resident sources; with ``sample``, of so many examples of each, drawn anew each epoch."""

    def __init__(
        self, sources: Sequence[Source], alongside: Sequence[Source], device: torch.device, sample: int = 0
    ) -> None:
        if not sources:
            raise Refusal("expected at least one example to train on, got none; check the request and the data")
        self.parts = [*sources, *alongside]
        self.images = [Resident(s.examples.inputs, s.augment, device) for s in self.parts]
        self.labels = [s.examples.labels.to(device) for s in self.parts]
        self.mixed = len(sources)
        self.sizes = [len(s.examples) for s in sources]
        self.sample = sample if sample and sample < max(self.sizes) else 0
        self.total = sum(min(size, self.sample or size) for size in self.sizes)
        self.starts = torch.tensor([0, *self.sizes]).cumsum(0)
        self.device = device

    @property
    def identity(self) -> list[object]:
        """What tells these data from others, cheaply: sizes, first and last ids, augmentation."""
        return [
            [
                len(s.examples),
                str(s.examples.ids[0]),
                str(s.examples.ids[-1]),
                int(s.examples.labels.sum()),
                repr(s.augment),
                *([] if s.examples.loss is None else [s.examples.loss.code]),
            ]
            for s in self.parts
        ]

    def step_sizes(self, steps: int) -> frozenset[int]:
        """How many examples a step may have, where an epoch is cut into so many equal ones."""
        least = self.total // steps
        return frozenset(size * (1 + len(self.parts) - self.mixed) for size in (least, -(-self.total // steps)))

    def epoch(self, seed: int, epoch: int, steps: int, engine: Engine) -> Iterator[Batch]:
        order = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
        vary = torch.Generator().manual_seed(seed * 999_983 + epoch * 31)
        beside = [
            Endless(len(self.labels[number]), seed * 1_000_033 + epoch + (number - self.mixed) * 97)
            for number in range(self.mixed, len(self.parts))
        ]
        for chosen in self._order(order).tensor_split(steps):
            part = torch.searchsorted(self.starts, chosen, right=True) - 1
            picks = {n: (chosen - self.starts[n])[part == n] for n in range(self.mixed)}
            mine = engine.part(len(chosen))
            # Of each source's rows those of this process stand together, as its share of the step does.
            shares = {n: _run(part == n, mine) for n in picks}
            for number, shuffle in enumerate(beside, self.mixed):
                picks[number], shares[number] = shuffle.take(len(chosen)), mine
            whole = mine == slice(0, len(chosen))
            yield self._gather(picks, shares, vary, len(chosen) * (1 + len(beside)), whole)

    def _order(self, rng: torch.Generator) -> torch.Tensor:
        """One epoch's rows of all sources together, shuffled: all of them, or as many of each as are shown."""
        if not self.sample:
            return torch.randperm(self.total, generator=rng)
        parts = zip(self.starts, self.sizes)
        drawn = torch.cat([start + torch.randperm(size, generator=rng)[: self.sample] for start, size in parts])
        return drawn[torch.randperm(len(drawn), generator=rng)]

    def _gather(
        self,
        picks: dict[int, torch.Tensor],
        shares: dict[int, slice],
        vary: torch.Generator,
        size: int,
        whole: bool,
    ) -> Batch:
        """The ``shares`` of these rows of each source; images vary by draws for all of them."""
        found = {n: self.images[n].batch(rows, vary, shares[n]) for n, rows in picks.items() if len(rows)}
        mine = {n: picks[n][shares[n]] for n, inputs in found.items() if len(inputs)}
        inputs = [found[n] for n in mine]
        labels = [self.labels[n][rows.to(self.device)] for n, rows in mine.items()]
        part = torch.cat([torch.full((len(rows),), n) for n, rows in mine.items()]).to(self.device)
        row = torch.cat(list(mine.values())).to(self.device)
        joined = inputs[0] if len(inputs) == 1 else torch.cat(inputs)
        return Batch(joined, torch.cat(labels), part, row, size, whole)


def _run(of_source: torch.Tensor, mine: slice) -> slice:
    """Where the rows of one source that are in this slice of a step stand among all its rows in the step."""
    before = int(of_source[: mine.start].sum())
    return slice(before, before + int(of_source[mine].sum()))


class Endless:
    """Positions of a source in one shuffle after another, for an epoch."""

    def __init__(self, count: int, seed: int) -> None:
        self.count = count
        self.rng = torch.Generator().manual_seed(seed)
        self.ahead = torch.zeros(0, dtype=torch.long)

    def take(self, wanted: int) -> torch.Tensor:
        while len(self.ahead) < wanted:
            self.ahead = torch.cat((self.ahead, torch.randperm(self.count, generator=self.rng)))
        taken, self.ahead = self.ahead[:wanted], self.ahead[wanted:]
        return taken
