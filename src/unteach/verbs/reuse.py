"""What runs on the same data, model and request have in common: made by the first of them, taken from the cache by the others."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from unteach.checkpoint import Checkpoint
from unteach.data import DataSet
from unteach.engine import Engine
from unteach.models import MODELS, Blueprint
from unteach.provenance import environment
from unteach.references.cache import Cache, Record, weights_of
from unteach.references.job import TrainingJob, made_with
from unteach.store import digest_of, load_tensors, record, save_tensors, write
from unteach.types import Examples, Method, Refusal


@dataclass(frozen=True)
class Reuse:
    """Retrained models, logits and adversarial examples by their keys, in a cache; without one, nothing is shared.

    Only what this machine made with the same versions, precision and number of threads is taken, and only of networks that are
    ours, whose weights and settings tell all that they answer: a run ends with the same bytes whether the cache held it or not.
    """

    cache: Cache | None = None

    def trained(self, job: TrainingJob, data: DataSet, path: Path, engine: Engine) -> Checkpoint:
        """Do a training, or find it done: here, or in the cache, from where it is copied; the cache gets a copy of a new one."""
        if self.cache is None or job.blueprint.name not in MODELS:
            return job(data, path, engine)
        key, here = job.key(data.fingerprint), _here(engine)
        known, kept = self.cache.record(key), self.cache.weights(key)
        alike = known is not None and known.environment == here and self.cache.has_weights(key, closely=True)
        if engine.rank == 0 and alike and not made_with(path, key):
            _copy(kept, path)
            engine.events.emit("reused", what=job.label, key=key)
        engine.wait()
        made = job(data, path, engine)
        if engine.rank == 0 and known is None:
            _copy(path, kept)
            story = made.provenance
            self.cache.put(
                Record(
                    key=key,
                    kind="training",
                    data=data.name,
                    data_fingerprint=data.fingerprint,
                    network=job.blueprint.name,
                    recipe=job.recipe_digest,
                    seed=job.seed,
                    examples=int(job.members(data).sum()),
                    seconds=story.seconds,
                    units=story.units,
                    device=str(engine.device),
                    made=time.time(),
                    weights=weights_of(path),
                    environment=here,
                )
            )
        elif engine.rank == 0 and not alike and known is not None and known.weights == weights_of(path):
            _copy(path, kept)  # it was damaged, or is gone; the record tells just these bytes
        return made

    def logits(self, checkpoint: Checkpoint, part: Examples, engine: Engine) -> torch.Tensor:
        """A model's logits of these examples, fp32 on the CPU, shape ``n × classes``."""
        seen = digest_of(part.ids.tolist())
        if seen in checkpoint.scored:
            return checkpoint.scored[seen]
        file, plain = None, _plain(checkpoint)
        # Several processes would have to agree on what is there.
        if self.cache is not None and plain and engine.world == 1:
            told = [checkpoint.fingerprint, plain, part.fingerprint(), _here(engine)]
            file = self.cache.shared("scores", digest_of(told))
        found = _read(file, len(part))
        if found is None:
            found = engine.logits(checkpoint.model, part.inputs)
            if file is not None:
                save_tensors(file, {"logits": found}, {})
        checkpoint.scored[seen] = found
        return found

    @contextmanager
    def searched(self, method: Method, original: Checkpoint, engine: Engine) -> Iterator[None]:
        """Inside, the method's file of adversarial examples holds what earlier runs found for this model and search."""
        file: Path | None = getattr(method, "stored", None)
        plain = _plain(original)
        if self.cache is None or file is None or not plain:
            yield
            return
        search: Any = getattr(method, "attack", method)
        told = {**record(search), "stored": None}
        key = digest_of([original.fingerprint, plain, type(search).__name__, told, _here(engine)])
        kept = self.cache.shared("searched", key)
        if engine.rank == 0 and kept.is_file() and not file.is_file():
            _copy(kept, file)
        engine.wait()
        before = file.stat().st_mtime_ns if file.is_file() else 0
        yield
        if engine.rank == 0 and file.is_file() and file.stat().st_mtime_ns != before:
            _copy(file, kept)


def _plain(checkpoint: Checkpoint) -> dict[str, Any]:
    """How a network of ours was made; nothing where code from outside made it, or hooks change what it sees or says."""
    made = getattr(checkpoint.model, "unteach_blueprint", None)
    if not isinstance(made, Blueprint) or made.name not in MODELS:
        return {}
    hooked = any(module._forward_hooks or module._forward_pre_hooks for module in checkpoint.model.modules())
    return {} if hooked else made.as_json()


def _here(engine: Engine) -> dict[str, str]:
    """What else decides the bits."""
    kind = ("bf16" if engine.bf16 else "fp32") + (", compiled" if engine.compiles else "")
    return environment() | {"device": str(engine.device), "precision": kind}


def _copy(source: Path, target: Path) -> None:
    write(target, lambda temporary: shutil.copyfile(source, temporary))


def _read(file: Path | None, count: int) -> torch.Tensor | None:
    """Logits that were kept; None where there are none, or the file is damaged."""
    if file is None or not file.is_file():
        return None
    try:
        found = load_tensors(file)[0].get("logits")
    except Refusal:
        return None
    return found if found is not None and found.dtype == torch.float32 and len(found) == count else None
