"""One job of a manifest, done in this process: what every executor calls, wherever it runs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
import torch

from unteach.checkpoint import Checkpoint
from unteach.data import DataSet
from unteach.engine import Engine
from unteach.logit_store import LogitStore
from unteach.provenance import environment
from unteach.references.cache import Record, digest_of_array, weights_of
from unteach.references.manifest import Manifest, read
from unteach.references.pool import groups_of, ids_of, labels_of, size_of, unpack
from unteach.references.unlearning import UnlearningJob
from unteach.types import Refusal


def do(manifest: Path, number: int, *, device: str = "auto", threads: int = 1, compiles: bool = False) -> None:
    """Do one job if it is not done: train or unlearn, score the pool, keep both in the cache, write the record last.

    A job that was stopped goes on after its last whole epoch. The data are loaded once a process. ``device`` and
    ``compiles``: as in ``Engine``. ``threads``: of the processor; another number may change the last bits.
    Raises: Refusal when the data are others than the manifest's, or the job can't be done.
    """
    bench = _bench(Path(manifest).absolute())
    if bench.manifest.done(number):
        return
    try:
        with _threads(threads):
            bench.make(number, device, compiles)
    except Refusal:
        # Another process may have done the same job meanwhile, and cleared the scratch that this one was writing to.
        if not bench.manifest.done(number):
            raise


class Bench:
    """A manifest with its data at hand."""

    def __init__(self, manifest: Manifest) -> None:
        self.manifest = manifest

    @cached_property
    def data(self) -> DataSet:
        data = self.manifest.source.load()
        if data.fingerprint != self.manifest.fingerprint:
            raise Refusal(
                f"expected the data of the manifest (fingerprint {self.manifest.fingerprint[:12]}), got others at "
                f"{self.manifest.source.spec} ({data.fingerprint[:12]}); give those, or plan anew"
            )
        return data

    @cached_property
    def store(self) -> LogitStore:
        folder = self.manifest.cache.logits(self.manifest.fingerprint, self.manifest.views)
        return LogitStore.open(
            folder,
            ids=ids_of(self.data),
            labels=labels_of(self.data),
            groups=groups_of(self.data),
            classes=self.data.train.classes,
        )

    def make(self, number: int, device: str, compiles: bool = False) -> None:
        """Make what is missing of a job's products."""
        plan, cache = self.manifest, self.manifest.cache
        job, key = plan.jobs[number], plan.keys[number]
        engine = Engine(accelerator=device, precision=plan.precision, compiles=compiles, scratch=cache.scratch(key))
        path = cache.weights(key)
        if isinstance(job, UnlearningJob):
            made = job(self.data, path, engine, original=self._parent(number, device, compiles))
        else:
            made = job(self.data, path, engine)
        record = self._record(number, made, engine)
        if plan.wants_logits(number):
            record = self._score(number, made, record, engine)
        if not plan.wants_weights(number):
            record = replace(record, weights={})
        cache.put(record)
        if not record.weights:
            path.unlink(missing_ok=True)

    def _parent(self, number: int, device: str, compiles: bool) -> Path:
        """The parent's checkpoint, made again where it is missing or damaged."""
        parent, cache = self.manifest.parents[number], self.manifest.cache
        key = self.manifest.keys[parent]
        if not cache.has_weights(key, closely=True):  # a flipped bit would live on in every model made from it
            cache.drop_weights(key)
            self.make(parent, device, compiles)
        return cache.weights(key)

    def _record(self, number: int, made: Checkpoint, engine: Engine) -> Record:
        plan = self.manifest
        job, story = plan.jobs[number], made.provenance
        unlearning = isinstance(job, UnlearningJob)
        training = job.parent if isinstance(job, UnlearningJob) else job
        known = plan.cache.record(plan.keys[number])
        return Record(
            key=plan.keys[number],
            kind="unlearning" if unlearning else "training",
            data=self.data.name,
            data_fingerprint=plan.fingerprint,
            network=training.blueprint.name,
            recipe=training.recipe_digest,
            seed=job.seed,
            method=story.made_by["method"] if unlearning else "",
            parent=plan.keys[plan.parents[number]] if unlearning else "",
            examples=int(job.members(self.data).sum()),
            forgotten=int(self._forgotten(number).sum()),
            seconds=story.seconds,
            units=story.units,
            scoring=known.scoring if known else 0.0,
            device=str(engine.device),
            made=time.time(),
            weights=weights_of(made.path),
            logits=known.logits if known else {},
            environment=environment(),
        )

    def _score(self, number: int, made: Checkpoint, record: Record, engine: Engine) -> Record:
        start = time.perf_counter()
        logits = score(made.model, self.data, self.manifest.views, engine)
        product = {"bytes": logits.nbytes, "sha256": digest_of_array(logits)}
        self.store.put(
            record.key,
            logits,
            members=self.manifest.jobs[number].members(self.data),
            forgotten=self._forgotten(number),
            about={name: getattr(record, name) for name in ("kind", "method", "parent", "seed", "network", "recipe")},
        )
        seconds = time.perf_counter() - start
        return replace(record, scoring=seconds, logits={**record.logits, str(self.manifest.views): product})

    def _forgotten(self, number: int) -> np.ndarray:
        job, count = self.manifest.jobs[number], size_of(self.data)
        return unpack(job.forgotten, count) if isinstance(job, UnlearningJob) else np.zeros(count, dtype=bool)


def score(model: torch.nn.Module, data: DataSet, views: int, engine: Engine) -> np.ndarray:
    """Logits of the whole pool, float32 ``views × examples × classes``: each image as it is, then its mirror image."""
    kinds = []
    for view in range(views):
        parts = (data.train.inputs, data.outside.inputs)
        shown = (image for part in parts for image in (_mirrored(part) if view else (part,)))
        kinds.append(torch.cat([engine.logits(model, images) for images in shown]))
    return torch.stack(kinds).numpy()


def _mirrored(inputs: torch.Tensor) -> Iterator[torch.Tensor]:
    """Mirror images, whole batches of the engine's at a time: the inputs may be larger than memory."""
    return (inputs[start : start + 4096].flip(-1) for start in range(0, len(inputs), 4096))


@lru_cache(maxsize=2)
def _bench(manifest: Path) -> Bench:
    # torch imports its compiler with the first optimizer: seconds of the process, which no model's bill should show.
    torch.optim.SGD([torch.zeros(1, requires_grad=True)])
    # A manifest's name tells its content, so a file that was read once need not be read again.
    return Bench(read(manifest))


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
