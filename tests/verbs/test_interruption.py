"""Stopped anywhere, by Ctrl-C or by force, the same command goes on and ends where an undisturbed one does."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from unteach.store import load_tensors

FINAL = {"model.safetensors", "forget.txt", "findings.json", "report.html", "report.md", "settings.json"}
FINAL |= {"events.jsonl", "adversarial.safetensors", "retrained-0.safetensors", "retrained-1.safetensors"}
FINAL |= {"signals.safetensors"}

Tell = Callable[[str, int, int], None]


def stop_at(monkeypatch: pytest.MonkeyPatch, stage: str, count: int) -> list[str]:
    """Ctrl-C at the ``count``-th sign of life of a stage; returns the stages heard of, in order."""
    heard: list[str] = []

    def tell(label: str, done: int, total: int) -> None:
        heard.append(label)
        if heard.count(stage) == count and label == stage:
            raise KeyboardInterrupt

    @contextlib.contextmanager
    def bar(wanted: bool) -> Iterator[Tell]:
        yield tell

    monkeypatch.setattr("unteach.verbs.terminal.progress_bar", bar)
    return heard


def same_weights(one: Path, other: Path) -> bool:
    ours, theirs = load_tensors(one)[0], load_tensors(other)[0]
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def judged(folder: Path) -> dict[str, Any]:
    """Findings without the bill, whose seconds differ from run to run."""
    found: dict[str, Any] = json.loads((folder / "findings.json").read_text())
    del found["cost"]
    return found


# Four epochs: 5 steps each for the references, 8 for amun.
STAGES = [
    ("adversarial examples", 1),
    ("amun", 1),
    ("amun", 20),
    ("amun", 32),
    ("retraining 1 of 2", 3),
    ("retraining 2 of 2", 13),
    ("retraining 2 of 2", 20),
    ("scoring", 1),
    ("scoring", 4),
]


@pytest.mark.parametrize(("stage", "count"), STAGES)
def test_forget_stopped_by_hand(
    stage: str, count: int, case: Any, done: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    with monkeypatch.context() as patch:
        stop_at(patch, stage, count)
        ran = case.forget(folder)
    assert (ran.code, ran.err) == (130, "unteach: stopped; the same command goes on where it was\n")
    left = {path.name for path in folder.iterdir()}
    assert left <= FINAL | {name for name in left if name.endswith(".resume")}, "half-written files"
    for name in left:
        if name.endswith(".safetensors"):
            load_tensors(folder / name)  # whole, or it would be refused
    assert not {"findings.json", "report.html"} & left
    assert ("model.safetensors" in left) == (stage not in ("adversarial examples", "amun"))

    with monkeypatch.context() as patch:
        heard = stop_at(patch, "", 0)
        assert case.forget(folder).code == 0
    assert {path.name for path in folder.iterdir()} == FINAL
    for name in ("model", "retrained-0", "retrained-1"):
        assert same_weights(folder / f"{name}.safetensors", done / f"{name}.safetensors")
    assert judged(folder) == judged(done)
    assert (folder / "forget.txt").read_bytes() == (done / "forget.txt").read_bytes()
    whole = {"amun": 32, "retraining 1 of 2": 20, "retraining 2 of 2": 20}
    if stage in whole:
        per_epoch = whole[stage] // 4
        assert heard.count(stage) == whole[stage] - (count - 1) // per_epoch * per_epoch, "whole epochs are kept"
    order = list(dict.fromkeys(["adversarial examples", "amun", "retraining 1 of 2", "retraining 2 of 2", "scoring"]))
    finished = order[: order.index(stage)]
    assert not set(finished) & set(heard), "stages that were over are not gone through again"


def test_the_bill_of_a_job_stopped_between_stages(
    case: Any, done: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        stop_at(patch, "amun", 1)
        assert case.forget(tmp_path / "run").code == 130
    assert case.forget(tmp_path / "run").code == 0
    ours, theirs = (json.loads((f / "findings.json").read_text())["cost"] for f in (tmp_path / "run", done))
    assert ours["forget_epochs"] == pytest.approx(theirs["forget_epochs"]), "preparation counts, whenever it was done"
    assert ours["retrain_epochs"] == theirs["retrain_epochs"]


@pytest.mark.parametrize("count", [1, 13, 24])
def test_train_stopped_by_hand(
    count: int, case: Any, run: Any, short: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = ("train", "--data", case.data, "--out", tmp_path / "run", *short)
    with monkeypatch.context() as patch:
        stop_at(patch, "training", count)
        ran = run(*asked)
    assert (ran.code, ran.err) == (130, "unteach: stopped; the same command goes on where it was\n")
    assert not (tmp_path / "run" / "model.safetensors").exists()
    assert run(*asked).code == 0
    assert same_weights(tmp_path / "run" / "model.safetensors", case.original)
    assert not list((tmp_path / "run").glob("*.resume"))


def test_stopped_while_a_file_is_written(
    case: Any, done: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(descriptor: int) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", stop)
        assert case.forget(tmp_path / "run").code == 130
    assert not list((tmp_path / "run").iterdir())
    assert case.forget(tmp_path / "run").code == 0
    assert same_weights(tmp_path / "run" / "model.safetensors", done / "model.safetensors")


LONG = ("--optim.epochs", "15", "--optim.batch", "8", "--device", "cpu", "--precision", "fp32")


# The command with a pause after every event: it can't be over before it is struck, however fast the machine.
SLOWLY = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job inherits that it is ignored
import time
from unteach.cli import script
from unteach.events import Events

emit = Events.emit

def emit_and_wait(*told, **fields):
    emit(*told, **fields)
    time.sleep(0.3)

Events.emit = emit_and_wait
script()
"""


@pytest.fixture(scope="module")
def undisturbed(case: Any, run: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("undisturbed") / "run"
    assert run("train", "--data", case.data, "--out", folder, *LONG).code == 0
    return folder / "model.safetensors"


@pytest.mark.parametrize(
    ("blow", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)], ids=["SIGINT", "SIGKILL"]
)
def test_a_process_that_is_struck_goes_on(
    blow: signal.Signals, code: int, case: Any, run: Any, undisturbed: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    asked = ["train", "--data", case.data, "--out", str(folder), *LONG]
    command = [sys.executable, "-c", SLOWLY, *asked]
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    child = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    while child.poll() is None and not list(folder.glob("*.resume")):
        time.sleep(0.005)
    child.send_signal(blow)
    _, said = child.communicate()
    assert child.returncode == code, said
    assert said == ("unteach: stopped; the same command goes on where it was\n" if blow == signal.SIGINT else "")
    assert not (folder / "model.safetensors").exists()
    assert run(*asked).code == 0
    assert same_weights(folder / "model.safetensors", undisturbed)
    epochs = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    numbers = [event["epoch"] for event in epochs if event["event"] == "epoch"]
    assert sorted(set(numbers)) == list(range(1, 16))
    assert len(numbers) <= 16, "whole epochs are not done twice, but for one whose end was told and not yet kept"
