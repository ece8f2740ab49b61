"""The table of trackers: one contract, each against the real program where it is installed."""

from __future__ import annotations

import json
import struct
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from unteach.cli import main
from unteach.tracking import TRACKERS, trackers_named
from unteach.tracking.following import spelled
from unteach.types import Refusal

TRAIN = [
    "train",
    "--optim.epochs",
    "1",
    "--augment.crop",
    "0",
    "--augment.flip",
    "false",
    "--threads",
    "1",
    "--quiet",
    "true",
]
CURVES = {1: 0.5, 2: 0.25}


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing of the developer's trackers, and nothing beside the test's folder."""
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "WANDB_MODE", "WANDB_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("name", TRACKERS)
def test_a_missing_extra_is_named_before_any_work(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for module in TRACKERS[name].modules:
        monkeypatch.setitem(sys.modules, module, None)
    assert main([*TRAIN, "--out", str(tmp_path / "run"), "--track", name]) == 2
    said = capsys.readouterr()
    assert f"pip install 'unteach[{name}]'" in said.err
    assert not said.out
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("verb", ["train", "forget", "audit", "tune", "references"])
def test_every_verb_refuses_an_unknown_tracker(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([verb, "--track", "abacus"]) == 2
    assert "expected --track to be of tensorboard, mlflow, wandb, got 'abacus'" in capsys.readouterr().err


@pytest.mark.parametrize("names", ["abacus", ",", "tensorboard,,mlflow"])
def test_names_that_are_no_trackers(names: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unteach.tracking.find_spec", lambda module: object())
    with pytest.raises(Refusal, match="choose some of these"):
        trackers_named(names)


def test_several_trackers_once_each_in_the_order_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unteach.tracking.find_spec", lambda module: object())
    assert list(trackers_named("wandb, mlflow,wandb")) == ["wandb", "mlflow"]
    assert trackers_named("") == {}


def test_the_table_and_the_extras_are_the_same() -> None:
    import tomllib

    extras = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    assert extras.keys() >= TRACKERS.keys()


def tensorboard_told(folder: Path) -> tuple[dict[int, float], dict[str, float], str]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.util.tensor_util import make_ndarray

    found = EventAccumulator(str(folder / "tensorboard")).Reload()
    scalars = found.Tags()["scalars"]
    ends = {name: found.Scalars(name)[-1].value for name in scalars}
    texts = [str(make_ndarray(found.Tensors(name)[0].tensor_proto)) for name in found.Tags()["tensors"]]
    return {point.step: point.value for point in found.Scalars("epoch/training/loss")}, ends, " ".join(texts)


def mlflow_told(folder: Path) -> tuple[dict[int, float], dict[str, float], str]:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{folder.parent / 'mlflow.db'}")
    (run,) = client.search_runs([client.get_experiment_by_name("unteach").experiment_id])
    assert (run.info.run_name, run.info.status) == (folder.name, "FINISHED")
    curve = {point.step: point.value for point in client.get_metric_history(run.info.run_id, "epoch/training/loss")}
    return curve, run.data.metrics, str(run.data.params | run.data.tags)


def wandb_told(folder: Path) -> tuple[dict[int, float], dict[str, float], str]:
    from wandb.proto import wandb_internal_pb2

    (file,) = (folder / "wandb").rglob("*.wandb")
    records: list[Any] = []
    while not (records and records[-1].HasField("exit")):  # a process of its own writes, and may be behind
        records = [wandb_internal_pb2.Record.FromString(data) for data in log_records(file.read_bytes())]
        time.sleep(0.05)
    curve: dict[int, float] = {}
    ends: dict[str, float] = {}
    for record in records:
        row = {"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in record.history.item}
        if "epoch/training/loss" in row:
            curve[row["step"]] = row["epoch/training/loss"]
        for item in record.summary.update:
            ends["/".join(item.nested_key) or item.key] = json.loads(item.value_json)
    return curve, ends, " ".join(map(str, records))


def log_records(data: bytes) -> Iterator[bytes]:
    """Records of a log in LevelDB's format: blocks of 32 KiB, each record whole or in parts with a head of 7 bytes."""
    at, parts = 7, b""  # after the file's own head
    while at + 7 <= len(data):
        if (left := 32768 - at % 32768) < 7:
            at += left
            continue
        size, kind = struct.unpack_from("<HB", data, at + 4)
        parts += data[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (1, 4):  # whole, or the last part
            yield parts
            parts = b""


TOLD: dict[str, Callable[[Path], Any]] = {
    "tensorboard": tensorboard_told,
    "mlflow": mlflow_told,
    "wandb": wandb_told,
}


def test_every_tracker_is_read_back() -> None:
    assert TOLD.keys() == TRACKERS.keys()


@pytest.mark.filterwarnings("ignore")  # they are not ours to mend
@pytest.mark.parametrize("name", TRACKERS)
def test_the_real_program_reads_what_was_written(name: str, tmp_path: Path) -> None:
    for module in TRACKERS[name].modules:
        pytest.importorskip(module)
    folder = tmp_path / "runs" / "one"
    folder.mkdir(parents=True)
    settings = {"optim.lr": 0.125, "method": "Amun", "preset": True, "long": "x" * 9000}
    run = TRACKERS[name](folder, settings)
    for step, value in CURVES.items():
        run.scalars(step, {"epoch/training/loss": value, spelled("epoch/KL(a ‖ b), ℓ2 of 50 %: 1 − x/…"): 1.0})
    run.finish({"gaps/test": 1.5} | {f"measures/{n}": 0.0 for n in range(1200)}, {"verdict": "under-forgotten"}, False)
    curve, ends, words = TOLD[name](folder)
    assert curve == CURVES
    assert ends["gaps/test"] == 1.5
    for word in ("0.125", "Amun", "under-forgotten"):
        assert word in words, word


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", TRACKERS)
def test_a_training_is_tracked(name: str, tmp_path: Path) -> None:
    for module in TRACKERS[name].modules:
        pytest.importorskip(module)
    folder = tmp_path / "runs" / "one"
    assert main([*TRAIN, "--without", "class:3", "--out", str(folder), "--track", name]) == 0
    events = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    (epoch,) = (event for event in events if event["event"] == "epoch")
    curve, ends, words = TOLD[name](folder)
    assert curve == {1: pytest.approx(epoch["loss"])}
    (trained,) = (event for event in events if event["event"] == "trained")
    assert ends["test_accuracy"] == pytest.approx(trained["test_accuracy"])
    assert "stage/training/seconds" in ends or name == "wandb"
    assert "data_fingerprint" in words
    assert "class:3" not in words
