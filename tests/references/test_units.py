"""Twins and groups stay on one side, whoever asks, and the search for twins is made once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from made import blobs
from unteach.data import DataSet, split
from unteach.data.manifest import Manifest
from unteach.references import Cache, Halves
from unteach.references.units import clusters_in, units_in
from unteach.verbs.company import clusters_of
from unteach.verbs.split_manifest import write_split


def with_a_twin(groups: bool = False) -> DataSet:
    """Forty images; the test set's first is the training set's third, a little darker."""
    train, test = blobs(30, noise=0.4), blobs(10, noise=0.4, seed=9)
    inputs = test.inputs.clone()
    inputs[0] = (train.inputs[2].float() * 0.9).to(torch.uint8)
    test = replace(test, inputs=inputs, ids=np.array([f"t{n}" for n in range(10)]))
    if groups:
        train = replace(train, groups=np.array([f"g{n // 3}" for n in range(30)]))
        test = replace(test, groups=np.array(["h"] * 10))
    return DataSet(name="made", train=train, test=test)


def test_a_twin_stays_with_its_twin(tmp_path: Path) -> None:
    units = units_in(with_a_twin(), Cache(tmp_path))
    assert units[2] == units[30]
    assert len(np.unique(units)) == 39
    members = Halves(models=64)(units).members
    assert (members[:, 2] == members[:, 30]).all()
    assert members[:, 2].any()


def test_a_twin_ties_groups_together(tmp_path: Path) -> None:
    units = units_in(with_a_twin(groups=True), Cache(tmp_path))
    assert len(set(units[[0, 1, 2, *range(30, 40)]].tolist())) == 1
    assert len(np.unique(units)) == 10


@pytest.mark.parametrize("damage", [False, True])
def test_the_search_is_kept_and_made_again_when_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: bool
) -> None:
    data, cache, searched = with_a_twin(), Cache(tmp_path), []
    first = units_in(data, cache)
    if damage:
        cache.clusters(data.fingerprint).write_bytes(b"half a file")
    found = np.arange(40)
    monkeypatch.setattr("unteach.references.units.twins", lambda inputs: searched.append(len(inputs)) or found)
    second = units_in(data, cache)
    assert searched == ([40] if damage else [])
    assert np.array_equal(first, second) is not damage


def test_intervals_get_the_clusters_of_what_is_judged(tmp_path: Path) -> None:
    company: Any = SimpleNamespace(data=with_a_twin(), cache=Cache(tmp_path))
    found = clusters_of(company, np.array(["5", "2", "t0"]))
    assert found is not None
    assert found[1] == found[2] != found[0]
    assert clusters_of(company, np.array(["5", "2", "t1"])) is None, "all of these are alone"


def test_the_split_of_an_audit_takes_the_twins_that_the_cache_knows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, cache = with_a_twin(), Cache(tmp_path)
    clusters_in(data, cache)
    monkeypatch.setattr("unteach.references.units.twins", None)
    parts = split(data.train, ["2", "5"])
    digest, doubts = write_split(tmp_path / "split.csv", parts, data, cache)
    assert doubts == ["1 test examples have near-duplicates among the forgotten ones, so they are not wholly unseen."]
    found = Manifest.read(tmp_path / "split.csv", digest=digest)
    assert found.clusters is not None
    twins = {name for name, cluster in zip(found.ids, found.clusters) if (found.clusters == cluster).sum() > 1}
    assert twins == {"2", "t0"}
