"""The benchmark that kills jobs finds what it is to find; a few kills of each verb leave nothing behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from durability.conftest import BENCHMARKS


def kill(count: int, folder: Path) -> None:
    command = [sys.executable, str(BENCHMARKS / "kills.py"), "--kills", str(count), "--folder", str(folder)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    lives = json.loads((folder / "kills.json").read_text())
    assert sum(len(each["kills"]) for each in lives) >= count
    assert not any(each["faults"] or each["differ"] for each in lives)


@pytest.mark.slow
def test_three_kills_a_verb(tmp_path: Path) -> None:
    kill(12, tmp_path)


@pytest.mark.slow
def test_twenty_kills_a_verb(tmp_path: Path) -> None:
    kill(80, tmp_path)


def test_files_that_are_not_whole_are_found(done: Path, whole: ModuleType, tmp_path: Path) -> None:
    names = [
        "model.safetensors",
        "findings.json",
        "report.html",
        "settings.json",
        "events.jsonl",
        "signals.safetensors",
    ]
    for name in names:
        content = (done / name).read_bytes()
        (tmp_path / name).write_bytes(content)
        assert not list(whole.damage(tmp_path))
        (tmp_path / name).write_bytes(content[: len(content) // 2 + 1])
        assert [told.split()[0] for told in whole.damage(tmp_path)] == [name]
        (tmp_path / name).unlink()
    (tmp_path / "training.resume").write_bytes(b"PK\3\4half")
    assert [told.split()[0] for told in whole.damage(tmp_path)] == ["training.resume"]


def test_files_that_differ_are_found(done: Path, whole: ModuleType, tmp_path: Path) -> None:
    known = whole.contents(done)
    for name in ("model.safetensors", "forget.txt"):
        content = bytearray((done / name).read_bytes())
        content[-2] ^= 1
        (tmp_path / name).write_bytes(content)
        assert whole.different(whole.contents(tmp_path), {name: known[name]}) == [name]
        (tmp_path / name).unlink()
    told = json.loads((done / "findings.json").read_text())
    told["cost"]["forget_seconds"] += 1
    (tmp_path / "findings.json").write_text(json.dumps(told))
    assert not whole.different(whole.contents(tmp_path), {"findings.json": known["findings.json"]}), "times"
    told["verdict"] = "other"
    (tmp_path / "findings.json").write_text(json.dumps(told))
    assert set(whole.different(whole.contents(tmp_path), known)) == known.keys(), (
        "this one, and those that are not there"
    )
