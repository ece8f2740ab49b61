"""The proxy request: as large as the real one, of its kind, apart from it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from made import blobs
from unteach.data import split
from unteach.data.request import kind_of
from unteach.tuning.proxy import proxy_request
from unteach.types import Examples, Refusal, Split


def ids(examples: Examples | None) -> set[str]:
    assert examples is not None
    return set(examples.ids.tolist())


@settings(max_examples=25, deadline=None)
@given(count=st.integers(1, 45), seed=st.integers(0, 5))
def test_a_random_request_has_a_proxy_with_its_mix_of_classes(count: int, seed: int) -> None:
    data = blobs(96)
    real = split(data, np.random.default_rng(seed).permutation(96)[:count].astype(str).tolist())
    proxy = proxy_request(real, seed)
    assert len(proxy.forget) == count
    assert not ids(proxy.forget) & ids(real.forget)
    assert ids(proxy.forget) <= ids(real.retain)
    assert ids(proxy.retain) == ids(data) - ids(proxy.forget), "the real request is retained, as in the original"
    wanted = real.forget.labels.bincount(minlength=3)
    assert real.retain is not None
    if bool((real.retain.labels.bincount(minlength=3) >= wanted).all()):
        assert torch.equal(proxy.forget.labels.bincount(minlength=3), wanted)
    assert ids(proxy_request(real, seed).forget) == ids(proxy.forget), "one seed, one draw"
    assert kind_of(real) == "random"


def test_labels_stay_with_their_inputs() -> None:
    data = blobs(96)
    proxy = proxy_request(split(data, ["1", "5", "9"]), 0)
    for part in (proxy.forget, proxy.retain):
        assert part is not None
        rows = data.positions(part.ids)
        assert torch.equal(part.inputs, data.inputs[rows])
        assert torch.equal(part.labels, data.labels[rows])


def test_a_class_is_answered_by_the_class_nearest_in_size() -> None:
    labels = torch.tensor([0] * 20 + [1] * 5 + [2] * 18 + [3] * 40)
    data = replace(blobs(83, classes=4), labels=labels)
    real = split(data, data.ids[:20].tolist())
    assert kind_of(real) == "class"
    for seed in range(3):
        proxy = proxy_request(real, seed)
        assert proxy.forget.labels.unique().tolist() == [2]
        assert kind_of(proxy) == "class"
        assert proxy.retain is not None
        assert sorted(proxy.retain.labels.unique().tolist()) == [0, 1, 3]


def test_classes_of_one_size_are_drawn() -> None:
    data = blobs(60, classes=6)
    real = split(data, data.ids[(data.labels == 2).numpy()].tolist())
    drawn = {int(proxy_request(real, seed).forget.labels[0]) for seed in range(20)}
    assert 2 not in drawn
    assert len(drawn) > 2


def test_persons_are_answered_by_persons() -> None:
    data = blobs(96)
    data = replace(data, groups=np.array([f"p{i // 8}" for i in range(96)]))
    real = split(data, data.ids[:16].tolist())
    assert kind_of(real) == "group"
    proxy = proxy_request(real, 0)
    assert proxy.forget.groups is not None
    assert len(set(proxy.forget.groups.tolist())) == 2
    assert len(proxy.forget) == 16
    assert kind_of(proxy) == "group"
    assert proxy.retain is not None
    assert proxy.retain.groups is not None
    assert kind_of(split(data, ["0", "9"])) == "random", "parts of persons are no persons"


def test_several_labels() -> None:
    data = blobs(40)
    data = replace(data, labels=(torch.arange(120).reshape(40, 3) % 2).float())
    proxy = proxy_request(split(data, ["3", "4"]), 0)
    assert len(proxy.forget) == 2
    assert not ids(proxy.forget) & {"3", "4"}


def test_too_little_left() -> None:
    data = blobs(30)
    with pytest.raises(Refusal, match="as many retained"):
        proxy_request(split(data, data.ids[:20].tolist()), 0)
    with pytest.raises(Refusal, match="at least 2 retained classes"):
        proxy_request(
            split(replace(data, labels=torch.tensor([0] * 5 + [1] * 5 + [2] * 20)), data.ids[:10].tolist()), 0
        )
    with pytest.raises(Refusal, match="as many retained"):
        proxy_request(Split(forget=data, retain=None), 0)
