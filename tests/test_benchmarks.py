"""The arithmetic of the benchmarks' harness, and that both arms of the training benchmark are fed the same pixels."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from unteach.data import Augment, Resident
from unteach.types import Examples

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def measure(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import measure

    return measure


@pytest.fixture
def training(measure: ModuleType) -> ModuleType:
    import training

    return training


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


def test_both_arms_see_the_same_images(training: ModuleType) -> None:
    for channels in (1, 3):
        rng = torch.Generator().manual_seed(0)
        images = torch.randint(0, 256, (40, channels, 9, 7), dtype=torch.uint8, generator=rng)
        examples = Examples(images, torch.arange(40) % 2, np.arange(40).astype(str), None, ("a", "b"))
        plain = training.PilImages(examples, Augment())
        ours = Resident(images, None, torch.device("cpu")).batch(torch.arange(40), rng)
        assert torch.allclose(torch.stack([plain[i][0] for i in range(40)]), ours, atol=1e-6)

        # Varied, each is one of the crops of the padded image, or its mirror image, in both arms.
        augment = Augment(crop=1, flip=True)
        varied = training.PilImages(examples, augment)
        gathered = Resident(images, augment, torch.device("cpu")).batch(torch.arange(40), rng)
        padded = torch.nn.functional.pad(images / 255, (1, 1, 1, 1))
        crops = [padded[:, :, top : top + 9, left : left + 7] for top in range(3) for left in range(3)]
        known = torch.stack([*crops, *(crop.flip(3) for crop in crops)])
        for arm in (torch.stack([varied[i][0] for i in range(40)]), gathered):
            assert (known - arm).abs().amax((2, 3, 4)).amin(0).max() < 1e-6


def test_settling_the_allocator_is_refused_without_glibc(monkeypatch: pytest.MonkeyPatch) -> None:
    from unteach import runtime

    monkeypatch.setattr(runtime.os, "confstr", lambda name: None)
    assert runtime.settle_allocator() is False
