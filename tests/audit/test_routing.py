"""Neighbour routing and MIA-NN: known answers, invariances, calibration, and models that must be caught."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from unteach.audit import routing
from unteach.audit.mia_nn import Leakage, MiaNn
from unteach.audit.routing import (
    Reading,
    Routing,
    jensen_shannon,
    log_shares,
    neighbour_class,
    neighbour_routing,
    total_variation,
)
from unteach.types import Refusal

GONE = (2,)
N, K = 60, 5
BASE = np.random.default_rng(99).normal(size=(N, K)) * 2 + np.array([3.0, 1, 0, 0, 0])


def network(seed: int, *, towards: int = 0, push: float = 0.0, left: float = -12.0) -> np.ndarray:
    """Answers to images of class 2 by one of many retrainings: mostly class 0, each with a leaning and noise of its own."""
    rng = np.random.default_rng(seed)
    logits = BASE + 0.4 * rng.normal(size=K) + 0.6 * rng.normal(size=(N, K))
    logits[:, towards] += push
    logits[:, 2] = left + 0.5 * rng.normal(size=N)
    return np.float32(logits)


REFERENCES = np.stack([network(seed) for seed in range(5)])


def test_known_distances():
    p, q = np.array([0.7, 0.2, 0.1]), np.array([0.1, 0.2, 0.7])
    assert total_variation(p, q) == pytest.approx(0.6)
    assert jensen_shannon(p, q) == pytest.approx(0.2531016, abs=1e-7)
    assert jensen_shannon(np.array([1.0, 0]), np.array([0, 1.0])) == pytest.approx(math.log(2))


weights = st.lists(st.floats(0, 1), min_size=4, max_size=4).filter(lambda w: sum(w) > 0.01)


@given(weights, weights)
@example([0.0, 0.0, 0.0, 1.0], [0.0, 0.0, 5e-324, 1.0])
@settings(max_examples=60, deadline=None)
def test_distances_are_symmetric_bounded_and_ordered(a, b):
    p, q = np.array(a) / sum(a), np.array(b) / sum(b)
    tv, js = total_variation(p, q), jensen_shannon(p, q)
    assert tv == pytest.approx(total_variation(q, p))
    assert js == pytest.approx(jensen_shannon(q, p), abs=1e-12)
    assert 0 <= tv <= 1 + 1e-12
    assert tv**2 / 2 - 1e-9 <= js <= math.log(2) * tv + 1e-9, "Lin's bounds"


def test_shares_are_the_renormalised_softmax():
    z = network(0).astype(np.float64)
    p = np.exp(z) / np.exp(z).sum(1, keepdims=True)
    expected = np.delete(p, 2, axis=1) / (1 - p[:, [2]])
    np.testing.assert_allclose(np.exp(log_shares(z, GONE)), expected, rtol=1e-9)
    extreme = log_shares(np.array([[900.0, 1, 0, -900, 0]]), (0,))
    np.testing.assert_allclose(np.exp(extreme[0]), np.array([math.e, 1, 0, 1]) / (2 + math.e))


def votes(*choices: list[int], classes: int = 4) -> np.ndarray:
    """References that answer their images with these classes."""
    return np.float32(8 * np.eye(classes)[np.array(choices)])


def test_neighbour_is_voted_for():
    # The third reference has the most images of class 3 on the whole, yet it is one vote against two for class 1.
    assert neighbour_class(votes([1, 1, 3], [1, 1, 3], [3, 3, 3]), (0,)) == 1
    assert neighbour_class(votes([1, 1, 3], [3, 3, 3]), (0,)) == 3, "one vote each: the mean share decides"
    second = votes([0, 0, 0], [0, 0, 0]) + np.float32([0, 1, 2, 0])
    assert neighbour_class(second, (0,)) == 2, "a forgotten class is nobody's neighbour"
    assert neighbour_class(votes([3, 3, 3], [3, 3, 3]), (0, 2)) == 3, "numbered as in the network"


def test_readings_by_hand():
    """Three references, two images, one forgotten class; every number from the definitions."""
    rng = np.random.default_rng(0)
    references, model = rng.normal(size=(3, 2, 4)), rng.normal(size=(2, 4))
    found = neighbour_routing(model, references, (1,))

    def soft(z: np.ndarray) -> np.ndarray:
        kept = np.delete(z, 1, axis=-1)
        return np.exp(kept) / np.exp(kept).sum(-1, keepdims=True)

    def count(z: np.ndarray) -> np.ndarray:
        return np.eye(3)[soft(z).argmax(-1)].mean(-2)

    for name, number in (("mean_tv", lambda z: soft(z).mean(-2)), ("histogram_tv", count)):
        mine, held = [], []
        for out in range(3):
            others = np.mean([number(references[i]) for i in range(3) if i != out], axis=0)
            mine.append(0.5 * np.abs(number(model) - others).sum())
            held.append(0.5 * np.abs(number(references[out]) - others).sum())
        assert found.readings[name].value == pytest.approx(np.mean(mine))
        assert found.readings[name].held_out == pytest.approx(held)
    each = [0.5 * np.abs(soft(model) - soft(r)).sum(-1).mean() for r in references]
    assert found.readings["image_tv"].value == pytest.approx(np.mean(each)), "every reference is twice among the others"
    whole = np.exp(model) / np.exp(model).sum(-1, keepdims=True)
    assert found.readings["forgotten_mass"].value == pytest.approx(whole[:, 1].mean())
    column = found.neighbour - (found.neighbour > 1)
    assert found.readings["neighbour_share"].value == pytest.approx(soft(model)[:, column].mean())
    assert found.readings["largest_share"].held_out == pytest.approx(count(references).max(-1).tolist())


@pytest.fixture(scope="module")
def honest() -> Routing:
    return neighbour_routing(network(7), REFERENCES, GONE)


def test_a_retrained_model_is_inside(honest: Routing):
    assert honest.inside
    assert not honest.collapsed
    assert honest.neighbour == 0
    assert abs(honest.readings["mean_tv"].spreads or 0) < 3


def test_order_scale_and_names_do_not_matter(honest: Routing):
    shuffle = np.random.default_rng(0).permutation(N)
    names = np.array([3, 0, 4, 1, 2])  # column j becomes column names[j]
    model, references = np.empty((N, K)), np.empty((5, N, K))
    model[:, names] = network(7) + 100.0
    references[..., names] = REFERENCES - 50.0
    other = neighbour_routing(model[shuffle], references[:, shuffle][::-1], (4,))
    assert other.neighbour == 3
    assert other.p_value == honest.p_value
    for name, reading in honest.readings.items():
        tolerance = 0.02 if name == "told_apart" else 1e-5  # its folds go by position
        assert other.readings[name].value == pytest.approx(reading.value, abs=tolerance)
        assert sorted(other.readings[name].held_out) == pytest.approx(sorted(reading.held_out), abs=tolerance)


def test_another_route_is_caught(honest: Routing):
    found = neighbour_routing(network(7, towards=4, push=6.0), REFERENCES, GONE)
    assert not found.inside
    assert found.p_value == pytest.approx(1 / 6)
    for name in ("mean_tv", "histogram_js", "image_tv", "told_apart", "neighbour_share"):
        assert not found.readings[name].inside, name
        assert abs(found.readings[name].spreads or 0) > 3, name
    assert found.readings["mean_tv"].value > honest.readings["mean_tv"].value


def test_collapse_is_flagged_both_ways():
    one_class = neighbour_routing(network(7, push=30.0), REFERENCES, GONE)
    assert one_class.collapsed
    assert one_class.readings["largest_share"].value == 1
    uniform = network(7) * np.float32(0) + np.random.default_rng(1).normal(size=(N, K)).astype(np.float32) * 0.01
    assert neighbour_routing(uniform, REFERENCES, GONE).collapsed


def test_mass_left_on_the_forgotten_class_is_seen():
    """A model that did nothing may still route its other guesses as retrained ones do."""
    found = neighbour_routing(network(7, left=12.0), REFERENCES, GONE)
    assert found.readings["mean_tv"].inside
    assert not found.readings["forgotten_mass"].inside
    assert found.readings["forgotten_mass"].value > 0.9


@pytest.mark.parametrize("references", [3, 5])
def test_an_exact_retraining_fails_once_in_references_plus_one(references: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(routing, "_told_apart", lambda one, others: 0.5)  # slow, and not what is tested
    tries, failed = 200, 0
    for seed in range(tries):
        models = np.stack([network(1000 + seed * 10 + i) for i in range(references + 1)])
        failed += not neighbour_routing(models[0], models[1:], GONE).inside
    expected = 1 / (references + 1)
    assert abs(failed / tries - expected) < 3.5 * math.sqrt(expected * (1 - expected) / tries)


def test_inside_means_between_the_held_out():
    assert Reading(0.2, (0.1, 0.2)).inside
    assert not Reading(0.21, (0.1, 0.2)).inside
    assert Reading(0.05, (0.1, 0.2)).inside, "nearer than any reference is no fault of a distance"
    assert not Reading(0.05, (0.1, 0.2), two_sided=True).inside
    assert Reading(0.3, (0.1, 0.2, 0.3)).spreads == pytest.approx(1.0)
    assert Reading(0.3, (0.1, 0.1, 0.1)).spreads is None


def test_findings_are_plain_values(honest: Routing):
    found = json.loads(json.dumps(honest.as_json()))
    assert found["inside"] is True
    assert found["images"] == N
    assert set(found["readings"]["mean_tv"]) == {"value", "held_out", "two_sided", "inside", "spreads"}


@pytest.mark.parametrize(
    ("model", "references", "gone", "why"),
    [
        (REFERENCES[0], REFERENCES[:2], GONE, "3 or more references"),
        (REFERENCES[0][:9], REFERENCES, GONE, "same images"),
        (REFERENCES[0][:1], REFERENCES[:, :1], GONE, "two or more images"),
        (REFERENCES[0], REFERENCES, (), "one or more forgotten classes"),
        (REFERENCES[0], REFERENCES, (5,), "below 5"),
        (REFERENCES[0], REFERENCES, (0, 1, 2, 3), "two that stay"),
        (REFERENCES[0].astype(np.float16), REFERENCES, GONE, "float32"),
        (np.where(REFERENCES[0] > 5, np.nan, REFERENCES[0]), REFERENCES, GONE, "finite"),
    ],
)
def test_bad_input_is_refused(model, references, gone, why):
    with pytest.raises(Refusal, match=why):
        neighbour_routing(model, references, gone)


# MIA-NN

LABELS = np.array([0, 1, 3, 4] * 25)


def answers(seed: int) -> np.ndarray:
    """A retrained network's logits of retained test images: mostly right."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(len(LABELS), K)) + 5 * np.eye(K)[LABELS]
    logits[:, 2] = -12
    return np.float32(logits)


