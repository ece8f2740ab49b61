"""``./run``: the whole story on digits."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from unteach.store import load_tensors


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory, run: Callable[..., Any]) -> tuple[Any, Path]:
    folder = tmp_path_factory.mktemp("demo") / "demo"
    return run("demo", "--out", folder), folder


def test_it_succeeds_and_prints_the_path_of_the_page(demo: tuple[Any, Path]) -> None:
    ran, folder = demo
    assert ran.code == 0, ran
    assert str(folder / "report.html") in ran.out.replace("\n", "")
    assert ran.err == "", "no progress bars where there is no terminal"


def test_findings_and_checkpoints(demo: tuple[Any, Path]) -> None:
    _, folder = demo
    found = json.loads((folder / "findings.json").read_text())
    for name in ("original", "retrained", "held_out_retrained", "unlearned"):
        assert found["models"][name]["accuracy"].keys() >= {"retain", "forget", "test"}
        assert found["models"][name]["accuracy"]["test"] > 0.9, "a network that can't read digits shows nothing"
    assert found["cost"].keys() >= {"forget_seconds", "retrain_seconds"}
    assert found["verdict"]
    names = ("original/model", "model", "retrained-0", "retrained-1")
    states = [load_tensors(folder / f"{name}.safetensors")[0] for name in names]
    assert all(state.keys() == states[0].keys() for state in states)
    assert (folder / "report.html").stat().st_size > 10_000
