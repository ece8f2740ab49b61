"""All checks at once, from Python."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from unteach.data import DataSet
from unteach.engine import Engine
from unteach.preflight import LEVELS, Remark, check
from unteach.store import fingerprint
from unteach.types import Refusal


def checked(model: torch.nn.Module, data: DataSet, ids: object, method: str = "finetune") -> list[Remark]:
    return check(model, data, ids, method, engine=Engine(accelerator="cpu", precision="fp32"))  # type: ignore[arg-type]


def test_the_gravest_come_first_and_the_recommendation_last(model: torch.nn.Module, data: DataSet) -> None:
    before = fingerprint(model)
    flags = [module.training for module in model.modules()]
    found = checked(model, data, "random:0.1", "trw")
    assert found[-1].name == "recommendation"
    levels = [LEVELS.index(remark.level) for remark in found[:-1]]
    assert levels == sorted(levels)
    assert found[0].level == "stop"
    assert {remark.name for remark in found} >= {
        "ids",
        "origin",
        "copies",
        "network",
        "fit",
        "memorised",
        "memory",
        "time",
    }
    assert fingerprint(model) == before
    assert [module.training for module in model.modules()] == flags
    assert all(weight.grad is None for weight in model.parameters())


def test_a_broken_network_is_asked_nothing_more(model: torch.nn.Module, data: DataSet) -> None:
    next(model.parameters()).data[0] = torch.inf
    found = checked(model, data, ["0", "1"])
    assert [remark.name for remark in found if remark.level == "stop"] == ["weights", "recommendation"]
    assert not {"fit", "memorised"} & {remark.name for remark in found}


@pytest.mark.parametrize("ids", [[], ["nobody"], [str(i) for i in range(120)]], ids=["none", "unknown", "all"])
def test_nothing_to_go_on_with(model: torch.nn.Module, data: DataSet, ids: list[str]) -> None:
    found = checked(model, data, ids)
    assert {remark.name for remark in found} == {"ids", "recommendation"}
    assert found[-1].level == "stop"


def test_some_unknown_ids_do_not_end_it(model: torch.nn.Module, data: DataSet) -> None:
    found = checked(model, data, ["0", "1", "nobody"])
    assert found[0].name == "ids"
    assert "fit" in {remark.name for remark in found}


def test_a_request_that_means_nothing_is_refused(model: torch.nn.Module, data: DataSet) -> None:
    with pytest.raises(Refusal, match="expected random:SHARE"):
        checked(model, data, "random:some")


def test_features_and_no_network_layers_of_note() -> None:
    rng = np.random.default_rng(0)
    from unteach.data.dataset import checked as examples

    x = rng.normal(size=(80, 5))
    y = (x[:, 0] > 0).astype(int)
    data = DataSet("table", examples("t", x[:60], y[:60]), examples("t", x[60:], y[60:], prefix="test-"))
    model = torch.nn.Linear(5, 2)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[-9.0, 0, 0, 0, 0], [9.0, 0, 0, 0, 0]]))
    found = checked(model, data, ["3", "4"])
    assert "stop" not in {remark.level for remark in found}
