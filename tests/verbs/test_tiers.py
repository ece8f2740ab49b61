"""Tiers through the command line: their models are made once and shared, every measure comes with a floor or a reason."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from unteach.audit.finding import FAMILIES
from unteach.references.tiers import TIERS
from unteach.store import read_json, write_json

ALONE = ("--executor.workers", "1", "--executor.device", "cpu", "--quiet", "true")


@pytest.fixture(scope="module")
def smoked(case: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One erasure job with a smoke tier; its cache stands beside it."""
    folder = tmp_path_factory.mktemp("tiers")
    ran = case.forget(folder / "run", "--tier", "smoke", "--cache", folder / "cache", *ALONE)
    assert ran.code == 0, ran
    assert "2 retrained, 4 on random halves; 6 missing" in ran.out
    return folder


def test_every_measure_has_a_floor_or_a_reason(smoked: Path) -> None:
    findings = read_json(smoked / "run" / "findings.json")
    names = {one["name"] for one in findings["measures"]}
    for expected in (
        "LiRA AUC",
        "RMIA AUC",
        "JS divergence",
        "FT AUC of boosted trees",
        "MIA-efficacy (SVC, confidence)",
    ):
        assert expected in names
    for one in findings["measures"]:
        assert one["family"] in FAMILIES
        assert len(one["retrained"]) >= 2 or one["name"] == "relative weight distance (ℓ2)", one["name"]
        assert one["chance"] is None or 0 <= one["chance"] <= 1
    reasons = {one["metric"]: one["reason"] for one in findings["skipped"]}
    for expected in ("U-LiRA", "RULI", "KLoM and the competition's ε", "tests of behaviour"):
        assert expected in reasons
        assert reasons[expected]
    assert findings["controls"]["untrained_rejected"]["passed"] is not None
    assert findings["tier"] == TIERS["smoke"].words()
    assert findings["power"]
    page = (smoked / "run" / "report.html").read_text()
    for said in (
        "Further measures",
        "LiRA AUC, FT",
        "How much this audit could have seen",
        "2 retrained, 4 on random halves",
    ):
        assert said in page
    assert "## Further measures" in (smoked / "run" / "report.md").read_text()


def test_the_split_is_on_paper(smoked: Path) -> None:
    with (smoked / "run" / "split.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert sorted({row["part"] for row in rows}) == ["forget", "retain", "test"]
    assert len(rows) == 96 + 48
    forgotten = {row["id"] for row in rows if row["part"] == "forget"}
    assert forgotten == set((smoked / "run" / "forget.txt").read_text().split("\n")) - {""}


def test_another_audit_makes_none_of_the_models_again(
    smoked: Path, case: Any, run: Callable[..., Any], tmp_path: Path
) -> None:
    made = sorted(path.name for path in (smoked / "cache" / "records").iterdir())
    ran = run(
        *(
            "audit",
            "--unlearned",
            smoked / "run" / "model.safetensors",
            "--original",
            case.original,
            "--data",
            case.data,
        ),
        *(
            "--ids",
            smoked / "run" / "forget.txt",
            "--tier",
            "smoke",
            "--cache",
            smoked / "cache",
            "--out",
            tmp_path / "audit",
        ),
        *ALONE,
        *("--device", "cpu", "--precision", "fp32"),
    )
    assert ran.code == 0, ran
    assert "2 retrained, 4 on random halves; none missing" in ran.out
    assert made == sorted(path.name for path in (smoked / "cache" / "records").iterdir())
    first, second = (read_json(folder / "findings.json") for folder in (smoked / "run", tmp_path / "audit"))
    assert first["measures"] == second["measures"]
    assert first["verdict"] == second["verdict"]


def test_a_budget_takes_the_strongest_tier_that_is_known_to_fit(smoked: Path, case: Any, tmp_path: Path) -> None:
    ran = case.forget(tmp_path / "none", "--max_minutes", "0.00001", "--cache", tmp_path / "empty", *ALONE)
    ran.refused("a tier that is known to fit into 1e-05 minutes", "gold", "smoke")
    # What is in the cache costs nothing; quick takes one retrained model more, which no budget of nothing allows.
    ran = case.forget(tmp_path / "some", "--max_minutes", "0.00001", "--cache", smoked / "cache", *ALONE)
    assert ran.code == 0, ran
    assert read_json(tmp_path / "some" / "findings.json")["tier"] == TIERS["smoke"].words()


def test_other_tiers_are_refused(case: Any, tmp_path: Path) -> None:
    case.forget(tmp_path / "run", "--tier", "platinum", *ALONE).refused("smoke, quick, standard", "'platinum'")


def test_a_tier_without_an_original_is_refused(
    smoked: Path, case: Any, run: Callable[..., Any], tmp_path: Path
) -> None:
    run(
        *(
            "audit",
            "--unlearned",
            smoked / "run" / "model.safetensors",
            "--data",
            case.data,
            "--out",
            tmp_path / "audit",
        ),
        *("--ids", smoked / "run" / "forget.txt", "--tier", "smoke"),
    ).refused("--original for a --tier")


def test_a_reference_model_is_no_original(smoked: Path, case: Any, run: Callable[..., Any], tmp_path: Path) -> None:
    records = [read_json(path) for path in (smoked / "cache" / "records").iterdir()]
    assert {record["kind"] for record in records} == {"training"}
    ran = run(
        *(
            "references",
            "--checkpoint",
            case.original,
            "--data",
            case.data,
            "--halves",
            "2",
            "--folder",
            tmp_path / "cache",
        ),
        *ALONE,
    )
    assert ran.code == 0, ran
    half = next((tmp_path / "cache" / "weights").iterdir())
    run("forget", "--checkpoint", half, "--data", case.data, "--ids", "random:0.1", "--out", tmp_path / "out").refused(
        "a reference model that was trained on test examples"
    )


def test_without_a_method_no_model_is_made_to_forget(smoked: Path, tmp_path: Path) -> None:
    from unteach.provenance import Provenance
    from unteach.verbs.depth import method_of

    assert method_of(Provenance()) is None
    assert method_of(Provenance(made_by={"method": "theirs", "settings": {}})) is None
    told = read_json(smoked / "run" / "findings.json")["method"]
    write_json(tmp_path / "told.json", told)
    again = method_of(Provenance(made_by={"method": told["name"], "settings": told["settings"]}))
    assert type(again).__name__ == told["name"]
