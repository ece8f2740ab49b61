"""Attacks with a fitted classifier: blind spots and what sees into them, grouped folds, targets of retrained models."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from unteach.audit.finding import Skipped
from unteach.audit.fitted_attacks import ShapeAttack, _folds, entropy_attack, fitted_findings, scrub_attack
from unteach.audit.games import pools
from unteach.audit.nomus import forgetting_score
from unteach.audit.statistics import auc
from unteach.types import Refusal
from worlds import World

WORLD = World(retain=200, forget=200, test=250)


def streisand(n: int = 1000, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Forget losses in two narrow modes three spreads on either side of the bulk of unseen ones."""
    rng = np.random.default_rng(seed)
    return np.where(rng.random(n) < 0.5, -3, 3) + 0.1 * rng.standard_normal(n), rng.standard_normal(n)


def shape_auc(plus: np.ndarray, minus: np.ndarray, groups: np.ndarray | None = None) -> float:
    scores, forget = np.concatenate([plus, minus])[:, None], np.repeat([True, False], [len(plus), len(minus)])
    found = ShapeAttack()(scores, forget, np.arange(len(scores)) if groups is None else groups)
    return auc(found[forget], found[~forget])


def test_two_modes_are_seen_by_trees_only():
    forget, unseen = streisand()
    assert forgetting_score(forget, unseen) < 0.1
    assert scrub_attack(forget, unseen).mean() < 0.6
    assert auc(forget, unseen) < 0.6
    assert shape_auc(forget, unseen) > 0.9


@pytest.mark.parametrize("seed", range(2))
def test_equal_losses_leave_chance(seed):
    rng = np.random.default_rng(seed)
    forget, unseen = rng.exponential(size=(2, 600))
    assert shape_auc(forget, unseen) == pytest.approx(0.5, abs=0.06)
    assert scrub_attack(forget, unseen).mean() == pytest.approx(0.5, abs=0.06)


def test_shifted_losses_are_seen_by_all():
    rng = np.random.default_rng(0)
    forget, unseen = rng.exponential(size=(2, 800))
    assert shape_auc(forget + 1, unseen) > 0.8
    assert scrub_attack(forget + 1, unseen).mean() > 0.65


def test_copies_in_two_folds_leak_and_grouped_folds_do_not():
    rng = np.random.default_rng(1)
    values = np.repeat(rng.standard_normal(80), 15) + 1e-6 * rng.standard_normal(1200)
    person = np.repeat(np.arange(80), 15)
    assert shape_auc(values[:600], values[600:]) > 0.8
    assert shape_auc(values[:600], values[600:], person) == pytest.approx(0.5, abs=0.2)


@given(
    groups=st.lists(st.integers(0, 8), min_size=6, max_size=60),
    sides=st.lists(st.booleans(), min_size=60, max_size=60),
    folds=st.integers(2, 5),
    seed=st.integers(0, 99),
)
def test_folds_keep_groups_whole_and_sides_apart(groups, sides, folds, seed):
    group, forget = np.array(groups), np.array(sides[: len(groups)])
    on_side = [set(group[forget].tolist()), set(group[~forget].tolist())]
    assume(min(map(len, on_side)) >= folds)
    fold = _folds(forget, group, folds, seed)
    fold_of = {name: set(fold[group == name].tolist()) for name in on_side[0] | on_side[1]}
    assert all(len(found) == 1 for found in fold_of.values()), "no group in two folds"
    for names in on_side:
        counts = np.bincount([min(fold_of[name]) for name in names], minlength=folds)
        assert counts.max() - counts.min() <= 1, "either side's groups go round evenly"


def test_several_models_at_once_are_each_alone():
    rng = np.random.default_rng(5)
    scores, forget, groups = rng.standard_normal((3, 90, 2)), np.arange(90) < 40, np.arange(90) // 2
    together = ShapeAttack(trees=5)(scores, forget, groups, seed=3)
    assert together.shape == (3, 90)
    for number, one in enumerate(scores):
        assert (ShapeAttack(trees=5)(one, forget, groups, seed=3) == together[number]).all()
    with pytest.raises(Refusal, match="leaf of 1 or more"):
        ShapeAttack(leaf=0)


def test_scrub_balances_and_clips():
    rng = np.random.default_rng(2)
    assert scrub_attack(rng.exponential(size=900), rng.exponential(size=90)).mean() < 0.65, "uncut, 0.9 for one answer"
    losses = np.concatenate([np.full(50, 1e9), np.full(50, 101.0)])
    assert scrub_attack(losses, np.full(100, 1e5)).mean() == pytest.approx(0.5)
    with pytest.raises(Refusal, match="10 or more"):
        scrub_attack(np.ones(9), np.ones(50))


def test_the_entropy_attack_is_a_threshold_between_retain_and_test():
    retain, test = np.linspace(0, 0.4, 60), np.linspace(0.6, 1, 600)
    assert entropy_attack(retain, test, np.array([0.0, 0.1, 0.9])) == pytest.approx(2 / 3)


def test_findings_tell_an_original_from_retrained_models():
    signals = WORLD.signals(None, 0.0, 0.0)
    pool = pools(signals, **WORLD.masks())
    scrub, entropy, shape = fitted_findings(signals, 0, (1, 2), pool)
    for one in (scrub, entropy, shape):
        assert one.value > max(one.retrained)
        assert not one.inside
        assert one.source
    assert shape.interval[0] < shape.value < shape.interval[1]
    assert shape.target == pytest.approx(0.5, abs=0.08)
    assert "Standard deviation" in scrub.doubts[0]
    passing = fitted_findings(signals, 2, (1,), pool)
    assert all(one.value == pytest.approx(one.target, abs=0.09) for one in passing)
    assert passing[2].value == shape.retrained[1], "the same model, the same seed"


def test_whole_classes_and_few_people():
    world = World(retain=100, forget=100, test=400, whole_class=True)
    signals = world.signals(0.0, 0.0)
    pool = pools(signals, **world.masks())
    scrub, _, shape = fitted_findings(signals, 0, (1,), pool)
    assert scrub.size == 2 * len(pool.unseen) < 200, "unseen ones of the forgotten class only"
    assert shape.size == 100 + len(pool.unseen)
    few = replace(pool, groups=np.array(["one"] * 200 + [f"p{i}" for i in range(400)]))
    assert isinstance(fitted_findings(signals, 0, (1,), few)[2], Skipped)
    assert isinstance(fitted_findings(signals, 0, (1,), replace(pool, retain=np.arange(3)))[1], Skipped)
