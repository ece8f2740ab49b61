"""KLoM and its binning-free kin: formula against NumPy's histograms and SciPy, null floors, shifts, findings."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from unteach.audit.finding import Finding, Skipped
from unteach.audit.klom import Klom, margin_distances, told_apart, transport
from unteach.audit.statistics import rejected
from unteach.types import Refusal


def gauss(models: int, examples: int, shift: float = 0.0, seed: int = 0) -> np.ndarray:
    return shift + np.random.default_rng(seed).standard_normal((models, examples))


def test_histograms_are_numpys():
    a, b = gauss(60, 30), 1.5 * gauss(80, 30, 0.5, seed=1)
    a[:, 0] = 300.0
    forward, backward = Klom()(a, b)
    for i, (x, y) in enumerate(zip(np.clip(a, -100, 100).T, np.clip(b, -100, 100).T)):
        both = np.concatenate([x, y])
        p, q = (np.histogram(v, 20, (both.min(), both.max()))[0] / len(v) + 1e-5 for v in (x, y))
        assert forward[i] == pytest.approx(stats.entropy(p, q))
        assert backward[i] == pytest.approx(stats.entropy(q, p))


@pytest.mark.parametrize(("models", "floor"), [(50, 0.93), (100, 0.36), (200, 0.15)])
def test_one_law_twice_leaves_the_floor(models, floor):
    forward, backward = Klom()(gauss(models, 800), gauss(models, 800, seed=1))
    assert forward.mean() == pytest.approx(floor, abs=0.1)
    assert backward.mean() == pytest.approx(floor, abs=0.1)


def test_shifts_stand_out_at_100_models_and_hardly_at_10():
    assert Klom()(gauss(100, 400, 1.0), gauss(100, 400, seed=1))[0].mean() == pytest.approx(1.2, abs=0.15)
    assert Klom()(gauss(100, 400, 2.0), gauss(100, 400, seed=1))[0].mean() == pytest.approx(3.6, abs=0.3)
    few = Klom(fewest=10)
    assert few(gauss(10, 400), gauss(10, 400, seed=1))[0].mean() == pytest.approx(5.7, abs=0.3)
    assert few(gauss(10, 400, 1.0), gauss(10, 400, seed=1))[0].mean() == pytest.approx(6.2, abs=0.3)


def test_fewer_than_fifty_models_are_refused_unless_told():
    with pytest.raises(Refusal, match="expected 50 models"):
        Klom()(gauss(49, 5), gauss(60, 5))
    with pytest.raises(Refusal, match="2 or more bins"):
        Klom(bins=1)
    named = {one.name: one for one in margin_distances(gauss(20, 30), gauss(40, 30, seed=1), {"forget": np.arange(30)})}
    assert isinstance(named["KLoM, all models"], Skipped)
    assert isinstance(named["KLoM beside its floor"], Skipped)
    assert isinstance(named["Wasserstein-1 distance of margins"], Finding)
    told = margin_distances(gauss(20, 30), gauss(40, 30, seed=1), {"forget": np.arange(30)}, measure=Klom(fewest=20))
    floored = [one for one in told if one.name.startswith("KLoM(")]
    assert len(floored) == 4
    assert all("hides most signals" in one.doubts[1] for one in floored)


def test_transport_is_scipys():
    a, b = gauss(30, 12), 2 * gauss(45, 12, 1.0, seed=1)
    a[:5, 3] = a[0, 3]
    b[:7, 3] = a[0, 3]
    first, energy = transport(a, b)
    for i, (x, y) in enumerate(zip(a.T, b.T)):
        sd = y.std(ddof=1)
        assert first[i] == pytest.approx(stats.wasserstein_distance(x / sd, y / sd))
        assert energy[i] == pytest.approx(stats.energy_distance(x / sd, y / sd))


def test_the_rejected_share_is_scipys():
    a, b = gauss(25, 60, 0.8), gauss(35, 60, seed=1)
    b[:, 0] = np.repeat(a[:7, 0], 5)
    p = np.array([stats.ks_2samp(x, y).pvalue for x, y in zip(a.T, b.T)])
    assert told_apart(a, b) == rejected(p).mean() > 0


def test_findings_by_part_have_floors_that_a_retraining_meets():
    parts = {"forget": np.arange(150), "validation": np.arange(150, 300), "retain": np.arange(0)}
    unlearned = gauss(100, 300)
    unlearned[:, :150] += 0.7
    found = margin_distances(unlearned, gauss(100, 300, seed=1), parts)
    floored = {(one.name, one.part): one for one in found if isinstance(one, Finding) and one.retrained}
    assert len(floored) == 14
    assert all(one.value > max(one.retrained) for (_, part), one in floored.items() if part == "forget")
    assert all(
        one.value == pytest.approx(one.target, abs=0.25) for (_, part), one in floored.items() if part != "forget"
    )
    assert all("50 models a side" in one.doubts[0] for one in floored.values())
    published = {(one.name, one.part): one for one in found if one.name.startswith("KLoM, all models")}
    assert len(published) == 4
    assert not any(one.retrained for one in published.values())
    assert [one.reason for one in found if isinstance(one, Skipped)] == ["retain has no examples"]


def test_constant_retrained_margins_have_no_unit():
    retrained = np.repeat(gauss(1, 20), 100, axis=0)
    found = {one.name: one for one in margin_distances(gauss(100, 20), retrained, {"forget": np.arange(20)})}
    assert "do not vary" in found["energy distance of margins"].reason
    assert found["share of examples told apart (KS, BH)"].value == 1
