"""LiRA: known answers, a loop that reads the formula, the power it should have, and what it refuses."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import norm

from unteach.audit import MembershipTest
from unteach.audit.lira import Lira, OfflineLira, log_normal
from unteach.audit.shadows import LikelihoodTest, confidences
from unteach.audit.statistics import auc
from unteach.types import Refusal, Signals

BOTH = [Lira, OfflineLira]


def of_confidences(phi: np.ndarray, members: np.ndarray) -> Signals:
    """Two classes whose logits have these φ, ``models × views × examples``; model 0 is judged, the others are references."""
    logits = np.stack([phi, np.zeros_like(phi)], -1).astype(np.float32)
    models = tuple(f"m{i}" for i in range(len(phi)))
    labels = np.zeros(phi.shape[2], dtype=np.int64)
    return Signals(models, logits, labels, members, np.zeros_like(members), references=tuple(range(1, len(phi))))


def halves(references: int, n: int, rng: np.random.Generator) -> np.ndarray:
    """References in pairs of complementary random halves, and a judged model (row 0) that saw the first half."""
    first = rng.random((references // 2, n)) < 0.5
    return np.concatenate([np.arange(n)[None] < n // 2, first, ~first])


def made(references: int = 12, n: int = 40, views: int = 2, seed: int = 0) -> Signals:
    rng = np.random.default_rng(seed)
    members = halves(references, n, rng)
    phi = rng.normal(0, 3, n) + rng.normal(1, 1, (references + 1, views, n)) + 2 * members[:, None]
    return of_confidences(phi, members)


def test_known_answers():
    phi = np.array([3, 3, 4, 5, -1, 1, 3], dtype=np.float64)[:, None, None]
    members = np.array([0, 1, 1, 1, 0, 0, 0], dtype=bool)[:, None]
    signals = of_confidences(phi, members)
    ratio = Lira(per_example_from=1)(signals, 0)[0]
    assert ratio == pytest.approx(np.log(2), abs=1e-12)
    assert 1 / (1 + np.exp(-ratio)) == pytest.approx(2 / 3)
    assert norm.cdf(OfflineLira()(signals, 0)[0]) == pytest.approx(0.8413447, abs=1e-7)
    assert Lira()(signals, 0)[0] == pytest.approx(np.log(2)), "one example pools with nothing"


def loop(signals: Signals, each: bool, online: bool) -> np.ndarray:
    """One example, one view, one world at a time."""
    phi = np.stack([confidences(signals, at) for at in range(len(signals.models))])
    rows = list(signals.references)
    scores = np.zeros(phi.shape[1:])
    for view in range(phi.shape[1]):
        pooled = []
        for world in (True, False):
            values = [phi[rows, view, i][signals.members[rows, i] == world] for i in range(phi.shape[2])]
            pooled.append(sum(((v - v.mean()) ** 2).sum() for v in values) / sum(len(v) - 1 for v in values))
        for i in range(phi.shape[2]):
            laws = []
            for world, variance in ((True, pooled[0]), (False, pooled[1])):
                values = phi[rows, view, i][signals.members[rows, i] == world]
                laws.append(norm(np.median(values), np.sqrt(values.var(ddof=1) if each else variance)))
            mine = phi[0, view, i]
            ratio = laws[0].logpdf(mine) - laws[1].logpdf(mine)
            scores[view, i] = ratio if online else (mine - laws[1].mean()) / laws[1].std()
    return scores.mean(0)


@pytest.mark.parametrize("each", [True, False], ids=["own variance", "pooled variance"])
@pytest.mark.parametrize("kind", BOTH)
def test_a_loop_over_examples_says_the_same(kind, each):
    signals = made()
    rng = np.random.default_rng(1)
    uneven = signals.members.copy()
    uneven[1:5] = rng.random((4, uneven.shape[1])) < 0.3
    signals = replace(signals, members=uneven)
    got = kind(per_example_from=1 if each else 99)(signals, 0)
    np.testing.assert_allclose(got, loop(signals, each, kind is Lira), rtol=1e-12, atol=1e-12)


def test_variances_become_the_examples_own_from_64_references_on():
    for references, each in ((62, False), (64, True)):
        signals = made(references, n=20, views=1)
        for kind in BOTH:
            np.testing.assert_allclose(kind()(signals, 0), loop(signals, each, kind is Lira), rtol=1e-10)


@pytest.mark.parametrize("kind", BOTH)
def test_what_must_not_matter_does_not(kind):
    signals = made()
    scores = kind()(signals, 0)
    n = len(scores)
    order = np.random.default_rng(2).permutation(n)
    mixed = replace(
        signals, logits=signals.logits[:, :, order], members=signals.members[:, order], labels=signals.labels[order]
    )
    np.testing.assert_allclose(kind()(mixed, 0), scores[order], rtol=1e-9)
    np.testing.assert_allclose(kind()(replace(signals, references=signals.references[::-1]), 0), scores, rtol=1e-9)
    ease = np.float32(np.random.default_rng(3).integers(-8, 8, n))
    moved = signals.logits + np.stack([ease, np.zeros(n, np.float32)], -1)
    np.testing.assert_allclose(kind()(replace(signals, logits=moved), 0), scores, atol=1e-4)
    own = signals.members.copy()
    own[0] = ~own[0]
    np.testing.assert_array_equal(kind()(replace(signals, members=own), 0), scores)


@pytest.mark.parametrize("kind", BOTH)
def test_higher_is_more_like_a_member(kind):
    signals = made(n=600)
    scores = kind()(signals, 0)
    assert isinstance(kind(), MembershipTest)
    assert isinstance(kind(), LikelihoodTest)
    assert auc(scores[:300], scores[300:]) > 0.75


@pytest.mark.parametrize(("references", "expected"), [(4, 0.605), (8, 0.633), (16, 0.656), (32, 0.679)])
def test_power_grows_with_the_references_as_it_should(references, expected):
    """Confidences of members and others one law apart that an oracle tells apart with AUC 0.70, one threshold with 0.56."""
    rng = np.random.default_rng(references)
    n, gain = 30_000, np.sqrt(2) * norm.ppf(0.70)
    members = halves(references, n, rng)
    phi = rng.normal(0, 3.3, n) + rng.normal(size=(references + 1, 1, n)) + gain * members[:, None]
    half = n // 2
    assert auc(phi[0, 0, :half], phi[0, 0, half:]) == pytest.approx(0.56, abs=0.015)
    scores = Lira()(of_confidences(phi, members), 0)
    assert auc(scores[:half], scores[half:]) == pytest.approx(expected, abs=0.015)


def test_log_density_of_a_normal_law():
    phi, mean, variance = np.array([-40.0, 0, 2]), np.array([1.0, 0, -3]), np.array([0.01, 1, 4])
    np.testing.assert_allclose(log_normal(phi, mean, variance), norm.logpdf(phi, mean, np.sqrt(variance)))


def test_references_that_all_agree_give_finite_scores():
    signals = of_confidences(np.ones((9, 1, 4)), halves(8, 4, np.random.default_rng(0)))
    for kind in BOTH:
        assert np.isfinite(kind()(signals, 0)).all()


@pytest.mark.parametrize("kind", BOTH)
def test_refusals(kind):
    signals = made()
    with pytest.raises(Refusal, match="none of the references, got 'm3'"):
        kind()(signals, 3)
    with pytest.raises(Refusal, match="expected reference models, got none"):
        kind()(replace(signals, references=()), 0)
    few = signals.members.copy()
    few[1:, 5:8] = True
    few[1, 5] = False
    with pytest.raises(Refusal, match=r"2 or more OUT models .* got 0 for some \(3 of 40"):
        kind()(replace(signals, members=few), 0)
    with pytest.raises(Refusal, match="float32, got float16"):
        kind()(replace(signals, logits=signals.logits.astype(np.float16)), 0)


def test_only_the_online_attack_needs_in_models():
    signals = made()
    never = signals.members.copy()
    never[1:, 7] = False
    signals = replace(signals, members=never)
    assert np.isfinite(OfflineLira()(signals, 0)).all()
    with pytest.raises(Refusal, match="2 or more IN models"):
        Lira()(signals, 0)
