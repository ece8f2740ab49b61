"""Forgetting quality: arithmetic of one rule, the search against brute force, the null distribution, and its floor."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unteach.audit.epsilon import ForgettingQuality, Quality, forgetting_quality
from unteach.audit.finding import Finding, Skipped
from unteach.types import Refusal


def gauss(models: int, examples: int, shift: float = 0.0, seed: int = 0) -> np.ndarray:
    return shift + np.random.default_rng(seed).standard_normal((models, examples))


def by_hand(fpr: float, fnr: float, delta: float = 1e-5, clip: float = 50.0) -> float:
    """The definition, one rule at a time; −1 for a rule that says nothing."""
    if fpr == 0 and fnr == 0:
        return clip
    if fpr == 0 or fnr == 0:
        return -1.0
    terms = [math.log(1 - delta - a) - math.log(b) for a, b in ((fpr, fnr), (fnr, fpr)) if 1 - delta - a > 0]
    return min(clip, max([0.0, *terms]))


def brute(unlearned: np.ndarray, retrained: np.ndarray, step: float) -> float:
    """Every rule on a grid, as the competition's text has it."""
    both = np.concatenate([unlearned, retrained])
    up = np.median(unlearned) >= np.median(retrained)
    high, low = (unlearned, retrained) if up else (retrained, unlearned)
    best = max(
        by_hand(float((low >= t).mean()), float((high < t).mean())) for t in np.arange(both.min(), both.max(), step)
    )
    narrow, wide = sorted((unlearned, retrained), key=np.ptp)
    width = np.ptp(narrow)
    for r in narrow.max() + np.arange(-2, 2 + step / 2, step):
        for left in r - width + np.arange(-2, 2 + step / 2, step):
            outside = (narrow < left) | (narrow > r)
            best = max(best, by_hand(float(((wide >= left) & (wide <= r)).mean()), float(outside.mean())))
    return best


def test_one_rule_gives_the_published_epsilon():
    table = ForgettingQuality().table(512, 512)
    assert table[5, 256] == pytest.approx(3.9357195, abs=1e-7)
    assert table[256, 5] == table[5, 256]
    assert ForgettingQuality().table(10, 10)[3, 3] == pytest.approx(0.8472836, abs=1e-7)
    assert table[0, 0] == 50
    assert (table[0, 1:] == -1).all()
    assert (table[1:, 0] == -1).all()
    assert table[512, 512] == 0


def test_the_table_is_the_definition():
    table = ForgettingQuality().table(4, 7)
    by_rule = [[by_hand(a / 4, b / 7) for b in range(8)] for a in range(5)]
    np.testing.assert_allclose(table, by_rule, atol=1e-12)


@pytest.mark.parametrize("scale", [0.2, 1.0, 4.0])
@pytest.mark.parametrize("seed", range(4))
def test_all_breakpoints_find_what_a_fine_grid_finds(scale, seed):
    rng = np.random.default_rng(seed)
    # On a lattice of 0.25, the grid's step, all sets of values that a rule can cut out are on the grid, ties included.
    unlearned = np.round(4 * scale * rng.standard_normal(9)) / 4
    retrained = np.round(4 * scale * rng.standard_normal(11)) / 4 + 0.25
    found = ForgettingQuality()(unlearned[:, None], retrained[:, None])
    reference = brute(unlearned, retrained, 0.125)
    assert found.epsilon[0] == pytest.approx(max(0.0, reference))
    assert found.undecided == (reference < 0)


def test_bins_halve_and_end():
    quality = Quality(np.array([0.49, 0.5, 3.3, 6.99, 7.0, 50.0]), (512, 512), 0, 0)
    np.testing.assert_array_equal(quality.points, [1, 0.5, 2.0**-6, 2.0**-13, 0, 0])
    assert Quality(np.array([2.9, 3.0]), (16, 16), 0, 0).points.tolist() == [2.0**-5, 0]


def test_disjoint_and_collapsed_populations_get_the_clip_and_no_points():
    apart = ForgettingQuality()(gauss(32, 5), gauss(32, 5, shift=50))
    assert (apart.epsilon == 50).all()
    assert apart.score == 0
    flat = ForgettingQuality()(1e-3 * gauss(32, 5), gauss(32, 5, seed=1))
    assert (flat.epsilon == 50).all()
    assert flat.collapsed == 5


