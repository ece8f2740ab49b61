"""Networks that expect other inputs than the data's, or give more than logits: used as they are, and left as they are."""

from __future__ import annotations

import copy
from collections import OrderedDict, namedtuple
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from made import blobs
from own_networks import Encoder, FrozenBackbone, skip_without
from unteach import forget
from unteach.attacks.probe import probing
from unteach.engine import Engine
from unteach.methods import Amun, FineTune, Retrain
from unteach.models import Blueprint, Preprocess, build, fresh
from unteach.models.preprocess import Prepare, attach, logits_of
from unteach.spectral.lipschitz import lipschitz
from unteach.store import fingerprint
from unteach.train import Sgd, Source, _hooked, fit
from unteach.types import Examples, Refusal

ALL = Preprocess(mean=(0.4, 0.5, 0.6), std=(0.1, 0.2, 0.4), size=6)


def prepared(settings: Preprocess, inputs: torch.Tensor) -> torch.Tensor:
    return Prepare(settings, tuple(inputs.shape[1:]))(nn.Identity(), (inputs,))[0]


def test_each_channel_and_each_feature_by_its_own_numbers() -> None:
    x = torch.rand(4, 3, 5, 5, dtype=torch.float64)
    settings = Preprocess(mean=(0.1, 0.2, 0.3), std=(0.5, 1.0, 2.0))
    made = prepared(settings, x)
    assert made.dtype == x.dtype
    for channel, (mean, std) in enumerate(zip(settings.mean, settings.std)):
        torch.testing.assert_close(made[:, channel], (x[:, channel] - mean) / std, rtol=0, atol=1e-6)
    rows = torch.rand(4, 2)
    torch.testing.assert_close(prepared(Preprocess(std=(0.5, 4.0)), rows), rows / torch.tensor([0.5, 4.0]))
    tokens = torch.rand(4, 7, 2)
    torch.testing.assert_close(prepared(Preprocess(mean=(1.0, 2.0)), tokens), tokens - torch.tensor([1.0, 2.0]))


def test_resized_as_torchvision_does() -> None:
    skip_without("torchvision")
    from torchvision.transforms.v2 import functional

    for side in (3, 6, 13):
        x = torch.rand(2, 3, 8, 9)
        theirs = functional.normalize(functional.resize(x, [side, side], antialias=True), [*ALL.mean], [*ALL.std])
        ours = prepared(Preprocess(mean=ALL.mean, std=ALL.std, size=side), x)
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


def test_grey_becomes_colour() -> None:
    x = torch.rand(2, 1, 4, 4)
    made = prepared(Preprocess(mean=(0.4, 0.5, 0.6)), x)
    assert made.shape == (2, 3, 4, 4)
    torch.testing.assert_close(made + torch.tensor([0.4, 0.5, 0.6])[:, None, None], x.expand(2, 3, 4, 4))


@pytest.mark.parametrize(
    ("settings", "shape", "says"),
    [
        ({"mean": (0.5, 0.5)}, (3, 4, 4), "3 channels"),
        ({"mean": (0.5, 0.5), "std": (1.0, 1.0, 1.0)}, (1, 4, 4), "got 2 and 3"),
        ({"mean": (0.5,) * 4}, (7, 5), "5 features"),
        ({"size": 8}, (5,), "images to resize"),
        ({"std": (0.0,)}, (5,), "std above 0"),
        ({"mean": (float("nan"),)}, (5,), "finite"),
        ({"size": 10**6}, (3, 4, 4), "8192"),
        ({"size": -1}, (3, 4, 4), "size"),
    ],
    ids=["channels", "unequal", "features", "no image", "zero", "nan", "huge", "negative"],
)
def test_what_cannot_be_is_refused(settings: dict[str, Any], shape: tuple[int, ...], says: str) -> None:
    with pytest.raises(Refusal, match=says):
        Prepare(Preprocess(**settings), shape)


def bare() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3))


def attached() -> nn.Module:
    model = bare()
    attach(model, ALL, (3, 9, 9))
    return model.eval()


def test_it_is_no_part_of_the_network_and_of_all_its_copies() -> None:
    x, model, plain = torch.rand(2, 3, 9, 9), attached(), bare().eval()
    assert list(model.state_dict()) == list(plain.state_dict())
    assert fingerprint(model) == fingerprint(plain)
    expected = plain(prepared(ALL, x))
    for one in (model, copy.deepcopy(model), copy.deepcopy(copy.deepcopy(model))):
        assert torch.equal(one(x), expected)
    assert not _hooked(model), "divided training need not refuse it"
    model.register_forward_hook(lambda *_: None)
    assert _hooked(model)


def test_a_retrained_network_has_it_too(tmp_path: Path) -> None:
    (tmp_path / "nets.py").write_text(NETS)
    blueprint = Blueprint(name=f"{tmp_path / 'nets.py'}:net", classes=3, shape=(3, 9, 9), preprocess=ALL)
    model = build(blueprint, seed=0).eval()
    x = torch.rand(2, 3, 9, 9)
    with pytest.raises(RuntimeError):
        build(Blueprint(name=blueprint.name, classes=3, shape=(3, 9, 9)), seed=0)(
            x
        )  # 9 pixels do not fit its last layer
    again = fresh(model, seed=0).eval()
    assert torch.equal(again(x), model(x))
    assert Blueprint.from_json(blueprint.as_json()) == blueprint
    plain = Blueprint(name="small-cnn", classes=3, shape=(1, 8, 8))
    assert "preprocess" not in plain.as_json(), "keys of what was made before stay what they were"
    assert Blueprint.from_json(plain.as_json()) == plain


