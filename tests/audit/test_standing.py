"""Standing out from retrained models: chances against Student's t and simulation, Holm's rule, and the verdict's use of it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from unteach.audit.finding import Finding, Skipped
from unteach.audit.standing import chance, standing_out
from unteach.types import Refusal


def found(value: float, *retrained: float, two_sided: bool = True, family: str = "distance") -> Finding:
    return Finding(name="x", family=family, part="forget", value=value, retrained=retrained, two_sided=two_sided)


def test_the_chance_is_that_of_a_new_observation():
    known = np.array([1.0, 2.0, 4.0, 4.5])
    t = (7 - known.mean()) / (known.std(ddof=1) * np.sqrt(1.25))
    assert chance(found(7, *known)) == pytest.approx(2 * stats.t.sf(t, 3))
    assert chance(found(7, *known, two_sided=False)) == pytest.approx(stats.t.sf(t, 3))
    assert chance(found(-7, *known, two_sided=False)) > 0.9
    assert chance(found(7, 1.0)) is None


def test_one_more_retrained_model_is_flagged_as_often_as_promised():
    rng = np.random.default_rng(0)
    draws = rng.normal(size=(4000, 6))
    p = np.array([chance(found(row[0], *row[1:])) for row in draws])
    assert np.mean(p < 0.05) == pytest.approx(0.05, abs=0.012)
    assert np.mean(p < 0.5) == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize(
    ("value", "two_sided", "p"), [(1.0, True, 1.0), (0.5, True, 0.5), (0.5, False, 1.0), (2.0, False, 0.25)]
)
def test_without_spread_only_ranks_count(value, two_sided, p):
    assert chance(found(value, 1.0, 1.0, 1.0, two_sided=two_sided)) == pytest.approx(p)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-20, 20), min_size=1, max_size=12))
def test_holms_rule_by_its_definition(values):
    measures = [found(v, -1.0, 0.0, 0.5, 1.0, 2.0) for v in values]
    p = np.sort([chance(one) for one in measures])
    first_kept = next((i for i, one in enumerate(p) if one > 0.05 / (len(p) - i)), len(p))
    assert len(standing_out(measures)) == first_kept


def test_a_finding_says_whether_it_lies_among_the_retrained_ones():
    assert found(1.5, 1.0, 2.0).inside
    assert not found(0.5, 1.0, 2.0).inside
    assert found(0.5, 1.0, 2.0, two_sided=False).inside
    assert not found(2.5, 1.0, 2.0, two_sided=False).inside
    assert found(2.5, 1.0).inside is None
    body = found(1.5, 1.0, 2.0).as_json()
    assert (body["target"], body["inside"], body["retrained"]) == (1.5, True, (1.0, 2.0))
    assert Skipped(name="x", family="class", reason="y").as_json() == {"name": "x", "family": "class", "reason": "y"}


@pytest.mark.parametrize(
    "wrong", [{"value": float("nan")}, {"value": 1.0, "retrained": (float("inf"),)}, {"family": "fun"}], ids=str
)
def test_a_finding_of_nothing_is_refused(wrong):
    with pytest.raises(Refusal, match="expected"):
        Finding(**{"name": "x", "family": "distance", "part": "forget", "value": 1.0, **wrong})
