"""A protocol: what is compared, on which data and network, how often, and beside how many models."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product
from typing import Any

from unteach.recipe import Recipe
from unteach.store import record
from unteach.types import Method

PROFILES = ("ci", "laptop", "gpu", "paper")


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """Data × network × requests × methods × seeds × strength of the audit.

    A *cell* is one method on one original (its training seed), one request and one unlearning seed: the three stages are drawn
    independently, for more unlearning seeds can't replace training seeds (Fan et al., 2025, arXiv 2510.26714).
    """

    data: str
    """The data set, in the words of ``data.load``."""
    model: str
    """The network."""
    recipe: Recipe
    """How originals, retrained models and references are trained: all in the same way."""
    requests: tuple[str, ...]
    """What is to be forgotten, in the words of ``unteach forget --ids``, ``stratum:KIND:COUNT`` or ``alike:COUNT``; each is a
    forget set of its own."""
    rows: Mapping[str, Method]
    """The methods, by the names of their rows. Settings at their defaults give way to the presets."""
    draws: int = 1
    """Forget sets drawn for each request."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Training seeds of the originals."""
    runs: int = 1
    """Unlearning seeds for each of them."""
    steps: int = 1
    """Requests that come one after the other; the next is drawn from what is left."""
    retrained: int = 3
    """Models retrained without the request, the target; each seed's audit holds another of them out as a control."""
    halves: int = 0
    """Reference models on random halves, for RMIA and LiRA."""
    task: str | None = None
    """Which labels, where the data offer several."""
    count: int = 0
    """Training examples, drawn once; 0 for all."""
    validation: str = ""
    """Ids that no model is trained on, drawn with seed 0; tuning judges by them."""
    nomus: bool = False
    """Whether tables show MUFAC's scores: utility, forgetting score, NoMUS."""
    retain_sample: int = 10_000
    """Retained examples that the audit looks at."""
    title: str = field(default="", compare=False)
    """What it is called on a page."""
    about: str = field(default="", compare=False)
    """Where it comes from, and how it differs from there."""

    def cells(self, rows: list[str]) -> Iterator[Cell]:
        """All cells of these rows, request by request, so that what they share is loaded once."""
        for (at, _), draw in product(enumerate(self.requests), range(self.draws)):
            for seed, row, run in product(self.seeds, rows, range(self.runs)):
                yield Cell(row=row, request=at, draw=draw, seed=seed, run=run)

    def as_json(self) -> dict[str, Any]:
        """The protocol as plain values."""
        told = record(self)
        told["rows"] = {name: {"method": type(method).__name__, **record(method)} for name, method in self.rows.items()}
        return told


@dataclass(frozen=True, kw_only=True, order=True)
class Cell:
    """One run of one method."""

    row: str
    request: int
    draw: int
    seed: int
    run: int

    @property
    def name(self) -> str:
        """Its folder."""
        return f"{self.row.replace(' ', '-')}/{self.request}-{self.draw}-{self.seed}-{self.run}"
