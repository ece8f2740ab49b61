"""CF-k: what it fixes to the bit, what it trains, and how layers are counted."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from made import blobs
from own_networks import skip_without
from unteach.engine import Engine, pixels
from unteach.methods import FineTune
from unteach.methods.cf_k import CfK
from unteach.models import Blueprint, build
from unteach.models.anatomy import last_layers, weighted_layers
from unteach.models.small import small_cnn
from unteach.store import fingerprint
from unteach.testing import check_method
from unteach.train import Sgd, Source, fit
from unteach.types import Examples, Refusal, Split

SHORT = Sgd(lr=0.02, epochs=2, batch=32)
LAYERS = [["0", "1", "2", "3", "4"], ["5", "6", "7", "8"], ["9", "10", "11", "12", "13"], ["14"]]  # of small-cnn


def rng() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.fixture(scope="module")
def trained() -> tuple[torch.nn.Module, Examples, Split]:
    data = blobs(120, noise=0.45)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = small_cnn(1, 3, 8, 8, filters=8)
    fit(model, [Source(data)], Sgd(lr=0.1, epochs=6, batch=32), seed=0, engine=Engine(precision="fp32"))
    gone = np.arange(len(data)) % 6 == 0
    return model, data, Split(forget=data.take(gone), retain=data.take(~gone))


def moved(old: torch.nn.Module, new: torch.nn.Module) -> set[str]:
    """Names of what differs in at least one bit."""
    before = old.state_dict()
    return {name for name, value in new.state_dict().items() if not torch.equal(value, before[name])}


def test_layers_are_counted_with_their_norms() -> None:
    model = build(Blueprint(name="small-cnn", classes=3, shape=(1, 8, 8)), seed=0)
    assert weighted_layers(model) == LAYERS


@pytest.mark.parametrize("name", ["resnet18", "resnet18-face", "torchvision:resnet18"])
def test_eleven_layers_of_a_resnet18_are_mufacs_three(name: str) -> None:
    if ":" in name:
        skip_without("torchvision")
    model = build(Blueprint(name=name, classes=8, shape=(3, 64, 64)), seed=0)
    layers = weighted_layers(model)
    assert len(layers) == 21
    owners = {layer.split(".")[0] for part in layers[-11:] for layer in part}
    assert owners - {"avgpool", "flatten"} == {"layer3", "layer4", "fc"}
    assert not any(layer.startswith(("layer3", "layer4", "fc")) for part in layers[:-11] for layer in part)


@pytest.mark.parametrize("k", [1, 2, 4])
def test_contract(k: int, trained: tuple[torch.nn.Module, Examples, Split]) -> None:
    model, data, split = trained
    check_method(CfK(k=k, optim=SHORT), model, split)
    one = Split(forget=data.take([5]), retain=data.take([i for i in range(120) if i != 5]))
    check_method(CfK(k=k, optim=SHORT), model, one)


def test_several_labels(trained: tuple[torch.nn.Module, Examples, Split]) -> None:
    model, data, _ = trained
    many = data.relabel(torch.nn.functional.one_hot(data.labels, 3).float())
    split = Split(forget=many.take(range(10)), retain=many.take(range(10, 60)))
    check_method(CfK(optim=SHORT), model, split)


@pytest.mark.parametrize("k", [1, 2, 3])
@pytest.mark.parametrize("batch_norm", ["train", "frozen", "eval"])
def test_the_layers_before_stay_to_the_bit(
    k: int, batch_norm: str, trained: tuple[torch.nn.Module, Examples, Split]
) -> None:
    model, _, split = trained
    new = CfK(k=k, optim=Sgd(lr=0.05, epochs=2, batch=32, batch_norm=batch_norm))(model, split, rng(), Engine())
    last = {name for part in LAYERS[-k:] for name in part}
    changed = moved(model, new)
    assert {name.split(".")[0] for name in changed} <= last
    assert {name for name, _ in new.named_parameters() if name.split(".")[0] in last} <= changed
    assert all(weight.requires_grad for weight in new.parameters())


def test_drift_moves_the_statistics_of_fixed_layers_and_nothing_else(
    trained: tuple[torch.nn.Module, Examples, Split],
) -> None:
    model, _, split = trained
    new = CfK(k=1, drift=True, optim=SHORT)(model, split, rng(), Engine())
    before = {name for name in moved(model, new) if not name.startswith("14.")}
    assert before == {
        f"{layer}.{name}" for layer in (3, 7, 11) for name in ("running_mean", "running_var", "num_batches_tracked")
    }


def test_with_all_layers_it_is_fine_tuning(trained: tuple[torch.nn.Module, Examples, Split]) -> None:
    model, _, split = trained
    ours = CfK(k=99, optim=SHORT)(model, split, rng(), Engine())
    assert fingerprint(ours) == fingerprint(FineTune(optim=SHORT)(model, split, rng(), Engine()))


def test_one_step_by_hand(trained: tuple[torch.nn.Module, Examples, Split]) -> None:
    """The last layer's gradient on features of the network in eval mode, and nothing else."""
    model, _, split = trained
    assert split.retain is not None
    whole = Sgd(lr=0.1, epochs=1, batch=1000, schedule="constant", momentum=0.0, weight_decay=0.01)
    new = CfK(k=1, optim=whole)(model, split, rng(), Engine(precision="fp32"))
    body = copy.deepcopy(model).eval()[:-1]
    with torch.no_grad():
        features = body(pixels(split.retain.inputs)).double()
    weight, bias = model[-1].weight.double(), model[-1].bias.double()
    error = (features @ weight.T + bias).softmax(1) - torch.nn.functional.one_hot(split.retain.labels, 3)
    step_weight = error.T @ features / len(features) + 0.01 * weight
    step_bias = error.mean(0) + 0.01 * bias
    torch.testing.assert_close(new[-1].weight.double(), weight - 0.1 * step_weight, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(new[-1].bias.double(), bias - 0.1 * step_bias, rtol=1e-5, atol=1e-6)


def test_weights_that_were_fixed_are_fixed_again() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.ReLU(), torch.nn.Linear(4, 3))
    model[0].bias.requires_grad = False
    with last_layers(model, 1) as last:
        assert last == ["2"]
        assert [weight.requires_grad for weight in model.parameters()] == [False, False, True, True]
        model.train()
        model(torch.zeros(2, 4))
        assert not model[0].training
        assert model[2].training
    assert [weight.requires_grad for weight in model.parameters()] == [True, False, True, True]
    model.train()
    model(torch.zeros(2, 4))
    assert model[0].training, "no hook may be left"


def test_refusals(trained: tuple[torch.nn.Module, Examples, Split]) -> None:
    _, _, split = trained
    with pytest.raises(Refusal, match="k to be at least 1"):
        CfK(k=0)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 8), torch.nn.Linear(8, 3))
    for weight in model[2].parameters():
        weight.requires_grad = False
    with pytest.raises(Refusal, match="weights to train in the last 1"):
        CfK(k=1)(model, split, rng(), Engine())
    assert model[1].weight.requires_grad
