"""The pool with unseen examples: training set, test set, then these, in every count, mask and name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from made import blobs
from unteach.data import DataSet
from unteach.references import Cache, Halves
from unteach.references.pool import chosen, groups_of, ids_of, labels_of, size_of
from unteach.references.units import units_in
from unteach.types import Examples, Refusal


def part(name: str, n: int, seed: int) -> Examples:
    made = blobs(n, noise=0.4, seed=seed)
    groups = np.array([f"{name} {row // 2}" for row in range(n)])
    return replace(made, ids=np.array([f"{name}{row}" for row in range(n)]), groups=groups)


def whole() -> DataSet:
    return DataSet("made", part("train", 12, 0), part("test", 6, 1), unseen=part("unseen", 4, 2))


def test_the_pool_is_training_test_and_unseen_in_this_order() -> None:
    data = whole()
    assert data.unseen is not None
    parts = (data.train, data.test, data.unseen)
    assert size_of(data) == 22
    assert ids_of(data).tolist() == [name for one in parts for name in one.ids.tolist()]
    assert labels_of(data).tolist() == [label for one in parts for label in one.labels.tolist()]
    groups = groups_of(data)
    assert groups is not None
    assert groups[-1] == "unseen 1"


def test_any_mask_takes_its_examples() -> None:
    data = whole()
    mask = np.zeros(22, dtype=bool)
    mask[[0, 13, 21]] = True
    taken = chosen(data, mask)
    assert taken.ids.tolist() == ["train0", "test1", "unseen3"]
    assert data.unseen is not None
    assert torch.equal(taken.inputs[2], data.unseen.inputs[3])


def test_halves_are_drawn_over_all_and_twins_found_in_all(tmp_path: Path) -> None:
    data = whole()
    assert data.unseen is not None
    inputs = data.unseen.inputs.clone()
    inputs[0] = data.train.inputs[5]
    data = replace(data, unseen=replace(data.unseen, inputs=inputs))
    units = units_in(data, Cache(tmp_path))
    assert len(units) == 22
    assert len({*units[[4, 5, 18, 19]].tolist()}) == 1, "two groups that a twin ties together"
    members = Halves(models=32)(units).members
    assert members[:, 18:].any(axis=0).all()
    assert (members.sum(0) == 16).all()


def test_shared_ids_are_refused() -> None:
    data = whole()
    assert data.unseen is not None
    for other, says in (("test0", "test and unseen"), ("train0", "training and test")):
        ids = data.unseen.ids.copy().astype("U9")
        ids[0] = other
        with pytest.raises(Refusal, match=says):
            ids_of(replace(data, unseen=replace(data.unseen, ids=ids)))


def test_the_fingerprint_knows_the_unseen_set_and_is_the_old_one_without() -> None:
    data = whole()
    alone = replace(data, unseen=None)
    assert alone.non_members is alone.outside is alone.test
    assert alone.fingerprint == replace(alone, requests={"benchmark": ("train0",)}, notes=("a",)).fingerprint
    assert data.fingerprint != alone.fingerprint
    assert data.fingerprint != replace(data, unseen=part("unseen", 4, 3)).fingerprint
