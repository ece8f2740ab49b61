"""The pool: training set and test set as one list of examples, and memberships in it as packed bits."""

from __future__ import annotations

import base64

import numpy as np
import torch

from unteach.data import DataSet
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


def chosen(data: DataSet, mask: np.ndarray) -> Examples:
    """The examples of the pool that the mask marks, in the order of the pool: training set, then test set."""
    cut = len(data.train)
    train, test = data.train.take(mask[:cut]), data.test.take(mask[cut:])
    if not len(test):
        return train
    return Examples(
        torch.cat((train.inputs, test.inputs)),
        torch.cat((train.labels, test.labels)),
        np.concatenate((train.ids, test.ids)),
        _joined(train.groups, test.groups),
        train.classes,
    )


def ids_of(data: DataSet) -> np.ndarray:
    """Names of the pool's examples.

    Raises: Refusal when training and test set share some.
    """
    if shared := np.intersect1d(data.train.ids, data.test.ids).tolist():
        raise Refusal(
            f"expected training and test set of {data.name} to share no id, got {len(shared)} in both "
            f"(such as {shared[0]!r}); give every example a name of its own"
        )
    return np.concatenate((data.train.ids, data.test.ids))


def labels_of(data: DataSet) -> np.ndarray:
    """Labels of the pool's examples."""
    return torch.cat((data.train.labels, data.test.labels)).numpy()


def groups_of(data: DataSet) -> np.ndarray | None:
    """Groups of the pool's examples (person, household …); None where the data have none."""
    return _joined(data.train.groups, data.test.groups)


def _joined(train: np.ndarray | None, test: np.ndarray | None) -> np.ndarray | None:
    return None if train is None or test is None else np.concatenate((train, test))
