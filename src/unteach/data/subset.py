"""A part of a data set's training examples, always the same."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from unteach.data.dataset import DataSet
from unteach.types import Refusal


def few(data: DataSet, count: int) -> DataSet:
    """The data with so many training examples, drawn once and for all; everything else stays. 0 stands for all.

    Raises: Refusal for more than there are.
    """
    if not count:
        return data
    if not 0 < count <= len(data.train):
        raise Refusal(f"expected a count of 1 to {len(data.train)} training examples, got {count}; ask for fewer")
    rows = np.sort(np.random.default_rng(7).permutation(len(data.train))[:count])
    return replace(data, name=f"{data.name}, {count}", train=data.train.take(rows))
