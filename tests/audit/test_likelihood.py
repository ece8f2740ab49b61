"""The likelihood attacks beside retrained models, and p-values of single records."""

from __future__ import annotations

import weakref
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import kstest

from unteach.audit import shadows
from unteach.audit.finding import Finding, Skipped
from unteach.audit.games import Pools, pools
from unteach.audit.likelihood import LIKELIHOOD, likelihood_games
from unteach.audit.lira_exposure import lira_exposure, p_values
from unteach.audit.rmia import SHARES, tuned
from unteach.audit.statistics import auc, clopper_pearson, rejected
from unteach.types import Refusal, Signals

N = 3000
PART = np.arange(N) // 1000
JUDGED, RETRAINED = 0, (1, 2, 3)


@pytest.fixture(scope="module")
def signals() -> Signals:
    """An unlearned model that kept most of the forget set (second thousand), three retrained ones, eight references."""
    rng = np.random.default_rng(0)
    halves = rng.random((4, N)) < 0.5
    trained = np.concatenate([[PART < 2], np.repeat([PART < 1], 3, axis=0), halves, ~halves])
    boost = trained * 1.5
    boost[0, PART == 1] = 1.0
    labels = rng.integers(0, 4, N)
    z = rng.normal(0, 1, (N, 4)) + rng.normal(0, 0.6, (12, N, 4))
    z[:, np.arange(N), labels] += rng.normal(2, 1.5, N) + boost
    forgotten = np.zeros((12, N), dtype=bool)
    forgotten[0] = PART == 1
    names = tuple(f"m{i}" for i in range(12))
    return Signals(names, np.float32(z)[:, None], labels, trained, forgotten, references=tuple(range(4, 12)))


def pool_of(signals: Signals) -> Pools:
    return pools(signals, retain=PART == 0, forget=PART == 1, test=PART == 2)


@pytest.fixture(scope="module")
def found(signals) -> dict[tuple[str, str], Finding]:
    measured = likelihood_games(signals, JUDGED, RETRAINED, pool_of(signals))
    return {(each.name, each.part): each for each in measured if isinstance(each, Finding)}


@pytest.mark.parametrize("name", LIKELIHOOD)
def test_every_attack_sees_what_the_unlearned_model_kept(found, name):
    kept = found[f"{name} AUC", "FT"]
    assert len(kept.retrained) == 3
    assert kept.value > 0.6
    assert kept.inside is False
    assert kept.interval is not None
    assert kept.interval[0] < kept.value < kept.interval[1]
    assert kept.target == pytest.approx(0.5, abs=0.03)
    assert found[f"{name} AUC", "FR"].value < min(found[f"{name} AUC", "FR"].retrained)
    ceiling = found[f"{name} AUC", "RT"]
    assert ceiling.inside or abs(ceiling.value - float(ceiling.target or 0)) < 0.02
    assert kept.size == 2000


@pytest.mark.parametrize("name", LIKELIHOOD)
def test_values_are_those_of_the_single_attacks(signals, found, name):
    test = LIKELIHOOD[name]
    if name == "RMIA offline":
        test = tuned(test, signals)
        assert f"a = {test.share}" in found[f"{name} AUC", "FT"].doubts[0]
    for at, value in zip(
        (JUDGED, *RETRAINED), (found[f"{name} AUC", "FT"].value, *found[f"{name} AUC", "FT"].retrained)
    ):
        scores = test(signals, at)
        assert value == pytest.approx(auc(scores[PART == 1], scores[PART == 2]), abs=1e-12)


def test_tpr_at_low_fpr_only_where_the_counts_allow(signals, found):
    skipped = {e.name: e.reason for e in likelihood_games(signals, 0, (), pool_of(signals)) if isinstance(e, Skipped)}
    assert set(skipped) == {f"{name} TPR at 0.1% FPR" for name in LIKELIHOOD}
    point = found["LiRA TPR at 1.0% FPR", "FT"]
    assert point.value > max(point.retrained)
    assert point.interval == pytest.approx(clopper_pearson(round(point.value * 1000), 1000))


