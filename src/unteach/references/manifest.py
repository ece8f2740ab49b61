"""The manifest: all jobs of one purpose in one file, which any machine that has the data can work off."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from unteach.data import DataSet, load
from unteach.data.subset import few
from unteach.models import Blueprint
from unteach.recipe import Recipe
from unteach.references.cache import Cache
from unteach.references.job import TrainingJob
from unteach.references.plan import Plan
from unteach.references.pool import pack
from unteach.references.unlearning import UnlearningJob, settled
from unteach.store import digest_of, read_json, write_json
from unteach.types import Method, Refusal

Job = TrainingJob | UnlearningJob
VERSION = 1  # raised when the same job comes to other bytes by intent: results of before are then not found


@dataclass(frozen=True, kw_only=True)
class DataSpec:
    """Where the data come from, in the words of ``data.load``; with ``count`` only so many training examples of them.

    The user's own code, in ``spec`` or as ``loss``, is pinned: a process runs it if it was told to, see ``user_code``.
    """

    spec: str
    root: Path | None = None
    task: str | None = None
    test_share: float = 0.2
    count: int = 0
    loss: str = ""

    def load(self) -> DataSet:
        """The data, read from disk once a process."""
        return _loaded(self)


@lru_cache(maxsize=1)
def _loaded(spec: DataSpec) -> DataSet:
    data = load(spec.spec, root=spec.root, task=spec.task, test_share=spec.test_share, loss=spec.loss)
    return few(data, spec.count)


@dataclass(frozen=True, kw_only=True, eq=False)
class Manifest:
    """Jobs, the data they are for, and the cache that holds what they make.

    ``jobs``: parents before their children. ``fingerprint``: of the data. ``precision``: as in ``Engine``. ``views``: 1 to keep
    the logits of each image, 2 for its mirror image besides, 0 for no logits; the first ``unscored`` jobs leave none, their
    weights are enough. ``keep_weights``: whether checkpoints stay when no other job needs them; those of the first ``shown``
    jobs do in any case.
    """

    source: DataSpec
    fingerprint: str
    cache: Cache
    jobs: tuple[Job, ...]
    precision: str = "auto"
    views: int = 1
    keep_weights: bool = True
    shown: int = 0
    unscored: int = 0

    def __post_init__(self) -> None:
        if self.unscored > self.shown and not self.keep_weights:
            raise Refusal(
                f"expected the first {self.unscored} jobs, which leave no logits, to keep their weights, got {self.shown} that "
                "do; keep as many"
            )
        if not (self.keep_weights or self.views):
            raise Refusal("expected logits or weights to be kept, got neither; keep one of them")

    @cached_property
    def keys(self) -> tuple[str, ...]:
        """The key of each job's products: a digest of all that decides their bytes."""
        return tuple(digest_of([VERSION, self.precision, job.key(self.fingerprint)])[:32] for job in self.jobs)

    @cached_property
    def parents(self) -> tuple[int, ...]:
        """The number of each job's parent; −1 for trainings from scratch."""
        at = {job.key(self.fingerprint): number for number, job in enumerate(self.jobs)}
        return tuple(
            at[job.parent.key(self.fingerprint)] if isinstance(job, UnlearningJob) else -1 for job in self.jobs
        )

    @property
    def stages(self) -> tuple[tuple[int, ...], ...]:
        """Numbers of the jobs that can be done at the same time, one stage after the other."""
        first = tuple(number for number, parent in enumerate(self.parents) if parent < 0)
        second = tuple(number for number, parent in enumerate(self.parents) if parent >= 0)
        return (first, second) if second else (first,)

    def done(self, number: int) -> bool:
        """Whether all that is wanted of a job is there and whole; costs a look at the files, not at their content."""
        key = self.keys[number]
        if self.wants_logits(number) and not self.cache.has_logits(key, self.views):
            return False
        return not self.wants_weights(number) or self.cache.has_weights(key)

    def wants_weights(self, number: int) -> bool:
        """Whether a job's checkpoint is to be kept: for good, or until the models made from it are done."""
        if self.keep_weights or number < self.shown:
            return True
        return any(not self.done(child) for child, parent in enumerate(self.parents) if parent == number)

    def wants_logits(self, number: int) -> bool:
        """Whether a job's model is to be scored on the whole pool."""
        return self.views > 0 and number >= self.unscored

    def longest_first(self, numbers: Iterable[int]) -> list[int]:
        """These jobs, those that train on most first, so that in the end no worker waits long for another's last job."""
        return sorted(numbers, key=lambda number: -self.jobs[number].size)

    def left(self) -> list[int]:
        """Numbers of the jobs that are not done."""
        return [number for number in range(len(self.jobs)) if not self.done(number)]

    def write(self) -> Path:
        """Write the manifest into its cache, under a name that its content decides; returns where."""
        folder = self.cache.folder / "manifests"
        told = self._as_json(folder)
        path = folder / f"{digest_of(told)[:32]}.json"
        if not _holds(path, told):
            write_json(path, told)  # also over one that somebody changed
        return path

    def _as_json(self, folder: Path) -> dict[str, Any]:
        jobs = [
            job.as_json() | ({"parent": parent} if parent >= 0 else {}) for job, parent in zip(self.jobs, self.parents)
        ]
        return {
            "version": VERSION,
            "source": asdict(self.source) | {"root": None if self.source.root is None else str(self.source.root)},
            "fingerprint": self.fingerprint,
            "cache": os.path.relpath(self.cache.folder.resolve(), folder.resolve()),
            "precision": self.precision,
            "views": self.views,
            "keep_weights": self.keep_weights,
            "shown": self.shown,
            "unscored": self.unscored,
            "jobs": jobs,
        }


