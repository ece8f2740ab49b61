"""Membership scores: known answers, the contract of every score, and extreme logits."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from unteach.audit import MEMBERSHIP, MembershipTest, average_gap
from unteach.audit.membership import TwoSided, correctness
from unteach.types import Refusal, Signals


def signals(logits: np.ndarray, labels: np.ndarray, members: np.ndarray | None = None) -> Signals:
    """One model, one view; by default the model saw none of the examples."""
    n = len(labels)
    seen = np.zeros((1, n), dtype=bool) if members is None else members[None]
    return Signals(("m",), np.float32(logits)[None, None], labels, seen, np.zeros((1, n), dtype=bool))


def score(name: str, logits: np.ndarray, label: int) -> float:
    return float(MEMBERSHIP[name]()(signals(np.array([logits]), np.array([label])), 0)[0])


P = np.log([0.7, 0.2, 0.1])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("confidence", 0.8472979),
        ("loss", np.log(0.7)),
        ("entropy", -0.8018186),
        ("modified-entropy", -0.1621672),
    ],
)
def test_known_answers(name, value):
    assert score(name, P, 0) == pytest.approx(value, abs=1e-6)


def test_margin_known_answer():
    assert score("confidence", np.array([2, 0.5, -1]), 0) == pytest.approx(1.2985867, abs=1e-6)


@pytest.mark.parametrize("name", MEMBERSHIP)
@pytest.mark.parametrize("label", [0, 1, 2])
def test_extreme_logits_are_finite(name, label):
    assert np.isfinite(score(name, np.array([200.0, -200, -200]), label))
    assert np.isfinite(score(name, np.array([0.0, 0, 0]), label))


@pytest.mark.parametrize("name", MEMBERSHIP)
def test_every_score_is_higher_on_members_and_ignores_the_order(name):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 600)
    members = np.arange(600) < 300
    logits = rng.normal(size=(600, 4))
    logits[np.arange(600), labels] += np.where(members, 6, 1)
    s = signals(logits, labels, members)
    values = MEMBERSHIP[name]()(s, 0)
    assert isinstance(MEMBERSHIP[name](), MembershipTest)
    assert values.shape == (600,)
    assert values.dtype == np.float64
    assert roc_auc_score(members, values) > 0.8
    order = rng.permutation(600)
    shuffled = MEMBERSHIP[name]()(signals(logits[order], labels[order], members[order]), 0)
    np.testing.assert_allclose(shuffled, values[order], rtol=1e-12)


@pytest.mark.parametrize("name", MEMBERSHIP)
def test_binary_labels_score_as_two_classes_do(name):
    rng = np.random.default_rng(1)
    z = rng.normal(0, 3, 50).astype(np.float32)
    y = rng.integers(0, 2, 50)
    two = MEMBERSHIP[name]()(signals(np.stack([np.zeros(50), z], 1), y), 0)
    one = MEMBERSHIP[name]()(signals(z[:, None], y[:, None].astype(np.float32)), 0)
    np.testing.assert_allclose(one, two, rtol=1e-10, atol=1e-12)


def test_views_are_averaged():
    rng = np.random.default_rng(2)
    logits = rng.normal(size=(1, 2, 9, 3)).astype(np.float32)
    labels = rng.integers(0, 3, 9)
    no = np.zeros((1, 9), dtype=bool)
    both = Signals(("m",), logits, labels, no, no)
    for name in ("confidence", "loss", "entropy", "modified-entropy"):
        each = [MEMBERSHIP[name]()(signals(view, labels), 0) for view in logits[0]]
        np.testing.assert_allclose(MEMBERSHIP[name]()(both, 0), np.mean(each, axis=0), rtol=1e-12)


def test_float64_losses_of_sure_examples_do_not_tie():
    logits = np.zeros((50, 10))
    logits[:, 0] = np.linspace(20, 60, 50)
    values = MEMBERSHIP["loss"]()(signals(logits, np.zeros(50, dtype=np.int64)), 0)
    assert (np.diff(values) > 0).all()


def test_two_sided_by_class_centres_each_class_on_its_own_unseen_examples():
    logits = np.zeros((40, 2))
    labels = np.repeat([0, 1], 20)
    logits[:20, 0] = 8
    logits[20:, 1] = 1
    s = signals(logits, labels)
    assert TwoSided(by_class=True)(s, 0).max() == 0
    assert TwoSided()(s, 0).max() > 0


def test_two_sided_needs_unseen_examples():
    s = signals(np.eye(3), np.arange(3), np.ones(3, dtype=bool))
    with pytest.raises(Refusal, match="no model was trained on"):
        TwoSided()(s, 0)


@pytest.mark.parametrize("name", MEMBERSHIP)
def test_half_precision_and_nan_are_refused(name):
    good = signals(np.eye(3), np.arange(3))
    half = Signals(good.models, good.logits.astype(np.float16), good.labels, good.members, good.forgotten)
    with pytest.raises(Refusal, match="float32, got float16"):
        MEMBERSHIP[name]()(half, 0)
    broken = good.logits.copy()
    broken[0, 0, 1, 1] = np.nan
    with pytest.raises(Refusal, match="finite"):
        MEMBERSHIP[name]()(Signals(good.models, broken, good.labels, good.members, good.forgotten), 0)


def test_correctness_counts_shares_of_labels():
    s = signals(np.array([[3.0, -1, 2, -2]]), np.array([[1, 1, 1, 0]], dtype=np.float32))
    assert correctness(s, 0).tolist() == [0.75]


@pytest.mark.parametrize(
    ("row", "gap"),
    [
        ((95.16, 96.64, 92.21, 52.08), 2.06),
        ((95.45, 99.57, 93.45, 50.18), 0.62),
        ((98.94, 99.22, 93.39, 60.96), 4.28),
    ],
)
def test_average_gap_gives_the_rows_of_the_amun_paper(row, gap):
    target = (94.49, 100, 94.33, 50.00)
    names = ("forget", "retain", "test", "ft_auc")
    gaps = {name: mine - its for name, mine, its in zip(names, row, target)}
    assert average_gap(gaps) == pytest.approx(gap, abs=0.03)
