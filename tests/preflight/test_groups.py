"""People who are forgotten in part, and people on both sides."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from unteach.data import DataSet
from unteach.preflight.groups import find_groups


def peopled(data: DataSet, shared: int = 0) -> DataSet:
    """Ten training examples a person, and ``shared`` of them in the test set as well."""
    train = np.array([f"person {i // 10}" for i in range(120)])
    test = np.array([f"person {i}" if i < shared else f"stranger {i}" for i in range(60)])
    return DataSet("people", replace(data.train, groups=train), replace(data.test, groups=test))


def test_whole_people_apart_from_the_test_set_are_fine(make: Any, model: torch.nn.Module, data: DataSet) -> None:
    (found,) = find_groups(make(model, peopled(data)))
    assert (found.level, found.numbers["groups"]) == ("fine", 1)


def test_who_is_left_behind_is_counted(make: Any, model: torch.nn.Module, data: DataSet) -> None:
    (found,) = find_groups(make(model, peopled(data), ["0", "1", "15"]))
    assert found.level == "warn"
    assert found.numbers == {"groups": 2, "left": 8 + 9}
    assert "group:person 0,person 1." in found.do


def test_who_is_in_the_test_set_too_is_counted(make: Any, model: torch.nn.Module, data: DataSet) -> None:
    (found,) = find_groups(make(model, peopled(data, shared=3)))
    assert (found.level, found.numbers) == ("warn", {"groups": 3, "of_the_request": 1})
    (found,) = find_groups(make(model, peopled(data, shared=3), [str(i) for i in range(100, 110)]))
    assert (found.level, found.numbers) == ("note", {"groups": 3, "of_the_request": 0})


def test_data_without_groups_say_what_cannot_be_known(make: Any, model: torch.nn.Module, data: DataSet) -> None:
    (found,) = find_groups(make(model, data))
    assert found.level == "note"
