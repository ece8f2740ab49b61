"""The table of targets and the gate on made-up findings: met, missed, absent, fallen; what is kept and what is run again."""

from __future__ import annotations

import argparse
import copy
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from unteach.types import Refusal


@pytest.fixture
def speed(benchmark_of: Callable[[str], ModuleType]) -> ModuleType:
    return benchmark_of("speed")


@pytest.fixture
def targets(benchmark_of: Callable[[str], ModuleType]) -> ModuleType:
    return benchmark_of("targets")


@pytest.fixture
def bounds(benchmark_of: Callable[[str], ModuleType]) -> ModuleType:
    return benchmark_of("bounds")


def method(name: str, speed: float, **other: Any) -> dict[str, Any]:
    return {
        "method": name,
        "shipped": False,
        "speed": [speed, speed - 0.5, speed + 0.5],
        "beside": {"torchattacks": [1.5 * speed, speed, 2 * speed]},
        "success": 1.0,
        "ratio median": 1.0,
        "ratio p95": 1.0,
        "farther 5 %": 0.0,
        "same label": 1.0,
        "epochs for 10 %": 0.7,
        "roofline": [0.5, 0.4, 0.6],
        **other,
    }


def attack(**nearest: Any) -> dict[str, Any]:
    """Schedule meets P1 in fp32, which is shipped; nearest does 22 × beside AMUN's loop and 33 × beside torchattacks."""
    rows = [
        method("amun-loop", 1.0),
        method("schedule fp32", 2.6, shipped=True),
        method("schedule bf16", 9.0, **{"ratio p95": 1.2}),
        method("nearest bf16", 22.0, shipped=True) | nearest,
    ]
    return {"rows": rows, "quiet": [2, 6]}


def everything() -> dict[str, dict[str, Any]]:
    """What every part finds when all targets are met."""
    net = {"net": "small-cnn", "quiet": [5, 5]}
    augment = {**net, "share": [0.02, 0.01, 0.03], "ratio": [12.0, 11.0, 13.0], "limit": [0.8, 0.7, 0.9]}
    score = {"ratio": [150.0, 140.0, 160.0], "difference": 1e-14, "limit": [0.5, 0.4, 0.6], "quiet": [5, 5]}
    return {
        "attack-fashion": attack(),
        "attack-cifar": attack(),
        "training": {
            "allocator": [{**net, "settled beside peer": [2.8, 2.4, 2.9], "share": [0.4, 0.3, 0.5]}],
            "accuracy": [{"difference": -0.001, "difference s.e.": 0.002}],
        },
        "steps": {"roofline": [{**net, "ours": [0.5, 0.4, 0.6]}, {**net, "net": "resnet18", "ours": [0.8, 0.7, 0.9]}]},
        "references": {
            "in trainings": [20.0, 19.0, 21.0],
            "roofline": [0.4, 0.3, 0.5],
            "quiet": [3, 3],
            "pool": {"in trainings": [11.0, 10.0, 12.0], "others": 0.01, "models": 64},
        },
        "likelihood": {"rows": [{**score, "what": what} for what in ("RMIA, 10k", "Lira, 16", "OfflineLira, 16")]},
        "spectral": {
            "cold": [
                {"weights": "smooth", "stride": 1, "ratio": [3.1, 3.0, 3.2], "limit": [0.5, 0.5, 0.5]}
                | {"errors": {"bounded": [1e-5]}}
            ],
            "warm": [{"calls": 2, "error": 9e-4}],
        },
        "augmentation": {"augment": [augment, {**augment, "net": "airbench", "ratio": [10.5, 9.0, 11.0]}]},
        "story": {"seconds": 500.0, "stages": {"train": 100.0}, "note": "two cores"},
    }  # fmt: skip


