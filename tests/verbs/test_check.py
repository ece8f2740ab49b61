"""``unteach check`` on a checkpoint that was trained a moment ago."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from unteach.data import load
from unteach.store import load_tensors


@pytest.fixture
def check(case: Any, run: Callable[..., Any]) -> Callable[..., Any]:
    def call(*more: object) -> Any:
        return run(
            "check", "--checkpoint", case.original, "--data", case.data, "--device", "cpu", "--threads", 1, *more
        )

    return call


def test_it_tells_and_writes_what_it_found(check: Any, case: Any, tmp_path: Path) -> None:
    before = case.original.read_bytes()
    ran = check("--ids", "random:0.2", "--out", tmp_path / "out")
    assert ran.code == 0, ran
    assert "Recommendation. " in ran.out
    assert "nan" not in ran.out.lower().split()
    told = json.loads((tmp_path / "out" / "check.json").read_text())
    assert told["request"]["count"] == 19
    assert {remark["name"] for remark in told["remarks"]} >= {
        "ids",
        "fit",
        "memorised",
        "memory",
        "time",
        "recommendation",
    }
    assert sum(told["levels"].values()) == len(told["remarks"])
    for remark in told["remarks"]:
        assert remark["sentence"].split()[0] in ran.out
    origin = next(remark for remark in told["remarks"] if remark["name"] == "origin")
    assert origin["level"] == "fine"
    ids = (tmp_path / "out" / "extended.txt").read_text().splitlines()
    assert set(ids) <= set(load(case.data).train.ids.tolist())
    assert case.original.read_bytes() == before


def test_the_extended_request_is_one_that_check_finds_fine(run: Callable[..., Any], case: Any, tmp_path: Path) -> None:
    data = load(case.data)
    inputs = data.train.inputs.clone()
    inputs[40] = inputs[3]
    np.savez(
        tmp_path / "copied.npz",
        inputs=inputs.numpy(),
        labels=data.train.labels.numpy(),
        ids=data.train.ids,
        test_inputs=data.test.inputs.numpy(),
        test_labels=data.test.labels.numpy(),
    )
    (tmp_path / "ids.txt").write_text("record 3\nrecord 5\n")
    bare = tmp_path / "bare.pt"
    torch.save(load_tensors(case.original)[0], bare)
    asked = (
        "--checkpoint",
        bare,
        "--model",
        "small-cnn",
        "--data",
        f"npz:{tmp_path / 'copied.npz'}",
        "--device",
        "cpu",
    )
    ran = run("check", *asked, "--ids", tmp_path / "ids.txt", "--out", tmp_path)
    assert ran.code == 0, ran
    assert "1 more than asked" in ran.out
    assert (tmp_path / "extended.txt").read_text().splitlines() == ["record 3", "record 5", "record 40"]
    again = run("check", *asked, "--ids", tmp_path / "extended.txt")
    assert "fine  copies" in again.out


def test_gate_and_bad_input(check: Any, tmp_path: Path) -> None:
    ids = tmp_path / "ids.txt"
    ids.write_text("record 1\nrecord 01\n")
    ran = check("--ids", ids, "--gate", "true")
    assert ran.code == 3, ran
    assert "did you mean 'record 1'" in " ".join(ran.out.split())
    assert "Mend first what stops it: ids." in ran.out
    assert check("--ids", ids).code == 0
    check("--ids", "class:nine").refused("expected a class")
    check("--sample", 1).refused("--sample")
    check("--seed", -1).refused("--seed")
    check("--checkpoint", tmp_path / "absent.safetensors").refused("no such file")
