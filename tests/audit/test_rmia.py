"""RMIA: equal to the definition, ties included; its two signals; the tuning of a; memory."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from math import exp, factorial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unteach.audit import MembershipTest
from unteach.audit.rmia import AMUN, OfflineRmia, Rmia, dominance, offline_mean, tuned
from unteach.audit.shadows import LikelihoodTest
from unteach.audit.statistics import auc
from unteach.audit.taylor import LEAST_TERM, Softmax, TaylorSoftmax
from unteach.types import Refusal, Signals


def made(
    references: int = 6, n: int = 30, views: int = 2, classes: int = 4, seed: int = 0, gain: float = 2.0
) -> Signals:
    """A judged model (0) trained on the first half, one trained on nothing of it (1), and references on random halves.

    The last third of the examples is unseen by the judged models. A tenth of the logits stand twice, so that ratios tie.
    """
    rng = np.random.default_rng(seed)
    first = rng.random((references // 2, n)) < 0.5
    rows = np.arange(n)
    members = np.concatenate([[rows < n // 3, (rows >= n // 3) & (rows < 2 * n // 3)], first, ~first])
    labels = rng.integers(0, classes, n)
    logits = rng.normal(0, 2, (1, views, n, classes)) + rng.normal(0, 1, (len(members), views, n, classes))
    logits[:, :, rows, labels] += 1 + gain * members[:, None]
    twins = slice(0, n // 10), slice(n - n // 10, n)
    logits[:, :, twins[1]], labels[twins[1]], members[2:, twins[1]] = (
        logits[:, :, twins[0]],
        labels[twins[0]],
        members[2:, twins[0]],
    )
    names = tuple(f"m{i}" for i in range(len(members)))
    references_at = tuple(range(2, len(members)))
    return Signals(names, np.float32(logits), labels, members, np.zeros_like(members), references=references_at)


def brute(signals: Signals, target: int, test: Rmia | OfflineRmia) -> np.ndarray:
    """The definition, one pair of examples at a time."""
    n, views = signals.logits.shape[2], signals.logits.shape[1]
    rows = list(signals.references)
    unseen = [i for i in range(n) if not signals.members[:2, i].any()]
    scores = np.zeros((views, n))
    for view in range(views):
        ratio = []
        for i in range(n):
            s = {at: share(test.signal, signals.logits[at, view, i], signals.labels[i]) for at in [target, *rows]}
            if isinstance(test, Rmia):
                mean = np.mean([s[at] for at in rows])
            else:
                out = np.mean([s[at] for at in rows if not signals.members[at, i]])
                mean = 0.5 * ((1 + test.share) * out + (1 - test.share))
            ratio.append(s[target] / mean)
        for i in range(n):
            others = [z for z in (range(n) if test.everyone else unseen) if z != i]
            scores[view, i] = np.mean([ratio[i] / ratio[z] >= test.gamma for z in others])
    return scores.mean(0)


def share(signal: Softmax | TaylorSoftmax, logits: np.ndarray, label: int) -> float:
    """The probability of the true class, term by term."""
    if isinstance(signal, Softmax):
        gaps = [exp(float(z) - float(max(logits))) for z in logits]
        return gaps[label] / sum(gaps)

    def h(v: float) -> float:
        return max(LEAST_TERM, sum(v**j / factorial(j) for j in range(signal.terms)))

    t = [float(z) / signal.temperature for z in logits]
    own = h(t[label] - signal.margin)
    return own / (own + sum(h(v) for k, v in enumerate(t) if k != label))


SIGNALS = {
    "softmax": Softmax(),
    "taylor": TaylorSoftmax(),
    "taylor of 5": TaylorSoftmax(terms=5, temperature=1.5, margin=0.0),
}


@pytest.mark.parametrize("signal", SIGNALS)
@pytest.mark.parametrize("everyone", [False, True], ids=["unseen", "everyone"])
@pytest.mark.parametrize("gamma", [1.0, 2.0, 0.7])
@pytest.mark.parametrize("kind", [Rmia, OfflineRmia])
def test_the_sorted_form_is_the_definition(kind, gamma, everyone, signal):
    signals = made()
    test = kind(gamma=gamma, everyone=everyone, signal=SIGNALS[signal])
    for target in (0, 1):
        np.testing.assert_allclose(test(signals, target), brute(signals, target, test), rtol=0, atol=1e-12)


def test_twins_tie_and_count():
    """A tenth of the examples stand twice, among the members and among the unseen: with > instead of ≥ each would lose one."""
    signals = made(views=1)
    got = Rmia()(signals, 0)
    ratio = Softmax()(signals, 0)[0] / np.mean([Softmax()(signals, at)[0] for at in signals.references], axis=0)
    strict = np.array([np.mean(ratio[i] / ratio[20:] > 1) for i in range(30)])
    np.testing.assert_allclose(got[:3] - strict[:3], 0.1)


numbers = st.lists(st.sampled_from([0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0]), min_size=3, max_size=12)


@given(numbers, st.sampled_from([0.5, 1.0, 1.5, 2.0]), st.integers(0, 2**12 - 1))
@settings(max_examples=80, deadline=None)
def test_planted_ties(ratios, gamma, chosen):
    population = np.array([bool(chosen >> i & 1) for i in range(len(ratios))])
    population[:2] = True
    want = [
        np.mean([x / z >= gamma for j, z in enumerate(ratios) if population[j] and j != i])
        for i, x in enumerate(ratios)
    ]
    np.testing.assert_allclose(dominance(np.array(ratios), population, gamma), want, atol=1e-12)


@given(st.lists(st.floats(1e-300, 1e300), min_size=3, max_size=20), st.sampled_from([0.5, 1.0, 2.0, 4.0]))
@settings(max_examples=80, deadline=None)
def test_ties_are_exact_when_gamma_is_a_power_of_two(ratios, gamma):
    x = np.array(ratios)
    with np.errstate(over="ignore"):
        wins = x[:, None] / x >= gamma
    np.fill_diagonal(wins, False)
    np.testing.assert_allclose(dominance(x, np.ones(len(x), bool), gamma), wins.sum(1) / (len(x) - 1), atol=1e-12)


def test_known_answer_of_the_offline_mean():
    assert offline_mean(np.array(0.4), 0.3) == pytest.approx(0.61)


@pytest.mark.parametrize("test", [Rmia(), OfflineRmia(), AMUN], ids=["online", "offline", "amun"])
def test_higher_is_more_like_a_member_and_order_does_not_matter(test):
    signals = made(references=8, n=600, views=1)
    scores = test(signals, 0)
    assert isinstance(test, MembershipTest)
    assert isinstance(test, LikelihoodTest)
    assert auc(scores[:200], scores[400:]) > 0.65
    order = np.random.default_rng(1).permutation(600)
    mixed = replace(
        signals, logits=signals.logits[:, :, order], labels=signals.labels[order], members=signals.members[:, order]
    )
    np.testing.assert_allclose(test(mixed, 0), scores[order], atol=1e-12)


def test_a_larger_gamma_lowers_every_score():
    signals = made(n=90)
    scores = [Rmia(gamma=gamma)(signals, 0) for gamma in (0.5, 1.0, 2.0, 4.0)]
    assert (np.diff(scores, axis=0) <= 0).all()


def test_one_reference_is_enough_offline():
    signals = made(references=2, n=60)
    members = signals.members.copy()
    members[2] = False
    assert np.ptp(OfflineRmia()(replace(signals, references=(2,), members=members), 0)) > 0.5
    with pytest.raises(Refusal, match="1 or more IN models"):
        Rmia()(replace(signals, references=(2,), members=members), 0)


def test_the_polynomial_is_held_above_zero():
    logits = np.zeros((3, 1, 2, 3), dtype=np.float32)
    logits[:, 0, 0] = [-200, 200, 0]
    logits[:, 0, 1] = [200, -200, -200]
    no = np.zeros((3, 2), dtype=bool)
    signals = Signals(("a", "b", "c"), logits, np.zeros(2, dtype=np.int64), no, no, references=(1, 2))
    values = TaylorSoftmax()(signals, 0)[0]
    assert 0 < values[0] < 1e-9
    assert 1 - 1e-9 < values[1] < 1
    assert (Softmax()(signals, 0) > 0).all()


@pytest.mark.parametrize("signal", SIGNALS)
def test_yes_or_no_labels_read_as_two_classes(signal):
    rng = np.random.default_rng(4)
    z, y = rng.normal(0, 2, (1, 1, 20, 1)).astype(np.float32), rng.integers(0, 2, 20)
    no = np.zeros((1, 20), dtype=bool)
    one = Signals(("m",), z, y[:, None].astype(np.float32), no, no)
    two = Signals(("m",), np.concatenate([np.zeros_like(z), z], -1), y, no, no)
    np.testing.assert_allclose(SIGNALS[signal](one, 0), SIGNALS[signal](two, 0), rtol=1e-12)


def test_a_is_tuned_on_the_references_alone():
    signals = made(references=8, n=400, views=1)
    best = tuned(OfflineRmia(), signals)
    # NaN would be refused if it were read.
    broken = signals.logits.copy()
    broken[:2] = np.nan
    assert tuned(OfflineRmia(), replace(signals, logits=broken)) == best
    inner = replace(signals, references=signals.references[1:])
    members = signals.members[2]
    reach = {}
    for share in np.arange(11) / 10:
        scores = OfflineRmia(share=share)(inner, 2)
        reach[share] = auc(scores[members], scores[~members])
    assert best.share == pytest.approx(max(reach, key=reach.__getitem__))
    assert best.gamma == OfflineRmia().gamma
    with pytest.raises(Refusal, match=r"1 or more OUT models.*one reference is attacked by the others"):
        tuned(OfflineRmia(), replace(signals, references=signals.references[:2]))


def test_memory_is_linear():
    rng = np.random.default_rng(0)
    ratios, population = rng.random(50_000) + 0.1, rng.random(50_000) < 0.2
    tracemalloc.start()
    dominance(ratios, population, 2.0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100 * len(ratios), "bytes; a matrix of all pairs would hold 500 million numbers"


def test_refusals():
    signals = made()
    with pytest.raises(Refusal, match="none of the references"):
        Rmia()(signals, 4)
    all_seen = signals.members.copy()
    all_seen[0] = True
    with pytest.raises(Refusal, match="no audited model was trained on, got 0"):
        Rmia()(replace(signals, members=all_seen), 0)
    assert np.isfinite(Rmia(everyone=True)(replace(signals, members=all_seen), 0)).all()
    with pytest.raises(Refusal, match="temperature above 0"):
        TaylorSoftmax(temperature=0)
    for wrong in (lambda: Rmia(gamma=0), lambda: OfflineRmia(share=1.1)):
        with pytest.raises(Refusal, match="above 0 and a share from 0 to 1"):
            wrong()
