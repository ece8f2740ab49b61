"""Pairs of persons: who is paired with whom, and networks that know persons or do not."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from unteach.audit.finding import Finding, Skipped
from unteach.audit.statistics import auc
from unteach.engine import Engine
from unteach.stress import Identity, Models, Parts
from unteach.stress.identity import draw_pairs
from unteach.types import Examples, Refusal

PERSONS, EACH, WIDTH = 12, 10, 16


@given(st.lists(st.integers(0, 4), min_size=2, max_size=40), st.data(), st.integers(0, 99))
@settings(max_examples=80, deadline=None)
def test_pairs_are_what_they_are_called(people: list[int], data: st.DataObject, seed: int) -> None:
    groups = np.array([f"p{who}" for who in people])
    first = data.draw(st.integers(1, len(people)))
    same, different = draw_pairs(groups, first, 15, seed)
    for pairs in (same, different):
        assert len(pairs) <= 15
        assert len({frozenset(pair) for pair in pairs.tolist()}) == len(pairs), "none twice"
        assert (pairs[:, 0] != pairs[:, 1]).all()
    assert (groups[same[:, 0]] == groups[same[:, 1]]).all()
    assert (same < first).all()
    assert (groups[different[:, 0]] != groups[different[:, 1]]).all()
    assert (different[:, 0] < first).all()


def test_all_persons_come_up() -> None:
    groups = np.repeat([f"p{i}" for i in range(8)], 6)
    same, different = draw_pairs(groups, 24, 40, 0)
    assert len(same) == len(different) == 40
    assert set(groups[same[:, 0]]) == set(groups[:24])
    assert set(groups[different[:, 1]]) == set(groups)


def album(seed: int, names: range, *, groups: bool = True) -> Examples:
    """A person is a direction in the first half of the features; what is asked is in the second half."""
    rng = np.random.default_rng(seed)
    person = np.repeat(np.array(names), EACH)
    face = np.random.default_rng(99).normal(size=(2 * PERSONS, WIDTH // 2))[person]
    task = rng.normal(size=(len(person), WIDTH // 2))
    x = torch.from_numpy(np.concatenate([face + 0.3 * rng.normal(size=face.shape), task], 1).astype(np.float32))
    y = torch.from_numpy((task[:, 0] > 0).astype(np.int64))
    ids = np.array([f"{seed}.{i}" for i in range(len(x))])
    return Examples(x, y, ids, np.array([f"p{p}" for p in person]) if groups else None, ("no", "yes"))


def sees(columns: slice) -> nn.Module:
    """Features are these columns of the input."""
    model = nn.Sequential(nn.Linear(WIDTH, WIDTH, bias=False), nn.Linear(WIDTH, 2))
    mask = torch.zeros(WIDTH)
    mask[columns] = 1
    with torch.no_grad():
        model[0].weight.copy_(torch.diag(mask))  # type: ignore[operator]
    return model


PARTS = Parts(forget=album(0, range(PERSONS)), retain=None, unseen=album(1, range(PERSONS, 2 * PERSONS)))
FACES, TASK = slice(0, WIDTH // 2), slice(WIDTH // 2, WIDTH)


def test_a_network_that_knows_faces_is_told_from_those_that_do_not(engine: Engine) -> None:
    models = Models(unlearned=sees(FACES), retrained=(sees(TASK), sees(slice(9, 14))), original=sees(FACES))
    (found,) = Identity(pairs=500)(models, PARTS, seed=0, engine=engine)
    assert isinstance(found, Finding)
    assert found.value > 0.95
    assert found.interval is not None
    assert found.interval[0] > 0.8
    assert all(abs(value - 0.5) < 0.07 for value in found.retrained)
    assert found.inside is False
    assert found.doubts == ()
    assert found.size == 1000


def test_the_number_is_the_auc_of_cosines(engine: Engine) -> None:
    (found,) = Identity(pairs=200)(Models(unlearned=sees(slice(0, WIDTH))), PARTS, seed=3, engine=engine)
    x = np.concatenate([PARTS.forget.inputs.numpy(), PARTS.unseen.inputs.numpy()]).astype(np.float64)
    assert PARTS.forget.groups is not None
    assert PARTS.unseen.groups is not None
    pairs = draw_pairs(np.concatenate([PARTS.forget.groups, PARTS.unseen.groups]), len(PARTS.forget), 200, 3)
    cosine = [[x[i] @ x[j] / np.linalg.norm(x[i]) / np.linalg.norm(x[j]) for i, j in kind.tolist()] for kind in pairs]
    assert isinstance(found, Finding)
    assert found.value == pytest.approx(auc(np.array(cosine[0]), np.array(cosine[1])), abs=1e-4)


def test_clusters_widen_the_interval_and_few_persons_are_told(engine: Engine) -> None:
    model = Models(unlearned=sees(slice(6, WIDTH)))
    few = Parts(forget=album(0, range(3)), retain=None, unseen=PARTS.unseen)
    (told,) = Identity(pairs=100)(model, few, seed=0, engine=engine)
    assert isinstance(told, Finding)
    assert "Only 3 forgotten person" in told.doubts[0]
    (found,) = Identity(pairs=500)(model, PARTS, seed=0, engine=engine)
    assert isinstance(found, Finding)
    assert found.interval is not None
    single = 1.96 * 2 * np.sqrt(1001 / (12 * 500**2))
    assert found.interval[1] - found.interval[0] > 1.3 * single


@pytest.mark.parametrize("missing", ["groups", "partners"])
def test_without_persons_it_is_skipped(missing: str, engine: Engine) -> None:
    forget = album(0, range(4), groups=missing != "groups")
    if missing == "partners":
        forget = forget.take(np.arange(0, len(forget), EACH))
    parts = Parts(forget=forget, retain=None, unseen=PARTS.unseen)
    (only,) = Identity()(Models(unlearned=sees(FACES)), parts, seed=0, engine=engine)
    assert isinstance(only, Skipped)


def test_too_few_pairs_are_refused() -> None:
    with pytest.raises(Refusal, match="10 or more pairs"):
        Identity(pairs=3)
