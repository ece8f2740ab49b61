"""The forgetting score and NoMUS against published rows, the null distribution and the blind spot."""

from __future__ import annotations

import numpy as np
import pytest

from unteach.audit.nomus import forgetting_score, nomus
from unteach.types import Refusal

# utility, forgetting score, NoMUS: MUFAC and MUCAC tables of the benchmark's README
PUBLISHED = [
    (0.5951, 0.2136, 0.5839),
    (0.4880, 0.0445, 0.6995),
    (0.6055, 0.2129, 0.5898),
    (0.4048, 0.0485, 0.6539),
    (0.5984, 0.1415, 0.6577),
    (0.5633, 0.0953, 0.6863),
    (0.8852, 0.0568, 0.8858),
    (0.9073, 0.0478, 0.9058),
    (0.5549, 0.4680, 0.3094),
]


@pytest.mark.parametrize(("utility", "score", "published"), PUBLISHED)
def test_published_rows(utility: float, score: float, published: float) -> None:
    assert nomus(utility, score) == pytest.approx(published, abs=1.01e-4)


def test_equal_losses_leave_the_noise_floor() -> None:
    rng = np.random.default_rng(0)
    scores = [forgetting_score(rng.exponential(size=1500), rng.exponential(size=1504)) for _ in range(40)]
    assert np.mean(scores) == pytest.approx(0.0107, abs=0.004)
    assert np.quantile(scores, 0.95) < 0.035


def test_a_shift_is_seen() -> None:
    rng = np.random.default_rng(0)
    assert forgetting_score(rng.exponential(size=1500) + 1, rng.exponential(size=1500)) > 0.15


def test_two_modes_around_the_others_are_not_seen() -> None:
    rng = np.random.default_rng(0)
    forget = np.where(rng.random(1500) < 0.5, -3, 3) + 0.1 * rng.standard_normal(1500)
    assert forgetting_score(forget, rng.standard_normal(1500)) < 0.1


def test_too_many_forget_losses_are_cut_and_a_constant_scores_zero() -> None:
    rng = np.random.default_rng(0)
    many = rng.exponential(size=4000)
    assert forgetting_score(many, rng.exponential(size=500)) < 0.06, "uncut, the larger class alone would give 0.39"


def test_fewer_forget_than_unseen_losses_score_for_their_number_unless_balanced() -> None:
    rng = np.random.default_rng(0)
    forget, unseen = rng.exponential(size=400), rng.exponential(size=1600)
    assert forgetting_score(forget, unseen) == pytest.approx(0.3, abs=0.01)
    assert forgetting_score(forget, unseen, balanced=True) < 0.08


def test_too_few_are_refused() -> None:
    with pytest.raises(Refusal, match="at least 10"):
        forgetting_score(np.ones(9), np.ones(50))
