"""The benchmark for GPUs, rehearsed without one: every piece gives readings, and a second call goes on from the first."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

ROOT = Path(__file__).parents[1]


@pytest.fixture
def notebook(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import gpu_notebook

    return gpu_notebook


def test_readings_are_kept_and_not_made_again(notebook: ModuleType, tmp_path: Path) -> None:
    book = notebook.Notebook(tmp_path, 60)
    assert book.tried("steps", "one", lambda: {"ms": 2.0}) == {"ms": 2.0}
    assert json.loads((tmp_path / "steps.json").read_text()) == {"one": {"ms": 2.0}}
    later = notebook.Notebook(tmp_path, 60)
    assert later.tried("steps", "one", lambda: {"ms": 9.0}) == {"ms": 2.0}
    assert later.rows("steps") == {"one": {"ms": 2.0}}
    assert later.rows("others") == {}


def test_a_failure_is_noted_and_the_next_reading_is_made(notebook: ModuleType, tmp_path: Path) -> None:
    book = notebook.Notebook(tmp_path, 60)

    def fail() -> dict[str, float]:
        raise RuntimeError("no room\non the card")

    assert book.tried("steps", "one", fail) is None
    assert book.notes == ["steps, one: RuntimeError: no room"]
    assert book.tried("steps", "two", lambda: {"ms": 1.0}) == {"ms": 1.0}
    assert list(book.rows("steps")) == ["two"]


def test_nothing_is_begun_that_does_not_fit(notebook: ModuleType, tmp_path: Path) -> None:
    book = notebook.Notebook(tmp_path, 60)
    with pytest.raises(notebook.OutOfTime, match="no time was left for one"):
        book.tried("steps", "one", lambda: {"ms": 1.0}, 61)
    with book.at_most(5):
        assert book.left() <= 5
        with pytest.raises(notebook.OutOfTime):
            book.tried("steps", "one", lambda: {"ms": 1.0}, 6)
    assert book.left() > 50
    assert not list(tmp_path.iterdir())


def test_patterns_are_of_cifars_shape_and_always_the_same(notebook: ModuleType) -> None:
    first, again = notebook.patterns(40), notebook.patterns(40)
    assert first.inputs.shape == (40, 3, 32, 32)
    assert first.inputs.dtype == torch.uint8
    assert first.fingerprint() == again.fingerprint()


@pytest.mark.slow
def test_the_rehearsal_measures_every_piece(tmp_path: Path) -> None:
    command = [
        sys.executable,
        str(ROOT / "benchmarks" / "gpu.py"),
        "--device",
        "cpu",
        "--small",
        "--out",
        str(tmp_path),
    ]
    bare = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    told = subprocess.run(command, check=True, env=bare, stdout=subprocess.PIPE, text=True, timeout=280).stdout
    found = json.loads((tmp_path / "gpu.json").read_text())
    pieces = {path.stem for path in tmp_path.glob("*.json")} - {"gpu"}
    assert pieces == {"limits", "steps", "epochs", "scoring", "attacks", "workers", "amun", "compiled"}
    assert not [note for note in found["notes"] if "torchattacks" not in note]
    for piece in pieces:
        assert found[piece], piece
        assert f"## {piece}" in told
        for row in found[piece].values():
            assert all(isinstance(value, float) for value in row.values())
    times = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.json") if path.stem != "gpu"}
    subprocess.run([*command, "--only", "limits", "steps"], check=True, env=bare, stdout=subprocess.PIPE, timeout=100)
    assert times == {path: path.stat().st_mtime_ns for path in times}, "a second call measured again"
