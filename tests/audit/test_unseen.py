"""Non-members that are others than the test set: attacks read the ones, utility the other."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from unteach.audit import audit
from unteach.audit.finding import Skipped
from unteach.audit.fitted_attacks import ShapeAttack, fitted_findings
from unteach.audit.games import pools
from unteach.audit.nomus import forgetting_score, nomus, nomus_findings
from unteach.audit.svc_suite import SvcSuite
from unteach.types import Refusal, Signals
from worlds import CLASSES, RETRAINED, ROLES, World

WORLD = World(retain=300, forget=200, test=400)
SIGNALS = WORLD.signals(*RETRAINED, 1.5)
N = 900
OWNER = np.repeat(["retain", "forget", "test", "unseen"], [300, 200, 250, 150])
SKIPPED = Skipped(name="left out", family="membership", reason="slow")
MASKS = {name: name == OWNER for name in ("retain", "forget", "test", "unseen")}


def audited(signals: Signals, **masks: Any) -> dict[str, Any]:
    ids = np.array([f"x{i}" for i in range(N)])
    return audit(signals, roles=ROLES, ids=ids, classes=CLASSES, **(MASKS | masks))


def shuffled(rows: np.ndarray) -> Signals:
    """The same signals, with the answers to these examples dealt out anew among them."""
    at = np.arange(N)
    at[rows] = np.random.default_rng(1).permutation(at[rows])
    other = SIGNALS.logits[:, :, at] + 2 * np.isin(np.arange(N), np.flatnonzero(rows))[:, None]
    other[..., 0] += 5 * rows
    return Signals(SIGNALS.models, other.astype(np.float32), SIGNALS.labels, SIGNALS.members, SIGNALS.forgotten)


def test_the_games_have_the_unseen_side_and_utility_the_test_set() -> None:
    pool = pools(SIGNALS, **MASKS)
    assert np.array_equal(pool.sides("FT")[1], np.flatnonzero(MASKS["unseen"]))
    assert np.array_equal(pool.sides("RT")[1], np.flatnonzero(MASKS["unseen"]))
    assert np.array_equal(pool.test, np.flatnonzero(MASKS["test"]))


def test_of_forgotten_classes_both_are_left_out() -> None:
    signals = World(retain=300, forget=200, test=400, whole_class=True).signals(None)
    pool, gone = pools(signals, **MASKS), signals.labels == 9
    assert pool.forgotten_classes == (9,)
    assert np.array_equal(pool.sides("FT")[1], np.flatnonzero(MASKS["unseen"] & gone))
    assert np.array_equal(pool.sides("RT")[1], np.flatnonzero(MASKS["unseen"] & ~gone))
    assert np.array_equal(pool.test, np.flatnonzero(MASKS["test"] & ~gone))


def test_what_is_answered_to_test_examples_moves_utility_alone() -> None:
    before, after = audited(SIGNALS), audited(shuffled(MASKS["test"]))
    for role, told in before["models"].items():
        assert after["models"][role]["games"] == told["games"]
        assert after["models"][role]["accuracy"]["test"] != told["accuracy"]["test"]
        assert after["models"][role]["accuracy"]["forget"] == told["accuracy"]["forget"]
    assert before["exposed"] == after["exposed"]


def test_what_is_answered_to_unseen_examples_moves_no_utility() -> None:
    before, after = audited(SIGNALS), audited(shuffled(MASKS["unseen"]))
    for role, told in before["models"].items():
        assert after["models"][role]["accuracy"] == told["accuracy"]
        assert after["models"][role]["games"]["FT"] != told["games"]["FT"]
        assert after["models"][role]["games"]["FR"]["confidence"] == told["games"]["FR"]["confidence"]
    assert before["controls"]["constant_predictor"] == after["controls"]["constant_predictor"]


def test_fitted_attacks_never_read_the_test_set() -> None:
    changed = shuffled(MASKS["test"])
    for one in (SIGNALS, changed):
        assert np.array_equal(pools(one, **MASKS).others, np.flatnonzero(MASKS["unseen"]))
    before, after = (
        fitted_findings(one, 5, (1, 2), pools(one, **MASKS), shape=ShapeAttack(trees=2)) for one in (SIGNALS, changed)
    )
    assert [one.as_json() for one in before] == [one.as_json() for one in after]
    suites = [SvcSuite(most=40)(one, 5, pools(one, **MASKS)) for one in (SIGNALS, changed)]
    assert {name for name in suites[0] if suites[0][name] != suites[1][name]} == {"TA"}


def test_the_findings_say_which_set_served_as_what() -> None:
    found = audited(SIGNALS)
    assert found["sizes"]["test"] == 250
    assert found["sizes"]["unseen"] == 150
    assert any("250 test examples" in doubt and "150 other, unseen" in doubt for doubt in found["doubts"])
    plain = audited(SIGNALS, test=MASKS["test"] | MASKS["unseen"], unseen=None)
    assert not any("unseen examples" in doubt for doubt in plain["doubts"])


@pytest.mark.parametrize("name", ["retain", "forget", "test"])
def test_an_unseen_set_shares_no_example(name: str) -> None:
    both = MASKS["unseen"].copy()
    both[np.flatnonzero(MASKS[name])[0]] = True
    with pytest.raises(Refusal, match="share no example"):
        audited(SIGNALS, unseen=both)


def test_an_unseen_set_is_not_empty_and_no_model_was_trained_on_it() -> None:
    with pytest.raises(Refusal, match="unseen set of at least one"):
        audited(SIGNALS, unseen=np.zeros(N, dtype=bool))
    seen = SIGNALS.members.copy()
    seen[:, -1] = True
    with pytest.raises(Refusal, match="no model was trained on"):
        audited(Signals(SIGNALS.models, SIGNALS.logits, SIGNALS.labels, seen, SIGNALS.forgotten))


def test_nomus_has_its_attack_on_the_unseen_and_its_utility_on_the_test_set() -> None:
    pool = pools(SIGNALS, **MASKS)
    z = SIGNALS.logits[:, 0].astype(np.float64)
    losses = np.log(np.exp(z).sum(-1)) - np.take_along_axis(z, SIGNALS.labels[None, :, None], -1)[..., 0]
    correct = (z.argmax(-1) == SIGNALS.labels).astype(np.float64)
    score, whole = nomus_findings(SIGNALS, 5, (1, 2, 3), pool, correct)
    wanted = [forgetting_score(losses[at][MASKS["forget"]], losses[at][MASKS["unseen"]]) for at in (5, 1, 2, 3)]
    assert [score.value, *score.retrained] == pytest.approx(wanted, abs=0.01)  # type: ignore[union-attr]
    useful = [correct[at][MASKS["test"]].mean() for at in (5, 1, 2, 3)]
    assert [whole.value, *whole.retrained] == [  # type: ignore[union-attr]
        nomus(u, f)
        for u, f in zip(useful, [score.value, *score.retrained])  # type: ignore[union-attr]
    ]
    most = np.bincount(SIGNALS.labels[MASKS["test"]]).max() / 250
    assert f"{nomus(most, 0.0):.4f}" in whole.doubts[0]  # type: ignore[union-attr]


def test_nomus_is_taken_with_an_unseen_set_only(monkeypatch: pytest.MonkeyPatch) -> None:
    for slow in ("fitted_findings", "svc_findings", "epsilon_lower_bound", "output_distances"):
        monkeypatch.setattr(
            f"unteach.audit.battery.{slow}", lambda *_, slow=slow, **__: SKIPPED if "bound" in slow else []
        )
    ids = np.array([f"x{i}" for i in range(N)])
    given = {"roles": ROLES, "ids": ids, "classes": CLASSES, "thorough": True}
    names = {one["name"] for one in audit(SIGNALS, **given, **MASKS)["measures"]}
    assert {"forgetting score", "NoMUS"} <= names
    masks = {"retain": MASKS["retain"], "forget": MASKS["forget"], "test": MASKS["test"] | MASKS["unseen"]}
    assert not {"forgetting score", "NoMUS"} & {one["name"] for one in audit(SIGNALS, **given, **masks)["measures"]}


def test_too_few_unseen_losses_are_skipped_with_a_reason() -> None:
    few = np.zeros(N, dtype=bool)
    few[-9:] = True
    (skipped,) = nomus_findings(SIGNALS, 5, (1,), pools(SIGNALS, **(MASKS | {"unseen": few})), np.zeros((6, N)))
    assert "got 9" in skipped.reason  # type: ignore[union-attr]


def test_a_request_of_one_kind_is_compared_with_unseen_ones_of_that_kind() -> None:
    rng = np.random.default_rng(0)
    n = 60
    owner = np.repeat(["retain", "forget", "test"], [20, 10, 30])
    alike = np.ones(n, dtype=bool)
    alike[30:50] = False
    signals = Signals(
        ("a",),
        rng.normal(size=(1, 1, n, 3)).astype(np.float32),
        np.arange(n) % 3,
        (owner != "test")[None],
        np.zeros((1, n), dtype=bool),
    )
    masks = {name: owner == name for name in ("retain", "forget", "test")}
    matched, whole = pools(signals, **masks, alike=alike), pools(signals, **masks)
    assert matched.unseen.tolist() == list(range(50, 60))
    assert matched.test.tolist() == whole.test.tolist() == matched.others.tolist() == list(range(30, 60))
    assert matched.matched
    assert not whole.matched
