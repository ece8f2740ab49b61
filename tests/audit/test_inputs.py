"""What the audit takes and refuses: contradictory masks, missing classes, other kinds of labels."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from unteach.audit import Roles, audit
from unteach.types import Refusal, Signals

ROLES = Roles(original=0, retrained=(1, 2), held_out_retrained=3, unlearned=4)
PART = np.repeat([0, 1, 2], [50, 20, 30])
MASKS = {"retain": PART == 0, "forget": PART == 1, "test": PART == 2}
IDS = np.arange(100).astype(str)


@pytest.fixture
def signals() -> Signals:
    """Five models on 100 examples of three classes; only the first was trained on the forget set."""
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(5, 1, 100, 3)).astype(np.float32)
    members = np.array([PART < 2, *[PART < 1] * 4])
    return Signals(tuple("orsha"), logits, rng.integers(0, 3, 100), members, np.zeros_like(members))


def run(signals: Signals, roles: Roles) -> dict:
    return audit(signals, roles=roles, ids=IDS, **MASKS)


def test_contradictions_are_refused(signals):
    with pytest.raises(Refusal, match="never saw the forget set"):
        run(signals, replace(ROLES, retrained=(0,), original=None))
    with pytest.raises(Refusal, match="within the 5 models"):
        run(signals, replace(ROLES, unlearned=6))
    with pytest.raises(Refusal, match="own reference"):
        run(signals, replace(ROLES, held_out_retrained=2))
    with pytest.raises(Refusal, match="at least one model"):
        run(signals, Roles())
    leaked = replace(signals, members=np.ones_like(signals.members))
    with pytest.raises(Refusal, match="no model was trained on"):
        run(leaked, ROLES)
    with pytest.raises(Refusal, match="forgotten examples to be members"):
        run(replace(signals, forgotten=~signals.members), ROLES)
    with pytest.raises(Refusal, match="share no example"):
        audit(signals, roles=ROLES, ids=IDS, retain=MASKS["retain"], forget=MASKS["test"], test=MASKS["test"])
    with pytest.raises(Refusal, match="100 booleans"):
        audit(signals, roles=ROLES, ids=IDS, **{**MASKS, "test": np.arange(3)})
    with pytest.raises(Refusal, match="test set of at least one"):
        audit(signals, roles=ROLES, ids=IDS, **{**MASKS, "test": np.zeros(100, dtype=bool)})
    with pytest.raises(Refusal, match="one id per example"):
        audit(signals, roles=ROLES, ids=IDS[:5], **MASKS)
    with pytest.raises(Refusal, match="float16"):
        run(replace(signals, logits=signals.logits.astype(np.float16)), ROLES)


def test_a_forgotten_class_without_test_images_skips_the_game_but_not_the_rest(signals):
    labels = np.where(MASKS["forget"], 2, signals.labels % 2)
    found = run(replace(signals, labels=labels), ROLES)
    assert "FT game" in {skip["metric"] for skip in found["skipped"]}
    assert found["models"]["unlearned"]["games"]["FT"] == {}
    assert found["models"]["unlearned"]["games"]["FR"]["loss"]["n_negative"] == 20
    assert found["exposed"] == []
    json.dumps(found, allow_nan=False)


def test_memory_mapped_signals_are_only_read(signals, tmp_path):
    path = tmp_path / "logits.npy"
    np.save(path, signals.logits)
    mapped = np.load(path, mmap_mode="r")
    assert run(replace(signals, logits=mapped), ROLES) == run(signals, ROLES)


def test_multi_label_models_are_audited_too():
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 2, (600, 3)).astype(np.float32)
    parts = np.repeat([0, 1, 2], 200)
    seen = np.array([parts < 2, parts < 1, parts < 1])
    ease = rng.normal(1, 1.5, (600, 3)) + 3 * seen[:, :, None]
    logits = (ease * (2 * labels - 1)).astype(np.float32)[:, None]
    signals = Signals(("o", "r", "u"), logits, labels, seen, np.zeros((3, 600), dtype=bool))
    found = audit(
        signals,
        roles=Roles(original=0, retrained=(1,), unlearned=0),
        retain=parts == 0,
        forget=parts == 1,
        test=parts == 2,
        ids=np.arange(600).astype(str),
        classes=("left", "up", "sad"),
    )
    assert found["verdict"] == "under-forgotten"
    assert isinstance(found["exposed"][0]["label"], list)
    json.dumps(found, allow_nan=False)
