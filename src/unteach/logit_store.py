"""Logits of many models on the same examples: one memory-mapped file per model, read one model at a time."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from unteach.logit_stack import Stack, read_only
from unteach.store import digest_of, load_tensors, save_tensors
from unteach.types import Refusal, Signals

KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")


@dataclass(frozen=True, eq=False)
class LogitStore:
    """A folder: ``examples.safetensors``, and ``models/KEY.safetensors`` for each model.

    A model's file holds ``logits`` (float32 ``views × examples × classes``), its rows of the membership and the forget
    matrix, and in the header what is told about it. It is written whole or not at all, so a file that is there is a job
    that is done, and any number of writers may put different models, or the same one, at the same time.

    ``labels``: int64 ``n`` or float32 ``n × k``. ``groups``: names (person …) or None. ``clusters``: near-duplicates, or None.
    """

    folder: Path
    ids: np.ndarray
    labels: np.ndarray
    groups: np.ndarray | None = None
    clusters: np.ndarray | None = None
    classes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, column in {"labels": self.labels, "groups": self.groups, "clusters": self.clusters}.items():
            if column is not None and len(column) != len(self.ids):
                raise Refusal(f"expected one entry of {name} per id ({len(self.ids)}), got {len(column)}; give all")
        if len(set(self.ids.tolist())) != len(self.ids) or not len(self.ids):
            raise Refusal(f"expected every id once, got {len(self.ids)} with doubles, or none; make the ids unique")

    @classmethod
    def open(
        cls,
        folder: Path,
        *,
        ids: np.ndarray,
        labels: np.ndarray,
        groups: np.ndarray | None = None,
        clusters: np.ndarray | None = None,
        classes: tuple[str, ...] = (),
    ) -> LogitStore:
        """The store in this folder, made when there is none.

        Raises: Refusal when it holds other examples, or the same ones in another order.
        """
        kind = np.int64 if np.ndim(labels) == 1 else np.float32
        units = [None if column is None else np.asarray(column) for column in (groups, clusters)]
        examples = np.asarray(ids), np.asarray(labels).astype(kind)
        wanted = cls(Path(folder), *examples, units[0], units[1], tuple(classes))
        file = wanted.folder / "examples.safetensors"
        if not file.exists():
            names = {"ids": wanted.ids, "groups": wanted.groups, "clusters": wanted.clusters}
            told = {name: None if column is None else column.tolist() for name, column in names.items()}
            save_tensors(file, {"labels": torch.from_numpy(wanted.labels)}, told | {"classes": list(classes)})
        found = cls.existing(folder)
        if found.digest != wanted.digest:
            raise Refusal(
                f"expected a store of these {len(wanted.ids)} examples in {folder}, got one of {len(found.ids)} others "
                "(ids, their order, labels, groups, clusters or classes differ); choose another folder"
            )
        return found

    @classmethod
    def existing(cls, folder: Path) -> LogitStore:
        """The store in this folder. Raises: Refusal when there is none."""
        file = Path(folder) / "examples.safetensors"
        if not file.is_file():
            raise Refusal(f"expected a store of logits in {folder}, got no {file.name} there; check the path")
        tensors, told = load_tensors(file)
        if "labels" not in tensors or not {"ids", "groups", "clusters", "classes"} <= told.keys():
            raise Refusal(f"expected the examples of a store in {file}, got another file; choose another folder")
        try:
            groups, clusters = (None if told[name] is None else np.array(told[name]) for name in ("groups", "clusters"))
            labels = tensors["labels"].numpy().copy()
            return cls(Path(folder), np.array(told["ids"]), labels, groups, clusters, tuple(told["classes"]))
        except (TypeError, ValueError) as error:
            raise Refusal(f"expected the examples of a store in {file}, got: {error}; it is damaged") from error

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the examples: ids in their order, labels, groups, clusters and class names."""
        columns = (self.ids, self.labels, self.groups, self.clusters)
        return digest_of([*(None if one is None else one.tolist() for one in columns), list(self.classes)])

    def file(self, key: str) -> Path:
        """Where a model's logits are kept."""
        if not KEY.fullmatch(key):
            raise Refusal(f"expected a key of letters, digits, dots, dashes and underscores, got {key!r}; rename it")
        return self.folder / "models" / f"{key}.safetensors"

    def has(self, key: str) -> bool:
        """Whether the logits of this model are there, whole, and of these examples."""
        try:
            self._read(key)
        except Refusal:
            return False
        return True

    def keys(self) -> tuple[str, ...]:
        """The models that are there, sorted."""
        found = (path.stem for path in (self.folder / "models").glob("*.safetensors"))
        return tuple(sorted(key for key in found if KEY.fullmatch(key) and self.has(key)))

    def put(
        self,
        key: str,
        logits: np.ndarray | torch.Tensor,
        *,
        members: np.ndarray,
        forgotten: np.ndarray | None = None,
        about: Mapping[str, Any] | None = None,
    ) -> None:
        """Keep one model's logits; an older entry under this key is replaced.

        ``logits``: float32 ``views × examples × classes``. ``members``: bool ``examples``, what it was trained on.
        ``forgotten``: bool, what it was then asked to forget, among the members. ``about``: anything JSON holds, such as
        seeds and settings. Raises: Refusal for half precision, NaN or infinity, other shapes, contradictions.
        """
        file, z = self.file(key), torch.as_tensor(logits).detach().cpu()
        self._check(z)
        members = np.asarray(members)
        rows = {
            "members": members,
            "forgotten": np.asarray(forgotten) if forgotten is not None else np.zeros(members.shape, bool),
        }
        for name, row in rows.items():
            if row.shape != self.ids.shape or row.dtype != np.bool_:
                raise Refusal(
                    f"expected {name} as {len(self.ids)} booleans, got {row.dtype} of shape {row.shape}; fix it"
                )
        if (rows["forgotten"] & ~members).any():
            raise Refusal(f"expected forgotten examples of {key!r} to be members, got others; mend the two rows")
        try:
            told = json.loads(json.dumps(dict(about or {}), allow_nan=False))
        except (TypeError, ValueError) as error:
            raise Refusal(f"expected plain values about {key!r}, got: {error}; give text and finite numbers") from error
        tensors = {"logits": z, **{name: torch.from_numpy(row.copy()) for name, row in rows.items()}}
        content = hashlib.sha256(z.contiguous().numpy().data).hexdigest()
        save_tensors(file, tensors, {"about": told, "examples": self.digest, "logits": content})

    def _check(self, z: torch.Tensor) -> None:
        if z.dtype != torch.float32:
            kind = str(z.dtype).removeprefix("torch.")
            raise Refusal(f"expected logits in float32, got {kind}; half precision rounds away what attacks look at")
        least = len(self.classes) or (self.labels.shape[1] if self.labels.ndim == 2 else int(self.labels.max()) + 1)
        fits = z.ndim == 3 and z.shape[0] and z.shape[1] == len(self.ids) and z.shape[2] >= least
        if not fits or (z.shape[2] > least and (self.classes or self.labels.ndim == 2)):
            raise Refusal(
                f"expected logits of shape views × {len(self.ids)} × {least}, got {tuple(z.shape)}; "
                "give one row per example and one column per class"
            )
        if not torch.isfinite(z).all():
            raise Refusal("expected finite logits, got NaN or infinity; check the checkpoint and the inputs")

    def _read(self, key: str) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        if not self.file(key).is_file():
            raise Refusal(f"expected logits of {key!r} in {self.folder}, got none; train or score that model first")
        tensors, told = load_tensors(self.file(key))
        if told.get("examples") != self.digest:
            raise Refusal(f"expected logits of this store's examples in {self.file(key)}, got others; remove that file")
        n, z, about = len(self.ids), tensors.get("logits"), told.get("about")
        rows = [tensors.get(name) for name in ("members", "forgotten")]
        if (
            not (isinstance(about, dict) and isinstance(told.get("logits"), str))
            or not (z is not None and z.dtype == torch.float32 and z.ndim == 3 and z.shape[1] == n)
            or not all(row is not None and row.dtype == torch.bool and row.shape == (n,) for row in rows)
        ):
            raise Refusal(
                f"expected logits with all that belongs to them in {self.file(key)}, got less; remove that file"
            )
        return tensors, told

    def about(self, key: str) -> dict[str, Any]:
        """What was told about this model."""
        return dict(self._read(key)[1]["about"])

    def fingerprint(self, keys: Sequence[str]) -> str:
        """SHA-256 over the examples and the logits of these models, for the report."""
        return digest_of([self.digest, *([key, self._read(key)[1]["logits"]] for key in keys)])

    def remove(self, key: str) -> None:
        """Drop one model; nothing happens when it is not there."""
        self.file(key).unlink(missing_ok=True)

    def logits(self, key: str) -> np.ndarray:
        """One model's logits, float32 ``views × examples × classes``, mapped and read-only."""
        return read_only(self._read(key)[0]["logits"])

    def positions(self, ids: Sequence[str] | np.ndarray) -> np.ndarray:
        """Where these examples stand, for `select`."""
        where = {name: at for at, name in enumerate(self.ids.tolist())}
        if unknown := [name for name in ids if name not in where]:
            raise Refusal(
                f"expected ids of the store, got {len(unknown)} unknown, such as {str(unknown[0])!r}; check them"
            )
        return np.array([where[name] for name in ids], dtype=np.int64)

    def signals(self, keys: Sequence[str], references: Sequence[str] = ()) -> Signals:
        """What the judges read, of these models in this order, then of references not among them; logits stay on disk.

        ``Signals.references`` are the references' positions. The independent units are the groups, or the clusters of
        near-duplicates where there are no groups. Raises: Refusal for models that differ in views or classes.
        """
        names = tuple(dict.fromkeys((*keys, *references)))
        if names[: len(keys)] != tuple(keys) or not names:
            raise Refusal(f"expected every model once, got {', '.join(keys) or 'none'}; name each once")
        read = [self._read(key)[0] for key in names]
        shapes = {tuple(tensors["logits"].shape) for tensors in read}
        if len(shapes) > 1:
            raise Refusal(f"expected models with the same views and classes, got {sorted(shapes)}; score them alike")
        views, n, classes = shapes.pop()
        stack = Stack(tuple(self.file(key) for key in names), (len(names), views, n, classes))
        return Signals(
            models=names,
            logits=cast(np.ndarray, stack),
            labels=self.labels,
            members=np.stack([tensors["members"].numpy() for tensors in read]),
            forgotten=np.stack([tensors["forgotten"].numpy() for tensors in read]),
            groups=self.clusters if self.groups is None else self.groups,
            references=tuple(names.index(key) for key in dict.fromkeys(references)),
        )


def select(signals: Signals, rows: np.ndarray) -> Signals:
    """The signals of some examples (positions, or a mask), in this order; logits on disk stay there."""
    rows = np.flatnonzero(rows) if rows.dtype == bool else rows
    logits: Any = signals.logits
    if isinstance(logits, Stack):
        shape = (*logits.shape[:2], len(rows), logits.shape[3])
        chosen: Any = replace(logits, shape=shape, rows=rows if logits.rows is None else logits.rows[rows])
    else:
        chosen = logits[:, :, rows]
    return replace(
        signals,
        logits=chosen,
        labels=signals.labels[rows],
        members=signals.members[:, rows],
        forgotten=signals.forgotten[:, rows],
        groups=None if signals.groups is None else signals.groups[rows],
    )