def test_equal_constants_leave_no_rule_and_are_counted():
    found = ForgettingQuality()(np.ones((8, 3)), np.ones((8, 3)))
    assert (found.epsilon == 0).all()
    assert found.undecided == 3


@pytest.mark.parametrize("models", [16, 128, 512])
def test_two_samples_of_one_law_score_under_a_fifth(models):
    whole = ForgettingQuality()(gauss(models, 400), gauss(models, 400, seed=1))
    assert 0.13 < whole.score < 0.23
    assert np.median(whole.epsilon) == pytest.approx(1.6, abs=0.15)
    assert np.quantile(whole.epsilon, 0.95) == pytest.approx(2.2, abs=0.25)
    assert 0.27 < ForgettingQuality(intervals=False)(gauss(models, 400), gauss(models, 400, seed=1)).score < 0.41


@pytest.mark.parametrize(("shift", "score"), [(0.25, 0.135), (0.5, 0.07), (1.0, 0.018)])
def test_a_shift_lowers_the_score_as_measured(shift, score):
    found = ForgettingQuality()(gauss(512, 300, shift), gauss(512, 300, seed=1)).score
    assert found == pytest.approx(score, rel=0.25)


def test_more_rules_fit_into_narrower_populations_so_only_f_norm_compares():
    narrow = ForgettingQuality()(0.3 * gauss(128, 200), 0.3 * gauss(128, 200, seed=1)).score
    assert narrow < 0.1, "the interval rule reaches 2 units, whatever the spread"


@given(st.integers(0, 2**32 - 1), st.floats(0.1, 5), st.booleans())
def test_thresholds_alone_only_see_the_order(seed, power, flip):
    rng = np.random.default_rng(seed)
    # Odd numbers of models: the median of an even number lies between two values, and where depends on the scale.
    unlearned, retrained = rng.uniform(0.5, 2, (11, 3)), rng.uniform(0.5, 2, (13, 3))
    measure = ForgettingQuality(intervals=False)
    if flip:
        unlearned, retrained = unlearned + 0.3, retrained + 0.3
    np.testing.assert_allclose(
        measure(unlearned, retrained).epsilon, measure(np.log(unlearned) * power, np.log(retrained) * power).epsilon
    )


def test_findings_compare_ensembles_of_one_size():
    unlearned, retrained = gauss(64, 150), gauss(64, 150, seed=1)
    found = forgetting_quality(unlearned, retrained, accuracies=((0.99, 1.0), (0.9, 0.92)), seed=3)
    by_name = {one.name: one for one in found}
    f, final, normal, median = by_name.values()
    assert all(isinstance(one, Finding) for one in found)
    assert final.value == pytest.approx(f.value * 0.99 * 0.9 / 0.92)
    assert np.mean(normal.retrained) == pytest.approx(1)
    assert normal.value == pytest.approx(1, abs=0.2)
    assert f.interval[0] < f.value < f.interval[1]
    assert median.value == pytest.approx(median.target, abs=0.2)
    assert any("32 a side" in doubt for doubt in f.doubts)
    shifted = {one.name: one for one in forgetting_quality(unlearned + 0.7, retrained)}
    assert shifted["forgetting quality F_norm"].value < 0.5
    assert not shifted["median ε of examples"].inside
    assert found == forgetting_quality(unlearned, retrained, accuracies=((0.99, 1.0), (0.9, 0.92)), seed=3)


def test_too_few_models_are_skipped_and_bad_matrices_refused():
    assert all(isinstance(one, Skipped) for one in forgetting_quality(gauss(2, 5), gauss(50, 5)))
    assert all("6 retrained" in one.reason for one in forgetting_quality(gauss(9, 5), gauss(5, 5)))
    with pytest.raises(Refusal, match="same examples"):
        ForgettingQuality()(gauss(8, 5), gauss(8, 6))
    with pytest.raises(Refusal, match="float16"):
        ForgettingQuality()(gauss(8, 5).astype(np.float16), gauss(8, 5))
    with pytest.raises(Refusal, match="finite"):
        ForgettingQuality()(np.full((8, 5), np.inf), gauss(8, 5))
    with pytest.raises(Refusal, match="accuracy above 0"):
        forgetting_quality(gauss(16, 5), gauss(16, 5, seed=1), accuracies=((1, 0), (1, 1)))