def put(folder: Path, found: dict[str, dict[str, Any]]) -> None:
    made = {"command": ["attack.py"], "commit": "abc", "date": "2026-01-01T00:00", "hardware": "Zeta 9", "seconds": 3}
    for name, part in found.items():
        (folder / f"{name}.json").write_text(json.dumps({"made": made, "found": part}))


def cells(speed: ModuleType, folder: Path, key: str) -> list[list[str]]:
    return [[str(cell) for cell in speed.row(folder, target)] for target in speed.TARGETS if target.key == key]


def test_every_part_of_every_target_is_run(speed: ModuleType) -> None:
    assert {target.part for target in speed.TARGETS} == set(speed.PARTS)
    assert [f"P{number}" for number in range(1, 11)] == speed.KEYS
    here = {path.name for path in speed.HERE.glob("*.py")} | {"story.py"}
    assert {part.script for part in speed.PARTS.values()} <= here


def test_met_targets_are_met_and_pass_the_gate(speed: ModuleType, tmp_path: Path) -> None:
    put(tmp_path, everything())
    verdicts = {(target.name, speed.row(tmp_path, target)[7]) for target in speed.TARGETS}
    assert {verdict for _, verdict in verdicts} == {"met"}
    assert speed.gate(tmp_path, speed.chosen("", gated=True)) == []


def test_each_cell_says_what_was_found(speed: ModuleType, tmp_path: Path) -> None:
    put(tmp_path, everything())
    first = cells(speed, tmp_path, "P1")[0]
    assert first[2:6] == ["≥ 2.5 ×", "4.0 ×", "2.6 × (2.1 × – 3.1 ×); fp32", "50% (40%–60%)"]
    assert first[6:] == ["p95 of distance 1.000 (≤ 1.005); same label 100.0% (≥ 99.0%)", "met", "2 of 6"]
    assert cells(speed, tmp_path, "P9")[1][4] == "10.5 × (9.0 × – 11.0 ×); airbench"  # the worst of the nets
    assert cells(speed, tmp_path, "P10")[0][4:] == ["500 s; two cores", "–", "–", "met", "–"]


def test_time_without_equality_is_not_met_nor_let_through(speed: ModuleType, tmp_path: Path) -> None:
    put(tmp_path, everything() | {"attack-fashion": attack(success=0.99)})
    row = cells(speed, tmp_path, "P2")[0]
    assert "**success 99.0% (≥ 100.0%)**" in row[6]
    assert row[7] == "**missed**"
    fallen = speed.gate(tmp_path, speed.chosen("P2", gated=True))
    assert [each.split(": ")[1] for each in fallen] == ["success 99.0%, not ≥ 100.0%"] * 2


def test_a_stretch_is_told(speed: ModuleType, tmp_path: Path) -> None:
    put(tmp_path, everything() | {"story": {"seconds": 300.0}})
    assert cells(speed, tmp_path, "P10")[0][7] == "met, stretch too"
    put(tmp_path, {"story": {"seconds": 721.0}})
    assert cells(speed, tmp_path, "P10")[0][7] == "**missed**"


def test_the_gate_has_slack_on_the_ratio_only(speed: ModuleType, tmp_path: Path) -> None:
    found = everything()
    for ratio, fallen in ((81.0, 0), (79.0, 1)):
        found["likelihood"]["rows"][0]["ratio"] = [ratio, ratio, ratio]
        put(tmp_path, found)
        assert len(speed.gate(tmp_path, speed.chosen("P7", gated=True))) == fallen
        assert cells(speed, tmp_path, "P7")[0][7] == "**missed**"
    found["likelihood"]["rows"][1]["difference"] = 1.1e-6
    put(tmp_path, found)
    assert speed.gate(tmp_path, speed.chosen("P7", gated=True))[1].startswith(
        "P7 LiRA beside the loop: largest difference"
    )


