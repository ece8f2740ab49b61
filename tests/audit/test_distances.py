"""Distances between answers: known values by hand and SciPy, leave-one-out floors, proxies, and the wrong forms."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import rel_entr, softmax

from unteach.audit import compat
from unteach.audit.distances import DISTANCES, output_distances
from unteach.audit.finding import Finding, Skipped
from unteach.audit.proxies import rf_jsd, rf_jsd_finding, zrf, zrf_finding
from unteach.types import Refusal

P, Q = np.array([[0.7, 0.2, 0.1]]), np.array([[0.1, 0.2, 0.7]])
KNOWN = {
    "activation distance (ℓ1)": 1.2,
    "activation distance (ℓ2)": 0.8485281,
    "activation distance (root mean square)": 0.8485281,
    "KL(retrained ‖ judged)": 1.1675461,
    "JS divergence": 0.2531016,
    "prediction disagreement": 1.0,
    "TV of answers": 1.0,
    "KL(retrained ‖ judged) of answers": 0.4 * math.log(3),  # (1½, ½, ½) against (½, ½, 1½), of 2½ answers
}


def models(count: int = 5, n: int = 60, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    shared = rng.normal(0, 2, (n, 4))
    return (shared + 0.5 * rng.normal(size=(count, n, 4))).astype(np.float32)


def by_name(found: list[Finding | Skipped]) -> dict[str, Finding]:
    return {one.name: one for one in found}


@pytest.mark.parametrize("name", KNOWN, ids=list(KNOWN))
def test_known_answers(name):
    found = by_name(output_distances(np.log(Q), np.log(np.stack([P, P])), "forget"))[name]
    assert found.value == pytest.approx(KNOWN[name], abs=1e-7)
    assert found.retrained == pytest.approx((0.0, 0.0), abs=1e-12)
    assert found.inside is False


def test_the_direction_of_kl_is_the_named_one():
    skewed = np.array([[0.98, 0.01, 0.01]])
    found = by_name(output_distances(np.log(Q), np.log(np.stack([skewed] * 2)), "forget"))["KL(retrained ‖ judged)"]
    assert found.value == pytest.approx(rel_entr(skewed, Q).sum())
    assert found.value != pytest.approx(rel_entr(Q, skewed).sum(), rel=0.1)


def test_values_are_means_over_references_and_floors_leave_one_out():
    z = models()
    p = softmax(z.astype(np.float64), -1)
    found = by_name(output_distances(z[0], z[1:], "retain"))

    def l2(i, j):
        return np.linalg.norm(p[i] - p[j], axis=-1)

    one = found["activation distance (ℓ2)"]
    assert one.value == pytest.approx(np.mean([l2(0, j).mean() for j in range(1, 5)]))
    assert one.retrained[1] == pytest.approx(np.mean([l2(2, j).mean() for j in (1, 3, 4)]))
    root = found["activation distance (root mean square)"]
    assert root.value == pytest.approx(np.sqrt(np.mean([l2(0, j) ** 2 for j in range(1, 5)])))
    shares = found["prediction disagreement"]
    assert shares.value == pytest.approx(np.mean(z[0].argmax(-1) != z[1:].argmax(-1)))
    for name, each in found.items():
        assert each.part == "retain"
        assert not each.two_sided
        assert (each.interval is None) == ("of answers" in name)
        if each.interval:
            assert each.interval[0] < each.value < each.interval[1]


def test_a_model_far_off_is_outside_and_one_more_retraining_near():
    z = models(8, n=400)
    near = output_distances(z[0], z[1:], "forget")
    far = output_distances(3 * z[0][:, ::-1] + np.float32([9, 0, 0, 0]), z[1:], "forget")
    assert all(one.value < 1.15 * max(one.retrained) for one in near)
    assert not any(one.inside for one in far)


@given(st.integers(0, 2**32 - 1), st.floats(0.1, 300))
def test_distances_are_finite_and_none_is_negative(seed, scale):
    z = np.random.default_rng(seed).normal(0, scale, (4, 7, 3)).astype(np.float32)
    for one in output_distances(z[0], z[1:], "forget"):
        assert one.value >= 0
        assert min(one.retrained) >= 0
    js = by_name(output_distances(z[0], z[1:], "forget"))["JS divergence"]
    assert js.value <= math.log(2) + 1e-12


def test_groups_widen_the_interval():
    z = np.repeat(models(5, n=20), 10, axis=1)
    groups = np.repeat(np.arange(20).astype(str), 10)
    name = "activation distance (ℓ1)"
    alone, together = (by_name(output_distances(z[0], z[1:], "forget", groups=g))[name] for g in (None, groups))
    assert np.diff(together.interval) > 2 * np.diff(alone.interval)


def test_one_reference_is_skipped_and_other_shapes_refused():
    z = models(3)
    assert len(DISTANCES) == len(output_distances(z[0], z[1:2], "forget"))
    assert all(isinstance(one, Skipped) for one in output_distances(z[0], z[1:2], "forget"))
    with pytest.raises(Refusal, match="same examples"):
        output_distances(z[0, :5], z[1:], "forget")
    with pytest.raises(Refusal, match="float32"):
        output_distances(z[0].astype(np.float16), z[1:], "forget")


def test_zrf_is_one_for_what_looks_untrained():
    rng = np.random.default_rng(0)
    random = 0.01 * rng.normal(size=(3, 50, 4))
    flat, sure = 0.01 * rng.normal(size=(50, 4)), 50 * np.eye(4)[rng.integers(0, 4, 50)]
    assert zrf(flat, random) > 0.999
    js_of_one_hot = 0.5 * (math.log(1 / 0.625) + 0.25 * math.log(0.25 / 0.625) + 0.75 * math.log(2))
    assert zrf(sure, random) == pytest.approx(1 - js_of_one_hot, abs=0.01)
    found = zrf_finding(flat, np.stack([sure, sure]), random)
    assert found.value > max(found.retrained), "perfect by its own measure, and unlike any retrained model"
    assert not found.inside
    assert "3 random networks" in zrf_finding(flat, sure[None], random[:2]).reason
    with pytest.raises(Refusal, match="3 or more random"):
        zrf(flat, random[:2])


def test_rf_jsd_is_by_class_and_does_not_depend_on_the_size_of_the_forget_set():
    forget, unseen = np.log(np.concatenate([P, P, Q])), np.log(np.concatenate([Q, Q, P, P]))
    labels, others = np.array([0, 0, 1]), np.array([0, 0, 1, 1])
    assert rf_jsd(forget, labels, unseen, others) == pytest.approx(0.2531016, abs=1e-7)
    assert rf_jsd(np.tile(forget, (9, 1)), np.tile(labels, 9), unseen, others) == pytest.approx(0.2531016, abs=1e-7)
    found = rf_jsd_finding(forget, np.stack([unseen[1:]] * 2), labels, unseen, others)
    assert found.value == pytest.approx(0.2531016, abs=1e-7)
    assert isinstance(rf_jsd_finding(forget, forget[None], labels + 5, unseen, others), Skipped)
    with pytest.raises(Refusal, match="expected a class"):
        rf_jsd(forget, labels + 5, unseen, others)


def test_compat_reproduces_the_published_mistakes():
    assert compat.reversed_js(P, Q) == pytest.approx(0.330671, abs=1e-6)
    assert compat.bad_teaching_js(P, Q) == pytest.approx(0.110224, abs=1e-6)
    two = np.concatenate([P, P]), np.concatenate([Q, Q])
    assert compat.bad_teaching_js(*two) == pytest.approx(0.110224, abs=1e-6), "a mean, over classes as well"
    source = Path(compat.__file__).parents[1]
    assert not [path for path in source.rglob("*.py") if "audit.compat" in path.read_text()], "nothing may judge by it"
