"""The whole audit on synthetic logits, no networks: each kind of model gets the verdict it deserves."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from unteach.audit import MEMBERSHIP, VERDICTS, Roles, Tolerance, audit
from unteach.audit.statistics import auc
from worlds import CLASSES, RETRAINED, ROLES, World


@pytest.fixture(scope="module")
def perfect() -> dict:
    world = World()
    return world.audit(world.signals(*RETRAINED, 0.0), ROLES)


def test_a_retrained_model_passes_and_both_controls_work(perfect):
    assert perfect["verdict"] == "indistinguishable from retrain within tolerance", perfect["reasons"]
    assert perfect["controls"]["original_caught"]["passed"]
    assert perfect["controls"]["held_out_retrain_passes"]["passed"]
    assert perfect["controls"]["constant_predictor"]["passed"]
    assert perfect["models"]["original"]["games"]["FT"]["confidence"]["auc"] > 0.8
    assert abs(perfect["models"]["retrained"]["games"]["FT"]["confidence"]["auc"] - 0.5) < 0.03


def test_the_findings_are_plain_finite_json_and_complete(perfect):
    body = json.loads(json.dumps(perfect, allow_nan=False))
    assert body == perfect
    assert set(body["models"]) == {"original", "retrained", "held_out_retrained", "unlearned"}
    for record in body["models"].values():
        assert set(record["accuracy"]) == {"retain", "forget", "test"}
        for name, (low, high) in record["accuracy_interval"].items():
            assert 0 <= low <= record["accuracy"][name] <= high <= 1
        assert set(record["games"]) == {"FT", "FR", "RT"}
        for game in record["games"].values():
            assert set(game) == set(MEMBERSHIP)
            assert all(one["low"] <= one["auc"] <= one["high"] for one in game.values())
        for name in ("confidence_histogram", "loss_histogram"):
            assert record[name]["edges"] == body["models"]["original"][name]["edges"]
            assert sum(record[name]["forget"]) == pytest.approx(1)
    low, rare = body["models"]["unlearned"]["games"]["FT"]["confidence"]["tpr"]
    assert low["achieved_fpr"] <= 0.01
    assert "10,000" in rare["skipped"]
    assert {"metric": "FT TPR at 0.1% FPR", "reason": rare["skipped"]} in body["skipped"]
    assert body["verdict"] in VERDICTS
    assert len(body["exposed"]) == 20
    assert body["exposed_count"]["unlearned"] < 20
    assert body["exposed_count"]["original"] > 500
    gaps = body["gaps"]
    names = ("forget", "retain", "test", "ft_auc")
    assert gaps["average"] == pytest.approx(np.mean([abs(gaps[name]) for name in names]))


def test_doing_nothing_is_under_forgotten():
    world = World()
    signals = world.signals(*RETRAINED, None)
    found = world.audit(signals, ROLES)
    assert found["verdict"] == "under-forgotten"
    assert any("still treated as known" in reason for reason in found["reasons"])
    assert found["gaps"]["forget"] > 5
    exposed = found["exposed"]
    assert (np.diff([record["score"] for record in exposed]) <= 0).all()
    assert all(e["phi_unlearned"] > e["phi_retrained"] for e in exposed)
    row = int(exposed[0]["id"][1:])
    assert World.masks(world)["forget"][row]
    assert exposed[0]["classname"] == CLASSES[signals.labels[row]]


def test_lowered_confidence_is_over_forgotten():
    world = World()
    found = world.audit(world.signals(*RETRAINED, -3.0), ROLES)
    assert found["verdict"] == "over-forgotten"
    assert found["gaps"]["ft_auc"] < -2


def test_a_forget_set_pushed_to_both_sides_does_not_pass():
    world = World()
    push = np.where(np.arange(world.forget) % 2, 3.0, -3.0)
    found = world.audit(world.signals(*RETRAINED, push), replace(ROLES))
    assert found["verdict"] in {"under-forgotten", "over-forgotten"}
    shape = {c["quantity"]: c["state"] for c in found["comparisons"]["unlearned"]}
    assert shape["FT AUC by two-sided confidence"] == "above"


def test_damaged_utility_is_over_forgotten():
    world = World()
    signals = world.signals(*RETRAINED, 0.0)
    hurt = np.flatnonzero(world.masks()["test"])
    signals.logits[5, 0, hurt, signals.labels[hurt]] -= 2
    found = world.audit(signals, ROLES)
    assert found["verdict"] == "over-forgotten"
    assert "utility is damaged" in found["reasons"][0]


def test_a_damaged_model_that_remembers_is_under_forgotten():
    world = World()
    signals = world.signals(*RETRAINED, 1.0)
    hurt = np.flatnonzero(world.masks()["test"])
    signals.logits[5, 0, hurt, signals.labels[hurt]] -= 2
    known = np.flatnonzero(world.masks()["forget"])
    signals.logits[5, 0, known, signals.labels[known]] += 5
    found = world.audit(signals, ROLES)
    assert found["verdict"] == "under-forgotten"
    assert "utility is damaged" in found["reasons"][-1]


def test_a_constant_predictor_is_flagged():
    world = World()
    signals = world.signals(*RETRAINED, 0.0)
    signals.logits[5] = np.linspace(0, 1, 10)
    found = world.audit(signals, ROLES)
    assert found["verdict"] == "over-forgotten"
    assert not found["controls"]["constant_predictor"]["passed"]
    assert "utility has collapsed" in found["reasons"][0]


def test_nothing_memorised_means_nothing_to_show():
    world = World(boost=0.0)
    found = world.audit(world.signals(*RETRAINED, 0.0), ROLES)
    assert found["verdict"] == "nothing measurable to forget"
    assert found["controls"]["original_caught"]["passed"] is False


def test_few_examples_are_inconclusive_and_say_how_many_it_takes():
    world = World(retain=300, forget=60, test=80)
    found = world.audit(world.signals(*RETRAINED, 0.0), ROLES)
    assert found["verdict"] == "inconclusive"
    assert any("forget examples (now 60)" in reason for reason in found["reasons"])
    assert any("test examples (now 80)" in reason for reason in found["reasons"])


@pytest.mark.parametrize("forget", [1, 2, 5])
def test_a_handful_of_records_breaks_nothing(forget):
    world = World(retain=100, forget=forget, test=40)
    found = world.audit(world.signals(*RETRAINED, 0.0), ROLES)
    assert found["verdict"] == "inconclusive"
    json.dumps(found, allow_nan=False)


def test_missing_models_are_told_and_the_rest_is_measured():
    world = World(forget=500, test=1000)
    found = world.audit(world.signals(None, 0.0), Roles(original=0, unlearned=1))
    assert found["verdict"] == "inconclusive"
    assert "No retrained model" in found["reasons"][0]
    assert found["models"]["unlearned"]["accuracy"]["test"] > 0.5
    assert any("retrained" in skip["metric"] for skip in found["skipped"])
    assert found["gaps"] == {}
    one = world.audit(world.signals(None, 0.0, 0.0), Roles(original=0, retrained=(1,), unlearned=2))
    assert one["verdict"] == "inconclusive"
    assert any("held-out" in reason for reason in one["reasons"])
    assert any("no spread" in doubt for doubt in one["doubts"])


def test_retain_data_that_is_gone_only_skips_its_numbers():
    world = World(retain=0)
    found = world.audit(world.signals(*RETRAINED, 0.0), ROLES)
    assert "FR" in {skip["metric"].split()[0] for skip in found["skipped"]}
    assert "retain" not in found["models"]["original"]["accuracy"]
    assert "average" not in found["gaps"]
    assert found["verdict"] == "indistinguishable from retrain within tolerance"


def test_a_reference_that_retraining_itself_fails_judges_nothing():
    world = World()
    found = world.audit(world.signals(None, 0.0, 0.0, 0.0, -3.0, None), ROLES)
    assert found["verdict"] == "inconclusive"
    assert found["controls"]["held_out_retrain_passes"]["passed"] is False


def test_whole_classes_are_compared_with_test_images_of_that_class_only():
    world = World(forget=1000, test=4000, whole_class=True)
    signals = world.signals(None, -6.0, -6.0, -6.0, -6.0, -6.0)
    test_of_class = world.masks()["test"] & (signals.labels == 9)
    signals.logits[1:, 0, test_of_class, 9] -= 6
    found = world.audit(signals, ROLES)
    game = found["models"]["retrained"]["games"]["FT"]["confidence"]
    assert game["n_negative"] == test_of_class.sum()
    assert abs(game["auc"] - 0.5) < 0.05
    assert found["models"]["retrained"]["games"]["RT"]["confidence"]["n_negative"] == 4000 - test_of_class.sum()
    phi = MEMBERSHIP["confidence"]()(signals, 5)
    away = np.abs(phi - np.median(phi[test_of_class]))
    two_sided = found["models"]["unlearned"]["games"]["FT"]["two-sided"]["auc"]
    assert two_sided == pytest.approx(auc(away[world.masks()["forget"]], away[test_of_class]), abs=1e-12)
    assert found["sizes"]["forgotten_classes"] == ["j"]
    assert "Whole classes were forgotten (j)" in found["doubts"][0]
    assert found["controls"]["original_caught"]["passed"]


def test_groups_widen_the_intervals():
    world = World(retain=300, forget=400, test=600)
    signals = world.signals(*RETRAINED, 0.0)
    whole = world.audit(signals, ROLES)
    block = np.arange(signals.logits.shape[2]) // 20
    # Everybody's pictures are equally easy: 20 pictures tell little more than one.
    signals.logits[:] = signals.logits[:, :, block * 20]
    signals.labels[:] = signals.labels[block * 20]
    grouped = world.audit(replace(signals, groups=block.astype(str)), ROLES)
    for found, least, most in ((whole, 0.0, 0.08), (grouped, 0.12, 1.0)):
        game = found["models"]["unlearned"]["games"]["FT"]["confidence"]
        assert least < game["high"] - game["low"] < most
    low, high = grouped["models"]["unlearned"]["accuracy_interval"]["test"]
    assert high - low > 0.15
    assert grouped["sizes"]["forget_groups"] == 20


def test_the_order_of_the_examples_does_not_matter():
    world = World(retain=200, forget=150, test=300)
    signals = world.signals(*RETRAINED, 0.0)
    order = np.random.default_rng(1).permutation(650)
    ids = np.array([f"x{i}" for i in range(650)])
    shuffled = replace(
        signals,
        logits=signals.logits[:, :, order],
        labels=signals.labels[order],
        members=signals.members[:, order],
        forgotten=signals.forgotten[:, order],
    )
    masks = {name: mask[order] for name, mask in world.masks().items()}
    one = world.audit(signals, ROLES)
    other = audit(shuffled, roles=ROLES, ids=ids[order], classes=CLASSES, **masks)
    assert [e["id"] for e in one["exposed"]] == [e["id"] for e in other["exposed"]]
    for role, record in one["models"].items():
        assert record["accuracy"] == pytest.approx(other["models"][role]["accuracy"])
        for score, game in record["games"]["FT"].items():
            assert game["auc"] == pytest.approx(other["models"][role]["games"]["FT"][score]["auc"], abs=1e-12)
    assert one["verdict"] == other["verdict"]


def test_two_hundred_nulls_raise_few_alarms_even_at_zero_tolerance():
    alarms = 0
    for seed in range(100):
        world = World(retain=20, forget=60, test=120, seed=seed)
        found = world.audit(
            world.signals(None, 0.0, 0.0, 0.0),
            Roles(original=0, retrained=(1,), held_out_retrained=2, unlearned=3),
            tolerance=Tolerance(auc=0.0, accuracy=0.0),
        )
        alarms += found["verdict"] in {"under-forgotten", "over-forgotten"}
        alarms += not found["controls"]["held_out_retrain_passes"]["passed"]
    # 5 % of 200, plus two standard errors of that count.
    assert alarms <= 16


def test_tolerance_decides_what_counts_as_equal():
    world = World()
    signals = world.signals(*RETRAINED, 0.0)
    strict = world.audit(signals, ROLES, tolerance=Tolerance(auc=0.001, accuracy=0.001))
    assert strict["verdict"] == "inconclusive"
    assert strict["tolerance"] == {"auc": 0.001, "accuracy": 0.001}
