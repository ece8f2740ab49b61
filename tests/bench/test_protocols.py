"""What every protocol keeps to, whatever it compares."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from made import blobs
from unteach.bench.constant import Constant
from unteach.bench.protocol import PROFILES, Cell, Protocol
from unteach.bench.protocols import PROTOCOLS, protocol_named
from unteach.data import DATA, split
from unteach.engine import Engine
from unteach.models import MODELS
from unteach.testing import check_method
from unteach.types import Method, Refusal

EVERY = [(name, profile) for name, known in PROTOCOLS.items() for profile in known]


@pytest.mark.parametrize(("name", "profile"), EVERY, ids=[f"{name}-{profile}" for name, profile in EVERY])
def test_a_protocol_names_what_is_there(name: str, profile: str) -> None:
    found = PROTOCOLS[name][profile]
    assert profile in PROFILES
    assert found.data.partition(":")[0] in DATA
    assert found.model in MODELS
    assert found.requests
    assert found.rows
    assert found.retrained >= 2
    assert len(set(found.seeds)) == len(found.seeds)
    assert found.title, "a page needs a title"
    assert all(isinstance(method, Method) for method in found.rows.values())
    assert not any(request.startswith("stratum") for request in found.requests) or found.halves
    json.dumps(found.as_json())


def test_the_ci_profile_needs_no_data_on_disk() -> None:
    assert all(known["ci"].data == "digits" for known in PROTOCOLS.values() if "ci" in known)


def test_cells_of_one_request_come_together_and_each_once() -> None:
    found = PROTOCOLS["cifar10-random10"]["paper"]
    cells = list(found.cells(["amun", "salun"]))
    assert len(cells) == len(set(cells)) == 2 * 3 * 3 * 3, "rows × draws × seeds × runs"
    assert [cell.draw for cell in cells] == sorted(cell.draw for cell in cells)
    assert len({cell.name for cell in cells}) == len(cells)


def test_rows_with_commas_and_spaces_have_plain_folders() -> None:
    assert " " not in Cell(row="finetune, frozen norms", request=0, draw=0, seed=0, run=0).name


def test_a_profile_left_out_is_the_least_demanding_on_real_data() -> None:
    assert protocol_named("cifar10-random10", "").data == "cifar10"
    assert protocol_named("mufac", "").model == "resnet18-face"


@pytest.mark.parametrize(("name", "profile"), [("cifar11", ""), ("faces", "paper")])
def test_unknown_names_are_refused_with_those_there_are(name: str, profile: str) -> None:
    with pytest.raises(Refusal, match="expected a p"):
        protocol_named(name, profile)


def test_the_constant_answer_keeps_the_contract_and_is_the_most_frequent_class() -> None:
    data = blobs(60)
    parts = split(data.take(np.arange(50)), [str(i) for i in range(0, 30, 3)])  # mostly class 0 is forgotten
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
    new = check_method(Constant(), model, parts)
    assert parts.retain is not None
    logits = new(data.inputs.float() / 255)
    assert (logits == logits[0]).all()
    assert int(logits[0].argmax()) == int(parts.retain.labels.bincount().argmax()) != 0


def test_the_constant_answer_to_several_labels_is_their_majority() -> None:
    labels = (torch.rand(40, 3, generator=torch.Generator().manual_seed(0)) < torch.tensor([0.9, 0.1, 0.6])).float()
    data = replace(blobs(40), labels=labels)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3))
    parts = split(data, ["0", "1"])
    new = Constant()(model, parts, torch.Generator().manual_seed(0), Engine(accelerator="cpu"))
    assert ((new(data.inputs.float() / 255) > 0).float().mean(0) == torch.tensor([1.0, 0.0, 1.0])).all()


def test_protocols_differ_from_one_another() -> None:
    told = [json.dumps(PROTOCOLS[name][profile].as_json(), sort_keys=True) for name, profile in EVERY]
    doubles = [EVERY[at] for at, one in enumerate(told) if told.index(one) != at]
    assert not doubles
    assert isinstance(PROTOCOLS["faces"]["laptop"], Protocol)