NETS = """
from torch import nn

def net():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3))
"""


def test_attacks_see_through_it() -> None:
    """The attack's fast copy folds batch norm by torch.fx, which knows no hooks: its gradient must be the network's."""
    model, x, y = attached(), torch.rand(4, 3, 9, 9), torch.tensor([0, 1, 2, 0])

    def objective(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(logits, labels, reduction="none")

    with probing(model, x, y, bf16=False) as probe:
        _, slope = probe.slope(probe.place(x), y, objective)
    at = x.clone().requires_grad_()
    (expected,) = torch.autograd.grad(objective(model(at), y).sum(), at)
    torch.testing.assert_close(slope, expected)
    assert slope.abs().sum() > 0


def test_no_bound_where_a_bound_would_miss_it() -> None:
    assert lipschitz(bare(), (3, 6, 6)).bound is not None
    found = lipschitz(attached(), (3, 9, 9))
    assert found.bound is None
    assert "preprocessed" in found.reason


Named = namedtuple("Named", ["logits", "aux"])
LOGITS = torch.ones(2, 3)


class Held:
    logits = LOGITS


OUTPUTS = {
    "tensor": LOGITS,
    "dict": {"logits": LOGITS, "loss": None},
    "ordered": OrderedDict(loss=torch.ones(()), logits=LOGITS),
    "named": Named(LOGITS, LOGITS + 1),
    "tuple": (LOGITS, LOGITS + 1),
    "object": Held(),
}


@pytest.mark.parametrize("output", OUTPUTS.values(), ids=OUTPUTS)
def test_logits_are_found(output: Any) -> None:
    assert logits_of(output) is LOGITS


@pytest.mark.parametrize("output", [None, [LOGITS], {"out": LOGITS}, {"logits": [1]}, (), ("a", LOGITS)], ids=range(6))
def test_anything_else_comes_back_as_it_is(output: Any) -> None:
    assert logits_of(output) is output


class Auxiliary(nn.Module):
    """Gives a second head's logits in training, as GoogLeNet does."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.aux, self.head = nn.Sequential(nn.Flatten(), nn.Linear(64, 8)), nn.Linear(8, 3), nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> Any:
        hidden = self.body(x)
        return Named(self.head(hidden), self.aux(hidden)) if self.training else self.head(hidden)


def test_a_network_from_python_is_used_and_given_back_bare() -> None:
    data, model = blobs(30), Auxiliary()
    before = copy.deepcopy(model.state_dict())
    made = forget(model, data, ["3", "5"], method=FineTune(optim=Sgd(lr=0.05, epochs=1, batch=10)))
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    for one in (model, made.model):
        assert not one._forward_hooks
        assert not one._forward_pre_hooks
    assert isinstance(made.model.train()(torch.rand(2, 1, 8, 8)), Named)
    seen = forget(model, data, ["3"], method="gradient-ascent", preprocess=Preprocess(mean=(0.5,), std=(0.25,)))
    assert fingerprint(seen.model) != fingerprint(forget(model, data, ["3"], method="gradient-ascent").model)
    amun = Amun(optim=Sgd(lr=0.01, epochs=1))
    assert len(forget(model, data, ["3"], method=amun, preprocess=Preprocess(mean=(0.5,))).split.forget) == 1


def test_an_encoder_on_embeddings() -> None:
    """Inputs n × tokens × width, a dictionary out."""
    labels = torch.arange(30) % 3
    inputs = torch.randn(30, 4, 8, generator=torch.Generator().manual_seed(0)) + labels[:, None, None]
    data = Examples(inputs, labels, blobs(30).ids, None, ("a", "b", "c"))
    made = forget(Encoder(), data, ["3", "5"], method=FineTune(optim=Sgd(lr=0.05, epochs=1, batch=10)))
    assert isinstance(made.model(inputs), dict)


@pytest.mark.parametrize("method", [FineTune, Retrain])
def test_a_frozen_backbone_stays_to_the_bit(method: Any) -> None:
    data, model, engine = blobs(30), FrozenBackbone(), Engine(accelerator="cpu")
    optim = Sgd(lr=0.05, epochs=1, batch=10)
    fit(model, [Source(data)], optim, seed=0, engine=engine)
    if method is Retrain:
        from unteach.recipe import Recipe

        made = forget(model, data, ["3"], method=Retrain(training=Recipe(optim=optim)))
    else:
        made = forget(model, data, ["3"], method=FineTune(optim=optim))
    new = dict(made.model.named_parameters())
    for name, weight in model.named_parameters():
        assert torch.equal(weight, new[name]) == name.startswith("backbone"), name
        assert new[name].requires_grad == weight.requires_grad


def test_a_network_that_is_all_frozen_is_refused() -> None:
    with pytest.raises(Refusal, match="all of them frozen"):
        forget(Auxiliary().requires_grad_(False), blobs(30), ["3"], method="finetune")


def test_an_ensemble_prepares_nothing() -> None:
    with pytest.raises(Refusal, match="no preprocessing for an ensemble"):
        build(Blueprint(name="sisa", classes=3, shape=(1, 8, 8), preprocess=Preprocess(mean=(0.5,))), seed=0)
