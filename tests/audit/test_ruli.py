"""RULI: kernel densities as SciPy and scikit-learn have them, the choice of strata, and both games."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import gaussian_kde
from sklearn.neighbors import KernelDensity

from unteach.audit import ruli
from unteach.audit.finding import Finding
from unteach.audit.ruli import PUBLIC, Ruli, strata, two_games
from unteach.audit.worlds import Worlds
from unteach.types import Refusal


def made(models: int = 18, n: int = 7, gap: float = 1.0, seed: int = 0) -> Worlds:
    rng = np.random.default_rng(seed)
    world = rng.permuted(np.repeat(np.arange(models)[:, None] % 3, n, axis=1), axis=0)
    phi = rng.normal(0, 3, n) + rng.normal(0, 1, (models, n)) * rng.uniform(0.3, 3, n) + gap * (world == 0)
    return Worlds(phi, world == 0, world == 1)


def log_density(values: np.ndarray, at: float, width: float | None) -> float:
    if width is None:
        return float(gaussian_kde(values, bw_method="silverman").logpdf(at)[0])
    return float(KernelDensity(bandwidth=width).fit(values[:, None]).score_samples([[at]])[0])


@pytest.mark.parametrize("families", [False, True], ids=["each alone", "families"])
@pytest.mark.parametrize("test", [Ruli(), PUBLIC, Ruli(width=0.2)], ids=["silverman", "public", "narrow"])
def test_densities_are_those_of_scipy_and_scikit_learn(test, families):
    worlds = replace(made(), origins=np.arange(18) // 2 if families else None)
    got = test(worlds).log_ratio
    for m, x in np.argwhere(worlds.pairs):
        values = []
        for mask in (worlds.positive[:, x], worlds.negative[:, x]):
            there, mine = sorted(set(worlds.family[mask])), worlds.family[m]
            gone = mine if mine in there else there[mine % len(there)]
            values.append(worlds.phi[mask & (worlds.family != gone), x])
        positive, negative = (log_density(v, worlds.phi[m, x], test.width) for v in values)
        assert got[m, x] == pytest.approx(positive - negative, rel=1e-9, abs=1e-9)
    assert np.isnan(got[~worlds.pairs]).all()


def test_blocks_make_no_difference(monkeypatch):
    worlds = made(n=40)
    whole = Ruli()(worlds).log_ratio
    monkeypatch.setattr(ruli, "BLOCK", 1)
    np.testing.assert_allclose(Ruli()(worlds).log_ratio, whole, rtol=1e-12)


def test_far_tails_and_agreeing_models_stay_finite():
    worlds = made()
    for phi in (worlds.phi * 1e4, np.round(worlds.phi / 100)):
        for test in (Ruli(), PUBLIC):
            assert np.isfinite(test(replace(worlds, phi=phi)).log_ratio[worlds.pairs]).all()


def test_silvermans_rule_does_not_feel_the_scale_and_the_public_width_does():
    worlds = made()
    larger = replace(worlds, phi=7 * worlds.phi + 3)
    np.testing.assert_allclose(Ruli()(larger).log_ratio, Ruli()(worlds).log_ratio, rtol=1e-7, atol=1e-9)
    assert np.nanmax(np.abs(PUBLIC(larger).log_ratio - PUBLIC(worlds).log_ratio)) > 1


def shadows(n: int = 120, models: int = 60, traces: float = 0.0, seed: int = 0):
    """Confidences before and after unlearning, who trained on what, who forgot what: in thirds; every fourth is vulnerable."""
    rng = np.random.default_rng(seed)
    world = rng.permuted(np.repeat(np.arange(models)[:, None] % 3, n, axis=1), axis=0)
    members, forgotten = world < 2, world == 1
    gain = np.where(np.arange(n) % 4 == 0, 4.0, 0.3)
    ease = rng.normal(0, 3, n)
    trained = ease + rng.normal(0, 1, (models, n)) + gain * members
    unlearned = ease + rng.normal(0, 1, (models, n)) + gain * (members & ~forgotten) + traces * gain * forgotten
    return trained, unlearned, members, forgotten


def test_strata_find_the_vulnerable_examples():
    trained, _, members, _ = shadows()
    vulnerable, protected = strata(trained, members, 30)
    assert set(vulnerable) == set(range(0, 120, 4))
    assert not set(protected) & set(vulnerable)
    assert len(protected) == 30
    with pytest.raises(Refusal, match="strata of 1 to 60 examples, got 61"):
        strata(trained, members, 61)


def test_a_width_of_nothing_is_refused():
    with pytest.raises(Refusal, match="width above 0, got 0"):
        Ruli(width=0)


def test_the_leak_shows_in_the_vulnerable_stratum():
    trained, unlearned, members, forgotten = shadows(traces=0.4)
    vulnerable, protected = strata(*(shadows(seed=1)[at] for at in (0, 2)), 30)
    parts = {"vulnerable": vulnerable, "protected": protected}
    found = two_games(trained, unlearned, members, forgotten, parts=parts)
    area = {(e.name, e.part): e for e in found if isinstance(e, Finding) and e.name.endswith("AUC")}
    assert set(area) == {(f"RULI {game} AUC", part) for game in ("privacy", "efficacy") for part in parts}
    for game in ("privacy", "efficacy"):
        assert area[f"RULI {game} AUC", "vulnerable"].value > 0.8
        assert area[f"RULI {game} AUC", "protected"].value < 0.6
        assert area[f"RULI {game} AUC", "vulnerable"].target == pytest.approx(0.5, abs=0.06)


def test_only_the_efficacy_game_sees_that_unlearning_moved_everything():
    trained, unlearned, members, forgotten = shadows()
    found = two_games(trained, unlearned - 3, members, forgotten, parts={"all": np.arange(120)})
    area = {e.name: e.value for e in found if isinstance(e, Finding) and e.name.endswith("AUC")}
    assert area["RULI privacy AUC"] == pytest.approx(0.5, abs=0.04)
    assert area["RULI efficacy AUC"] > 0.9
