"""The arithmetic of the benchmarks' harness, and that both arms of the training benchmark are fed the same pixels."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from unteach.data import Augment, Resident
from unteach.types import Examples, Refusal


@pytest.fixture
def measure(benchmark_of: Callable[[str], ModuleType]) -> ModuleType:
    return benchmark_of("measure")


@pytest.fixture
def peer(benchmark_of: Callable[[str], ModuleType]) -> ModuleType:
    return benchmark_of("peer")


@pytest.fixture
def part(benchmark_of: Callable[[str], ModuleType]) -> ModuleType:
    return benchmark_of("part")


def test_ratios_are_taken_within_rounds(measure: ModuleType) -> None:
    rounds = measure.Rounds({"slow": [2.0, 30.0, 4.0], "fast": [1.0, 10.0, 4.0]}, {}, [0.0, 0.1, 0.0])
    # The ratio of the medians would be 1.0; within the rounds they are 2, 3 and 1.
    assert rounds.ratio("slow", "fast") == measure.Spread(2.0, 1.0, 3.0)
    assert rounds.share("fast", "slow", "fast").low == pytest.approx(0.25)


def test_busy_rounds_are_left_out_unless_too_few_are_quiet(measure: ModuleType) -> None:
    seconds = {"arm": [1.0, 2.0, 3.0, 90.0]}
    assert measure.Rounds(seconds, {}, [0.0, 0.1, 0.14, 0.9]).of("arm") == measure.Spread(2.0, 1.0, 3.0)
    assert measure.Rounds(seconds, {}, [0.0, 0.9, 0.9, 0.9]).kept == [0, 1, 2, 3]


def test_every_arm_is_called_once_a_round_in_changing_order(measure: ModuleType) -> None:
    calls: list[str] = []
    arms = {name: lambda name=name: calls.append(name) for name in "abc"}
    found = measure.run_rounds(arms, 8, seed=1, warm=2)
    assert calls[:6] == ["a", "b", "c"] * 2
    counted = [tuple(calls[start : start + 3]) for start in range(6, len(calls), 3)]
    assert len(counted) == 8
    assert all(sorted(each) == ["a", "b", "c"] for each in counted)
    assert len(set(counted)) > 1
    assert [len(taken) for taken in found.seconds.values()] == [8, 8, 8]


def test_flops_of_a_convolution_and_the_roofline_agree(measure: ModuleType) -> None:
    limit = measure.Roofline(bf16=False)
    assert measure.gflop(limit.call) == pytest.approx(limit.WORK, rel=1e-6)


def test_markdown_has_one_cell_per_column(measure: ModuleType) -> None:
    text = measure.markdown(["a", "b"], [[1, measure.Spread(2, 1, 3)]])
    assert text.splitlines() == ["| a | b |", "| --- | --- |", "| 1 | 2.00 (1.00–3.00) |"]


def test_both_arms_see_the_same_images(peer: ModuleType) -> None:
    for channels in (1, 3):
        rng = torch.Generator().manual_seed(0)
        images = torch.randint(0, 256, (40, channels, 9, 7), dtype=torch.uint8, generator=rng)
        examples = Examples(images, torch.arange(40) % 2, np.arange(40).astype(str), None, ("a", "b"))
        plain = peer.PilImages(examples, Augment())
        ours = Resident(images, None, torch.device("cpu")).batch(torch.arange(40), rng)
        assert torch.allclose(torch.stack([plain[i][0] for i in range(40)]), ours, atol=1e-6)

        # Varied, each is one of the crops of the padded image, or its mirror image, in both arms.
        augment = Augment(crop=1, flip=True)
        varied = peer.PilImages(examples, augment)
        gathered = Resident(images, augment, torch.device("cpu")).batch(torch.arange(40), rng)
        padded = torch.nn.functional.pad(images / 255, (1, 1, 1, 1))
        crops = [padded[:, :, top : top + 9, left : left + 7] for top in range(3) for left in range(3)]
        known = torch.stack([*crops, *(crop.flip(3) for crop in crops)])
        for arm in (torch.stack([varied[i][0] for i in range(40)]), gathered):
            assert (known - arm).abs().amax((2, 3, 4)).amin(0).max() < 1e-6


def test_shares_of_the_limit_are_taken_within_rounds(measure: ModuleType) -> None:
    rounds = measure.Rounds({"arm": [1.0, 2.0]}, {"limit": [100.0, 200.0]}, [0.0, 0.0])
    assert rounds.rate("arm", 50.0, "limit") == measure.Spread(0.3125, 0.125, 0.5)
    assert rounds.value("limit") == measure.Spread(150.0, 100.0, 200.0)


def test_a_part_keeps_spreads_as_lists(part: ModuleType, measure: ModuleType, tmp_path: Path) -> None:
    asked = argparse.Namespace(json=tmp_path / "found.json")
    part.run(lambda asked: {"rows": [{"speed": measure.Spread(2.0, 1.0, 3.0)}], "quiet": (1, 2)}, asked)
    assert json.loads(asked.json.read_text()) == {"rows": [{"speed": [2.0, 1.0, 3.0]}], "quiet": [1, 2]}


def test_a_part_without_data_says_so_in_its_json(part: ModuleType, tmp_path: Path) -> None:
    asked = argparse.Namespace(json=tmp_path / "found.json")

    def measure(asked: argparse.Namespace) -> dict[str, object]:
        raise Refusal("expected the files of cifar10, got none")

    with pytest.raises(SystemExit, match="not measured: expected the files"):
        part.run(measure, asked)
    assert asked.json.read_text().strip().endswith('"expected the files of cifar10, got none"\n}')


def test_settling_the_allocator_is_refused_without_glibc(monkeypatch: pytest.MonkeyPatch) -> None:
    from unteach import runtime

    monkeypatch.setattr(runtime.os, "confstr", lambda name: None)
    assert runtime.settle_allocator() is False


def test_distances_are_compared_image_by_image(benchmark_of: Callable[[str], ModuleType], measure: ModuleType) -> None:
    attack = benchmark_of("attack")
    taken = [(torch.zeros(2, 1), 20, 4), (torch.zeros(2, 1), 10, 2)]
    seconds = {"amun-loop": [4.0, 6.0], "nearest fp32": [0.5, 0.25], "limit bf16": [0.2, 0.2], "limit fp32": [0.2, 0.2]}
    limits = {"limit bf16": [1.0, 1.0], "limit fp32": [10.0, 40.0]}
    rounds = measure.Rounds(seconds, {"amun-loop": taken, "nearest fp32": taken, **limits}, [0.0, 0.0])
    flipped, label = torch.tensor([True, True, True, False]), torch.tensor([1, 2, 3, 0])
    base = {"label": label, "flipped": torch.ones(4, dtype=torch.bool), "distance": torch.tensor([1.0, 2.0, 0.0, 4.0])}
    near = {"label": torch.tensor([1, 2, 1, 0]), "flipped": flipped, "distance": torch.tensor([0.5, 2.2, 0.0, 4.0])}
    found = {
        row["method"]: row for row in attack.rows(rounds, {"amun-loop": base, "nearest fp32": near}, (1.0, 0.5), [2, 2])
    }
    row = found["nearest fp32"]
    assert row["speed"] == measure.Spread(16.0, 8.0, 24.0)
    assert (row["success"], row["same label"]) == (0.75, 0.75)
    # Only images that both flipped and that were not wrong from the start: 0.5 and 1.1 times as far.
    assert row["ratio mean"] == pytest.approx(0.8)
    assert row["farther 5 %"] == 0.5
    assert (row["gradients"], row["forwards"]) == (7.5, 1.5)
    assert row["epochs for 10 %"] == pytest.approx(0.1 * (2 * 7.5 + 1.5) / 3)
    # 22 GFLOP in 0.5 s beside 10 GFLOP/s, 11 in 0.25 s beside 40.
    assert row["roofline"] == measure.Spread.of([4.4, 1.1])
