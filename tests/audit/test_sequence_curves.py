"""Curves over requests: brute force, resurfacing, wear, and an exact retraining."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from unteach.audit.finding import Finding
from unteach.audit.sequence import RETAINED, UNSEEN, History, sequence_curves, within
from unteach.types import Refusal

K, R = 3, 4
WHEN = np.repeat([0, 1, 2, RETAINED, UNSEEN], [40, 40, 40, 200, 150])


def told(kind: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores and right answers after each request: members score 1 higher; ``kind`` is what the model does wrong."""
    rng = np.random.default_rng(seed)
    scores, correct = np.empty((K, len(WHEN))), np.empty((K, len(WHEN)))
    for at in range(K):
        member = (WHEN == RETAINED) | (at < WHEN)
        if kind == "resurfacing":
            member |= (WHEN >= 0) & (at > WHEN)
        if kind == "nothing":
            member |= WHEN >= 0
        scores[at] = member + 0.7 * rng.normal(size=len(WHEN))
        wear = 0.25 * at if kind == "wear" else 0.0
        correct[at] = rng.random(len(WHEN)) < 0.9 - wear
    return scores, correct


def history(kind: str) -> History:
    retrained = [told("honest", 100 + seed) for seed in range(R)]
    scores, correct = told(kind, 1)
    return History(
        request=WHEN,
        scores=scores,
        correct=correct,
        retrained_scores=np.stack([each[0] for each in retrained], 1),
        retrained_correct=np.stack([each[1] for each in retrained], 1),
    )


def found(kind: str) -> dict[tuple[str, int], Finding]:
    curves = sequence_curves(history(kind))
    assert all(isinstance(one, Finding) for one in curves)
    return {(one.name, int(one.part.split()[-1])): one for one in curves if isinstance(one, Finding)}


def brute(positive: np.ndarray, negative: np.ndarray) -> float:
    gaps = positive[:, None] - negative[None]
    return float(((gaps > 0) + 0.5 * (gaps == 0)).mean())


def test_every_number_by_brute_force() -> None:
    curves, data = found("resurfacing"), history("resurfacing")
    for at in range(K):
        for model, own in [(data.scores[at], -1), *((data.retrained_scores[at, r], r) for r in range(R))]:
            unseen = model[WHEN == UNSEEN]
            so_far = model[(WHEN >= 0) & (at >= WHEN)]
            kept = model[(WHEN == RETAINED) | (at < WHEN)]
            expected = {
                "FT AUC of the current request": brute(model[at == WHEN], unseen),
                "AUC(R vs F) − AUC(F vs T)": brute(kept, so_far) - brute(so_far, unseen),
            }
            if at:
                expected["FT AUC of earlier requests"] = brute(model[(WHEN >= 0) & (at > WHEN)], unseen)
            for name, value in expected.items():
                one = curves[name, at + 1]
                assert (one.value if own < 0 else one.retrained[own]) == pytest.approx(value, abs=1e-12)
    assert ("FT AUC of earlier requests", 1) not in curves


def test_what_comes_back_is_seen_in_the_earlier_requests() -> None:
    curves = found("resurfacing")
    for at in (2, 3):
        assert curves["FT AUC of the current request", at].value < 0.62
        earlier = curves["FT AUC of earlier requests", at]
        assert earlier.interval is not None
        assert earlier.interval[0] > max(earlier.retrained)


def test_doing_nothing_turns_amuns_curve_round() -> None:
    lazy, fair = found("nothing"), found("honest")
    name = "AUC(R vs F) − AUC(F vs T)"
    for at in (1, 2, 3):
        assert lazy[name, at].value < -0.2 < 0.2 < fair[name, at].value
        assert lazy[name, at].inside is False


def test_wear_is_told_with_the_request() -> None:
    name = "requests before accuracy leaves retraining by 3 sd"
    assert found("wear")[name, K].value == 1
    assert found("honest")[name, K].value == K


def test_when_utility_leaves_by_hand() -> None:
    retrained = np.array([[0.9, 0.92], [0.8, 0.84], [0.9, 0.9]])
    spread = np.sqrt((0.0002 + 0.0008 + 0) / 3)
    mean = retrained.mean(1)
    assert within(mean, retrained) == 3
    assert within(mean + 2.9 * spread, retrained) == 3
    assert within(mean - np.array([0, 3.1, 0]) * spread, retrained) == 1
    assert within(mean + np.array([0, 0, 3.1]) * spread, retrained) == 2
    assert within(mean + np.array([1.5, 0, 0]) * spread, retrained, spreads=1) == 0


def test_without_retrained_models_there_is_no_floor() -> None:
    data = history("honest")
    bare = replace(data, retrained_scores=np.empty((K, 0, 470)), retrained_correct=np.empty((K, 0, 470)))
    curves = sequence_curves(bare)
    assert all(isinstance(one, Finding) and one.retrained == () for one in curves)


def test_groups_widen_intervals() -> None:
    data = history("honest")
    groups = np.array([f"g{i // 8}" for i in range(len(WHEN))])
    shared = data.scores + np.random.default_rng(0).normal(size=60)[np.arange(len(WHEN)) // 8]
    plain, grouped = (sequence_curves(replace(data, scores=shared, groups=each))[0] for each in (None, groups))
    assert isinstance(plain, Finding)
    assert isinstance(grouped, Finding)
    assert plain.interval is not None
    assert grouped.interval is not None
    assert np.ptp(grouped.interval) > 1.2 * np.ptp(plain.interval)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"request": np.where(WHEN == 1, RETAINED, WHEN)}, "every request"),
        ({"request": np.where(WHEN == UNSEEN, RETAINED, WHEN)}, "unseen"),
        ({"scores": np.full((K, 470), np.nan)}, "finite scores"),
        ({"correct": np.zeros((K, 3))}, "3 requests × 470 examples"),
        ({"retrained_scores": np.zeros((K, 470))}, "retrained ones"),
    ],
    ids=["gap", "no test set", "nan", "length", "axes"],
)
def test_bad_input_is_refused(change: dict[str, np.ndarray], words: str) -> None:
    with pytest.raises(Refusal, match=words):
        replace(history("honest"), **change)
    with pytest.raises(Refusal, match="two or more retrained"):
        within(np.zeros(2), np.zeros((2, 1)))
