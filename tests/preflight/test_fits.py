"""A model of other data, with other class names, or fed without its preprocessing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from unteach.data import DataSet
from unteach.preflight.fits import USUAL, judge_fit, trace_origin
from unteach.provenance import Provenance
from unteach.types import Examples


def test_a_model_of_these_data_fits(make: Any, model: torch.nn.Module, data: DataSet) -> None:
    (found,) = judge_fit(make(model, data))
    assert found.level == "fine"
    assert found.numbers["retain"] > 0.9
    assert found.numbers["retain_commonest"] == pytest.approx(1 / 3, abs=0.02)


def test_a_model_that_knows_nothing_stops(make: Any, data: DataSet) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        blank = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3))
    torch.nn.init.zeros_(blank[1].weight)  # type: ignore[arg-type]
    (found,) = judge_fit(make(blank, data))
    assert found.level == "stop"
    assert "commonest answer" in found.sentence


def test_test_data_of_another_world_are_a_warning(make: Any, model: torch.nn.Module, data: DataSet) -> None:
    rng = torch.Generator().manual_seed(0)
    noise = torch.randint(0, 256, data.test.inputs.shape, generator=rng).to(torch.uint8)
    (found,) = judge_fit(make(model, DataSet("noise", data.train, replace(data.test, inputs=noise))))
    assert found.level == "warn"
    assert "nothing beyond" in found.sentence


def test_classes_in_another_order_are_named(make: Any, model: torch.nn.Module, data: DataSet) -> None:
    def turned(part: Examples) -> Examples:
        return part.relabel((part.labels + 1) % 3)

    (found,) = judge_fit(make(model, DataSet("turned", turned(data.train), turned(data.test))))
    assert found.level == "stop"
    assert "class 1 is called class 0" in found.sentence
    assert found.numbers["best"] > 0.9 > 0.1 > found.numbers["plain"]


class Expects(torch.nn.Module):
    """The same network, for inputs that were changed so beforehand."""

    def __init__(self, inner: torch.nn.Module, undo: Any) -> None:
        super().__init__()
        self.inner, self.undo = inner, undo

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.as_tensor(self.inner(self.undo(x)))


def test_missing_preprocessing_is_found(
    make: Any, model: torch.nn.Module, data: DataSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(USUAL, "Some paper", ((0.9,), (0.05,)))
    (found,) = judge_fit(make(Expects(model, lambda x: x * 0.05 + 0.9), data))
    assert found.level == "stop"
    assert "(Some paper)" in found.sentence
    assert "--preprocess.mean 0.9 --preprocess.std 0.05" in found.do
    assert found.numbers["best"] > 0.9 > 0.5 > found.numbers["plain"]
    (found,) = judge_fit(make(Expects(model, lambda x: x / 255), data))
    assert "pixels of 0–255" in found.sentence
    assert found.numbers["best"] > 0.9


def test_the_checkpoint_says_what_it_was_trained_on(make: Any, model: torch.nn.Module, data: DataSet) -> None:
    def level(**told: Any) -> str:
        (found,) = trace_origin(make(model, data, provenance=Provenance(**told)))
        return found.level

    assert level(data_fingerprint=data.fingerprint) == "fine"
    assert level(data_fingerprint="0" * 64) == "stop"
    assert level() == "note"
    assert level(data_fingerprint=data.fingerprint, trained_on={"pool": 1}) == "stop"


class Guesses(torch.nn.Module):
    """Answers at random, always the same for one image."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.seed = seed

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.sin((x.flatten(1)[:, :3] + x.sum((1, 2, 3))[:, None]) * (1e4 + self.seed))


def test_no_order_of_classes_is_read_into_noise(make: Any, data: DataSet) -> None:
    """Of 110 guesses a tenth more can be made right by the best of the exchanges; not on examples it was not chosen by."""
    fooled = ["seem" in judge_fit(make(Guesses(seed), data))[0].sentence for seed in range(100)]
    assert sum(fooled) <= 1, "of six readings at one in ten thousand each"


def test_several_labels_an_example(make: Any, data: DataSet) -> None:
    def several(part: Examples) -> Examples:
        bits = torch.stack([part.inputs[:, 0, 0, k].float() > 128 for k in range(3)], 1).float()
        return part.relabel(bits)

    class Reads(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return (x[:, 0, 0, :3] - 128.5 / 255) * 50

    bits = DataSet("bits", several(data.train), several(data.test))
    (found,) = judge_fit(make(Reads(), bits))
    assert (found.level, found.numbers["retain"]) == ("fine", 1.0)
    (found,) = judge_fit(make(Expects(Reads(), lambda x: torch.zeros_like(x)), bits))
    assert found.level == "stop"
    assert np.isfinite(found.numbers["retain"])
