"""The pool: training set and all examples outside it as one list, and memberships in it as packed bits."""

from __future__ import annotations

import base64

import numpy as np
import torch

from unteach.data import DataSet
from unteach.data.dataset import chained
from unteach.types import Examples, Refusal


def pack(mask: np.ndarray) -> str:
    """A mask over the pool as text, eight examples a byte in base64: 12 kB for 70,000."""
    return base64.b64encode(np.packbits(mask).tobytes()).decode()


def unpack(text: str, count: int) -> np.ndarray:
    """The mask over ``count`` examples that ``pack`` told.

    Raises: Refusal when it is one over another number of examples.
    """
    bits = np.frombuffer(base64.b64decode(text), dtype=np.uint8)
    if len(bits) != -(-count // 8):
        raise Refusal(
            f"expected a membership of {count} examples, got one of about {8 * len(bits)}; plan anew for these data"
        )
    return np.unpackbits(bits, count=count).astype(bool)


def count_of(text: str) -> int:
    """How many examples the mask has that ``pack`` told."""
    return int(np.bitwise_count(np.frombuffer(base64.b64decode(text), dtype=np.uint8)).sum())


def chosen(data: DataSet, mask: np.ndarray) -> Examples:
    """The examples of the pool that the mask marks, in the order of the pool: training, test, then unseen examples."""
    cut = len(data.train)
    train = data.train.take(mask[:cut])
    return chained(train, data.outside.take(mask[cut:])) if mask[cut:].any() else train


def size_of(data: DataSet) -> int:
    """How many examples the pool has."""
    return len(data.train) + len(data.outside)


def ids_of(data: DataSet) -> np.ndarray:
    """Names of the pool's examples.

    Raises: Refusal when training, test and unseen examples share some.
    """
    for one, two, parts in (
        (data.train, data.outside, "training and test set"),
        (data.test, data.unseen, "test and unseen set"),
    ):
        if two is not None and (shared := np.intersect1d(one.ids, two.ids).tolist()):
            raise Refusal(
                f"expected {parts} of {data.name} to share no id, got {len(shared)} in both "
                f"(such as {shared[0]!r}); give every example a name of its own"
            )
    return np.concatenate((data.train.ids, data.outside.ids))


def places_of(data: DataSet, ids: np.ndarray) -> np.ndarray:
    """Where in the pool the examples of these names are."""
    at = {name: place for place, name in enumerate(ids_of(data).tolist())}
    return np.array([at[name] for name in ids.tolist()], dtype=np.int64)


def labels_of(data: DataSet) -> np.ndarray:
    """Labels of the pool's examples."""
    return torch.cat((data.train.labels, data.outside.labels)).numpy()


def groups_of(data: DataSet) -> np.ndarray | None:
    """Groups of the pool's examples (person, household …); None where the data have none."""
    train, outside = data.train.groups, data.outside.groups
    return None if train is None or outside is None else np.concatenate((train, outside))
