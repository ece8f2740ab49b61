"""Damage, forgetting and the models without damage, in one command."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from unteach.cli import main
from unteach.store import read_json

SHORT = ("--recipe.optim.epochs", "3", "--references", "2", "--quiet", "true")


def tamper(out: Path, *arguments: str) -> dict[str, Any]:
    assert main(["tamper", "--out", str(out), *SHORT, *arguments]) == 0
    found = read_json(out / "findings.json")
    assert isinstance(found, dict)
    return found


def values(found: dict[str, Any], who: str) -> dict[str, float]:
    return {f"{one['name']}, {one['part']}": one["value"] for one in found["measures"][who]}


def test_swapped_labels_are_learned_and_forgotten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wanted = ("--tampering.kind", "confuse", "--tampering.count", "240")
    found = tamper(tmp_path, *wanted, "--method", "retrain", "--recipe.optim.epochs", "8")
    assert found["counts"] == {"tampered": 240, "asked": 240, "training": 1438}
    before, after = values(found, "original"), values(found, "unlearned")
    error = "IC-ERR, test"
    clean = next(one["retrained"] for one in found["measures"]["unlearned"] if one["name"] == "IC-ERR")
    assert before[error] > 2 * after[error]
    assert after[error] <= 0.15
    assert len(clean) == 2
    assert "240 of 240 tampered examples forgotten" in capsys.readouterr().out


def test_a_backdoor_that_was_found_in_part(tmp_path: Path) -> None:
    wanted = ("--tampering.kind", "poison", "--tampering.count", "100", "--found", "0.1")
    found = tamper(tmp_path, *wanted, "--method", "finetune", "--optim.epochs", "1")
    assert found["counts"]["asked"] == 10
    success = "attack success rate, test"
    assert values(found, "original")[success] > 0.8
    assert values(found, "unlearned")[success] > 0.5, "nine tenths of the poison are still trained on"
    told = next(one for one in found["measures"]["unlearned"] if one["name"] == "attack success rate")
    assert max(told["retrained"]) < 0.1


def test_noise_again_costs_nothing_and_tells_the_same(tmp_path: Path) -> None:
    wanted = ("--tampering.kind", "noise", "--tampering.share", "0.05", "--method", "finetune", "--optim.epochs", "1")
    first = tamper(tmp_path, *wanted)
    made = {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("*.safetensors")}
    assert sorted(made) == [f"{name}.safetensors" for name in ("original", "retrained-0", "retrained-1", "unlearned")]
    assert tamper(tmp_path, *wanted) == first
    assert {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("*.safetensors")} == made


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--references", "0"), "expected 1 or more --references"),
        (("--method", "dau"), "needs no validation data"),
        (("--tampering.first", "5"), "two different classes"),
        (("--tampering.kind", "poison", "--tampering.count", "5000"), "5000 or more images"),
        (("--found", "0"), "expected a share above 0"),
    ],
    ids=["references", "validation", "classes", "count", "share"],
)
def test_what_is_refused(
    arguments: tuple[str, ...], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["tamper", "--out", str(tmp_path / "out"), *arguments]) == 2
    assert words in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out").exists()
