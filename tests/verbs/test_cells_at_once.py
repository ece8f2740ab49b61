"""``unteach bench --workers``: the same cells, several at a time."""

from __future__ import annotations

import json
from dataclasses import replace
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import pytest
import torch

from unteach.bench.protocol import Cell
from unteach.bench.protocols import CI
from unteach.cli import main
from unteach.types import Refusal
from unteach.verbs import cells_at_once
from unteach.verbs.bench import BenchRun
from unteach.verbs.cells_at_once import places_of
from unteach.verbs.settings import Machine
from unteach.workers import cores

MINE = """
import copy
from dataclasses import dataclass

@dataclass(frozen=True, kw_only=True)
class Brittle:
    \"\"\"Do nothing, and fail for one of two.\"\"\"

    needs = frozenset()

    def __call__(self, model, split, rng, engine):
        if rng.initial_seed() >= 1000:
            raise ValueError("too old a model")
        return copy.deepcopy(model)
"""
CLOCK = ("seconds", "of retraining")


@pytest.fixture(autouse=True)
def several(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, quick_processes: ForkServerContext) -> None:
    monkeypatch.setattr("unteach.workers.get_context", lambda kind: quick_processes)
    monkeypatch.chdir(tmp_path)


def bench(out: str, *more: str) -> int:
    return main(
        [
            *("bench", "cifar10-random10", "--profile", "ci", "--cache", "cache", "--out", out, "--quiet", "true"),
            *("--device", "cpu", "--threads", "1", "--count", "240", "--seeds", "2", *more),
        ]
    )


def told(out: str) -> dict[str, Any]:
    """Every cell but for what the clock says."""
    found = {str(path.relative_to(out)): json.loads(path.read_text()) for path in Path(out).glob("cells/*/*/*.json")}
    for cell in found.values():
        for name in CLOCK:
            cell.get("numbers", {}).pop(name, None)
    return {name: cell for name, cell in found.items() if name.endswith(("cell.json", "refused.json"))}


def test_two_at_a_time_are_as_one_after_the_other() -> None:
    rows = ("--methods", "finetune", "amun", "trw")
    assert bench("alone", *rows) == 0
    assert bench("both", *rows, "--workers", "2") == 0
    alone = told("alone")
    assert len(alone) == 10, "five rows on two originals"
    assert sum(name.endswith("refused.json") for name in alone) == 2, "trw wants whole classes"
    assert told("both") == alone
    times = {path: path.stat().st_mtime_ns for path in Path("both").glob("cells/*/*/cell.json")}
    assert bench("both", *rows, "--workers", "2") == 0
    assert {path: path.stat().st_mtime_ns for path in times} == times, "what is there is not made again"


def test_what_fails_is_named_and_the_others_are_done(capfd: pytest.CaptureFixture[str]) -> None:
    Path("mine.py").write_text(MINE)
    assert bench("out", "--methods", "mine.py:Brittle", "finetune", "--workers", "2") == 2
    error = capfd.readouterr().err
    assert "expected all 8 jobs to be done, got 1 that failed (mine.py:Brittle/0-0-1-0: ValueError: too old" in error
    assert sorted(name.split("/")[1] for name in told("out")) == [
        *("finetune", "finetune", "mine.py:Brittle", "original", "original", "retrained", "retrained")
    ]
    assert bench("out", "--methods", "finetune", "--workers", "2") == 0, "without it the table is written"


@pytest.mark.parametrize(
    ("workers", "cards", "device", "places"),
    [
        (1, 0, "auto", 1),
        (3, 0, "auto", 3),
        (0, 0, "auto", cores()),
        (0, 4, "auto", 4),
        (0, 4, "cpu", cores()),
        (9, 4, "auto", 6),
    ],
    ids=["one", "three", "a core", "a card", "cpu", "no more than cells"],
)
def test_places(workers: int, cards: int, device: str, places: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: cards)
    assert places_of(BenchRun(workers=workers, machine=Machine(device=device)), 6) == min(places, 6)


@pytest.mark.parametrize(
    ("run", "words"),
    [
        (BenchRun(workers=-1), "0 or more"),
        (BenchRun(workers=2, machine=Machine(devices=2)), "one device a cell"),
    ],
    ids=["fewer than none", "of several devices"],
)
def test_what_can_not_be(run: BenchRun, words: str) -> None:
    with pytest.raises(Refusal, match=words):
        places_of(run, 6)


def test_cells_that_share_tuned_settings_stay_together() -> None:
    protocol = replace(CI, seeds=(0, 1), draws=2)
    cells = [*protocol.cells(["finetune", "amun"])]
    assert cells_at_once._dealt(cells, False) == [(cell,) for cell in cells]
    shares = cells_at_once._dealt(cells, True)
    assert [{cell.row for cell in share} for share in shares] == [{"finetune"}, {"amun"}]
    assert sorted(cell for share in shares for cell in share) == sorted(cells)
    assert shares[0][0] == Cell(row="finetune", request=0, draw=0, seed=0, run=0)
