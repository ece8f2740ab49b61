"""The folder in which jobs leave their models: what is there, what it cost, and whether it is whole."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from io import BufferedReader
from pathlib import Path
from typing import Any

from unteach.logit_store import LogitStore
from unteach.store import read_json, restored, write_json
from unteach.types import Refusal

SHARED = ("scores", "searched")  # logits of examples; adversarial examples, which look like those they were found for


@dataclass(frozen=True, kw_only=True)
class Record:
    """What was made by one job; written last, so that what it names is there and whole.

    ``weights``: bytes and SHA-256 of the checkpoint's tensors; empty where it was not kept. ``logits``: by the number of views,
    bytes and SHA-256 of the array. Neither differs when the same job is done again. ``seconds``, ``units``: what making it
    cost, see ``engine.Meter``; ``scoring``: seconds for the logits. ``recipe``: digest of network and recipe. ``made``: seconds
    since the epoch.
    """

    key: str
    kind: str
    data: str
    data_fingerprint: str
    network: str
    recipe: str
    seed: int
    method: str = ""
    parent: str = ""
    examples: int = 0
    forgotten: int = 0
    seconds: float = 0.0
    units: float = 0.0
    scoring: float = 0.0
    device: str = ""
    made: float = 0.0
    weights: dict[str, Any] = field(default_factory=dict)
    logits: dict[str, dict[str, Any]] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def bytes(self) -> int:
        """Size of what it names."""
        return int(sum(product.get("bytes", 0) for product in (self.weights, *self.logits.values())))


@dataclass(frozen=True)
class Cache:
    """Models and logits of jobs by their keys: digests of all that decides their bytes.

    ``records/KEY.json``, ``weights/KEY.safetensors``, a logit store for each data set and number of views, ``clusters/`` of
    near-duplicates, what runs have in common (``SHARED``), and ``scratch/KEY/`` for jobs underway. Every file is written whole
    or not at all; two processes that do the same job write the same bytes.
    """

    folder: Path

    def weights(self, key: str) -> Path:
        """Where the checkpoint of a job belongs."""
        return self.folder / "weights" / f"{key}.safetensors"

    def scratch(self, key: str) -> Path:
        """Where a job keeps what it goes on from after a stop."""
        return self.folder / "scratch" / key

    def logits(self, data_fingerprint: str, views: int) -> Path:
        """The folder of the logit store of these data."""
        return self.folder / "logits" / f"{data_fingerprint[:16]}-{views}"

    def clusters(self, data_fingerprint: str) -> Path:
        """The file of near-duplicates among these data."""
        return self.folder / "clusters" / f"{data_fingerprint[:16]}.safetensors"

    def shared(self, kind: str, key: str) -> Path:
        """The file of something of one of the ``SHARED`` kinds."""
        return self.folder / kind / f"{key[:32]}.safetensors"

    def answers(self, idle: float) -> Iterator[Path]:
        """What runs have in common and hold of single examples, forgotten ones too, untouched for ``idle`` seconds."""
        files = (path for kind in SHARED for path in sorted((self.folder / kind).glob("*.safetensors")))
        return (path for path in files if time.time() - path.stat().st_mtime >= idle)

    def record(self, key: str) -> Record | None:
        """What is known of a job's products; None where there are none, or the record is damaged."""
        return _record(self.folder / "records" / f"{key}.json")

    def records(self) -> list[Record]:
        """All records, oldest first."""
        found = [_record(path) for path in (self.folder / "records").glob("*.json")]
        return sorted((record for record in found if record is not None), key=lambda record: (record.made, record.key))

    def put(self, record: Record) -> None:
        """Write the record, after its products; the job's scratch is no longer needed."""
        write_json(self.folder / "records" / f"{record.key}.json", asdict(record))
        shutil.rmtree(self.scratch(record.key), ignore_errors=True)

    def has_weights(self, key: str, *, closely: bool = False) -> bool:
        """Whether the checkpoint is there and whole, by its size and header; ``closely``: by its digest."""
        record, path = self.record(key), self.weights(key)
        if record is None or not record.weights or not path.is_file():
            return False
        if not _readable(path):
            return False
        try:
            with _tensors_of(path) as (file, size):
                return size == record.weights["bytes"] and (not closely or _digest(file) == record.weights["sha256"])
        except FileNotFoundError:  # another run has just dropped it
            return False

    def has_logits(self, key: str, views: int, *, closely: bool = False) -> bool:
        """Whether the logits are there and whole, as their store tells; ``closely``: by their digest."""
        record = self.record(key)
        if record is None or str(views) not in record.logits:
            return False
        try:
            store = opened(self.logits(record.data_fingerprint, views))
            if not store.has(key):
                return False
            return not closely or digest_of_array(store.logits(key)) == record.logits[str(views)]["sha256"]
        except Refusal:
            return False

    def whole(self, record: Record, *, closely: bool = False) -> bool:
        """Whether all that a record names is there."""
        weights = not record.weights or self.has_weights(record.key, closely=closely)
        return weights and all(self.has_logits(record.key, int(views), closely=closely) for views in record.logits)

    def drop_weights(self, key: str) -> None:
        """Delete a checkpoint whose logits are enough; the record goes first, so that none names what is not there."""
        record = self.record(key)
        if record is not None and record.weights:
            write_json(self.folder / "records" / f"{key}.json", asdict(record) | {"weights": {}})
        self.weights(key).unlink(missing_ok=True)

    def remove(self, record: Record) -> None:
        """Delete a model with all its products."""
        (self.folder / "records" / f"{record.key}.json").unlink(missing_ok=True)
        self.weights(record.key).unlink(missing_ok=True)
        for views in record.logits:
            folder = self.logits(record.data_fingerprint, int(views))
            if folder.is_dir():
                opened(folder).remove(record.key)

    def leftovers(self, idle: float) -> Iterator[Path]:
        """Files that nothing names and that nobody touched for ``idle`` seconds: of jobs that were stopped for good.

        Half-written files, scratch, records that can't be read, and checkpoints whose record is missing.
        """
        named = {record.key: record for record in self.records()}
        for path in sorted(self.folder.rglob("*")):
            if not path.is_file() or time.time() - path.stat().st_mtime < idle:
                continue
            kind = path.relative_to(self.folder).parts[0]
            unnamed = kind == "weights" and not (path.stem in named and named[path.stem].weights)
            unread = kind == "records" and path.stem not in named
            if path.name.startswith(".") or kind == "scratch" or unnamed or unread:
                yield path


