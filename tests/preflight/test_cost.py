"""Minutes and bytes, reckoned from what was told, and measured where nothing was."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch

from unteach.data import DataSet
from unteach.methods import METHODS
from unteach.preflight import cost as room
from unteach.preflight.cost import Price, measure_memory, minutes, price, tell_time
from unteach.provenance import Provenance, environment
from unteach.store import fingerprint


def story(recipe: Any, seconds: float = 12.0, units: float = 600.0) -> Provenance:
    return Provenance(recipe=recipe.as_json(), seconds=seconds, units=units, environment=environment())


def test_minutes_follow_from_the_originals_own_training(make: Any, model: torch.nn.Module, data: DataSet) -> None:
    case = make(model, data)
    case = replace(case, provenance=story(case.recipe))
    cost = price(case)
    pace = 12 / 600
    assert cost.pace == pace
    assert cost.retraining == pytest.approx(pace * case.recipe.cost * 110)
    assert cost.method == pytest.approx(pace * case.method.optim.epochs * 120)
    assert cost.tiers["quick"] == pytest.approx(3 * (cost.retraining or 0))
    assert cost.tiers["standard"] == pytest.approx(5 * (cost.retraining or 0) + 16 * pace * case.recipe.cost * 90)
    (told,) = tell_time(case, cost)
    assert "own training" in told.sentence
    assert price(replace(case, method=METHODS["retrain"]())).method == cost.retraining


def test_elsewhere_or_untold_a_few_steps_are_timed(make: Any, model: torch.nn.Module, data: DataSet) -> None:
    case = make(model, data)
    before, units, state = fingerprint(model), case.engine.meter.units, torch.get_rng_state()
    cost = price(case)
    assert cost.pace is not None
    assert 0 < cost.pace < 1
    assert "timed here" in cost.source
    assert (fingerprint(model), case.engine.meter.units) == (before, units)
    assert torch.equal(torch.get_rng_state(), state)
    assert not case.engine.stages
    unknown = price(replace(case, recipe=None))
    assert unknown.retraining is None
    assert unknown.tiers == {}
    assert "not told" in tell_time(replace(case, recipe=None), unknown)[0].sentence


def test_a_method_that_takes_as_long_as_retraining(make: Any, model: torch.nn.Module, data: DataSet) -> None:
    case = make(model, data)
    slow = Price(pace=1.0, source="made up", retraining=5.0, method=6.0, tiers={})
    assert [remark.level for remark in tell_time(case, slow)] == ["note", "warn"]
    assert [remark.level for remark in tell_time(case, replace(slow, method=4.0))] == ["note"]


def test_bytes_of_a_network_that_can_be_counted(make: Any, data: DataSet, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kept of one example: 64 inputs, 5 hidden values after ReLU, 3 log-probabilities of 4 bytes, and a label of 8."""
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 5), torch.nn.ReLU(), torch.nn.Linear(5, 3))
    case = make(model, data)
    before = copy.deepcopy(model.state_dict())
    (found,) = measure_memory(case)
    batch = min(case.method.optim.batch, 120)
    assert found.numbers["weights"] == 4 * (64 * 5 + 5 + 5 * 3 + 3)
    assert found.numbers["inputs"] == 180 * 64
    assert found.numbers["activations"] == pytest.approx(batch * (4 * (64 + 5 + 3) + 8), rel=0.05)
    assert found.level == "fine"
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(weight.grad is None for weight in model.parameters())
    monkeypatch.setattr(room, "_free", lambda device: 1000)
    assert measure_memory(case)[0].level == "warn"
    monkeypatch.setattr(room, "_free", lambda device: None)
    assert measure_memory(case)[0].level == "fine"


def test_a_network_that_can_not_be_trained_stops(make: Any, data: DataSet) -> None:
    class Broken(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if self.training:
                raise KeyError("mask")
            return x.flatten(1)[:, :3]

    (found,) = measure_memory(make(Broken(), data))
    assert found.level == "stop"
    assert "KeyError" in found.sentence
    assert price(make(Broken(), data)).pace is None


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.2, "less than a second"), (42, "about 42 s"), (90, "about 1.5 min"), (7200, "about 2.0 h")],
)
def test_times_in_words(seconds: float, words: str) -> None:
    assert minutes(seconds) == words
