"""One training from scratch as a job that is done once: the same job and file twice costs nothing the second time."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from unteach.checkpoint import Checkpoint, load, new_network, save
from unteach.data import DataSet
from unteach.engine import Engine, pixels
from unteach.models import WHITENING_SAMPLE, Blueprint
from unteach.provenance import Provenance, known_again, trained_on
from unteach.recipe import Recipe
from unteach.references.pool import chosen, count_of, pack, size_of, unpack
from unteach.store import digest_of, load_tensors
from unteach.types import Refusal


@dataclass(frozen=True, kw_only=True)
class TrainingJob:
    """Train a network from random weights on the training set without ``left_out`` and without ``validation``.

    With ``kept`` it is trained on just these examples of the pool (training set, then all outside it), see ``pool.pack``:
    this is how an attacker's models are trained, on random halves of both. ``seed`` decides weights and order. The job is done
    when its file is there with the same key (settings, data, ids).
    """

    blueprint: Blueprint
    recipe: Recipe
    seed: int
    left_out: tuple[str, ...] = ()
    validation: tuple[str, ...] = ()
    kept: str = ""
    label: str = "training"

    def __post_init__(self) -> None:
        if self.kept and (self.left_out or self.validation):
            raise Refusal("expected either examples of the pool or ids to leave out, got both; give one of them")

    def key(self, data_fingerprint: str) -> str:
        """Digest of all that decides which network comes out."""
        unseen = {"kept": self.kept} if self.kept else sorted({*self.left_out, *self.validation})
        return digest_of([self.blueprint.as_json(), self.recipe.as_json(), self.seed, unseen, data_fingerprint])

    @property
    def recipe_digest(self) -> str:
        """Short digest of network and recipe: what trainings that may be compared have in common."""
        return digest_of([self.blueprint.as_json(), self.recipe.as_json()])[:12]

    @property
    def size(self) -> float:
        """What tells longer jobs from shorter ones: examples times epochs; infinite where all but some ids are trained on."""
        return self.recipe.cost * count_of(self.kept) if self.kept else math.inf

    def members(self, data: DataSet) -> np.ndarray:
        """Mask over the pool: what the model is trained on."""
        if self.kept:
            return unpack(self.kept, size_of(data))
        gone = np.isin(data.train.ids, np.asarray((*self.left_out, *self.validation), dtype=data.train.ids.dtype))
        return np.concatenate((~gone, np.zeros(len(data.outside), dtype=bool)))

    def __call__(self, data: DataSet, path: Path, engine: Engine) -> Checkpoint:
        """Do the job, or find it done; an interrupted one goes on after its last whole epoch."""
        key = self.key(data.fingerprint)
        if not made_with(path, key):
            self._train(data, path, engine, key)
        return load(path, data=data.train, model=self.blueprint.name, arguments=self.blueprint.arguments)

    def _train(self, data: DataSet, path: Path, engine: Engine, key: str) -> None:
        members = self.members(data)
        kept = chosen(data, members)
        model = new_network(self.blueprint, seed=self.seed, sample=lambda: pixels(kept.inputs[:WHITENING_SAMPLE]))
        with engine.stage(self.label):
            log = self.recipe(model, kept, seed=self.seed, engine=engine, label=self.label)
        provenance = Provenance(
            classes=list(data.train.classes),
            data=data.name,
            data_fingerprint=data.fingerprint,
            trained_on=of_pool(data, members) if self.kept else self._trained_on(data),
            recipe=self.recipe.as_json(),
            made_by={"verb": "train", "key": key},
            seed=self.seed,
            seconds=sum(epoch["seconds"] for epoch in log),
            units=self.recipe.cost * len(kept),
            log=log,
        )
        if engine.rank == 0:
            save(path, model, provenance)
        engine.wait()

    def _trained_on(self, data: DataSet) -> dict[str, Any]:
        told = trained_on(data.train, self.left_out, self.validation)
        return told | known_again(data, [*self.left_out, *self.validation])

    def as_json(self) -> dict[str, Any]:
        """The job as plain values."""
        told = asdict(self) | {"blueprint": self.blueprint.as_json(), "recipe": self.recipe.as_json()}
        return {name: value for name, value in told.items() if value or name == "seed"}

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> TrainingJob:
        """The job that ``as_json`` told."""
        blueprint = Blueprint.from_json(values["blueprint"])
        lists = {name: tuple(values[name]) for name in ("left_out", "validation") if name in values}
        made = {**values, **lists, "blueprint": blueprint, "recipe": Recipe.from_json(values["recipe"])}
        return TrainingJob(**made)


def made_with(path: Path, key: str) -> bool:
    """Whether this file is a whole checkpoint that was made by the job of this key.

    A damaged one is as good as none: only jobs write here, and the job makes it again.
    """
    try:
        return path.is_file() and load_tensors(path)[1].get("made_by", {}).get("key") == key
    except Refusal:
        return False


def of_pool(data: DataSet, members: np.ndarray) -> dict[str, Any]:
    """The record of what a model was trained on: ids left out, or packed bits where there are test examples among it."""
    cut = len(data.train)
    if not members[cut:].any():
        return trained_on(data.train, data.train.ids[~members[:cut]].tolist())
    bits = pack(members)
    return {"count": int(members.sum()), "digest": digest_of(bits), "pool": bits}