def test_attacks_without_enough_references_are_skipped_with_the_reason(signals):
    half_of_train = signals.members.copy()
    half_of_train[4:, PART == 2] = False
    measured = likelihood_games(replace(signals, members=half_of_train), JUDGED, RETRAINED, pool_of(signals))
    skipped = {e.name: e.reason for e in measured if isinstance(e, Skipped) and "TPR" not in e.name}
    assert set(skipped) == {"LiRA", "RMIA", "RMIA of AMUN"}
    assert "IN models of every example among the 8 references, got 0 for some (1,000 of 3,000" in skipped["LiRA"]
    none = likelihood_games(replace(signals, references=()), JUDGED, RETRAINED, pool_of(signals))
    assert [e.name for e in none] == list(LIKELIHOOD)
    assert all(isinstance(e, Skipped) and "got none" in e.reason for e in none)


def test_a_side_without_examples_is_skipped(signals):
    pool = replace(pool_of(signals), retain=np.zeros(0, dtype=np.int64))
    names = {e.name for e in likelihood_games(signals, JUDGED, RETRAINED, pool) if isinstance(e, Skipped)}
    assert {"LiRA AUC (FR)", "LiRA AUC (RT)"} <= names


def test_a_judged_model_among_the_references_is_refused(signals):
    with pytest.raises(Refusal, match="that are no references, got \\['m5'\\]"):
        likelihood_games(signals, JUDGED, (1, 5), pool_of(signals))


def world(models: int, n: int, uneven: float, seed: int) -> np.ndarray:
    """Confidences of models + 1 retrainings whose spread differs between examples."""
    rng = np.random.default_rng(seed)
    return rng.normal(0, 3, n) + rng.normal(0, 1, (models + 1, n)) * np.exp(rng.normal(0, uneven, n))


@pytest.mark.parametrize("uneven", [0.0, 0.5], ids=["equal spreads", "uneven spreads"])
@pytest.mark.parametrize("models", [3, 5, 20])
def test_p_values_of_one_more_retraining_are_even(models, uneven):
    phi = world(models, 20_000, uneven, seed=models)
    p = p_values(phi[0], phi[1:])[1]
    assert kstest(p, "uniform").statistic < 0.02
    assert (p < 1e-4).sum() < 12
    assert rejected(p).sum() <= 2


def test_single_records_that_stick_out_are_found():
    phi = world(6, 4000, 0.3, seed=1)
    spread = phi[1:].std(0)
    phi[0, :5] += 12 * np.maximum(spread[:5], 1)
    rows = np.arange(4000)
    pool = Pools(rows[:0], rows[:2000], rows[2000:], rows[2000:], (), None)
    got = lira_exposure(phi[0], phi[1:], pool)
    assert set(np.argsort(-got.score)[:5]) == set(range(5))
    assert 5 <= got.count <= 7
    np.testing.assert_array_equal(got.phi_retrained, phi[1:, :2000].mean(0))


def test_with_many_models_each_example_keeps_its_own_spread():
    phi = world(400, 500, 0.8, seed=2)
    score = p_values(phi[0], phi[1:])[0]
    own = (phi[0] - phi[1:].mean(0)) / phi[1:].std(0, ddof=1) / np.sqrt(1 + 1 / 400)
    np.testing.assert_allclose(score, own, rtol=0.05, atol=0.02)
    with pytest.raises(Refusal, match="3 or more retrained models, got 2"):
        p_values(phi[0], phi[1:3])


def test_one_signals_readings_are_held_at_a_time(signals, monkeypatch):
    """With 128 references they are what takes memory; each signal is read once, also where a share is tuned."""
    read, held = shadows.read, []

    def watched(signals, signal):
        assert not [one for one in held if one() is not None], "older readings are still there"
        found = read(signals, signal)
        held.append(weakref.ref(found))
        return found

    monkeypatch.setattr(shadows, "read", watched)
    likelihood_games(signals, JUDGED, RETRAINED, pool_of(signals))
    assert len(held) == len({test.signal for test in LIKELIHOOD.values()}) == 3


def test_readings_that_are_known_tune_the_same_share(signals):
    offline = LIKELIHOOD["RMIA offline"]
    known = shadows.read(signals, offline.signal)
    assert tuned(offline, signals, known) == tuned(offline, signals)
    at, members = signals.references[0], signals.members[signals.references[0]]
    inner = replace(signals, references=signals.references[1:])

    def reach(share):
        scores = replace(offline, share=share)(inner, at)
        return auc(scores[members], scores[~members])

    assert tuned(offline, signals).share == max(SHARES, key=reach)
