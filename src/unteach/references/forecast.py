"""How long the missing models of a manifest will take here: from what the same work has cost, never guessed."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from unteach.checkpoint import Checkpoint
from unteach.data import DataSet
from unteach.provenance import environment
from unteach.references.manifest import Manifest
from unteach.references.unlearning import UnlearningJob


@dataclass(frozen=True)
class Forecast:
    """What is missing and what it costs.

    ``models``: how many are missing. ``unknown``: how many of these nothing measured covers. ``seconds``: of one worker for the
    others. ``source``: what was measured; empty when nothing was.
    """

    models: int
    unknown: int
    seconds: float
    source: str

    def words(self, places: int) -> str:
        """For a terminal; ``places``: models at a time."""
        if not self.models:
            return "none missing"
        if self.unknown == self.models:
            return f"{self.models} missing; how long they take is known when the first of each kind is made"
        at_a_time = f", {places} at a time" if places > 1 else ""
        beyond = f"; {self.unknown} more of a kind that was not measured yet" if self.unknown else ""
        minutes = self.seconds / places / 60
        return f"{self.models} missing: about {minutes:.1f} minutes here{at_a_time}{beyond} ({self.source})"


def forecast(manifest: Manifest, left: Sequence[int], data: DataSet, original: Checkpoint | None = None) -> Forecast:
    """What the jobs ``left`` will cost here.

    From the records of the same network and recipe on the same processor in the cache: medians of the seconds per example and
    epoch of trainings, of the seconds of unlearnings by the same method, of the seconds of scorings. Where no training is on
    record, from the ``original``'s own, if it has the recipe; scoring is then not in it.
    """
    prices = _Prices(manifest, original)
    costs = [prices.of(number, data) for number in left]
    known = [cost for cost in costs if cost is not None]
    return Forecast(len(costs), len(costs) - len(known), sum(known), "; ".join(prices.sources))


class _Prices:
    def __init__(self, manifest: Manifest, original: Checkpoint | None) -> None:
        here = environment()["processor"]
        self.manifest, self.original = manifest, original
        self.records = [record for record in manifest.cache.records() if record.environment.get("processor") == here]
        self.sources: dict[str, None] = {}  # in the order they were used

    def of(self, number: int, data: DataSet) -> float | None:
        """Seconds of one job; None where nothing was measured."""
        job = self.manifest.jobs[number]
        training = job.parent if isinstance(job, UnlearningJob) else job
        method = type(job.method).__name__ if isinstance(job, UnlearningJob) else ""
        same = [record for record in self.records if record.recipe == training.recipe_digest]
        alike = [record for record in same if record.method == method and record.units]
        making: float | None
        if self.manifest.cache.has_weights(self.manifest.keys[number]):
            making = 0.0
        elif isinstance(job, UnlearningJob):
            making = _median(record.seconds for record in alike)
        else:
            pace = _median(record.seconds / record.units for record in alike) or self._pace_of_original()
            making = None if pace is None else pace * training.recipe.cost * int(job.members(data).sum())
        if making is None:
            return None
        if same:
            self.sources[f"measured on {len(same)} models of this recipe in {self.manifest.cache.folder}"] = None
        scored = _median(record.scoring for record in same if record.scoring) or 0.0
        return making + (scored if self.manifest.wants_logits(number) else 0.0)

    def _pace_of_original(self) -> float | None:
        """Seconds per example and epoch of the original's own training, where it tells, on this processor."""
        if self.original is None:
            return None
        story = self.original.provenance
        training = next(job for job in self.manifest.jobs if not isinstance(job, UnlearningJob))
        here = story.environment.get("processor") == environment()["processor"]
        if not here or story.recipe != training.recipe.as_json() or story.parent or not story.units:
            return None
        threads = story.environment.get("threads", "?")
        self.sources[f"from the training of {self.original.path} with {threads} threads, scoring not in it"] = None
        return story.seconds / story.units


def _median(values: Iterable[float]) -> float | None:
    found = list(values)
    return statistics.median(found) if found else None
