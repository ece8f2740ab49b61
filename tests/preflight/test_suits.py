"""Methods that can't, methods that would do nothing, and requests that are too large."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from unteach import presets
from unteach.data import DataSet
from unteach.methods import METHODS
from unteach.preflight.remark import Remark
from unteach.preflight.suits import judge_method


def of(data: DataSet, *classes: int) -> list[str]:
    return [str(i) for i in data.train.ids[torch.isin(data.train.labels, torch.tensor(classes)).numpy()]]


def levels(found: list[Remark]) -> list[tuple[str, str]]:
    return [(remark.name, remark.level) for remark in found]


def test_a_method_that_suits_is_fine(make: Any, model: torch.nn.Module, data: DataSet) -> None:
    assert levels(judge_method(make(model, data, method=METHODS["eu-k"](), named="eu-k"))) == [("method", "fine")]


@pytest.mark.parametrize(
    ("name", "word"),
    [("trw", "whole classes only"), ("sisa", "ensemble"), ("dau", "validation data"), ("retrain", "nobody says how")],
)
def test_what_a_method_needs_stops(make: Any, model: torch.nn.Module, data: DataSet, name: str, word: str) -> None:
    found = judge_method(make(model, data, method=METHODS[name](), named=name, recipe=None))
    assert found[0].level == "stop"
    assert word in found[0].sentence


def test_missing_convolutions_stop(make: Any, data: DataSet) -> None:
    flat = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3))
    found = judge_method(make(flat, data, method=METHODS["aru"](), named="aru"))
    assert ("method", "stop") in levels(found)
    assert "convolutions" in found[0].sentence


def test_a_class_asked_of_a_method_for_examples(make: Any, model: torch.nn.Module, data: DataSet) -> None:
    found = judge_method(make(model, data, of(data, 1), method=METHODS["amun"](), named="amun"))
    assert levels(found) == [("method", "warn"), ("method", "warn"), ("size", "warn")]
    assert "not made for" in found[0].sentence
    assert "about as far" in found[1].sentence
    assert found[2].numbers["share"] == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("others", "advice"),
    [
        ({"eu-k": 0.010, "finetune": 0.015, "trw": 0.001}, "Choose another method, such as eu-k."),
        ({"eu-k": 0.028, "trw": 0.001}, "None did better there: retrain, or look closely at the audit."),
    ],
    ids=["one came nearer", "none that could"],
)
def test_where_it_did_next_to_nothing_the_one_that_did_more_is_named(
    others: dict[str, float],
    advice: str,
    make: Any,
    model: torch.nn.Module,
    data: DataSet,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scores = {"amun": 0.035, **others}
    row = {"knobs": {}, "unchanged": 0.03, "floor": 0.005, "scenes": ["all of it"]}
    case = make(model, data, method=METHODS["amun"](), named="amun")
    scene = presets.scenario_of(case.parts)
    elsewhere = {**row, "score": 0.0001, "scenes": ["another"]}
    table = {name: {scene: {**row, "score": score}} for name, score in scores.items()} | {"salun": {scene: elsewhere}}
    monkeypatch.setattr(presets, "_table", lambda: table)
    (found,) = judge_method(case)
    assert "nothing does, or farther (0.035 beside 0.030; a retrained model 0.005; all of it)" in found.sentence
    assert found.do == advice


def test_two_kinds_of_request_in_one(make: Any, model: torch.nn.Module, data: DataSet) -> None:
    found = judge_method(make(model, data, [*of(data, 1), "0"]))
    assert any("'class 1'" in remark.sentence and remark.name == "size" for remark in found)


def test_one_class_left_stops(make: Any, model: torch.nn.Module, data: DataSet) -> None:
    found = judge_method(make(model, data, of(data, 0, 1), method=METHODS["trw"](), named="trw"))
    assert ("size", "stop") in levels(found)


def test_less_than_a_batch_is_told(make: Any, model: torch.nn.Module, data: DataSet) -> None:
    method = METHODS["gradient-ascent"]()
    found = judge_method(make(model, data, method=method, named="gradient-ascent"))
    assert any(remark.name == "size" and remark.numbers.get("count") == 10 for remark in found)
