"""A data set: what a model is trained on, what it is judged on, and the checks that both pass."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from unteach.data.augment import Augment
from unteach.mapped import Mapped, blocks
from unteach.types import SCANNED, Examples, Refusal


@dataclass(frozen=True, eq=False)
class DataSet:
    """``train``: what models learn from. ``test``: examples that none learns from, for utility and as non-members of attacks.

    ``augment``: the usual variation of training images; None where images should stay as they are. ``unseen``: the
    non-members of attacks, where they are to be others than the test set. ``requests``: ids to forget that belong to the data,
    by name, such as a benchmark's own. ``notes``: sentences that users should read.
    """

    name: str
    train: Examples
    test: Examples
    augment: Augment | None = None
    unseen: Examples | None = None
    requests: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over the content of all parts: it changes with any pixel, label, id or class name."""
        parts = [part.fingerprint() for part in (self.train, self.test, self.unseen) if part is not None]
        return hashlib.sha256(" ".join(parts).encode()).hexdigest()

    def without(self, ids: Collection[str]) -> DataSet:
        """The same without these training examples; those that are not there are not missed."""
        gone = np.isin(self.train.ids, np.asarray([*ids], dtype=str))
        return replace(self, train=self.train.take(~gone)) if gone.any() else self

    @cached_property
    def _left(self) -> dict[frozenset[str], str]:
        return {}

    def fingerprint_without(self, ids: Collection[str]) -> str:
        """The fingerprint without these: all pixels are read once for them, however many models left them out."""
        gone = frozenset(ids)
        if gone not in self._left:
            self._left[gone] = self.without(gone).fingerprint
        return self._left[gone]

    @property
    def non_members(self) -> Examples:
        """What attacks tell forgotten examples from: the unseen ones, or the test set where there are none."""
        return self.test if self.unseen is None else self.unseen

    @cached_property
    def outside(self) -> Examples:
        """All that no model of the training set learns from: the test set, then the unseen examples."""
        return self.test if self.unseen is None else chained(self.test, self.unseen)


def chained(first: Examples, second: Examples) -> Examples:
    """The first examples, then the second; groups, or kinds, only where both have some."""
    groups, kinds = (
        None if one is None or other is None else np.concatenate((one, other))
        for one, other in ((first.groups, second.groups), (first.kinds, second.kinds))
    )
    return Examples(
        torch.cat((first.inputs, second.inputs)),
        torch.cat((first.labels, second.labels)),
        np.concatenate((first.ids, second.ids)),
        groups,
        first.classes,
        kinds,
        first.loss,
    )


@dataclass(frozen=True, kw_only=True)
class Where:
    """What a reader is asked for, where it may look, and what it may do."""

    argument: str = ""
    """What follows the colon of the spec: a path, or an option of a known data set."""
    root: Path | None = None
    """Folder to look for known data sets in, before all others."""
    download: bool = False
    """Whether official files may be fetched when they are not found."""
    task: str | None = None
    """Which labels, where the data offer several."""
    test_share: float = 0.2
    """Part (0–1) held out as test set where the data bring none."""


def checked(
    name: str,
    inputs: np.ndarray,
    labels: Any,
    *,
    classes: tuple[str, ...] = (),
    ids: np.ndarray | None = None,
    groups: np.ndarray | None = None,
    kinds: np.ndarray | None = None,
    prefix: str = "",
) -> Examples:
    """Examples from arrays, after the checks that every reader shares; ids default to row numbers after ``prefix``.

    ``inputs``: uint8 images ``n × c × h × w``, float images of that shape in 0–1, features ``n × k`` of any number type, or float
    embeddings ``n × tokens × width``. A memory map stays on disk, as ``Mapped``; it is read once, for the checks.
    ``labels``: class numbers ``n``, or 0/1 ``n × k`` for multi-label. Raises: Refusal for no examples, unequal lengths, other
    shapes, NaN or infinity, labels that are no classes, ids that repeat or do not fit on a line.
    """
    x = _inputs(name, inputs)
    y, classes = _labels(name, labels, len(x), classes)
    names = np.array([f"{prefix}{i}" for i in range(len(x))]) if ids is None else _names(name, "ids", ids, len(x))
    if ids is not None:
        ordered = np.sort(names)  # one copy, where numpy.unique makes several
        twice = ordered[1:][ordered[1:] == ordered[:-1]]
        if len(twice):
            raise Refusal(
                f"expected every id once in {name}, got {str(twice[0])!r} more than once; make the ids unique"
            )
        del ordered
        if bad := [text for text in texts(names) if not writable(text)]:
            raise Refusal(
                f"expected ids that fit on a line in {name}, got {bad[0]!r}; no line breaks, outer spaces, # in front"
            )
    units, sorts = (
        None if given is None else _names(name, what, given, len(x))
        for what, given in (("groups", groups), ("kinds", kinds))
    )
    return Examples(x, y, names, units, classes, sorts)


def texts(names: np.ndarray) -> Iterator[str]:
    """The names as Python text, some at a time: all of a million at once take a hundred MiB."""
    return (text for start in range(0, len(names), SCANNED) for text in names[start : start + SCANNED].tolist())


def writable(name: str) -> bool:
    """Whether an id comes back as it is from a text file with one id a line and comments after #."""
    if not name or name != name.strip() or name[0] in "#\ufeff" or set("\n\r\0") & set(name):
        return False
    return not any("\ud800" <= letter <= "\udfff" for letter in name)


