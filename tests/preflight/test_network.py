"""Networks that are broken, unsteady or fixed, and inputs that were scaled twice."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from unteach.data import DataSet
from unteach.methods import METHODS
from unteach.preflight import case as room
from unteach.preflight.network import find_broken, inspect_network, inspect_pixels


class Noisy(torch.nn.Module):
    """Draws in eval mode too."""

    def __init__(self, inner: torch.nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.dropout(torch.as_tensor(self.inner(x)), 0.5, training=True)


def names(found: Any) -> set[tuple[str, str]]:
    return {(remark.name, remark.level) for remark in found}


def test_a_plain_network_is_fine(make: Any, model: torch.nn.Module, data: DataSet) -> None:
    case = make(model, data)
    assert find_broken(case) == []
    assert names(inspect_network(case)) == {("network", "fine")}
    assert inspect_pixels(case) == []


def test_weights_that_are_no_numbers(make: Any, model: torch.nn.Module, data: DataSet) -> None:
    next(model.parameters()).data[0] = torch.nan
    (found,) = find_broken(make(model, data))
    assert (found.level, found.numbers["tensors"]) == ("stop", 1)


def test_answers_that_are_no_numbers(make: Any, data: DataSet) -> None:
    class Root(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.log(x.flatten(1)[:, :3] - 1)

    (found,) = find_broken(make(Root(), data))
    assert found.level == "stop"
    assert "answers" in found.sentence


def test_answers_at_random(make: Any, model: torch.nn.Module, data: DataSet) -> None:
    with torch.random.fork_rng():
        assert names(inspect_network(make(Noisy(model), data))) == {("network", "warn")}


def test_answers_that_depend_on_the_batch(make: Any, model: torch.nn.Module, data: DataSet) -> None:
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.track_running_stats, module.running_mean, module.running_var = False, None, None
    (found,) = inspect_network(make(model, data))
    assert found.level == "warn"
    assert "others of the batch" in found.sentence


def test_batch_norm_that_would_follow_the_request(make: Any, model: torch.nn.Module, data: DataSet) -> None:
    method = METHODS["gradient-ascent"]()
    assert ("batch norm", "warn") in names(inspect_network(make(model, data, method=method)))
    still = replace(method, optim=replace(method.optim, batch_norm="eval"))  # type: ignore[attr-defined, type-var]
    assert names(inspect_network(make(model, data, method=still))) == {("network", "fine")}


def test_dropout_is_told(make: Any, model: torch.nn.Module, data: DataSet) -> None:
    dropping = torch.nn.Sequential(torch.nn.Dropout(0.2), model).eval()
    found = inspect_network(make(dropping, data))
    assert names(found) == {("dropout", "note"), ("network", "fine")}
    assert found[0].numbers == {"layers": 1, "share": 0.2}


@pytest.mark.parametrize("every", [False, True], ids=["some", "all"])
def test_fixed_weights(make: Any, model: torch.nn.Module, data: DataSet, every: bool) -> None:
    weights = list(model.parameters())
    for weight in weights if every else [max(weights, key=torch.numel)]:
        weight.requires_grad = False
    assert ("fixed weights", "stop" if every else "warn") in names(inspect_network(make(model, data)))


def test_a_few_fixed_weights_are_no_reason_to_worry(make: Any, model: torch.nn.Module, data: DataSet) -> None:
    list(model.parameters())[-1].requires_grad = False
    assert names(network_remarks := inspect_network(make(model, data))) == {
        ("fixed weights", "note"),
        ("network", "fine"),
    }
    assert network_remarks[0].numbers["share"] < 0.01


def test_images_scaled_twice(make: Any, model: torch.nn.Module, data: DataSet) -> None:
    dark = DataSet("dark", replace(data.train, inputs=data.train.inputs // 255), data.test)
    (found,) = inspect_pixels(make(model, dark))
    assert (found.level, found.numbers["high"]) == ("warn", 1)


def test_features_out_of_range_stop_attacks_only(make: Any, data: DataSet) -> None:
    wide = replace(data.train, inputs=data.train.inputs.flatten(1).float() / 255 * 4 - 1)
    features = DataSet("features", wide, replace(data.test, inputs=data.test.inputs.flatten(1).float()))
    model = torch.nn.Linear(64, 3)
    (found,) = inspect_pixels(make(model, features, method=METHODS["amun"]()))
    assert found.level == "stop"
    assert inspect_pixels(make(model, features)) == []


def test_inputs_all_alike(make: Any, model: torch.nn.Module, data: DataSet) -> None:
    grey = DataSet("grey", replace(data.train, inputs=torch.full_like(data.train.inputs, 90)), data.test)
    assert names(inspect_pixels(make(model, grey))) == {("pixels", "stop")}


def test_a_large_network_is_asked_less(make: Any, data: DataSet, monkeypatch: pytest.MonkeyPatch) -> None:
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3))
    case = make(model, data)
    assert case.effort == 2 * 64 * 3
    assert case.most == room.USUAL
    monkeypatch.setattr(room, "AFFORDED", 2 * 64 * 3 * 150.0)
    large = make(model, data)
    assert large.most == 150
    assert ("sample", "note") in names(inspect_network(large))
    assert make(model, data, sample=70).most == 70
    assert {len(part) for part in make(model, data, sample=7).looked.values()} == {7}