def _holds(path: Path, told: dict[str, Any]) -> bool:
    try:
        return path.is_file() and digest_of(read_json(path)) == digest_of(told)
    except Refusal:
        return False


def read(path: Path) -> Manifest:
    """The manifest in this file. It may name code of a user's own network, which jobs run: work off only your own.

    Raises: Refusal for a file that is missing, damaged, of another version, or not the one that its name tells.
    """
    found = read_json(path)
    if len(Path(path).stem) == 32 and digest_of(found)[:32] != Path(path).stem:
        raise Refusal(f"expected the manifest in {path} to be as it was planned, got one that was changed; plan anew")
    if not isinstance(found, dict) or found.get("version") != VERSION:
        raise Refusal(f"expected a manifest of version {VERSION} in {path}, got another file; plan anew")
    try:
        source = dict(found["source"])
        root = source.pop("root")
        jobs: list[Job] = []
        for told in found["jobs"]:
            if "parent" in told:
                parent = jobs[told["parent"]]
                assert isinstance(parent, TrainingJob)
                jobs.append(UnlearningJob.from_json(told, parent))
            else:
                jobs.append(TrainingJob.from_json(told))
        return Manifest(
            source=DataSpec(**source, root=None if root is None else Path(root)),
            fingerprint=found["fingerprint"],
            cache=Cache(Path(os.path.normpath(Path(path).absolute().parent / found["cache"]))),
            jobs=tuple(jobs),
            precision=found["precision"],
            views=found["views"],
            keep_weights=found["keep_weights"],
            shown=found["shown"],
            unscored=found["unscored"],
        )
    except (LookupError, TypeError, ValueError, AttributeError, AssertionError) as error:
        raise Refusal(f"expected a whole manifest in {path}, got {error!r}; plan anew") from error


def jobs_of(plan: Plan, *, blueprint: Blueprint, recipe: Recipe, method: Method | None = None) -> tuple[Job, ...]:
    """The jobs that make the models of a plan; ``method``: how its children forget."""
    jobs: list[Job] = []
    for members, forgotten, parent, seed in zip(plan.members, plan.forgotten, plan.parents, plan.seeds):
        if parent < 0:
            jobs.append(TrainingJob(blueprint=blueprint, recipe=recipe, seed=int(seed), kept=pack(members)))
            continue
        above = jobs[parent]
        if method is None:
            raise Refusal("expected a method for a plan with unlearned models, got none; name one")
        assert isinstance(above, TrainingJob)
        gone = pack(forgotten)
        jobs.append(UnlearningJob(parent=above, method=settled(method, recipe), forgotten=gone, seed=int(seed)))
    return tuple(jobs)


def in_order(jobs: Iterable[Job], fingerprint: str) -> tuple[Job, ...]:
    """Every job once, and the parents that children need before them."""
    found: dict[str, Job] = {}
    for job in jobs:
        if isinstance(job, UnlearningJob):
            found.setdefault(job.parent.key(fingerprint), job.parent)
        found.setdefault(job.key(fingerprint), job)
    return tuple(found.values())
