"""The untrained control, the hard tests, and what they do to the verdict."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from unteach.audit import audit
from unteach.audit.finding import Finding, Skipped
from unteach.types import Refusal
from worlds import RETRAINED, ROLES, World


@pytest.fixture(scope="module")
def world() -> World:
    return World()


@pytest.fixture(scope="module")
def signals(world):
    """Original, three retrained, one held out, one as good as retrained, one untrained."""
    made = world.signals(*RETRAINED, 0.0, 0.0)
    logits = made.logits.copy()
    logits[6] = np.random.default_rng(1).normal(size=logits[6].shape)
    members = made.members.copy()
    members[6] = False
    return replace(made, logits=logits, members=members)


def found(world, signals, *measures, untrained=6):
    return world.audit(signals, replace(ROLES, untrained=untrained), measures=measures)


def probe(value, trace="above", retrained=(0.50, 0.51, 0.49, 0.505, 0.495)):
    return Finding(
        name="feature probe", family="behaviour", part="FT", value=value, retrained=retrained, trace=trace, size=1000
    )


def test_an_untrained_network_is_rejected_and_has_no_row(world, signals):
    body = found(world, signals)
    assert body["controls"]["untrained_rejected"]["passed"], body["controls"]
    assert set(body["models"]) == {"original", "retrained", "held_out_retrained", "unlearned"}
    assert body["verdict"] == "indistinguishable from retrain within tolerance"


def test_an_audit_that_lets_an_untrained_network_pass_is_inconclusive(world, signals):
    body = found(world, signals, untrained=4)  # a retrained model in its place
    assert body["controls"]["untrained_rejected"]["passed"] is False
    assert body["verdict"] == "inconclusive"


def test_measures_without_anything_unusual_leave_the_verdict_alone(world, signals):
    body = found(world, signals, probe(0.503), Skipped(name="relearn time", family="behaviour", reason="not asked for"))
    assert body["controls"]["hard_tests"]["passed"]
    assert body["verdict"] == "indistinguishable from retrain within tolerance"
    assert body["measures"][0]["inside"]
    assert {"metric": "relearn time", "reason": "not asked for"} in body["skipped"]


@pytest.mark.parametrize(
    ("value", "trace", "verdict"),
    [(0.9, "above", "under-forgotten"), (0.2, "above", "over-forgotten"), (0.2, "below", "under-forgotten")],
)
def test_a_measure_that_stands_out_takes_the_good_verdict_away(world, signals, value, trace, verdict):
    body = found(world, signals, probe(value, trace), probe(0.5))
    assert body["verdict"] == verdict
    control = body["controls"]["hard_tests"]
    assert control["passed"] is False
    assert "feature probe" in control["sentence"]
    assert "1 of 2" in control["sentence"]
    assert control["sentence"] in body["reasons"]


def test_a_number_that_only_describes_decides_nothing(world, signals):
    body = found(world, signals, probe(0.9, trace=""))
    assert body["verdict"] == "indistinguishable from retrain within tolerance"
    assert body["controls"]["hard_tests"]["passed"] is None
    assert body["measures"][0]["chance"] < 1e-5


def test_two_retrained_models_can_not_show_that_a_small_difference_stands_out(world, signals):
    body = found(world, signals, probe(0.53, retrained=(0.50, 0.51)))
    assert body["controls"]["hard_tests"]["passed"]


def test_the_power_shrinks_with_the_examples(signals, world):
    small = World(forget=500, test=500)
    few = small.audit(small.signals(*RETRAINED, 0.0), ROLES)
    many = found(world, signals)
    edges = [{c["quantity"]: c["detectable"] for c in body["comparisons"]["unlearned"]} for body in (few, many)]
    assert all(edges[0][name] > edges[1][name] > 0.02 for name in edges[1])
    assert len(many["power"]) == len(edges[1])


def test_a_role_beyond_the_models_is_refused(world, signals):
    with pytest.raises(Refusal, match="roles within the 7 models"):
        audit(
            signals,
            roles=replace(ROLES, untrained=7),
            ids=np.array([f"x{i}" for i in range(signals.logits.shape[2])]),
            **world.masks(),
        )


def test_the_battery_finds_nothing_in_a_retrained_model_and_much_in_one_that_did_nothing():
    small = World(retain=600, forget=600, test=600)
    passed = small.audit(small.signals(*RETRAINED, 0.0), ROLES, thorough=True)
    assert passed["controls"]["hard_tests"]["passed"], passed["controls"]["hard_tests"]
    lazy = small.audit(small.signals(*RETRAINED, None), ROLES, thorough=True)
    assert lazy["controls"]["hard_tests"]["passed"] is False
    outside = {(one["name"], one["part"]) for one in lazy["measures"] if one["inside"] is False}
    assert ("activation distance (ℓ1)", "forget") in outside
    shares = [next(m["value"] for m in body["measures"] if "records exposed" in m["name"]) for body in (passed, lazy)]
    assert shares[0] < 0.02 < 0.5 < shares[1]
    assert {"metric", "reason"} == set(lazy["skipped"][0])
    assert any(one["metric"] == "LiRA and RMIA" for one in lazy["skipped"])