def _inputs(name: str, given: np.ndarray) -> torch.Tensor:
    if given.size == 0:
        raise Refusal(f"expected at least one example in {name}, got none (shape {given.shape}); check the files")
    if given.ndim not in (2, 3, 4) or given.dtype.kind not in ("f" if given.ndim == 3 else "buif"):
        raise Refusal(
            f"expected numbers n × c × h × w or n × features, or floats n × tokens × width, in {name}, got {given.dtype} "
            f"{given.shape}; reshape them"
        )
    if isinstance(given, np.memmap):
        x: torch.Tensor = Mapped([given])
    else:
        dtype = np.uint8 if given.dtype == np.uint8 and given.ndim == 4 else np.float32
        with np.errstate(over="ignore"):
            x = torch.from_numpy(np.require(given, dtype=dtype, requirements=["C", "W"]))
    if not x.is_floating_point():
        return x
    start, low, high = 0, math.inf, -math.inf
    for block in blocks(x):
        if not block.isfinite().all():
            row, *rest = block.isfinite().logical_not().nonzero()[0].tolist()
            raise Refusal(
                f"expected finite inputs in {name}, got {given[(start + row, *rest)]} in row {start + row} at {tuple(rest)}; "
                "mend or drop that row"
            )
        low, high, start = min(low, float(block.min())), max(high, float(block.max())), start + len(block)
    if x.ndim == 4 and (low < 0 or high > 1):
        raise Refusal(
            f"expected images as uint8, or floats in 0–1, in {name}, got {low:g} to {high:g}; rescale them, and leave any other "
            "standardising to the network's first layer"
        )
    return x


def _names(name: str, what: str, given: np.ndarray, n: int) -> np.ndarray:
    if given.ndim != 1 or len(given) != n:
        raise Refusal(
            f"expected one entry of {what} per input in {name} ({n}), got shape {given.shape}; check the files"
        )
    try:
        return given.astype(str, copy=False)
    except ValueError as error:  # NumPy's bytes are ASCII
        raise Refusal(f"expected {what} as text in {name}, got: {error}; write them as text") from error


def _labels(name: str, given: Any, n: int, classes: tuple[str, ...]) -> tuple[torch.Tensor, tuple[str, ...]]:
    try:
        y = np.asarray(given)
    except ValueError as error:
        raise Refusal(f"expected labels of one length in {name}, got: {error}; one row per input") from error
    if y.dtype.kind not in "buif" or y.ndim not in (1, 2):
        raise Refusal(
            f"expected labels of shape n, or n × k of 0 and 1, in {name}, got {y.dtype} {y.shape}; give numbers"
        )
    if len(y) != n:
        raise Refusal(f"expected one label per input in {name} ({n}), got {len(y)}; check the files")
    if len(set(classes)) != len(classes):
        raise Refusal(f"expected different class names in {name}, got {', '.join(classes)}; rename the doubles")
    if y.ndim == 2:
        if not ((y == 0) | (y == 1)).all() or len(classes) not in (0, y.shape[1]):
            raise Refusal(
                f"expected labels of 0 and 1, one column each, in {name}, got others; check labels and class names"
            )
        return torch.from_numpy(y.astype(np.float32)), classes or tuple(str(k) for k in range(y.shape[1]))
    if y.dtype.kind == "f" and not (np.isfinite(y) & (y == np.floor(y))).all():
        raise Refusal(f"expected whole numbers as labels in {name}, got fractions or NaN; give class numbers from 0")
    low, high = int(y.min()), int(y.max())
    count = len(classes) or n  # more classes than examples is a mistake, not a task
    if low < 0 or high >= count:
        raise Refusal(f"expected labels of 0 to {count - 1} in {name}, got {low} to {high}; count classes from 0")
    return torch.from_numpy(y.astype(np.int64)), classes or tuple(str(k) for k in range(high + 1))


def hold_out(labels: torch.Tensor, share: float) -> np.ndarray:
    """A mask of a held-out part with the same share of every class, evenly spaced in each, so always the same.

    Of every class with two or more examples at least one is held out and one kept. Multi-label data are cut evenly.
    Raises: Refusal for a share that is not between 0 and 1.
    """
    if not 0 < share < 1:
        raise Refusal(f"expected a test share between 0 and 1, got {share}; 0.2 is usual")
    keys = labels.numpy() if labels.ndim == 1 else np.zeros(len(labels), dtype=np.int64)
    mask = np.zeros(len(labels), dtype=bool)
    for key in np.unique(keys):
        rows = np.flatnonzero(keys == key)
        if len(rows) > 1:
            count = min(max(1, round(share * len(rows))), len(rows) - 1)
            mask[rows[((np.arange(count) + 0.5) * len(rows) / count).astype(np.int64)]] = True
    return mask


def divided(name: str, whole: Examples, share: float, augment: Augment | None = None) -> DataSet:
    """A data set from one pool of examples by the fixed hold-out; every example keeps its id."""
    test = hold_out(whole.labels, share)
    if not test.any():
        raise Refusal(
            f"expected two or more examples of some class in {name}, got {len(whole)} in all; give a test part"
        )
    return DataSet(name, whole.take(~test), whole.take(test), augment)


def paired(name: str, train: Examples, test: Examples, augment: Augment | None = None) -> DataSet:
    """A data set from two parts.

    Raises: Refusal when their inputs or labels are not alike.
    """
    kinds = [
        f"{part.inputs.dtype} {tuple(part.inputs.shape[1:])}, labels {part.labels.ndim}-dimensional".replace(
            "torch.", ""
        )
        for part in (train, test)
    ]
    if kinds[0] != kinds[1]:
        raise Refusal(
            f"expected test inputs like the training inputs in {name} ({kinds[0]}), got {kinds[1]}; make them alike"
        )
    return DataSet(name, train, test, augment)
