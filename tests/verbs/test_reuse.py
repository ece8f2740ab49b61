"""What runs share: made once, taken from the cache with the same bytes, and never where it might differ."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from unteach.references.cache import weights_of
from unteach.store import read_json
from verbs.test_erasure_job import events


def reused(folder: Path) -> list[str]:
    return [str(one["what"]) for one in events(folder) if one["event"] == "reused"]


def weights(path: Path) -> str:
    return str(weights_of(path)["sha256"])


def judged(folder: Path) -> dict[str, Any]:
    """What the findings say, without what it took."""
    found: dict[str, Any] = read_json(folder / "findings.json")  # type: ignore[assignment]
    return {name: value for name, value in found.items() if name not in ("cost", "environment")}


@pytest.fixture(scope="module")
def both(case: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """One request by two methods with one cache, and the second method again without."""
    folder = tmp_path_factory.mktemp("reuse")
    for name in ("amun", "finetune"):
        assert case.forget(folder / name, "--method", name).code == 0
    assert case.forget(folder / "alone", "--method", "finetune", "--reuse", "false").code == 0
    return folder / "amun", folder / "finetune", folder / "alone"


def test_the_second_method_trains_no_reference(both: tuple[Path, Path, Path]) -> None:
    first, second, alone = both
    assert reused(first) == []
    assert reused(second) == ["retraining 1 of 2", "retraining 2 of 2"]
    assert reused(alone) == []
    stages = [{one.get("stage", "") for one in events(folder) if one["event"] == "epoch"} for folder in both]
    assert any("retraining" in stage for stage in stages[0])
    assert not any("retraining" in stage for stage in stages[1])
    assert any("retraining" in stage for stage in stages[2])


def test_the_bytes_are_those_of_a_run_on_its_own(both: tuple[Path, Path, Path]) -> None:
    _, second, alone = both
    for name in ("model", "retrained-0", "retrained-1"):
        assert weights(second / f"{name}.safetensors") == weights(alone / f"{name}.safetensors")
    assert judged(second) == judged(alone)
    assert read_json(second / "findings.json")["cost"]["retrain_seconds"] > 0, (
        "what was reused is billed as it was made"
    )


def test_an_audit_reads_what_was_scored(
    both: tuple[Path, Path, Path], case: Any, run: Callable[..., Any], short: tuple[str, ...]
) -> None:
    first = both[0]
    scores = first.parent / "cache" / "scores"
    before = sorted(path.name for path in scores.iterdir())
    # Three parts of five models for the first method, one more model's for the second.
    assert len(before) == 3 * 5 + 3
    arguments = (
        *("audit", "--unlearned", first / "model.safetensors", "--original", case.original, "--data", case.data),
        *("--retrained", first / "retrained-0.safetensors", first / "retrained-1.safetensors"),
        *("--ids", first / "forget.txt", "--device", "cpu", "--precision", "fp32", "--out"),
    )
    assert run(*arguments, first.parent / "audit").code == 0
    assert sorted(path.name for path in scores.iterdir()) == before, "nothing was left to score"
    for path in scores.iterdir():
        path.write_bytes(b"damaged")
    assert run(*arguments, first.parent / "again").code == 0
    found = [judged(first.parent / name) for name in ("audit", "again")]
    assert found[0] == found[1]


def test_what_is_damaged_or_was_made_otherwise_is_not_taken(case: Any, tmp_path: Path) -> None:
    assert case.forget(tmp_path / "one", "--method", "finetune").code == 0
    kept = sorted((tmp_path / "cache" / "weights").iterdir())
    assert len(kept) == 2
    kept[0].write_bytes(kept[0].read_bytes()[:-1] + b"x")
    assert case.forget(tmp_path / "two", "--method", "neggrad-plus").code == 0
    assert len(reused(tmp_path / "two")) == 1
    assert weights(tmp_path / "one" / "retrained-0.safetensors") == weights(
        tmp_path / "two" / "retrained-0.safetensors"
    )
    whole = {weights(tmp_path / "one" / f"retrained-{number}.safetensors") for number in range(2)}
    assert {weights(path) for path in kept} == whole, "the damaged one is whole again"
    assert case.forget(tmp_path / "bf16", "--method", "finetune", "--precision", "bf16").code == 0
    assert reused(tmp_path / "bf16") == []
    record = next((tmp_path / "cache" / "records").iterdir())
    told = json.loads(record.read_text())
    record.write_text(json.dumps(told | {"environment": told["environment"] | {"torch": "1.0"}}))
    assert case.forget(tmp_path / "old", "--method", "finetune", "--optim.lr", "0.01").code == 0
    assert len(reused(tmp_path / "old")) < 2


def test_adversarial_examples_outlive_the_run(case: Any, tmp_path: Path) -> None:
    for name, rate in (("slow", "0.01"), ("fast", "0.1")):
        assert case.forget(tmp_path / name, "--optim.lr", rate, "--references", "0").code == 0
    assert len(list((tmp_path / "cache" / "searched").iterdir())) == 1
    found = [read_json(tmp_path / name / "findings.json")["cost"]["parts"] for name in ("slow", "fast")]
    assert found[0][0]["what"] == "adversarial examples"
    assert found[1][0]["what"] == "adversarial examples, reused (cost when made)"
    assert found[1][0]["epochs"] == pytest.approx(found[0][0]["epochs"])
    assert case.forget(tmp_path / "other", "--attack.kind", "fgsm", "--references", "0").code == 0
    assert len(list((tmp_path / "cache" / "searched").iterdir())) == 2


def test_what_runs_share_of_the_forgotten_can_be_deleted(case: Any, run: Callable[..., Any], tmp_path: Path) -> None:
    assert case.forget(tmp_path / "one", "--references", "0").code == 0
    cache = tmp_path / "cache"
    held = [path for kind in ("scores", "searched") for path in (cache / kind).iterdir()]
    assert len(held) == 3 * 3 + 1
    asked = ("cache", "--folder", cache, "--drop", "answers")
    assert "10 files of answers" in run(*asked).out
    assert all(path.exists() for path in held), "it was only said"
    assert "deleted" in run(*asked, "--delete", "true").out
    assert not any(path.exists() for path in held)
