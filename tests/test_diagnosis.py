"""What is said at first sight, and that collapse is never silent."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from made import blobs
from unteach.api import Forgotten, forget
from unteach.cli import main
from unteach.diagnosis import advice, turn
from unteach.engine import Engine
from unteach.guard import Guard
from unteach.methods import METHODS, Amun, FineTune, Fisher, GradientAscent, RandomLabel, Retrain
from unteach.models import Blueprint, build
from unteach.store import fingerprint, read_json
from unteach.train import Sgd, Source, fit
from unteach.types import Examples, Method

SMALL = Sgd(lr=0.01, epochs=3, batch=16)
DATA = blobs(120, noise=0.45)
UNSEEN = blobs(60, noise=0.45, seed=5)
GONE = [str(name) for name in DATA.ids[::7]]


@pytest.fixture(scope="module")
def original() -> torch.nn.Module:
    model = build(Blueprint(name="small-cnn", classes=3, shape=(1, 8, 8)), seed=0)
    fit(model, [Source(DATA)], Sgd(lr=0.1, epochs=10, batch=32), seed=0, engine=Engine(precision="fp32"))
    return model


def told(
    model: torch.nn.Module,
    method: Method,
    *,
    ids: list[str] = GONE,
    validation: Examples | None = None,
    guard: Guard | None = None,
) -> Forgotten:
    engine = Engine(precision="fp32")
    return forget(model, DATA, ids, method, validation=validation, engine=engine, guard=guard or Guard())


def test_doing_nothing_is_called_idle(original: torch.nn.Module) -> None:
    found = told(original, FineTune(optim=replace(SMALL, lr=1e-6))).diagnosis
    assert found.kind == "idle"
    assert "answered as before" in found.sentence
    assert found.sentence.endswith("raise optim.lr (now 1e-06).")
    assert found.before == pytest.approx(found.after, abs=0.02)


def test_a_class_that_is_still_known_is_called_idle(original: torch.nn.Module) -> None:
    ids = [str(name) for name in DATA.ids[DATA.labels.numpy() == 1]]
    found = told(original, FineTune(optim=replace(SMALL, lr=1e-6)), ids=ids).diagnosis
    assert found.kind == "idle"
    assert "of the forgotten classes 100.0 % are still answered right" in found.sentence


def test_collapse_keeps_a_safe_state_and_names_the_knob(original: torch.nn.Module) -> None:
    up = Sgd(lr=0.05, epochs=12, batch=16, schedule="constant", weight_decay=0.0)
    made = told(original, GradientAscent(optim=up))
    assert made.diagnosis.kind == "kept"
    assert "the network collapsed" in made.diagnosis.sentence
    assert made.diagnosis.sentence.endswith("lower optim.lr (now 0.05).")
    assert made.diagnosis.after["retain"] > 0.6
    loose = told(original, GradientAscent(optim=up), guard=Guard(keep=0))
    assert loose.diagnosis.kind != "kept"
    assert loose.diagnosis.after["retain"] < 0.6
    assert fingerprint(loose.model) != fingerprint(made.model)


def test_a_collapse_in_one_step_is_told_too(original: torch.nn.Module) -> None:
    made = told(original, Fisher(alpha=100.0))
    assert made.diagnosis.kind == "collapsed"
    assert "no safe state to keep; do not use it" in made.diagnosis.sentence
    assert f"(now {100:g})" in made.diagnosis.sentence


def test_more_than_retraining_would_is_told_where_there_are_unseen_examples(original: torch.nn.Module) -> None:
    wrong = RandomLabel(optim=Sgd(lr=0.1, epochs=12, batch=16))
    found = told(original, wrong, validation=UNSEEN).diagnosis
    assert found.kind == "excessive"
    assert "more was forgotten than retraining would; lower optim.lr (now 0.1)" in found.sentence
    assert told(original, wrong).diagnosis.kind == "fine", "nothing unseen to compare with"


def test_forgetting_that_accuracy_does_not_show_is_not_called_idle(original: torch.nn.Module) -> None:
    """Confidence alone fell: random labels, but gently."""
    found = told(original, RandomLabel(optim=Sgd(lr=0.002, epochs=3, batch=16))).diagnosis
    assert found.after["forget"] == found.before["forget"] == 1.0
    assert found.after["apart"] > 0.7 > found.before["apart"]
    assert found.kind == "fine"
    assert "told apart with AUC" in found.sentence


def test_it_changes_nothing_else(original: torch.nn.Module) -> None:
    before = fingerprint(original)
    with_guard, without = (told(original, Amun(optim=SMALL), guard=guard) for guard in (Guard(), Guard(keep=0)))
    assert fingerprint(with_guard.model) == fingerprint(without.model)
    assert fingerprint(original) == before
    assert [stage.units for stage in with_guard.stages] == [stage.units for stage in without.stages]


@pytest.mark.parametrize("name", METHODS)
def test_advice_names_a_setting_and_its_direction(name: str) -> None:
    method = METHODS[name]()
    more, less = advice(method, "under-forgotten"), advice(method, "over-forgotten")
    assert advice(method, "inconclusive") == advice(method, "indistinguishable from retrain within tolerance") == ""
    if isinstance(method, Retrain) or name == "sisa":
        assert more == less == ""
        return
    knob, way = type(method).card.more  # type: ignore[attr-defined]
    assert f"{'raise' if way == 'up' else 'lower'} {knob} (now " in more
    assert f"{'lower' if way == 'up' else 'raise'} {knob} (now " in less
    assert turn(method, more=True) in more


def test_the_verb_files_and_shows_what_was_seen(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fresh = str(tmp_path / "original")
    assert main(["train", "--optim.epochs", "6", "--out", fresh, "--quiet", "true"]) == 0
    arguments = ["--method", "finetune", "--optim.lr", "1e-6", "--optim.epochs", "1", "--references", "1"]
    out = tmp_path / "forget"
    checkpoint = f"{fresh}/model.safetensors"
    assert main(["forget", "--checkpoint", checkpoint, *arguments, "--out", str(out), "--quiet", "true"]) == 0
    findings = read_json(out / "findings.json")
    assert findings["diagnosis"]["kind"] == "idle"
    assert "Forgotten examples are answered as before" in " ".join(capsys.readouterr().out.split())
    for page in ("report.html", "report.md"):
        assert "answered as before" in (out / page).read_text()
    assert np.isfinite(list(findings["diagnosis"]["after"].values())).all()
