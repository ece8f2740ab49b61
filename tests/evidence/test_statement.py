"""What a statement takes from a run, whatever form the models' files have, and what it refuses to put on record."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from unteach.evidence import Places, examined, opened
from unteach.store import fingerprint, save_tensors
from unteach.types import Refusal
from unteach.verbs import Evidence

LAYOUTS: dict[str, Callable[[Mapping[str, torch.Tensor]], dict[str, torch.Tensor]]] = {
    "plain": dict,
    "prefix": lambda state: {f"module.{name}": value for name, value in state.items()},
    "half": lambda state: {name: value.half() if value.is_floating_point() else value for name, value in state.items()},
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_files_in_the_layout_of_the_one_that_came_in(layout: str, tiny: Any, run_maker: Any, tmp_path: Path) -> None:
    before, after = tiny(0), tiny(1)
    original = tmp_path / "old.safetensors"
    save_tensors(original, LAYOUTS[layout](before.state_dict()), {})
    run = run_maker(tmp_path / "run", original, before, after, LAYOUTS[layout](after.state_dict()))
    assert Evidence(run=run)() == 0
    evidence = opened(run / "evidence.json")
    assert evidence.predicate["before"]["fingerprint"] == fingerprint(before)
    assert evidence.predicate["after"]["fingerprint"] == fingerprint(after)
    assert {evidence.predicate[which]["read"] for which in ("before", "after")} == {layout != "half"}
    checks = examined(evidence, Places(original=original))
    assert not [check for check in checks if check.holds is False]
    assert ("fingerprint" in {check.what for check in checks}) == (layout == "half")


@pytest.mark.parametrize("layout", ["plain", "prefix"])
def test_another_original_is_refused(layout: str, tiny: Any, run_maker: Any, tmp_path: Path) -> None:
    original = tmp_path / "old.safetensors"
    save_tensors(original, LAYOUTS[layout](tiny(5).state_dict()), {})
    after = LAYOUTS[layout](tiny(1).state_dict())
    run = run_maker(tmp_path / "run", original, tiny(0), tiny(1), after)
    with pytest.raises(Refusal, match="made from another one"):
        Evidence(run=run)()
    assert not (run / "evidence.json").exists()
    assert not (run / "officer.html").exists()


def test_findings_of_another_model_are_refused(tiny: Any, run_maker: Any, tmp_path: Path) -> None:
    original = tmp_path / "old.safetensors"
    save_tensors(original, tiny(0).state_dict(), {})
    run = run_maker(tmp_path / "run", original, tiny(0), tiny(1), tiny(2).state_dict())
    with pytest.raises(Refusal, match="another model that came out"):
        Evidence(run=run)()


def test_weights_that_did_not_change_are_refused(tiny: Any, run_maker: Any, tmp_path: Path) -> None:
    original = tmp_path / "old.safetensors"
    save_tensors(original, tiny(0).state_dict(), {})
    run = run_maker(tmp_path / "run", original, tiny(0), tiny(0))
    with pytest.raises(Refusal, match="nothing was done to the model"):
        Evidence(run=run)()


def test_the_same_run_gives_the_same_evidence_but_for_the_time(kept: Path, tmp_path: Path) -> None:
    copied = Path(shutil.copytree(kept, tmp_path / "kept"))
    assert Evidence(run=copied / "run", original=copied / "original.safetensors", overwrite=True)() == 0
    one, two = (opened(folder / "run" / "evidence.json").statement for folder in (kept, copied))
    for statement in (one, two):
        told = statement["predicate"]
        told["made"]["at"] = told["seal"] = told["files"]["officer.html"] = ""
    assert one == two
