"""One training from scratch as a job that is done once: the same job and file twice costs nothing the second time."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from unteach.checkpoint import Checkpoint, Provenance, load, new_network, save, trained_on
from unteach.data import DataSet
from unteach.engine import Engine, pixels
from unteach.models import WHITENING_SAMPLE, Blueprint
from unteach.recipe import Recipe
from unteach.store import digest_of, load_tensors


@dataclass(frozen=True, kw_only=True)
class TrainingJob:
    """Train a network from random weights on the training set without ``left_out`` and without ``validation``.

    ``seed`` decides weights and order. The job is done when its file is there with the same key (settings, data, ids).
    """

    blueprint: Blueprint
    recipe: Recipe
    seed: int
    left_out: tuple[str, ...] = ()
    validation: tuple[str, ...] = ()
    label: str = "training"

    def __call__(self, data: DataSet, path: Path, engine: Engine) -> Checkpoint:
        """Do the job, or find it done; an interrupted one goes on after its last whole epoch."""
        unseen = sorted({*self.left_out, *self.validation})
        key = digest_of([self.blueprint.as_json(), self.recipe.as_json(), self.seed, unseen, data.fingerprint])
        if not (path.is_file() and load_tensors(path)[1].get("made_by", {}).get("key") == key):
            self._train(data, path, engine, key)
        return load(path, data=data.train, model=self.blueprint.name, arguments=self.blueprint.arguments)

    def _train(self, data: DataSet, path: Path, engine: Engine, key: str) -> None:
        import numpy as np

        gone = np.isin(data.train.ids, np.asarray((*self.left_out, *self.validation), dtype=data.train.ids.dtype))
        kept = data.train.take(~gone)
        model = new_network(self.blueprint, seed=self.seed, sample=pixels(kept.inputs[:WHITENING_SAMPLE]))
        with engine.stage(self.label):
            log = self.recipe(model, kept, seed=self.seed, engine=engine, label=self.label)
        provenance = Provenance(
            classes=list(data.train.classes),
            data=data.name,
            data_fingerprint=data.fingerprint,
            trained_on=trained_on(data.train, self.left_out, self.validation),
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