@lru_cache(maxsize=8)
def opened(folder: Path) -> LogitStore:
    """The logit store in this folder, opened once a process.

    Raises: Refusal where there is none.
    """
    return LogitStore.existing(folder)


def weights_of(path: Path) -> dict[str, Any]:
    """Bytes and SHA-256 of a checkpoint without its header, which tells seconds and so is never the same twice."""
    with _tensors_of(path) as (file, size):
        return {"bytes": size, "sha256": _digest(file)}


def digest_of_array(array: Any) -> str:
    """SHA-256 of an array's bytes in the order of its rows."""
    import numpy as np

    return hashlib.sha256(np.ascontiguousarray(array).data).hexdigest()


def _record(path: Path) -> Record | None:
    try:
        found = read_json(path)
        made = restored(Record, {name: value for name, value in found.items() if name in Record.__dataclass_fields__})
    except (Refusal, AttributeError):
        return None
    return made if _sound(made, path.stem) else None


def _sound(record: Record, key: str) -> bool:
    """Whether what it names is in the cache and nowhere else, and every product has a size and a digest."""
    if record.key != key or not re.fullmatch(r"\w*", record.data_fingerprint) or not isinstance(record.logits, dict):
        return False
    products = [record.weights, *record.logits.values()]
    return all(views.isdecimal() for views in record.logits) and all(
        isinstance(one, dict) and (not one or (_count(one.get("bytes")) and isinstance(one.get("sha256"), str)))
        for one in products
    )


def _count(value: object) -> bool:
    return isinstance(value, int) and value >= 0


@contextmanager
def _tensors_of(path: Path) -> Iterator[tuple[BufferedReader, int]]:
    """A checkpoint, open where its tensors begin, and their bytes.

    Opened once: another process that does the same job may put its own file in this one's place, with a header of other length.
    """
    with path.open("rb") as file:
        start = 8 + int.from_bytes(file.read(8), "little")  # eight bytes tell the header's length
        file.seek(start)
        yield file, os.fstat(file.fileno()).st_size - start


def _digest(file: BufferedReader) -> str:
    return hashlib.file_digest(file, "sha256").hexdigest()


def _readable(path: Path) -> bool:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np"):
            return True
    except (SafetensorError, OSError):
        return False
