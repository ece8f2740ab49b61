"""The recommendation, and that its rules are what RESULTS.md says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from unteach.data import DataSet
from unteach.methods import METHODS
from unteach.preflight.advice import RULES, Rule, advise
from unteach.preflight.cost import Price
from unteach.preflight.remark import Remark

RESULTS = (Path(__file__).parents[2] / "RESULTS.md").read_text()
SLOW = Price(pace=1.0, source="made up", retraining=36000.0, method=60.0, tiers={})


def rows_of(section: str) -> list[str]:
    found = RESULTS.partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    return [line for line in found.splitlines() if line.startswith("|")]


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_every_rule_stands_in_the_measured_tables(rule: Rule) -> None:
    for name, gap in {**rule.gaps, "retrained": rule.retrained, "original": rule.original}.items():
        assert any(row.startswith(f"| {name} |") and f"| {gap} |" in row for row in rows_of(rule.section)), (name, gap)
    assert rule.gaps.keys() <= METHODS.keys()
    means = [float(gap.split(" ")[0]) for gap in rule.gaps.values()]
    assert means == sorted(means)


def test_a_slow_retraining_leads_to_the_nearest_method(make: Any, model: torch.nn.Module, data: DataSet) -> None:
    said = advise(make(model, data), SLOW, [])
    assert said.numbers["method"] == "eu-k"
    assert "The whole field under one budget" in said.sentence


def test_without_convolutions_methods_that_need_them_are_not_named(make: Any, data: DataSet) -> None:
    flat = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3))
    said = advise(make(flat, data), SLOW, [])
    assert "eu-k" in said.sentence
    assert "aru" not in said.sentence


def test_a_cheap_retraining_or_a_large_request_leads_to_retraining(
    make: Any, model: torch.nn.Module, data: DataSet
) -> None:
    cheap = Price(pace=1.0, source="made up", retraining=30.0, method=20.0, tiers={})
    assert advise(make(model, data), cheap, []).numbers["method"] == "retrain"
    half = [str(i) for i in range(60)]
    said = advise(make(model, data, half), SLOW, [])
    assert said.numbers["method"] == "retrain"
    assert "50 % of the training data" in said.sentence


def test_what_stops_comes_first_and_doubt_is_told(make: Any, model: torch.nn.Module, data: DataSet) -> None:
    stop = Remark(name="fit", level="stop", sentence="It does not fit.")
    said = advise(make(model, data), SLOW, [stop])
    assert (said.level, said.sentence) == ("stop", "Mend first what stops it: fit.")
    unable = Remark(name="method", level="stop", sentence="It can't.")
    said = advise(make(model, data, named="dau"), SLOW, [unable])
    assert said.sentence.startswith("Not with dau. Try eu-k")
    doubt = Remark(name="memorised", level="warn", sentence="Nothing.")
    assert "whether a new model is needed" in advise(make(model, data), SLOW, [doubt]).sentence
