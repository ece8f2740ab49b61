"""The SVC suite: known features, right and wrong ones; the attack on synthetic logits; which examples it is fitted to."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from unteach.audit.class_thresholds import called_members, class_thresholds
from unteach.audit.finding import Skipped
from unteach.audit.games import pools
from unteach.audit.membership import MEMBERSHIP
from unteach.audit.svc_suite import EFFICACY, FEATURES, PRIVACY, SvcSuite, features, svc_findings
from unteach.types import Refusal
from worlds import World

P = np.array([[0.7, 0.2, 0.1]])
WORLD = World(retain=150, forget=120, test=120)
SUITE = SvcSuite(most=80)


@pytest.fixture(scope="module")
def found():
    """The original judged as if it were unlearned, beside three retrained models."""
    signals = WORLD.signals(None, 0.0, 0.0)
    return {one.name: one for one in svc_findings(signals, 0, (1, 2), pools(signals, **WORLD.masks()), suite=SUITE)}


def test_features_at_the_known_point():
    table = {name: values[0] for name, values in features(np.log(P), np.array([0])).items()}
    assert table["correctness"] == 1
    assert table["confidence"] == pytest.approx(0.7)
    assert table["entropy"] == pytest.approx(0.8018186)
    assert table["modified entropy"] == pytest.approx(0.162167, abs=1e-6)
    assert table["probabilities"] == pytest.approx(P[0])
    assert tuple(table) == FEATURES


def test_the_wrong_modified_entropy_depends_on_its_company():
    together = features(np.log(np.repeat(P, 3, axis=0)), np.arange(3), compat=True)["modified entropy"]
    assert together[0] == pytest.approx(3.466879, abs=1e-6)
    alone = features(np.log(P), np.array([0]), compat=True)["modified entropy"]
    assert alone[0] == pytest.approx(-(0.3 * np.log(0.7) + 0.2 * np.log(0.2) + 0.1 * np.log(0.1)))


def test_features_are_the_membership_scores():
    signals = WORLD.signals(None)
    table = features(signals.logits[0, 0], signals.labels)
    for name, score in {"entropy": "entropy", "modified entropy": "modified-entropy"}.items():
        np.testing.assert_allclose(table[name][:, 0], -MEMBERSHIP[score]()(signals, 0), rtol=1e-9, atol=1e-12)
    assert all(np.isfinite(v).all() for v in features(np.float32([[200, -200, 0]]), np.array([1])).values())


def test_the_original_takes_its_forget_set_for_members(found):
    for name in FEATURES[1:]:
        one = found[EFFICACY.format(name)]
        assert one.unit == "%"
        assert one.value < min(one.retrained), "retrained models call far more of them non-members"
        assert not one.inside
        assert "80 of 150 members and 80 of 120 others" in one.doubts[0]
    assert found["MIA-efficacy (class thresholds, confidence)"].value < 40
    assert found["UA"].value < 5 < min(found["UA"].retrained)
    assert found[PRIVACY.format("confidence")].value > 60
    assert not found["averaging gap"].inside
    assert isinstance(found["AUS"], Skipped)


def test_the_numbers_are_scikit_learns(found):
    from sklearn.svm import SVC

    signals = WORLD.signals(None, 0.0, 0.0)
    pool = pools(signals, **WORLD.masks())
    member, other = SUITE.drawn(pool)
    z = signals.logits[0, 0].astype(np.float64)
    p = np.exp(z) / np.exp(z).sum(1, keepdims=True)
    machine = SVC(C=3, gamma="auto").fit(p[np.concatenate([member, other])], np.repeat([1, 0], 80))
    expected = 100 * (1 - machine.predict(p[pool.forget]).mean())
    assert found[EFFICACY.format("probabilities")].value == pytest.approx(expected)


def test_drawn_examples():
    pool = pools(WORLD.signals(None), **WORLD.masks())
    member, other = SvcSuite(compat=True, most=0).drawn(pool)
    np.testing.assert_array_equal(member, pool.retain[:120])
    np.testing.assert_array_equal(other, pool.test)
    member, other = SvcSuite(most=50).drawn(pool)
    assert len(member) == len(other) == 50
    assert set(member) <= set(pool.retain)
    assert not np.array_equal(member, pool.retain[:50])
    np.testing.assert_array_equal(member, SvcSuite(most=50).drawn(pool)[0])


def test_compat_changes_modified_entropy_only_where_the_drawn_are_the_same():
    signals = WORLD.signals(0.0)
    pool = pools(signals, **WORLD.masks())
    compat = SvcSuite(compat=True, most=80)(signals, 0, pool)
    assert compat["UA"] == SUITE(signals, 0, pool)["UA"]
    assert compat[EFFICACY.format("modified entropy")] != SUITE(signals, 0, pool)[EFFICACY.format("modified entropy")]


def test_thresholds_are_the_best_of_all_by_class():
    rng = np.random.default_rng(0)
    member, other = rng.normal(1, 1, 60), rng.normal(0, 1, 70)
    labels, others = rng.integers(0, 3, 60), rng.integers(0, 2, 70)
    found = class_thresholds(member, labels, other, others)
    assert set(found) == {-1, 0, 1}
    for label in (0, 1):
        m, o = member[labels == label], other[others == label]
        balanced = [(m >= t).mean() + (o < t).mean() for t in np.concatenate([m, o])]
        assert (m >= found[label]).mean() + (o < found[label]).mean() == pytest.approx(max(balanced))
    called = called_members(np.array([found[0], found[-1] - 1e-9]), np.array([0, 2]), found)
    assert called.tolist() == [True, False]


def test_several_labels_and_tiny_sets_are_skipped():
    signals = WORLD.signals(0.0, 0.0)
    pool = pools(signals, **WORLD.masks())
    several = replace(signals, labels=np.zeros((390, 10), np.float32))
    assert all("several labels" in one.reason for one in svc_findings(several, 0, (1,), pool))
    assert all(
        "only 4 of 10" in one.reason for one in svc_findings(signals, 0, (1,), replace(pool, retain=np.arange(4)))
    )
    with pytest.raises(Refusal, match="leave the suite out"):
        SvcSuite()(several, 0, pool)
    with pytest.raises(Refusal, match="at least 20"):
        SvcSuite(most=3)