def test_what_is_known_to_be_missed_may_not_get_worse(
    speed: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "P2 nearest beside amun-loop, CIFAR-10 (JPEG)"
    monkeypatch.setattr(speed, "FLOORS", {(name, ""): 10.0, (name, "more than 5 % farther"): 0.07})
    target = next(target for target in speed.TARGETS if target.name == name)
    for at, farther, fallen in ((8.1, 0.07, 0), (7.9, 0.07, 1), (8.1, 0.071, 1)):
        put(tmp_path, {"attack-cifar": attack(speed=[at, at, at], **{"farther 5 %": farther})})
        assert len(speed.gate(tmp_path, [target])) == fallen


def test_floors_are_of_targets_and_weaker_than_these(targets: ModuleType, bounds: ModuleType) -> None:
    for (name, what), floor in targets.FLOORS.items():
        target = next(target for target in targets.TARGETS if target.name == name)
        assert target.gated
        bound = target.bound
        if what:
            checks = target.read(everything()[target.part]).checks
            bound = next(check.bound for check in checks if check.what == what)
        assert not bound.holds(floor), f"{name}: {what or 'the ratio'} is met: take the floor away"


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(number=st.floats(0.01, 1000), check=st.floats(0.0, 2.0), at=st.integers(0, 20))
def test_what_meets_its_target_passes_the_gate(
    targets: ModuleType, bounds: ModuleType, number: float, check: float, at: int
) -> None:
    target = targets.TARGETS[at % len(targets.TARGETS)]
    checks = (bounds.Check("some", check, bounds.AtLeast(1.0)),)
    found = bounds.Reading(targets.alone(number), checks=checks)
    assert bounds.faults(target, found) or not bounds.falls(target, found, targets.FLOORS)


def test_absent_data_leave_a_row_empty_and_do_not_fall(speed: ModuleType, tmp_path: Path) -> None:
    put(tmp_path, everything())
    told = {
        "made": {"command": [], "commit": "", "date": "", "hardware": "", "seconds": 0},
        "absent": "no files of cifar10",
    }
    (tmp_path / "attack-cifar.json").write_text(json.dumps(told))
    assert cells(speed, tmp_path, "P2")[2][4:] == ["not measured: no files of cifar10", "–", "–", "–", "–"]
    assert speed.gate(tmp_path, speed.chosen("", gated=True)) == []


def test_a_peer_that_is_missing_falls(speed: ModuleType, tmp_path: Path) -> None:
    found = copy.deepcopy(everything())
    for row in found["attack-fashion"]["rows"]:
        row["beside"] = {}
    put(tmp_path, found)
    assert [each.split(": ", 1)[1] for each in speed.gate(tmp_path, speed.chosen("", gated=True))] == [
        "torchattacks was left out: install the extra `bench`"
    ] * 2


SCRIPT = """
import json, os, sys
from pathlib import Path
out = Path(sys.argv[sys.argv.index("--json") + 1])
print("a table"); print("progress", file=sys.stderr)
if "--fail" in sys.argv: sys.exit("broken")
with open(Path(__file__).with_suffix(".count"), "a") as count: count.write("x")
out.write_text(json.dumps({"absent": "no data"} if "--absent" in sys.argv else {"seconds": 400.0}))
sys.exit("absent" if "--absent" in sys.argv else 0)
"""


@pytest.fixture
def only_story(speed: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A harness of one part, which counts how often it ran."""
    (tmp_path / "story.py").write_text(SCRIPT)
    monkeypatch.setattr(speed, "HERE", tmp_path)
    monkeypatch.setattr(speed, "TARGETS", [target for target in speed.TARGETS if target.key == "P10"])
    return tmp_path / "story.count"


def told(folder: Path, **other: Any) -> argparse.Namespace:
    return argparse.Namespace(
        **{"only": "", "out": folder, "kept": False, "print": True, "quick": False, "gate": False, **other}
    )


def test_a_part_that_is_kept_is_not_run_again(
    speed: ModuleType, only_story: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for asked, runs in (({}, 1), ({}, 1), ({"kept": True}, 1), ({"only": "P10"}, 2), ({"quick": True}, 3)):
        assert speed.work(told(tmp_path / "kept", **asked)) == 0
        assert len(only_story.read_text()) == runs
        assert "| 400 s |" in capsys.readouterr().out
    names = {path.name for path in (tmp_path / "kept").iterdir()}
    assert names == {"story.json", "story.md", "story.log"}


def test_a_part_that_found_nothing_is_run_again(speed: ModuleType, only_story: Path, tmp_path: Path) -> None:
    for option, told_in in (("--absent", "not measured: no data"), ("--fail", "failed with exit code 1: broken")):
        speed.measure(tmp_path / "kept", "story", ["story.py", option])
        assert told_in in speed.row(tmp_path / "kept", speed.TARGETS[0])[4]
        assert not speed.kept(tmp_path / "kept", "story", ["story.py", option])
        assert speed.work(told(tmp_path / "kept", kept=True)) == (option == "--fail")


def test_a_gate_that_falls_ends_in_1(speed: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "measure", lambda folder, name, command: None)
    put(tmp_path, everything())
    assert speed.work(told(tmp_path, gate=True)) == 0
    put(tmp_path, {"attack-fashion": attack(speed=[5.0, 5.0, 5.0])})
    assert speed.work(told(tmp_path, gate=True)) == 1


def test_the_page_keeps_what_persons_wrote(speed: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"# Words\n\n{speed.BEGIN}\nstale\n{speed.END}\n\nafter\n")
    monkeypatch.setattr(speed, "PAGE", page)
    put(tmp_path, everything())
    for _ in range(2):
        speed.work(told(tmp_path, kept=True, print=False))
        before, rest = page.read_text().split(speed.BEGIN)
        assert (before, rest.split(speed.END)[1]) == ("# Words\n\n", "\n\nafter\n")
        assert "stale" not in rest
        assert rest.count("| P10 |") == 1
        assert "attack.py" in rest
        assert "Measured on Zeta 9." in rest
    for wrong in ("none", f"{speed.END} {speed.BEGIN}", f"{speed.BEGIN} {speed.BEGIN} {speed.END}"):
        with pytest.raises(Refusal, match="put them back"):
            speed.placed(wrong, "table")


def test_the_repository_page_has_its_markers(speed: ModuleType) -> None:
    assert speed.placed(speed.PAGE.read_text(), "made").count("made") >= 1


def test_unknown_rows_are_refused(speed: ModuleType) -> None:
    with pytest.raises(Refusal, match="got P11; separate"):
        speed.chosen("P1,P11", gated=False)
    assert {target.key for target in speed.chosen("P1,P5", gated=True)} == {"P1"}


def test_hardware_is_told_from_the_first_core(benchmark_of: Callable[[str], ModuleType], tmp_path: Path) -> None:
    machine = benchmark_of("machine")
    cores = "model name\t: Zeta 9\nflags\t\t: fpu avx2 amx_bf16\n\nmodel name\t: Other\nflags\t\t: fpu\n"
    (tmp_path / "cpuinfo").write_text(cores)
    assert machine.hardware(tmp_path / "cpuinfo").startswith("Zeta 9 (avx2, amx_bf16), ")
    assert "torch 2" in machine.hardware(tmp_path / "none")
    assert machine.commit(tmp_path) == "unknown"


def test_curves_are_drawn(benchmark_of: Callable[[str], ModuleType], tmp_path: Path) -> None:
    curves, spread = benchmark_of("curves"), benchmark_of("measure").Spread
    rows = [{"examples": n, "scoring": spread(n, n - 1, n + 1), "quiet": [1, 1]} for n in (10, 100)]
    curves.draw("data", rows, tmp_path / "new" / "data.svg")
    assert (tmp_path / "new" / "data.svg").read_text().count("<svg") == 1
    assert curves.shown("data", rows).splitlines()[-1] == "| 100 | 100 (99–101) |"
