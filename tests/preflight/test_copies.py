"""Planted copies are found, byte for byte, nearly, and by features; without them nothing is."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from unteach.data import DataSet
from unteach.preflight import copies as room
from unteach.preflight.copies import _nearest, _unit, find_alike, find_copies
from unteach.preflight.remark import extended
from unteach.types import Examples


def planted(data: DataSet, into: str, rows: dict[int, int], change: int = 0) -> DataSet:
    """Training images (keys, by row) written over rows of the training or test set, brightened by ``change``."""
    part: Examples = getattr(data, into)
    inputs = part.inputs.clone()
    for row, over in rows.items():
        inputs[over] = (data.train.inputs[row].int() + change).clamp(0, 255).to(torch.uint8)
    parts = {"train": data.train, "test": data.test, into: replace(part, inputs=inputs)}
    return DataSet(data.name, parts["train"], parts["test"])


def test_without_copies_all_is_fine(make: Any, model: torch.nn.Module, data: DataSet) -> None:
    assert [remark.level for remark in find_copies(make(model, data))] == ["fine"]
    assert [remark.level for remark in find_alike(make(model, data))] == ["fine"]


@pytest.mark.parametrize("change", [0, 3], ids=["exact", "brighter"])
def test_retained_copies_are_offered(make: Any, model: torch.nn.Module, data: DataSet, change: int) -> None:
    spoilt = planted(data, "train", {2: 50, 3: 60}, change)
    (found,) = find_copies(make(model, spoilt))
    assert found.level == "warn"
    assert found.extend == ("50", "60")
    assert (found.numbers["forgotten"], found.numbers["retained"]) == (2, 2)
    assert found.numbers["exact"] == (0 if change else 2)
    whole = extended([str(i) for i in range(10)], [found])
    assert [remark.level for remark in find_copies(make(model, spoilt, whole))] == ["fine"]


def test_copies_among_test_examples_are_told(make: Any, model: torch.nn.Module, data: DataSet) -> None:
    (found,) = find_copies(make(model, planted(data, "test", {4: 7})))
    assert (found.level, found.numbers["forgotten"], found.extend) == ("warn", 1, ())
    assert "test examples" in found.sentence
    note, fine = find_copies(make(model, planted(data, "test", {80: 7})))
    assert (note.level, note.numbers["test"], fine.level) == ("note", 1, "fine")


def test_features_see_what_pixels_do_not(make: Any, model: torch.nn.Module, data: DataSet) -> None:
    """A mirror image has other pixels; to a network that mirrors its input's darker half it is the same."""

    class Symmetric(torch.nn.Module):
        def __init__(self, inner: torch.nn.Module) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.as_tensor(self.inner((x + x.flip(-1)) / 2))

    inputs = data.train.inputs.clone()
    inputs[70] = inputs[5].flip(-1)
    spoilt = DataSet(data.name, replace(data.train, inputs=inputs), data.test)
    assert find_copies(make(model, spoilt))[0].level == "fine"
    (found,) = find_alike(make(Symmetric(model), spoilt))
    assert found.level == "warn"
    assert "'5'" in found.sentence
    assert found.numbers["near"] == 1


def test_a_network_without_a_linear_layer_says_so(make: Any, data: DataSet) -> None:
    model = torch.nn.Sequential(torch.nn.Conv2d(1, 3, 8), torch.nn.Flatten())
    (found,) = find_alike(make(model, data))
    assert found.level == "note"
    assert "no last linear layer" in found.sentence


def test_what_is_not_compared_is_told(
    make: Any, model: torch.nn.Module, data: DataSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "MOST", 60)
    found = find_copies(make(model, data))
    assert [remark.level for remark in found] == ["fine", "note"]
    assert 180 - 60 <= int(found[1].numbers["not_compared"] or 0) <= 180 - 57


@given(st.integers(1, 6), st.integers(2, 9), st.integers(0, 10**6))
def test_nearest_is_the_brute_force_one(n: int, m: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    mine, theirs = (_unit(rng.normal(size=(k, 4))) for k in (n, m))
    slow = np.array([min(np.linalg.norm(a - b) for b in theirs) for a in mine])
    np.testing.assert_allclose(_nearest(mine, theirs), slow, atol=2e-3)
    own = np.arange(m)
    others = np.array([min(np.linalg.norm(theirs[i] - theirs[j]) for j in own if j != i) for i in own])
    np.testing.assert_allclose(_nearest(theirs, theirs, own), others, atol=2e-3)
