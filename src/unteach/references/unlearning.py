"""One unlearning of a trained model as a job that is done once."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from unteach.api import apply
from unteach.challenge import Challenge
from unteach.checkpoint import Checkpoint, load, save
from unteach.data import DataSet
from unteach.engine import Engine
from unteach.methods import METHODS
from unteach.plugins import origin, title
from unteach.recipe import Recipe
from unteach.references.job import TrainingJob, made_with, of_pool
from unteach.references.pool import chosen, unpack
from unteach.runtime import load_optimisers
from unteach.store import digest_of, record, restored
from unteach.types import Method, Refusal, Split
from unteach.user_code import recall


@dataclass(frozen=True, kw_only=True)
class UnlearningJob:
    """Make the model of a training job forget some of the examples it was trained on.

    ``forgotten``: these, as packed bits of the pool; the rest of what the parent was trained on is retained. ``seed`` decides
    what the method draws. The job is done when its file is there with the same key.
    """

    parent: TrainingJob
    method: Method
    forgotten: str
    seed: int

    def key(self, data_fingerprint: str) -> str:
        """Digest of all that decides which network comes out."""
        return digest_of([self.parent.key(data_fingerprint), told(self.method), self.forgotten, self.seed])

    @property
    def size(self) -> float:
        """What tells longer jobs from shorter ones: that of the parent's training."""
        return self.parent.size

    def members(self, data: DataSet) -> np.ndarray:
        """Mask over the pool: what the parent was trained on."""
        return self.parent.members(data)

    def __call__(self, data: DataSet, path: Path, engine: Engine, *, original: Path) -> Checkpoint:
        """Do the job, or find it done. ``original``: the parent's file; it is trained first where there is none."""
        key = self.key(data.fingerprint)
        if not made_with(path, key):
            self._unlearn(data, self.parent(data, original, engine), path, engine, key)
        blueprint = self.parent.blueprint
        return load(path, data=data.train, model=blueprint.name, arguments=blueprint.arguments)

    def _unlearn(self, data: DataSet, parent: Checkpoint, path: Path, engine: Engine, key: str) -> None:
        members = self.members(data)
        forgotten = unpack(self.forgotten, len(members))
        if not forgotten.any() or (forgotten & ~members).any():
            raise Refusal(
                f"expected a request of some that the model was trained on, got {int(forgotten.sum())} examples, "
                f"{int((forgotten & ~members).sum())} of them never seen; plan anew"
            )
        held = data.train.take(data.train.positions(self.parent.validation)) if self.parent.validation else None
        parts = Split(forget=chosen(data, forgotten), retain=chosen(data, members & ~forgotten), validation=held)
        load_optimisers()
        method, billed, start, counted = self.method, len(engine.stages), time.perf_counter(), replace(engine.meter)
        if engine.scratch is not None and getattr(method, "stored", "") is None:
            method = replace(method, stored=engine.scratch / "stored.safetensors")  # type: ignore[type-var, misc]
        model = apply(method, parent.model, parts, torch.Generator().manual_seed(self.seed), engine)
        stages = engine.stages[billed:]
        # The stages also bill what was done before the job was stopped and taken up again.
        spent = max(time.perf_counter() - start, sum(stage.seconds for stage in stages))
        provenance = replace(
            parent.provenance,
            trained_on=of_pool(data, members & ~forgotten),
            parent=parent.fingerprint,
            made_by={**told(self.method), "key": key},
            seed=self.seed,
            seconds=spent,
            units=max(engine.meter.units_since(counted), sum(stage.units for stage in stages)),
            stages=[asdict(stage) for stage in stages],
            log=[],
        )
        if engine.rank == 0:
            save(path, model, provenance)
        engine.wait()

    def as_json(self) -> dict[str, Any]:
        """The job as plain values, but for its parent."""
        return {**told(self.method), "forgotten": self.forgotten, "seed": self.seed}

    @staticmethod
    def from_json(values: Mapping[str, Any], parent: TrainingJob) -> UnlearningJob:
        """The job that ``as_json`` told, for this parent."""
        method = restored_method(values["method"], values["settings"], values.get("code"))
        return UnlearningJob(parent=parent, method=method, forgotten=values["forgotten"], seed=values["seed"])


def restored_method(name: str, settings: Mapping[str, Any], code: Mapping[str, str] | None = None) -> Method:
    """The method of this class name with these settings, as ``told`` tells them.

    ``code``: what a job tells of a method from outside; it is run if the command line named just that code, see ``user_code``.
    Raises: Refusal for code that nobody named, or a class that is no method of ours.
    """
    if code is not None:
        outside = recall(code["name"], code["sha256"])
        made: Method = restored(outside if isinstance(outside, type) else Challenge, dict(settings))
        return made
    classes: dict[str, Any] = {type(made).__name__: type(made) for made in (make() for make in METHODS.values())}
    if name not in classes:
        raise Refusal(f"expected a method of unteach ({', '.join(classes)}), got {name!r}; add it to METHODS")
    found: Method = restored(classes[name], dict(settings))
    return found


def told(method: Method) -> dict[str, Any]:
    """A method with its settings as plain values, and the code it runs if that is not ours; where it keeps files is left out."""
    settings: dict[str, Any] = record(method) if is_dataclass(method) else {}
    settings.pop("stored", None)
    about = {"method": title(method), "settings": json.loads(json.dumps(settings, default=str))}
    code = origin(method)
    return about | ({"code": {"name": code.name, "sha256": code.sha256}} if code else {})


def settled(method: Method, recipe: Recipe) -> Method:
    """The method with what was left open taken from the recipe: how images vary, and how to retrain."""
    open_ = {item.name for item in fields(method) if getattr(method, item.name) is None}  # type: ignore[arg-type]
    known = {"augment": recipe.augment, "training": recipe}
    return replace(method, **{name: known[name] for name in known if name in open_})  # type: ignore[type-var, misc]
