"""Strata of memorisation and sets of likeness, against what can be counted by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unteach.bench.forget_sets import STRATA, alike, memorisation, stratum
from unteach.types import Refusal


def test_memorisation_is_the_mean_inside_minus_the_mean_outside() -> None:
    phi = np.array([[3.0, 1.0, 0.0], [5.0, 1.0, 2.0], [1.0, 4.0, 7.0]])
    members = np.array([[True, False, True], [True, False, True], [False, True, True]])
    found = memorisation(phi, members)
    assert found[0] == pytest.approx(4.0 - 1.0)
    assert found[1] == pytest.approx(4.0 - 1.0)
    assert np.isnan(found[2]), "no model trained without it"


def test_memorisation_refuses_matrices_that_do_not_match() -> None:
    with pytest.raises(Refusal, match="one shape"):
        memorisation(np.zeros((3, 4)), np.zeros((3, 5), dtype=bool))


def test_strata_are_the_ends_and_the_middle() -> None:
    scores = np.arange(30.0)[::-1].copy()
    assert sorted(scores[stratum(scores, "low", 6, 0)]) == [0, 1, 2, 3, 4, 5]
    assert sorted(scores[stratum(scores, "high", 6, 0)]) == [24, 25, 26, 27, 28, 29]
    assert sorted(scores[stratum(scores, "middle", 6, 0)]) == [12, 13, 14, 15, 16, 17]
    assert sorted(scores[stratum(scores, "mixed", 6, 0)]) == [0, 1, 14, 15, 28, 29]


@given(n=st.integers(12, 60), share=st.floats(0.05, 0.6), seed=st.integers(0, 5), kind=st.sampled_from(STRATA))
def test_a_stratum_has_its_size_and_no_unscored_example(n: int, share: float, seed: int, kind: str) -> None:
    scores = np.random.default_rng(seed).integers(0, 4, n).astype(float)
    scores[::7] = np.nan
    count = max(1, int(share * np.isfinite(scores).sum()))
    rows = stratum(scores, kind, count, seed)
    assert len(rows) == len(set(rows.tolist())) == count
    assert np.isfinite(scores[rows]).all()
    assert (rows == stratum(scores, kind, count, seed)).all()


def test_a_stratum_of_all_is_refused_and_so_is_an_unknown_kind() -> None:
    with pytest.raises(Refusal, match="count of 1 to 4"):
        stratum(np.arange(5.0), "high", 5, 0)
    with pytest.raises(Refusal, match="expected a stratum"):
        stratum(np.arange(5.0), "top", 2, 0)


def test_alike_are_the_nearest_of_one_class_by_cosine() -> None:
    angles = np.array([0.0, 0.1, 0.2, 1.5, 1.4, 0.05, 0.06])
    features = np.stack([np.cos(angles), np.sin(angles)], 1) * np.array([1, 5, 2, 1, 1, 9, 1])[:, None]
    labels = np.array([0, 0, 0, 0, 0, 1, 1])
    for seed in range(6):
        rows = alike(features, labels, 3, seed)
        assert (labels[rows] == 0).all(), "class 1 is too small"
        assert rows.tolist() in ([0, 1, 2], [2, 3, 4]), rows


def test_alike_refuses_more_than_a_class_has() -> None:
    with pytest.raises(Refusal, match="largest class"):
        alike(np.eye(4), np.array([0, 0, 1, 1]), 2, 0)
