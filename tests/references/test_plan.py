"""Plans: balanced, complementary, disjoint, whole units, the same for one seed, and nested."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unteach.references.plan import Halves, Plan, Retrains, Shadows, Unlearned, Worlds, units_of
from unteach.types import Refusal

UNITS = st.lists(st.integers(0, 30), min_size=40, max_size=120).map(
    lambda names: np.unique([*range(5), *names], return_inverse=True)[1]
)
FEW = settings(max_examples=25, deadline=None)


def refused(call: Callable[[], object], *words: str) -> None:
    with pytest.raises(Refusal) as told:
        call()
    assert all(word in str(told.value) for word in words), told.value


def rows(plan: Plan) -> set[tuple[bytes, bytes, int]]:
    """Models as what decides them: what they saw and forgot, and their seed."""
    return {
        (m.tobytes(), f.tobytes(), int(s))
        for m, f, s in zip(np.packbits(plan.members, 1), np.packbits(plan.forgotten, 1), plan.seeds)
    }


def check(plan: Plan, units: np.ndarray) -> None:
    """What holds for every plan."""
    assert not (plan.forgotten & ~plan.members).any()
    assert len(set(plan.seeds.tolist())) == len(plan), "a seed of its own for each model"
    for mask in (*plan.members, *plan.forgotten):
        assert len(np.intersect1d(units[mask], units[~mask])) == 0, "units are not split"
    children = np.flatnonzero(plan.parents >= 0)
    assert (plan.parents[children] < children).all()
    assert (plan.members[children] == plan.members[plan.parents[children]]).all()
    assert plan.forgotten[children].any(1).all()
    assert not plan.forgotten[plan.parents < 0].any()


@FEW
@given(units=UNITS, pairs=st.integers(1, 6), seed=st.integers(0, 2**31 - 1))
def test_halves(units: np.ndarray, pairs: int, seed: int) -> None:
    plan = Halves(models=2 * pairs, seed=seed)(units)
    check(plan, units)
    assert (plan.members[::2] == ~plan.members[1::2]).all()
    assert (plan.members.sum(0) == pairs).all(), "every example is in exactly half"
    largest = np.bincount(units).max()
    assert (np.abs(plan.members.sum(1) - len(units) / 2) <= largest / 2).all()
    assert rows(plan) == rows(Halves(models=2 * pairs, seed=seed)(units))
    assert rows(plan) <= rows(Halves(models=2 * pairs + 4, seed=seed)(units)), "the first of many are the fewer"


def test_halves_are_random() -> None:
    plan = Halves(models=64, seed=1)(np.arange(2000))
    share = np.corrcoef(plan.members[::2].astype(float))
    off = share[~np.eye(32, dtype=bool)]
    assert abs(off.mean()) < 4 / np.sqrt(2000 * 496 / 2), "pairs are independent of each other"
    assert np.abs(off).max() < 5 / np.sqrt(2000)
    assert not rows(plan) & rows(Halves(models=64, seed=2)(np.arange(2000)))


@FEW
@given(units=UNITS, originals=st.integers(1, 3), requests=st.integers(1, 3), seed=st.integers(0, 1000))
def test_shadows(units: np.ndarray, originals: int, requests: int, seed: int) -> None:
    shadows = Shadows(halves=Halves(models=2 * originals, seed=seed), requests=requests, size=5)
    try:
        plan = shadows(units)
    except Refusal:  # a large unit fills the smaller side
        assert np.bincount(units).max() > 5
        return
    check(plan, units)
    assert len(plan) == 2 * originals * (1 + requests)
    for original in range(2 * originals):
        mine = plan.forgotten[plan.parents == original]
        assert len(mine) == requests
        assert (mine.sum(0) <= 1).all(), "requests of one original share nothing"
        assert (plan.members[original] & ~mine[0]).any()
        assert (
            np.abs(np.cumsum(mine.sum(1)) - 5 * np.arange(1, requests + 1)) < max(6, np.bincount(units).max())
        ).all()
    assert rows(shadows.halves(units)) <= rows(plan), "the originals are the cached halves"
    if requests > 1:
        assert rows(Shadows(halves=shadows.halves, requests=requests - 1, size=5)(units)) <= rows(plan)


def test_shadows_forget_exactly_so_many_among_those_wanted() -> None:
    among = np.arange(200) < 120
    plan = Shadows(halves=Halves(models=4, seed=3), requests=3, size=12)(np.arange(200), among)
    assert (plan.forgotten.sum(1)[4:] == 12).all()
    assert not (plan.forgotten & ~among).any()


@FEW
@given(units=UNITS, triples=st.integers(1, 4), seed=st.integers(0, 1000), data=st.data())
def test_worlds(units: np.ndarray, triples: int, seed: int, data: Any) -> None:
    names = np.unique(units)
    picked = data.draw(st.lists(st.sampled_from(names.tolist()), min_size=3, max_size=len(names), unique=True))
    targets = np.isin(units, picked)
    if len(names) - len(picked) < 2:
        refused(lambda: Worlds(models=3, seed=seed)(units, targets), "units of targets")
        return
    plan = Worlds(models=3 * triples, seed=seed)(units, targets)
    check(plan, units)
    made = plan.parents >= 0
    assert made.sum() == 3 * triples
    inside, gone = (plan.members & ~plan.forgotten)[made], plan.forgotten[made]
    assert (inside.sum(0)[targets] == triples).all()
    assert (gone.sum(0)[targets] == triples).all()
    assert ((~plan.members[made]).sum(0)[targets] == triples).all()
    assert not gone[:, ~targets].any()
    assert (plan.members[:, ~targets] == plan.members[0, ~targets]).all(), "one base for all"
    assert plan.members[0, ~targets].any()
    assert not plan.members[0, ~targets].all()
    assert rows(plan) <= rows(Worlds(models=3 * triples + 3, seed=seed)(units, targets))


def test_worlds_are_thirds() -> None:
    plan = Worlds(models=6, seed=0)(np.arange(120), np.arange(120) < 60)
    assert (plan.forgotten.sum(1)[6:] == 20).all()
    assert (plan.members.sum(1) == 30 + 40).all()


def test_retrains_and_unlearned() -> None:
    trained, forget = np.arange(30) < 20, np.arange(30) % 5 == 0
    forget &= trained
    retrained = Retrains(models=3, seed=1)(trained, forget)
    check(retrained, np.arange(30))
    assert (retrained.members == (trained & ~forget)).all()
    assert rows(retrained) <= rows(Retrains(models=5, seed=1)(trained, forget))
    unlearned = Unlearned(originals=2, repeats=3, seed=1)(trained, forget)
    check(unlearned, np.arange(30))
    assert unlearned.parents.tolist() == [-1, -1, 0, 0, 0, 1, 1, 1]
    assert (unlearned.forgotten[2:] == forget).all()
    assert rows(unlearned) <= rows(Unlearned(originals=4, repeats=4, seed=1)(trained, forget))
    assert not rows(retrained) & rows(unlearned)


def test_units_hang_together_through_any_chain() -> None:
    people = np.array(["a", "a", "b", "c", "d", "d"])
    twins = np.array([0, 1, 1, 2, 3, 4])
    assert units_of(6, people, twins).tolist() == [0, 0, 0, 1, 2, 2]
    assert units_of(6, None, twins).tolist() == [0, 1, 1, 2, 3, 4]
    assert units_of(3, None).tolist() == [0, 1, 2]


@FEW
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=30))
def test_units_are_the_connected_components(names: list[tuple[int, int]]) -> None:
    one, other = np.array(names).T
    expected = list(range(len(names)))
    for _ in names:  # brute force: the smallest number spreads until nothing moves
        for i in range(len(names)):
            for j in range(len(names)):
                if one[i] == one[j] or other[i] == other[j]:
                    expected[i] = expected[j] = min(expected[i], expected[j])
    found = units_of(len(names), one.astype(str), other)
    assert (np.equal.outer(found, found) == np.equal.outer(np.array(expected), np.array(expected))).all()


@pytest.mark.parametrize("models", [0, 1, 3, -2])
def test_halves_come_in_pairs(models: int) -> None:
    refused(lambda: Halves(models=models), "even number", str(models))


def test_what_no_plan_can_do() -> None:
    everyone, nobody = np.ones(9, dtype=bool), np.zeros(9, dtype=bool)
    refused(lambda: Halves()(np.zeros(9, dtype=np.int64)), "two or more units")
    refused(lambda: Shadows(size=100)(np.arange(50)), "100 members")
    refused(lambda: Shadows(requests=1, size=10)(np.repeat([0, 1], 10)), "others to keep")
    refused(lambda: Shadows(requests=3, size=2)(np.repeat(np.arange(20), 20)), "whole units")
    refused(lambda: Worlds(models=4), "3 divides")
    refused(lambda: Worlds()(np.arange(9), everyone), "two or more others")
    for forget, trained in ((nobody, everyone), (everyone, everyone), (everyone, nobody)):
        refused(lambda f=forget, t=trained: Retrains()(t, f), "expected a request")  # type: ignore[misc]
    refused(lambda: Retrains(models=0), "1 or more retrained")
    refused(lambda: Unlearned(repeats=0), "1 or more repeats")
