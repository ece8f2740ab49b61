"""What must stay on one side of any random half: one person, one household, one picture in several copies."""

from __future__ import annotations

import numpy as np
import torch

from unteach.data import DataSet
from unteach.data.duplicates import twins
from unteach.references.cache import Cache
from unteach.references.plan import units_of
from unteach.references.pool import groups_of, size_of
from unteach.store import load_tensors, save_tensors
from unteach.types import Refusal


def units_in(data: DataSet, cache: Cache) -> np.ndarray:
    """The unit of each example of the pool, int64: its group and its near-duplicates, with all that hangs on them.

    A reference that saw the twin of an example has seen the example: on the other side of a half it would be no OUT model.
    """
    return units_of(size_of(data), groups_of(data), clusters_in(data, cache))


def clusters_in(data: DataSet, cache: Cache) -> np.ndarray:
    """The near-duplicate cluster of each example of the pool, int64, as ``duplicates.twins`` tells; searched once a cache."""
    path = cache.clusters(data.fingerprint)
    if path.is_file():
        try:
            kept = load_tensors(path)[0].get("clusters", torch.zeros(0))
            if len(kept) == size_of(data):
                return np.asarray(kept.numpy())
        except Refusal:
            pass  # damaged: the search tells the same again
    found = twins(torch.cat((data.train.inputs, data.outside.inputs)) if len(data.outside) else data.train.inputs)
    save_tensors(path, {"clusters": torch.from_numpy(found)}, {})
    return found
