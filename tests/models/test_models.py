"""Every network by name: right shape, same seed same bytes, and a fresh one of the same kind."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from unteach.models import MODELS, Blueprint, build, fresh
from unteach.store import fingerprint
from unteach.types import Refusal

SHAPES = {
    "small-cnn": (1, 28, 28),
    "airbench": (3, 32, 32),
    "airbench-small": (3, 32, 32),
    "resnet18": (3, 32, 32),
    "resnet18-amun": (3, 32, 32),
    "resnet18-face": (3, 128, 128),
    "vgg19-bn": (3, 64, 64),
    "mlp": (12,),
    "sisa": (1, 28, 28),
}


def test_every_model_is_tried() -> None:
    assert SHAPES.keys() == MODELS.keys()


@pytest.mark.parametrize("name", MODELS)
def test_contract(name: str) -> None:
    blueprint = Blueprint(name=name, classes=7, shape=SHAPES[name])
    state = torch.get_rng_state()
    pixels = torch.rand(64, *SHAPES[name], generator=torch.Generator().manual_seed(0))
    model = build(blueprint, seed=3, sample=pixels)
    assert torch.equal(torch.get_rng_state(), state), "building must not move the global random state"
    logits = model.eval()(pixels[:2])
    assert logits.shape == (2, 7)
    assert torch.isfinite(logits).all()
    assert fingerprint(build(blueprint, seed=3, sample=pixels)) == fingerprint(model)
    again = fresh(model, seed=4, sample=pixels)
    assert again.state_dict().keys() == model.state_dict().keys()
    assert fingerprint(again) != fingerprint(model)
    assert not any("mean" in key and "running" not in key for key in model.state_dict()), "pixel scaling is no weight"


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 5, 9), (1, 64, 60), (1, 2, 2), (2, 30, 7)])
def test_small_cnn_takes_any_sides(shape: tuple[int, ...]) -> None:
    model = build(Blueprint(name="small-cnn", classes=10, shape=shape), seed=0)
    assert model(torch.rand(2, *shape)).shape == (2, 10)


def test_mlp_of_any_width_reads_any_shape() -> None:
    model = build(Blueprint(name="mlp", classes=3, shape=(4, 5), arguments={"hidden": [7, 2]}), seed=0)
    assert model(torch.rand(2, 4, 5)).shape == (2, 3)
    assert [tuple(weight.shape) for weight in model.parameters() if weight.ndim == 2] == [(7, 20), (2, 7), (3, 2)]
    linear = build(Blueprint(name="mlp", classes=3, shape=(4,), arguments={"hidden": []}), seed=0)
    assert [tuple(weight.shape) for weight in linear.parameters()] == [(3, 4), (3,)]
    with pytest.raises(Refusal, match="whole numbers above 0"):
        build(Blueprint(name="mlp", classes=3, shape=(4,), arguments={"hidden": [0]}), seed=0)


def test_whitening_whitens() -> None:
    generator = torch.Generator().manual_seed(0)
    smooth = torch.nn.functional.avg_pool2d(torch.rand(500, 3, 36, 36, generator=generator), 5, 1)
    model = build(Blueprint(name="airbench-small", classes=10, shape=(3, 32, 32)), seed=0, sample=smooth)
    with torch.no_grad():
        model.whitening.bias.zero_()
        out = model.whitening(model.scale_pixels(smooth))[:, :12].permute(0, 2, 3, 1).flatten(0, 2)
    gram = (out.T @ out / len(out)).double()
    off = gram - torch.diag(gram.diagonal())
    assert off.abs().max() < 0.02, "responses must be uncorrelated"
    assert (gram.diagonal() <= 1.001).all()
    assert gram.diagonal()[0] > 0.9, "and of unit size where the data have more than the floor"


def test_amun_resnet_halves_only_blocks_with_a_shortcut_convolution() -> None:
    model = build(Blueprint(name="resnet18-amun", classes=10, shape=(3, 32, 32)), seed=0)
    factors = [m.factor for m in model.modules() if type(m).__name__ == "BasicBlock"]
    assert factors == [1.0, 1.0, 0.5, 1.0, 0.5, 1.0, 0.5, 1.0]


USER = """
import torch
def net(hidden=5):
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, hidden), torch.nn.ReLU(), torch.nn.Linear(hidden, 10))
class Odd(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.w = torch.nn.Parameter(torch.ones(64, 10))
    def forward(self, x):
        return x.flatten(1) @ self.w
thing = 3
def number():
    return 3
"""


@pytest.fixture
def user_file(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text(USER)
    return tmp_path / "mine.py"


def test_a_network_from_a_file(user_file: Path) -> None:
    model = build(Blueprint(name=f"{user_file}:net", classes=10, shape=(1, 8, 8), arguments={"hidden": 6}), seed=0)
    assert model(torch.rand(2, 1, 8, 8)).shape == (2, 10)
    assert model[1].out_features == 6


def test_a_network_from_an_import_path() -> None:
    arguments = {"in_features": 3, "out_features": 2}
    model = build(Blueprint(name="torch.nn:Linear", classes=2, shape=(3,), arguments=arguments), seed=0)
    assert isinstance(model, torch.nn.Linear)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("small", "expected a model name"),
        ("nowhere.at_all:net", "importable module"),
        ("missing.py:net", "Python file"),
        ("FILE:nothing", "class or function"),
        ("FILE:thing", "class or function"),
        ("FILE:number", "torch.nn.Module"),
    ],
)
def test_bad_names_are_refused(user_file: Path, name: str, says: str) -> None:
    with pytest.raises(Refusal, match=says):
        build(Blueprint(name=name.replace("FILE", str(user_file)), classes=10, shape=(1, 8, 8)), seed=0)


def test_fresh_without_a_blueprint_resets_every_layer(user_file: Path) -> None:
    plain = torch.nn.Sequential(
        torch.nn.Conv2d(1, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Flatten(), torch.nn.Linear(144, 2)
    )
    plain[1].running_mean += 1
    new = fresh(plain, seed=1)
    assert fingerprint(new) == fingerprint(fresh(plain, seed=1))
    assert not torch.equal(new[0].weight, plain[0].weight)
    assert torch.equal(new[1].running_mean, torch.zeros(4))


def test_fresh_refuses_a_layer_it_cannot_reset(user_file: Path) -> None:
    from unteach.models.build import imported

    with pytest.raises(Refusal, match="reset_parameters"):
        fresh(imported(f"{user_file}:Odd")(), seed=0)


def test_images_are_needed() -> None:
    with pytest.raises(Refusal, match="expected images"):
        build(Blueprint(name="small-cnn", classes=10, shape=(64,)), seed=0)