RETAINED = np.stack([answers(seed) for seed in range(5)])


def attack(model: np.ndarray, **how: Any) -> Leakage:
    return MiaNn(**how)(model, REFERENCES, GONE, retained=RETAINED, labels=LABELS)


@pytest.mark.parametrize("rbf", [False, True])
def test_mia_nn_sees_another_route_and_clears_a_retrained_model(rbf: bool):
    same, other = attack(network(7), rbf=rbf), attack(network(7, towards=4, push=9.0), rbf=rbf)
    assert same.neighbour == 0
    assert same.inside
    assert not other.inside
    assert other.leakage < -0.4, "hardly an image is taken for the neighbour's now"
    assert json.loads(json.dumps(other.as_json()))["leakage"] == other.leakage


def test_mia_nn_sees_too_much_of_the_same():
    more = attack(network(7, push=9.0))
    assert more.leakage > 0.1, "all images are taken for the neighbour's now"
    assert not more.inside


def test_mia_nn_accepts_what_the_reference_calls_the_neighbour():
    """With classes far apart the machine can only repeat the answer, so the share is that of the histogram."""
    clear = np.float32(20 * np.eye(K)[np.where(np.arange(N) % 4, 0, 3)])
    references = np.stack([clear + np.float32(0.01) * network(seed) for seed in range(3)])
    retained = np.stack([np.float32(20 * np.eye(K)[LABELS]) + np.float32(0.01) * answers(s) for s in range(3)])
    found = MiaNn()(clear, references, GONE, retained=retained, labels=LABELS)
    np.testing.assert_allclose(found.unlearned, 0.75)
    np.testing.assert_allclose(found.retrained, 0.75)
    assert found.leakage == 0


def test_leakage_by_hand():
    found = Leakage(0, (0.5, 0.7), ((0.4, 0.6), (0.5, 0.8)))
    assert found.leakage == pytest.approx(((0.5 - 0.4) + (0.7 - 0.8)) / 2)
    assert found.floor == pytest.approx((0.5 - 0.8, 0.6 - 0.4))


def test_mia_nn_refuses_what_cannot_be_judged():
    with pytest.raises(Refusal, match="penalty"):
        MiaNn(penalty=0.0)
    with pytest.raises(Refusal, match="leave the forgotten classes out"):
        MiaNn()(REFERENCES[0], REFERENCES, GONE, retained=RETAINED, labels=np.where(LABELS == 1, 2, LABELS))
    with pytest.raises(Refusal, match=r"expected logits of shape \(5, 7, 5\)"):
        MiaNn()(REFERENCES[0], REFERENCES, GONE, retained=RETAINED, labels=LABELS[:7])
    with pytest.raises(Refusal, match="images of class 0"):
        MiaNn()(REFERENCES[0], REFERENCES, GONE, retained=RETAINED[:, LABELS == 1], labels=LABELS[LABELS == 1])
