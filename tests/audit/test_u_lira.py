"""U-LiRA and the game it plays: a loop that refits for every model, families, floors, intervals, both readings."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from unteach.audit.finding import Finding, Skipped
from unteach.audit.u_lira import ULira, two_readings
from unteach.audit.world_game import indiscernibility, measure
from unteach.audit.worlds import Worlds, stacked
from unteach.types import Refusal


def made(models: int = 24, n: int = 12, gap: float = 1.0, seed: int = 0) -> Worlds:
    """A third of the models of each example in the positive world, a third in the negative one, a third in none."""
    rng = np.random.default_rng(seed)
    world = rng.permuted(np.repeat(np.arange(models)[:, None] % 3, n, axis=1), axis=0)
    phi = rng.normal(0, 3, n) + rng.normal(0, 1, (models, n)) + gap * (world == 0)
    return Worlds(phi, world == 0, world == 1)


def loop(worlds: Worlds, each: bool) -> np.ndarray:
    """Fits both worlds anew for every attacked pair, without its family in the one and another family in the other."""
    scores = np.full(worlds.phi.shape, np.nan)
    for m, x in np.argwhere(worlds.pairs):
        laws = []
        for mask in (worlds.positive, worlds.negative):
            values = []
            for i in range(worlds.phi.shape[1]):
                there = sorted(set(worlds.family[mask[:, i]]))
                mine = worlds.family[m]
                gone = mine if mine in there else there[mine % len(there)]
                values.append(worlds.phi[mask[:, i] & (worlds.family != gone), i])
            squares = sum(((v - v.mean()) ** 2).sum() for v in values if len(v))
            pooled = squares / sum(len(v) - 1 for v in values if len(v))
            laws.append(norm(values[x].mean(), np.sqrt(values[x].var(ddof=1) if each else pooled)))
        scores[m, x] = laws[0].logpdf(worlds.phi[m, x]) - laws[1].logpdf(worlds.phi[m, x])
    return scores


@pytest.mark.parametrize("families", [False, True], ids=["each alone", "families"])
@pytest.mark.parametrize("each", [True, False], ids=["own variance", "pooled variance"])
def test_the_audited_family_is_really_left_out(each, families):
    worlds = replace(made(), origins=np.arange(24) // 2 if families else None)
    got = ULira(per_example_from=1 if each else 99)(worlds)
    np.testing.assert_allclose(got.log_ratio, loop(worlds, each), rtol=1e-9, atol=1e-9)
    assert np.isnan(got.log_ratio[~worlds.pairs]).all()


def test_siblings_of_one_original_would_betray_each_other():
    """Ten models of each of eight originals, and nothing to find: only a fit without the whole family sees that."""
    rng = np.random.default_rng(0)
    original = np.repeat(np.arange(16), 10)
    phi = rng.normal(0, 1, (16, 200))[original] + 0.1 * rng.normal(size=(160, 200))
    positive = np.broadcast_to(original[:, None] < 8, phi.shape)
    alone = Worlds(phi, positive, ~positive)
    assert ULira(per_example_from=1)(alone).auc().value > 0.6
    assert ULira(per_example_from=1)(replace(alone, origins=original)).auc().value < 0.52


def test_numbers_of_a_game():
    worlds = made(models=60, n=50, gap=2.0)
    game = ULira()(worlds)
    truth = np.concatenate([np.ones(len(game.positive)), np.zeros(len(game.negative))])
    ratios = np.concatenate([game.positive, game.negative])
    assert game.auc().value == pytest.approx(roc_auc_score(truth, ratios), abs=1e-12)
    assert game.accuracy().value == pytest.approx(np.mean((ratios > 0) == truth), abs=1e-12)
    assert np.nanmean(game.accuracy_each()) == pytest.approx(game.accuracy().value)
    np.testing.assert_allclose(game.probability[worlds.pairs], 1 / (1 + np.exp(-game.log_ratio[worlds.pairs])))
    assert game.auc().value == pytest.approx(norm.cdf(2 / np.sqrt(2)), abs=0.04), "an oracle's AUC"


def test_indiscernibility():
    assert [indiscernibility(a) for a in (0.5, 1.0, 0.0, 0.75)] == [1.0, 0.0, 0.0, 0.5]


def test_swapping_the_worlds_mirrors_the_game():
    worlds = made(gap=0.7)
    swapped = replace(worlds, positive=worlds.negative, negative=worlds.positive)
    mine, other = ULira()(worlds), ULira()(swapped)
    np.testing.assert_allclose(mine.log_ratio, -other.log_ratio)
    assert mine.auc().value == pytest.approx(1 - (1 - other.auc().value))
    assert mine.auc().variance == pytest.approx(other.auc().variance)


def test_shift_and_scale_of_single_examples_do_not_matter_when_each_has_its_variance():
    worlds, test = made(), ULira(per_example_from=1)
    rng = np.random.default_rng(1)
    moved = replace(worlds, phi=worlds.phi * rng.uniform(0.1, 9, 12) + rng.normal(0, 50, 12))
    np.testing.assert_allclose(test(moved).log_ratio, test(worlds).log_ratio, rtol=1e-6, atol=1e-8)


def test_intervals_widen_when_models_or_people_move_together():
    rng = np.random.default_rng(3)
    worlds = made(models=60, n=300, gap=0.5)
    plain = ULira()(worlds).auc()
    independent = 1 / 12 * (1 / 6000 + 1 / 6000)
    assert plain.variance == pytest.approx(independent, rel=0.6)
    ahead = np.repeat([True, False, False], 20)[:, None] & np.ones(300, dtype=bool)
    apart = Worlds(worlds.phi, ahead, ~ahead)
    moved = replace(apart, phi=apart.phi + rng.normal(0, 1, (60, 1)))
    assert ULira()(moved).auc().variance > 5 * ULira()(apart).auc().variance
    person = made(models=60, n=30, gap=0.5)
    people = np.repeat(np.arange(30), 10)
    alike = person.phi[:, people] + 0.3 * rng.normal(size=(60, 300))
    images = Worlds(alike, person.positive[:, people], person.negative[:, people])
    clustered = ULira()(replace(images, groups=people)).auc().variance
    assert clustered == pytest.approx(ULira()(person).auc().variance, rel=0.3), "ten images say what one does"
    assert clustered > 1.15 * ULira()(images).auc().variance


def test_variances_are_those_over_repetitions():
    games = [ULira()(made(models=60, n=100, gap=0.5, seed=seed)).auc() for seed in range(60)]
    assert np.var([game.value for game in games]) == pytest.approx(np.mean([game.variance for game in games]), rel=0.5)


def test_intervals_of_independent_trainings_cover_a_half():
    """Nothing to find, but every model has a leaning of its own: 95 % intervals hold ½ in most of 40 repetitions."""
    inside = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        worlds = made(models=40, n=60, gap=0.0, seed=100 + seed)
        game = ULira()(replace(worlds, phi=worlds.phi + rng.normal(0, 0.5, (40, 1))))
        low, high = game.auc().interval(least=0.0)
        inside += low <= 0.5 <= high
    assert inside >= 34


def test_equal_worlds_of_three_models_score_a_half():
    """Leaving out the attacked model alone would give an AUC of 0.45 here."""
    values = [ULira()(made(models=9, n=3000, gap=0.0, seed=seed)).auc().value for seed in range(4)]
    assert np.mean(values) == pytest.approx(0.5, abs=0.01)


def test_the_floor_of_equal_worlds_is_a_half():
    found = measure(ULira(), made(models=36, n=400, gap=0.0), name="x", part="forget", source="", floors=5)
    accuracy = next(each for each in found if isinstance(each, Finding) and each.name == "x accuracy")
    assert len(accuracy.retrained) == 5
    assert accuracy.value == pytest.approx(0.5, abs=0.03)
    assert accuracy.target == pytest.approx(0.5, abs=0.02)
    strong = measure(ULira(), made(models=36, n=400, gap=2.0), name="x", part="forget", source="")
    area = next(each for each in strong if each.name == "x AUC")
    assert isinstance(area, Finding)
    assert area.value > 0.85
    assert area.inside is False
    assert area.interval is not None
    assert area.interval[0] < area.value < area.interval[1]
    assert (area.size, area.models) == (2 * 12 * 400, 36)


def test_too_few_negative_models_leave_no_floor_and_say_so():
    found = measure(ULira(), made(models=9, n=30), name="x", part="forget", source="")
    numbers = [each for each in found if isinstance(each, Finding)]
    assert all(each.retrained == () for each in numbers)
    assert "cannot be drawn in two" in numbers[0].doubts[0]
    assert [each.name for each in found if isinstance(each, Skipped)] == ["x TPR at 1.0% FPR", "x TPR at 0.1% FPR"]


def test_the_second_reading_also_sees_the_footprint_of_the_algorithm():
    """The unlearned models answer every example less surely than retrained ones, forgotten or not."""
    rng = np.random.default_rng(0)
    ease = rng.normal(0, 3, 100)
    members = rng.random((40, 100)) < 0.5
    forgotten = members & (rng.random((40, 100)) < 0.6)
    phi = ease + rng.normal(-1.5, 1, (40, 100)) + 2 * (members & ~forgotten)
    retrained = ease + rng.normal(0, 1, (30, 100))
    seen = np.zeros((30, 100), dtype=bool)
    found = two_readings(phi, members, forgotten, retrained=(retrained, seen), origins=np.arange(40) // 2)
    area = {each.name: each.value for each in found if isinstance(each, Finding) and each.name.endswith("AUC")}
    assert area["U-LiRA (against unlearned models) AUC"] == pytest.approx(0.5, abs=0.05)
    assert area["U-LiRA (against retrained models) AUC"] > 0.8
    first = two_readings(phi, members, forgotten)
    assert len(first) - 1 == len(found) / 2
    assert isinstance(first[-1], Skipped)
    with pytest.raises(Refusal, match="both worlds"):
        two_readings(phi, members, forgotten | ~members)


def test_examples_without_both_worlds_are_not_played():
    worlds = made()
    positive = worlds.positive.copy()
    positive[:, 3] = False
    game = ULira()(replace(worlds, positive=positive))
    assert np.isnan(game.log_ratio[:, 3]).all()
    assert np.isnan(game.accuracy_each()[3])


def test_only_audited_models_are_attacked():
    audited = np.arange(24) < 9
    worlds = made()
    some = ULira()(replace(worlds, audited=audited)).log_ratio
    np.testing.assert_array_equal(some[:9], ULira()(worlds).log_ratio[:9])
    assert np.isnan(some[9:]).all()


def test_refusals():
    worlds = made()
    with pytest.raises(Refusal, match="both worlds of an example"):
        replace(worlds, negative=worlds.positive)
    with pytest.raises(Refusal, match="float16"):
        replace(worlds, phi=worlds.phi.astype(np.float16))
    with pytest.raises(Refusal, match="as models × examples"):
        replace(worlds, phi=worlds.phi[:3])
    with pytest.raises(Refusal, match="none in one"):
        replace(worlds, positive=np.zeros_like(worlds.positive))
    with pytest.raises(Refusal, match=r"2 or more models in the positive world .* got 1"):
        made(models=6)
    with pytest.raises(Refusal, match="same examples for both sets"):
        stacked(worlds.phi, worlds.positive, worlds.phi[:, 1:], worlds.negative[:, 1:])
