"""The lower bound on ε: it covers, it grows with what the attack shows, and its limits are the exact ones."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unteach.audit.finding import Finding, Skipped
from unteach.audit.lower_bound import LowerBound, _halves, epsilon_lower_bound
from unteach.audit.statistics import clopper_pearson
from unteach.types import Refusal


def test_limits_are_clopper_pearsons():
    scores = np.array([1.0] * 30 + [0.0] * 10), np.array([1.0] * 5 + [0.0] * 45)
    bounds = LowerBound()._bounds(scores, np.array([1.0]))
    tpr, fpr = clopper_pearson(30, 40)[0], clopper_pearson(5, 50)[1]
    tnr, fnr = clopper_pearson(45, 50)[0], clopper_pearson(10, 40)[1]
    assert bounds[:, 0] == pytest.approx([math.log((tpr - 1e-5) / fpr), math.log((tnr - 1e-5) / fnr)])
    assert np.isfinite(LowerBound()._bounds(scores, np.array([-1.0, 2.0]))).all()


def test_the_bound_covers_and_one_law_gives_nothing():
    epsilon = 1.0
    right = math.exp(epsilon) / (1 + math.exp(epsilon))
    rng = np.random.default_rng(0)
    worlds = [(rng.random(300) < right, rng.random(300) > right) for _ in range(200)]
    found = np.array([LowerBound()(a.astype(float), b.astype(float), seed=i) for i, (a, b) in enumerate(worlds)])
    assert (found > epsilon).mean() <= 0.05
    assert 0.3 < np.median(found) < epsilon
    null = [LowerBound()(*rng.standard_normal((2, 200)), seed=i) for i in range(100)]
    assert np.mean(np.array(null) > 0) <= 0.05


def test_either_pair_of_rates_can_show_it():
    rng = np.random.default_rng(1)
    half, third = ((rng.random(2000) < share).astype(float) for share in (0.5, 0.3))
    no_member_missed = LowerBound()(np.ones(2000), half)
    assert no_member_missed == pytest.approx(math.log(0.5 / clopper_pearson(0, 1000)[1]), abs=0.15)
    no_false_alarm = LowerBound()(third, np.zeros(2000))
    assert no_false_alarm == pytest.approx(math.log(0.3 / clopper_pearson(0, 1000)[1]), abs=0.2)


def test_groups_stay_together():
    rng = np.random.default_rng(2)
    scores = np.repeat(rng.standard_normal(40), 25)
    groups = np.repeat(np.arange(40).astype(str), 25)
    alone = [LowerBound()(scores[:500], scores[500:], seed=i) for i in range(40)]
    together = [
        LowerBound()(scores[:500], scores[500:], groups=(groups[:500], groups[500:]), seed=i) for i in range(40)
    ]
    assert np.mean(alone) > 2 * np.mean(together), "a threshold chosen among copies of the same scores fits them"


@given(st.integers(0, 2**32 - 1), st.integers(0, 5), st.integers(0, 5), st.integers(0, 5))
def test_five_groups_a_side_always_leave_both_sides_in_both_halves(seed, left, right, both):
    left, right = max(left, 5 - both), max(right, 5 - both)
    plus = np.array([f"l{i}" for i in range(left)] + [f"b{i}" for i in range(both)])
    minus = np.array([f"r{i}" for i in range(right)] + [f"b{i}" for i in range(both)])
    first, second = _halves(plus, minus, (plus, minus), seed)
    assert all(len(side) for side in (*first, *second))
    assert not set(first[0]) & set(second[1])
    assert not set(first[1]) & set(second[0])


def test_findings_and_refusals():
    rng = np.random.default_rng(3)
    scores = rng.standard_normal((3, 400))
    scores[0, :200] += 3
    rows = np.arange(200), np.arange(200, 400)
    found = epsilon_lower_bound(scores, rows)
    assert isinstance(found, Finding)
    assert found.name == "ε lower bound (95 %)"
    assert found.value > 1 > max(found.retrained)
    assert not found.inside
    assert isinstance(epsilon_lower_bound(scores, (np.arange(10), np.arange(200, 400))), Skipped)
    person = np.repeat([f"p{i}" for i in range(20)], 20)
    assert isinstance(epsilon_lower_bound(scores, rows, groups=person), Finding)
    assert "got 1" in epsilon_lower_bound(scores, rows, groups=np.where(np.arange(400) < 200, "one", person)).reason
    with pytest.raises(Refusal, match="20 or more"):
        LowerBound()(np.ones(19), np.ones(50))
    with pytest.raises(Refusal, match="level from 0 to 1"):
        LowerBound(level=95)
    one = np.repeat("a", 200)
    with pytest.raises(Refusal, match="too few groups"):
        LowerBound()(scores[0, :200], scores[0, 200:], groups=(one, one))
