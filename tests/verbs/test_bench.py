"""``unteach bench`` from nothing to tables, on a protocol cut down to seconds."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from unteach.bench import protocols
from unteach.bench.protocols import CI
from unteach.bench.rows import named, with_constant
from unteach.cli import main
from unteach.recipe import Recipe
from unteach.train import Sgd

TINY = replace(
    CI,
    recipe=Recipe(optim=Sgd(lr=0.1, epochs=2, batch=32, schedule="onecycle")),
    rows=with_constant(named("finetune", "trw")),
    count=240,
    retain_sample=100,
    nomus=True,
    title="Tiny",
)
TRIED = {
    "tiny": {"ci": TINY},
    "tiny-sequence": {"ci": replace(TINY, requests=("random:12",), steps=2, rows=named("finetune", "amun"))},
    "tiny-strata": {"ci": replace(TINY, requests=("stratum:high:20", "alike:10"), halves=4, rows=named("finetune"))},
}


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, known in TRIED.items():
        monkeypatch.setitem(protocols.PROTOCOLS, name, known)
    monkeypatch.chdir(tmp_path)


def bench(name: str, *more: str) -> int:
    return main(
        [
            *("bench", name, "--cache", "cache", "--out", "out", "--quiet", "true", "--device", "cpu"),
            *("--executor.workers", "1", "--threads", "1", *more),
        ]
    )


def numbers(out: Path = Path("out")) -> dict[tuple[str, str, str], float]:
    with (out / "table.csv").open() as file:
        return {(r["request"], r["method"], r["column"]): float(r["mean"]) for r in csv.DictReader(file)}


def test_a_protocol_runs_resumes_and_grows(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench("tiny") == 0
    told = numbers()
    assert {method for _, method, _ in told} == {"original", "retrained", "finetune", "constant answer"}
    assert "trw (refused: expected whole classes" in Path("out/table.md").read_text()
    assert "constant answer (collapsed, 1 of 1)" in Path("out/table.md").read_text()
    assert told["random:0.1", "retrained", "of retraining"] == pytest.approx(1.0)
    u, f, n = (told["random:0.1", "finetune", column] for column in ("U", "F", "NoMUS"))
    assert n == pytest.approx((u + 1 - 2 * f) / 2)
    page = Path("out/index.html").read_text()
    assert "<svg" in page
    assert "http" not in page.replace("http-equiv", "").replace("http://www.w3.org", "")
    cells = sorted(Path("out/cells").glob("*/*/cell.json"))
    times = {path: path.stat().st_mtime_ns for path in cells}
    tables = {name: (Path("out") / name).read_bytes() for name in ("table.md", "table.csv", "table.tex", "index.html")}
    assert bench("tiny") == 0
    assert {path: path.stat().st_mtime_ns for path in cells} == times, "what is there is not made again"
    assert {name: (Path("out") / name).read_bytes() for name in tables} == tables
    assert bench("tiny", "--methods", "finetune", "ssd") == 0, "further methods may be added"
    assert any(method == "ssd" for _, method, _ in numbers())
    capsys.readouterr()
    assert bench("tiny", "--table", "true") == 0
    assert "| finetune |" in capsys.readouterr().out
    assert bench("tiny", "--count", "200") == 2, "other data are another benchmark"
    assert "other count" in capsys.readouterr().err


def test_requests_in_sequence_have_a_table_after_each() -> None:
    assert bench("tiny-sequence") == 0
    told = numbers()
    first, second = (f"random:12, after {step} of 2" for step in (1, 2))
    assert {request for request, _, _ in told} == {first, second}
    assert (second, "amun", "earlier AUC") in told
    assert (first, "amun", "earlier AUC") not in told
    assert all(0 <= told[step, "amun", "FT AUC"] <= 1 for step in (first, second))
    cell: dict[str, Any] = json.loads(Path("out/cells/retrained/0-0-0-0/cell.json").read_text())
    assert len(cell["steps"]) == 2


def test_strata_are_drawn_by_the_reference_models(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench("tiny-strata") == 0
    told = numbers()
    assert {request for request, _, _ in told} == {"stratum:high:20", "alike:10"}
    found = json.loads(Path("out/cells/finetune/0-0-0-0/findings.json").read_text())
    assert found["request"]["forget"] == 20
    assert ("stratum:high:20", "finetune", "RMIA AUC") in told
    drawn = [
        json.loads(path.read_text())["request"]["ids_digest"]
        for path in sorted(Path("out/cells").glob("*/0-*/findings.json"))
    ]
    assert len(set(drawn)) == 1, "all rows forget the same"


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--profile", "moon"), "expected a profile"),
        (("--methods", "nothing"), "expected a method"),
        (("--retrained", "1"), "2 or more"),
        (("--table", "true"), "expected cells"),
    ],
    ids=["profile", "method", "retrained", "empty"],
)
def test_bad_input_is_a_sentence(more: tuple[str, ...], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench("tiny", *more) == 2
    assert words in capsys.readouterr().err


def test_an_unknown_protocol_is_refused_with_those_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench("tiny-what") == 2
    assert "cifar10-random10" in capsys.readouterr().err
