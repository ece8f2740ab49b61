"""The cells of a benchmark: originals and retrained models shared by all, one unlearned model and its audit each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from unteach.audit import Tolerance
from unteach.bench.forget_sets import alike, memorisation, stratum
from unteach.bench.protocol import Cell, Protocol
from unteach.bench.readings import readings_of
from unteach.bench.summary import read
from unteach.checkpoint import Checkpoint
from unteach.data import DataSet, forget_ids
from unteach.data.places import is_whole
from unteach.engine import Engine
from unteach.logit_store import LogitStore, select
from unteach.models import Blueprint
from unteach.presets import with_preset
from unteach.references.cache import Cache
from unteach.references.job import TrainingJob
from unteach.references.manifest import DataSpec, Manifest, in_order, jobs_of
from unteach.references.plan import Halves
from unteach.references.pool import pack
from unteach.references.stages import run
from unteach.references.tiers import Company, Tier
from unteach.references.units import units_in
from unteach.references.unlearning import UnlearningJob, settled
from unteach.store import digest_of, made_for, write_json
from unteach.types import Method, Refusal, Split
from unteach.verbs.company import retrained_of
from unteach.verbs.depth import Depth
from unteach.verbs.evaluation import Cast, evaluate
from unteach.verbs.request import request

if TYPE_CHECKING:
    from unteach.verbs.sequences import Requests

STRAW = ("original", "retrained")  # rows that no method makes: doing nothing, and the target judged as if it were one


@dataclass(frozen=True, kw_only=True, eq=False)
class Beside:
    """What all cells of one request share: its ids, the models beside it, and those retrained without it."""

    ids: tuple[str, ...]
    company: Company
    retrained: tuple[Checkpoint, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class Bench:
    """A protocol at work: where its models and results are kept, and who makes them.

    ``presets``: whether settings left at their defaults are the measured ones. ``trials``: trials of tuning by proxy for each
    method and request, 0 for none.
    """

    protocol: Protocol
    source: DataSpec
    depth: Depth
    folder: Path
    engine: Engine
    presets: bool = True
    trials: int = 0
    precision: str = "auto"

    @property
    def _cache(self) -> Path:
        return self.depth.folder(self.folder)

    @cached_property
    def data(self) -> DataSet:
        """The data, or the part of them that the protocol takes."""
        return self.source.load()

    @cached_property
    def held(self) -> tuple[str, ...]:
        """Validation data that no model is trained on."""
        return tuple(forget_ids(self.protocol.validation, self.data.train, 0)) if self.protocol.validation else ()

    def training(self, seed: int) -> TrainingJob:
        """The training of an original."""
        shape = tuple(self.data.train.inputs.shape[1:])
        return TrainingJob(
            blueprint=Blueprint(name=self.protocol.model, classes=len(self.data.train.classes), shape=shape),
            recipe=self.protocol.recipe,
            seed=seed,
            validation=self.held,
            label=f"original, seed {seed}",
        )

    def original(self, seed: int) -> Checkpoint:
        """The original of this training seed, shared by all protocols with its data and recipe."""
        return self.training(seed)(self.data, self._original_file(seed), self.engine)

    def _original_file(self, seed: int) -> Path:
        return self._cache / "originals" / f"{self.training(seed).key(self.data.fingerprint)[:32]}.safetensors"

    def ids(self, number: int, draw: int) -> tuple[str, ...]:
        """The forget set: drawn by rules of its own where the request names a stratum or images alike."""
        kind, _, rest = self.protocol.requests[number].partition(":")
        if kind == "stratum":
            name, _, count = rest.partition(":")
            rows = stratum(self._memorised, name, _whole(count, rest), draw)
            return tuple(self.data.train.ids[rows].tolist())
        if kind == "alike":
            from unteach.stress.features import features_of

            first = self.original(self.protocol.seeds[0])
            features = features_of(first.model, self.data.train, self.engine)
            rows = alike(features, self.data.train.labels.numpy(), _whole(rest, rest), draw)
            return tuple(self.data.train.ids[rows].tolist())
        # Not the seed that sweeps draw with: nothing is tuned on what is reported.
        found = forget_ids(
            self.protocol.requests[number], self.data.train, 50 + draw, self.held, known=self.data.requests
        )
        return tuple(found)

    @cached_property
    def _memorised(self) -> np.ndarray:
        """How much each training example is memorised, from the models on random halves."""
        from unteach.audit.membership import Confidence

        if not self.protocol.halves:
            raise Refusal("expected reference models for a stratum, got a protocol without halves; give it some")
        plan = Halves(models=self.protocol.halves)(units_in(self.data, Cache(self._cache)))
        job = self.training(0)
        manifest = Manifest(
            source=self.source,
            fingerprint=self.data.fingerprint,
            cache=Cache(self._cache),
            jobs=in_order(jobs_of(plan, blueprint=job.blueprint, recipe=job.recipe), self.data.fingerprint),
            precision=self.precision,
            keep_weights=False,
        )
        if manifest.left() and run(manifest.write(), self.depth.executor, self.engine.events):
            raise Refusal("expected all reference models, got some left to others; run again when they are done")
        store = LogitStore.existing(manifest.cache.logits(self.data.fingerprint, 1))
        key_of = {made.key(self.data.fingerprint): key for made, key in zip(manifest.jobs, manifest.keys)}
        jobs = jobs_of(plan, blueprint=job.blueprint, recipe=job.recipe)
        keys = tuple(key_of[made.key(self.data.fingerprint)] for made in jobs)
        rows = np.arange(len(self.data.train))
        signals = select(store.signals(keys), rows)
        phi = np.stack([Confidence()(signals, at) for at in range(len(keys))])
        return memorisation(phi, plan.members[:, rows])

    def company(self, original: Checkpoint, parts: Split, method: Method | None = None) -> Company:
        """The models beside this request, all made."""
        planned = self.depth.company(
            self.data, self.source, original, self.protocol.recipe, parts, method, 0, self.precision, self._cache
        )
        halves = (
            self.protocol.halves if self.protocol.steps == 1 else 0
        )  # sequences are judged beside retrained models only
        tier = Tier(retrained=self.protocol.retrained, halves=halves)
        return self.depth.gather(replace(planned, tier=tier), original, self.engine)

    def cells(self, cells: Sequence[Cell]) -> None:
        """Work off these cells; what is there with the same settings is kept."""
        for number, cell in enumerate(cells):
            self.engine.events.progress("cells", number, len(cells))
            self.cell(cell)
        self.engine.events.progress("cells", len(cells), len(cells))

    def cell(self, cell: Cell) -> None:
        """Do this cell, or find it done; where its method refuses, that is written down in its place."""
        original = self.original(cell.seed)
        beside = self._shared(cell, original)
        try:
            if isinstance(beside, Beside):
                self._cell(cell, original, beside)
            else:
                beside.cell(cell, original)
        except Refusal as refusal:
            write_json(self.folder / "cells" / cell.name / "refused.json", {"why": str(refusal)})

    def prepare(self, cells: Sequence[Cell]) -> None:
        """Make what these cells share, so that they can be worked off in any order and by any process."""
        originals = {seed: self.original(seed) for seed in dict.fromkeys(cell.seed for cell in cells)}
        for cell in {(cell.request, cell.draw): cell for cell in cells}.values():
            self._shared(cell, originals[cell.seed])

    def _shared(self, cell: Cell, original: Checkpoint) -> Beside | Requests:
        """What all cells of a request share; kept until another request is asked about."""
        key = (cell.request, cell.draw)
        if key not in self._latest:
            from unteach.verbs.sequences import Requests

            self._latest.clear()
            self._latest[key] = (
                self._beside(cell, original) if self.protocol.steps == 1 else Requests(self, cell, original)
            )
        return self._latest[key]

    @cached_property
    def _latest(self) -> dict[tuple[int, int], Beside | Requests]:
        return {}

    def _beside(self, cell: Cell, original: Checkpoint) -> Beside:
        ids = self.ids(cell.request, cell.draw)
        company = self.company(original, request(self.data, original, list(ids), self.held))
        return Beside(ids=ids, company=company, retrained=retrained_of(company))

    def _cell(self, cell: Cell, original: Checkpoint, beside: Beside) -> None:
        folder, company, retrained = self.folder / "cells" / cell.name, beside.company, beside.retrained
        parts = request(self.data, original, list(beside.ids), self.held)
        # Each seed holds another retrained model out; that one is also judged as if it were a method.
        turn = self.protocol.seeds.index(cell.seed) % len(retrained)
        others = (*retrained[turn + 1 :], *retrained[: turn + 1])
        if cell.row == "original":
            judged = original
        elif cell.row == "retrained":
            judged, others = others[-1], others[:-1]
        else:
            judged = self._unlearned(cell, original, parts, folder)
        key = digest_of([judged.fingerprint, [one.fingerprint for one in others], list(company.keys("halves"))])
        if made_for(folder / "cell.json", key):
            return
        folder.mkdir(parents=True, exist_ok=True)
        findings = evaluate(
            self.data,
            parts,
            Cast(original=original, unlearned=judged, retrained=others),
            spec=self.protocol.requests[cell.request],
            tolerance=Tolerance(),
            retain_sample=self.protocol.retain_sample,
            seed=0,
            folder=folder,
            engine=self.engine,
            company=company if self.protocol.halves else None,
        )
        parts_of = {"forget": parts.forget, "test": self.data.test, "unseen": self.data.non_members}
        told = read(findings, readings_of(folder / "signals.safetensors", parts_of, findings, self.protocol.nomus))
        write_json(folder / "cell.json", {"key": key, **told})
        (folder / "signals.safetensors").unlink()

    def _unlearned(self, cell: Cell, original: Checkpoint, parts: Split, folder: Path) -> Checkpoint:
        method = self.settled(cell, parts)
        mask = np.zeros(len(self.data.train) + len(self.data.outside), dtype=bool)
        mask[self.data.train.positions(parts.forget.ids)] = True
        seed = 1000 * cell.seed + cell.run
        job = UnlearningJob(parent=self.training(cell.seed), method=method, forgotten=pack(mask), seed=seed)
        self.engine.scratch = self.folder / "scratch" / f"{cell.request}-{cell.draw}-{cell.seed}"
        return job(self.data, folder / "model.safetensors", self.engine, original=self._original_file(cell.seed))

    def settled(self, cell: Cell, parts: Split) -> Method:
        """The row's method with presets, or tuned on a proxy request with the first original, the same budget for all."""
        method, recipe = self.protocol.rows[cell.row], self.protocol.recipe
        if self.trials and getattr(type(method), "card").search:  # noqa: B009 - plug-ins need none
            from unteach.tuning import tune

            first = self.original(self.protocol.seeds[0])
            return tune(
                method,
                first.model,
                parts,
                recipe=recipe,
                trials=self.trials,
                engine=self.engine,
                folder=self.folder / "tuned" / f"{cell.row.replace(' ', '-')}-{cell.request}",
            ).method
        if self.presets:
            method, _ = with_preset(method, parts, recipe)
        return settled(method, recipe)


def _whole(text: str, spec: str) -> int:
    if not is_whole(text):
        raise Refusal(f"expected a whole number of examples, got {spec!r}; such as stratum:high:300 or alike:300")
    return int(text)
