"""AUC, intervals, low-FPR points and the bootstrap against oracles and closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score, roc_curve

from unteach.audit import resample, statistics
from unteach.audit.statistics import Estimate
from unteach.types import Refusal

ties = st.lists(st.integers(-3, 3), min_size=1, max_size=30).map(lambda v: np.array(v, dtype=np.float64))


def oracle(positive: np.ndarray, negative: np.ndarray) -> float:
    y = np.r_[np.ones(len(positive)), np.zeros(len(negative))]
    return float(roc_auc_score(y, np.r_[positive, negative]))


@given(ties, ties)
@settings(max_examples=60, deadline=None)
def test_auc_with_ties_equals_scikit_learn_and_swaps_to_its_complement(p, n):
    assert statistics.auc(p, n) == pytest.approx(oracle(p, n), abs=1e-12)
    assert statistics.auc(n, p) == pytest.approx(1 - statistics.auc(p, n), abs=1e-12)
    assert statistics.auc(p[::-1], np.sort(n)) == pytest.approx(statistics.auc(p, n), abs=1e-12)


@given(ties, ties)
@settings(max_examples=30, deadline=None)
def test_roc_points_are_the_best_tpr_at_each_count_of_false_positives(p, n):
    y = np.r_[np.ones(len(p)), np.zeros(len(n))]
    fpr, tpr, _ = roc_curve(y, np.r_[p, n], drop_intermediate=False)
    for x, value in statistics.roc_points(p, n):
        assert value == pytest.approx(tpr[fpr <= x + 1e-12].max(), abs=1e-12)


def test_roc_is_thinned_and_spans_everything():
    rng = np.random.default_rng(0)
    points = np.array(statistics.roc_points(rng.normal(1, 1, 700), rng.normal(0, 1, 20_000)))
    assert len(points) <= 200
    assert points[0, 0] == 0
    assert points[-1].tolist() == [1, 1]
    assert (np.diff(points, axis=0) >= 0).all()


def test_delong_variance_equals_the_brute_force_formula():
    rng = np.random.default_rng(1)
    p = rng.integers(0, 6, (2, 23)).astype(float)
    n = rng.integers(0, 5, (2, 31)).astype(float)
    kernel = (p[:, :, None] > n[:, None, :]) + 0.5 * (p[:, :, None] == n[:, None, :])
    v10, v01 = kernel.mean(2), kernel.mean(1)
    covariance = np.cov(v10) / 23 + np.cov(v01) / 31
    got = statistics.auc_contrast(p, n, np.array([1.0, -1.0]))
    assert got.value == pytest.approx(kernel[0].mean() - kernel[1].mean(), abs=1e-12)
    assert got.variance == pytest.approx(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1], abs=1e-12)


def test_delong_agrees_with_a_bootstrap_of_single_examples():
    rng = np.random.default_rng(2)
    p, n = rng.normal(0.5, 1, (2, 200)), rng.normal(0, 1, (2, 300))
    p[1] = p[0] + rng.normal(0, 0.5, 200)
    weights = np.array([1.0, -1.0])
    groups = (np.arange(200).astype(str), np.arange(200, 500).astype(str))
    drawn = resample.auc_draws(p, n, weights, groups, seed=0)
    delong = statistics.auc_contrast(p, n, weights)
    assert len(drawn) == resample.DRAWS
    assert drawn.std() == pytest.approx(math.sqrt(delong.variance), rel=0.1)
    assert drawn.mean() == pytest.approx(delong.value, abs=0.005)
    assert np.array_equal(drawn, resample.auc_draws(p, n, weights, groups, seed=0))


def test_null_standard_error_of_the_specification():
    rng = np.random.default_rng(3)
    got = statistics.auc_contrast(rng.normal(size=(1, 600)), rng.normal(size=(1, 600)), np.ones(1))
    assert math.sqrt(got.variance) == pytest.approx(0.017, abs=0.001)


def test_clusters_of_copies_widen_the_interval_as_much_as_they_must():
    rng = np.random.default_rng(4)
    p, n = rng.normal(0.3, 1, 40), rng.normal(0, 1, 50)
    copied = np.repeat(p, 9)[None], np.repeat(n, 9)[None]
    groups = (np.repeat([f"p{i}" for i in range(40)], 9), np.repeat([f"n{i}" for i in range(50)], 9))
    plain = statistics.auc_contrast(*copied, np.ones(1))
    grouped = resample.auc_estimate(*copied, np.ones(1), groups, seed=0)
    assert math.sqrt(grouped.variance / plain.variance) == pytest.approx(3, rel=0.15)
    right = np.repeat(rng.integers(0, 2, 40), 9)[None].astype(float)
    means = resample.mean_estimate(right, np.ones(1), groups[0], seed=0)
    assert math.sqrt(means.variance / statistics.mean_contrast(right, np.ones(1)).variance) == pytest.approx(
        3, rel=0.15
    )


def test_near_duplicates_by_formula_are_delong_when_alone_and_the_bootstrap_when_not():
    rng = np.random.default_rng(6)
    p, n = rng.normal(0.4, 1, (3, 400)), rng.normal(0, 1, (3, 500))
    p[:, 1::20], n[:, 7::25] = p[:, ::20], n[:, 6::25]  # twins; and some across the sides
    weights = np.array([1, -0.5, -0.5])
    each = np.arange(900)
    alone = resample.clustered_variance(resample._auc_shares(p, n, weights), each)
    assert alone == pytest.approx(statistics.auc_contrast(p, n, weights).variance, rel=1e-12)
    twins = each.copy()
    twins[1:400:20] = twins[:400:20]
    twins[407::25] = twins[406:890:25]
    twins[405:465:20] = twins[5:65:20]
    assert resample.mostly_alone(twins)
    by_formula = resample.clustered_variance(resample._auc_shares(p, n, weights), twins)
    drawn = resample.auc_draws(p, n, weights, (twins[:400], twins[400:]), seed=0, draws=4000)
    assert by_formula == pytest.approx(np.var(drawn), rel=0.1)
    widened = resample.auc_estimate(p, n, weights, (twins[:400], twins[400:]), seed=0)
    assert widened.variance == max(by_formula, alone)


def test_means_of_near_duplicates_by_formula():
    rng = np.random.default_rng(7)
    values = rng.integers(0, 2, (1, 1000)).astype(float)
    values[:, 1:160:2] = values[:, :160:2]
    twins = np.arange(1000)
    twins[1:160:2] = twins[:160:2]
    assert not resample.mostly_alone(twins), "160 of 1,000 have a twin"
    twins[100:160] = np.arange(100, 160)
    assert resample.mostly_alone(twins)
    got = resample.mean_estimate(values, np.ones(1), twins, seed=0)
    drawn = resample.mean_draws(values, np.ones(1), twins, seed=0, draws=4000)
    assert got.variance == pytest.approx(np.var(drawn), rel=0.1)
    assert got.variance > statistics.mean_contrast(values, np.ones(1)).variance


def test_weighted_draws_are_exact_aucs_with_ties_and_groups_on_both_sides():
    rng = np.random.default_rng(5)
    p, n = rng.integers(0, 4, 12).astype(float), rng.integers(0, 4, 18).astype(float)
    groups = (np.array(list("abcdef" * 2)), np.array(list("abcdef" * 3)))
    drawn = resample.auc_draws(p[None], n[None], np.ones(1), groups, seed=7, draws=20)
    picks = np.random.default_rng(7).integers(0, 6, (20, 6))
    letters = np.array(list("abcdef"))
    for value, pick in zip(drawn, picks):
        taken_p = np.concatenate([p[groups[0] == letters[k]] for k in pick])
        taken_n = np.concatenate([n[groups[1] == letters[k]] for k in pick])
        assert value == pytest.approx(oracle(taken_p, taken_n), abs=1e-12)


def test_one_forgotten_person_is_drawn_by_picture_instead_of_giving_a_zero_width():
    rng = np.random.default_rng(6)
    p, n = rng.normal(size=(1, 30)), rng.normal(size=(1, 200))
    groups = (np.full(30, "me"), np.repeat([f"n{i}" for i in range(20)], 10))
    assert resample.auc_draws(p, n, np.ones(1), groups, seed=0).std() > 0.03


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [(12, 1000, 0.0062, 0.0209), (0, 1000, 0, 0.0037), (5, 5000, 0.00032, 0.00233)],
)
def test_clopper_pearson_known_answers(successes, trials, low, high):
    got = statistics.clopper_pearson(successes, trials)
    assert got == pytest.approx((low, high), abs=6e-5)
    flipped = statistics.clopper_pearson(trials - successes, trials)
    assert flipped == pytest.approx((1 - got[1], 1 - got[0]), abs=1e-12)


def test_tpr_obeys_the_counting_rule_and_never_exceeds_the_target():
    rng = np.random.default_rng(8)
    p, n = rng.normal(2, 1, 500), rng.normal(0, 1, 1000)
    got = statistics.tpr_at_fpr(p, n, 0.01)
    assert got["achieved_fpr"] == 0.01
    assert got["tpr"] == (p > np.sort(n)[-11]).mean()
    assert got["low"] < got["tpr"] < got["high"]
    assert "1,000" in statistics.tpr_at_fpr(p, n[:-1], 0.01)["skipped"]
    assert "10,000" in statistics.tpr_at_fpr(p, n, 0.001)["skipped"]
    tied = statistics.tpr_at_fpr(p, np.round(n), 0.05)
    assert tied["achieved_fpr"] <= 0.05
    assert tied["tpr"] == (p > 2).mean()
    with pytest.raises(Refusal, match="between 0 and 1"):
        statistics.tpr_at_fpr(p, n, 1.0)


def test_proportions_that_never_disagree_are_not_taken_for_equal_for_sure():
    same = np.ones((2, 50))
    got = statistics.mean_contrast(same, np.array([1.0, -1.0]))
    assert got.value == 0
    assert math.sqrt(got.variance) == pytest.approx(1 / 52)
    n = 100
    first, second = np.zeros(n), np.zeros(n)
    first[:20] = 1
    second[10:15] = 1
    second[90:] = 1
    got = statistics.mean_contrast(np.array([first, second]), np.array([1.0, -1.0]))
    b, c = 15.5, 10.5
    brute = (b + c - (b - c) ** 2 / 102) / 102**2
    assert got.variance == pytest.approx(brute, abs=1e-15)


def test_perfect_separation_keeps_some_doubt():
    got = statistics.auc_contrast(np.ones((1, 8)), np.zeros((1, 30)), np.ones(1))
    assert got.value == 1
    assert math.sqrt(got.variance) == pytest.approx(1 / 10)


def test_intervals_know_both_sources_of_uncertainty():
    plain = Estimate(0.1, 0.01**2, 10_000)
    assert plain.halfwidth() == pytest.approx(0.0196, abs=1e-4)
    each = np.array([0.5, 0.52, 0.54])

    def exact(weights: np.ndarray) -> Estimate:
        return Estimate(0.0, 0.0, 100)

    wide = resample.with_spread(plain, each, exact, candidates=1)
    assert wide.model_variance == pytest.approx(0.02**2 * 4 / 3)
    only_models = resample.with_spread(Estimate(0.1, 0.0, 100), each, exact, candidates=0)
    assert only_models.halfwidth() == pytest.approx(4.3027 * 0.02 / math.sqrt(3), rel=1e-4)
    assert resample.with_spread(plain, each[:1], exact, candidates=1) == plain

    def noisy(weights: np.ndarray) -> Estimate:
        return Estimate(0.0, 0.03**2 * float(weights @ weights), 100)

    assert resample.with_spread(plain, each, noisy, candidates=1).model_variance == 0


def test_the_spread_between_retrainings_leaves_out_what_the_examples_explain():
    rng = np.random.default_rng(11)
    excess = []
    for _ in range(200):
        shift = rng.normal(0, 0.05, (4, 1))
        values = (rng.uniform(size=(4, 400)) < 0.5 + shift).astype(float)
        zero = Estimate(0.0, 0.0, 100)
        contrast = lambda w, v=values: statistics.mean_contrast(v, w)  # noqa: E731
        excess.append(resample.with_spread(zero, values.mean(1), contrast, candidates=0).model_variance * 4)
    assert np.mean(excess) == pytest.approx(0.05**2, rel=0.2)


def test_too_few_examples_give_no_interval():
    assert Estimate(0.5, math.inf, 0).interval(least=0.0) == (0.0, 1.0)


def test_benjamini_hochberg_equals_scipy():
    from scipy.stats import false_discovery_control

    p = np.random.default_rng(9).uniform(0, 1, 200) ** 3
    assert np.array_equal(statistics.rejected(p), false_discovery_control(p) <= 0.05)
    assert not statistics.rejected(np.ones(4)).any()
    assert statistics.rejected(np.zeros(0)).shape == (0,)
