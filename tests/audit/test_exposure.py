"""The exposure of single records, by hand on a few numbers."""

from __future__ import annotations

import numpy as np
import pytest

from unteach.audit.exposure import exposure
from unteach.audit.games import Pools


def pool(forget: int, unseen: int) -> Pools:
    rows = np.arange(forget + unseen)
    none = np.zeros(0, dtype=np.int64)
    return Pools(none, rows[:forget], rows[forget:], rows[forget:], (), None)


def test_scores_and_p_values_by_hand():
    references = np.array([[1.0] * 8, [3.0] * 8])
    excess = np.array([10.0, 3.0, -9.0, 0.0, 1.0, 2.0, 3.0, 4.0])
    got = exposure(2 + excess, references, pool(3, 5))
    # Unseen excess 0…4: median 2, median absolute deviation 1.
    np.testing.assert_allclose(got.score, (excess[:3] - 2) / 1.4826)
    np.testing.assert_allclose(got.p_value, [1 / 6, 3 / 6, 6 / 6])
    assert got.phi_model.tolist() == [12, 5, -7]
    assert got.phi_retrained.tolist() == [2, 2, 2]


def test_the_count_finds_the_records_that_stick_out_and_hardly_any_others():
    rng = np.random.default_rng(0)
    phi = rng.normal(size=3000)
    phi[:100] += 8
    found = exposure(phi, rng.normal(0, 0.1, (2, 3000)), pool(1000, 2000))
    assert 100 <= found.count <= 115
    assert set(np.argsort(-found.score)[:100]) == set(range(100))


def test_equal_models_expose_nobody():
    same = np.linspace(-1, 1, 50)
    found = exposure(same, same[None], pool(20, 30))
    assert found.count == 0
    assert found.score == pytest.approx(np.zeros(20))
