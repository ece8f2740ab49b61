"""Checkpoints that unteach did not make: a state dict, the user's own network, the user's own data."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from made import blobs
from unteach.cli import main
from unteach.store import load_tensors, save_tensors
from unteach.types import Refusal

NETWORKS = """
import torch
from torch import nn

def pictures(width=6):
    return nn.Sequential(nn.Conv2d(1, width, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(width * 64, 3))

def frozen():
    net = pictures()
    net[0].requires_grad_(False)
    return net

class Features(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(5, 16), nn.ReLU(), nn.Dropout(0.2))
        self.head = nn.Linear(16, 3)

    def forward(self, x):
        return self.head(self.body(x))
"""
RECIPE = ("--recipe.optim.lr", "0.1", "--recipe.optim.epochs", "2", "--recipe.optim.batch", "16")
SHORT = ("--optim.epochs", "1", "--optim.batch", "16", "--device", "cpu", "--precision", "fp32")


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The user's file of networks, as a module, in the user's folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nets.py").write_text(NETWORKS)
    from unteach.models.build import imported

    torch.manual_seed(0)
    return lambda name, **arguments: imported(f"nets.py:{name}")(**arguments)


def images(path: Path, labels: np.ndarray | None = None) -> None:
    train, test = blobs(60), blobs(30, seed=1)
    y = train.labels.numpy() if labels is None else labels
    t = test.labels.numpy() if labels is None else labels[:30]
    np.savez(path, x=train.inputs.numpy(), y=y, test_x=test.inputs.numpy(), test_y=t)


def features(path: Path, scale: float) -> None:
    rng = np.random.default_rng(0)
    y = np.arange(60) % 3
    x = np.clip(0.3 + 0.2 * y[:, None] + 0.1 * rng.standard_normal((60, 5)), 0, 1) * scale
    np.savez(path, x=x, y=y)


def keys(path: Path) -> set[str]:
    return set(load_tensors(path)[0])


@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_state_dict_of_the_users_own_network(prefix: str, own: Any, run: Callable[..., Any], tmp_path: Path) -> None:
    images(tmp_path / "d.npz")
    net = own("pictures", width=4)
    torch.save({prefix + name: value for name, value in net.state_dict().items()}, tmp_path / "net.pt")
    before = (tmp_path / "net.pt").read_bytes()
    model = ("--model", "nets.py:pictures", "--model_args", '{"width": 4}')
    ran = run(
        *("forget", "--checkpoint", "net.pt", *model, "--data", "npz:d.npz", "--ids", "random:10", "--out", "run"),
        *(*SHORT, *RECIPE),
    )
    assert ran.code == 0, ran
    assert (tmp_path / "net.pt").read_bytes() == before
    own("pictures", width=4).load_state_dict(load_tensors(tmp_path / "run" / "model.safetensors")[0], strict=True)
    found = json.loads((tmp_path / "run" / "findings.json").read_text())
    assert found["models"].keys() == {"original", "unlearned", "retrained", "held_out_retrained"}
    audit = ("--unlearned", "run/model.safetensors", "--original", "net.pt", "--ids", "run/forget.txt")
    ran = run("audit", *audit, *model, "--data", "npz:d.npz", "--out", "audit")
    assert ran.code == 0, ran


def test_trained_here_with_the_users_own_network(own: Any, run: Callable[..., Any], tmp_path: Path) -> None:
    images(tmp_path / "d.npz")
    model = ("--model", "nets.py:pictures", "--model_args", '{"width": 4}')
    ran = run("train", "--data", "npz:d.npz", *model, "--out", "original", *SHORT)
    assert ran.code == 0, ran
    forget = ("forget", "--checkpoint", "original/model.safetensors", "--data", "npz:d.npz", "--out", "run", *SHORT)
    ran = run(*forget)
    ran.refused("nets.py:pictures", "if you trust it")
    assert not (tmp_path / "run").exists()
    ran = run(*forget, "--model", "nets.py:pictures")
    assert ran.code == 0, ran
    assert load_tensors(tmp_path / "run" / "retrained-0.safetensors")[1]["blueprint"]["arguments"] == {"width": 4}


@pytest.mark.parametrize("name", ["os:system", "pathlib:Path.touch", "nets.py:pictures", "timm:resnet18", "hf:."])
def test_a_checkpoint_does_not_choose_the_code_that_runs(
    name: str, own: Any, run: Callable[..., Any], tmp_path: Path, listing: Callable[[Path], dict[str, str]]
) -> None:
    images(tmp_path / "d.npz")
    blueprint = {"name": name, "classes": 3, "shape": [1, 8, 8], "arguments": {"command": f"touch {tmp_path}/ran"}}
    save_tensors(tmp_path / "net.safetensors", own("pictures").state_dict(), {"blueprint": blueprint})
    before = listing(tmp_path)
    ran = run("forget", "--checkpoint", "net.safetensors", "--data", "npz:d.npz", "--out", "run")
    ran.refused("--model", name)
    assert listing(tmp_path) == before, "nothing may run, nothing may be written"


def test_preprocessing_goes_with_the_checkpoint(own: Any, run: Callable[..., Any], tmp_path: Path) -> None:
    images(tmp_path / "d.npz")
    (tmp_path / "settings.yaml").write_text("preprocess: {mean: [0.5], std: [0.25], size: 8}")
    named = ("--model", "nets.py:pictures", "--data", "npz:d.npz")
    ran = run("train", *named, "--config", "settings.yaml", "--out", "original", *SHORT)
    assert ran.code == 0, ran
    told = load_tensors(tmp_path / "original" / "model.safetensors")[1]["blueprint"]
    assert told["preprocess"] == {"mean": [0.5], "std": [0.25], "size": 8}
    forget = ("forget", "--checkpoint", "original/model.safetensors", *named, "--method", "finetune", *SHORT)
    assert (ran := run(*forget, "--references", "1", "--out", "run")).code == 0, ran
    for name in ("model", "retrained-0"):
        tensors, header = load_tensors(tmp_path / "run" / f"{name}.safetensors")
        assert header["blueprint"] == told
        own("pictures").load_state_dict(tensors, strict=True)
    save_tensors(tmp_path / "bare.safetensors", load_tensors(tmp_path / "original" / "model.safetensors")[0], {})
    forget = ("forget", "--checkpoint", "bare.safetensors", *named, "--method", "finetune", *SHORT, "--references", "0")
    flags = ("--preprocess.mean", "0.5", "--preprocess.std", "0.25", "--preprocess.size", "8")
    assert (ran := run(*forget, *flags, "--out", "same")).code == 0, ran
    assert (ran := run(*forget, "--out", "other")).code == 0, ran
    accuracies = [
        json.loads((tmp_path / name / "findings.json").read_text())["models"]["original"]["accuracy"]
        for name in ("run", "same", "other")
    ]
    assert accuracies[0] == accuracies[1] != accuracies[2]
    run(*forget, "--preprocess.std", "0", "--out", "bad").refused("std above 0")


def test_frozen_weights_stay_and_come_from_the_factory(own: Any, run: Callable[..., Any], tmp_path: Path) -> None:
    images(tmp_path / "d.npz")
    net = own("frozen")
    with torch.no_grad():
        net[0].weight += 1
    torch.save(net.state_dict(), tmp_path / "net.pt")
    command = ("forget", "--checkpoint", "net.pt", "--model", "nets.py:frozen", "--data", "npz:d.npz", "--out", "run")
    command += ("--method", "finetune", "--ids", "random:8", *SHORT, *RECIPE)
    run(*command).refused("a fresh network to start with the frozen weights", "'0.weight'", "--references 0")
    ran = run(*command, "--references", "0")
    assert ran.code == 0, ran
    made = torch.load(tmp_path / "run" / "model.pt", weights_only=True)
    assert torch.equal(made["0.weight"], net[0].weight)
    assert torch.equal(made["0.bias"], net[0].bias)
    assert not torch.equal(made["3.weight"], net[3].weight)


def test_another_file_in_the_place_of_the_new_one_is_left_alone(
    own: Any, run: Callable[..., Any], tmp_path: Path, listing: Callable[[Path], dict[str, str]]
) -> None:
    images(tmp_path / "d.npz")
    torch.save(own("pictures").state_dict(), tmp_path / "net.pt")
    (tmp_path / "run").mkdir()
    torch.save({"theirs": torch.ones(2)}, tmp_path / "run" / "model.pt")
    before = listing(tmp_path)
    named = ("--model", "nets.py:pictures", "--data", "npz:d.npz", "--references", "0", "--ids", "random:8", *SHORT)
    run("forget", "--checkpoint", "net.pt", *named, "--out", "run").refused("model.pt", "another --out")
    assert listing(tmp_path) == before
    (tmp_path / "net.pt").rename(tmp_path / "model.pt")
    run("forget", "--checkpoint", "model.pt", *named, "--out", ".").refused("elsewhere than the checkpoint model.pt")


@pytest.mark.parametrize(("folder", "says"), [("hf:nowhere", "a folder with a config.json"), ("hf:.", "config.json")])
def test_a_folder_of_hugging_face_has_a_configuration(
    folder: str, says: str, own: Any, run: Callable[..., Any], tmp_path: Path
) -> None:
    images(tmp_path / "d.npz")
    torch.save(own("pictures").state_dict(), tmp_path / "net.pt")
    run("forget", "--checkpoint", "net.pt", "--model", folder, "--data", "npz:d.npz", "--out", "run").refused(says)


def test_multi_label(own: Any, run: Callable[..., Any], tmp_path: Path) -> None:
    labels = (np.arange(60)[:, None] // np.array([1, 2, 4]) % 2).astype(np.int64)
    images(tmp_path / "d.npz", labels)
    torch.save(own("pictures").state_dict(), tmp_path / "net.pt")
    ran = run(
        *("forget", "--checkpoint", "net.pt", "--model", "nets.py:pictures", "--data", "npz:d.npz"),
        *("--ids", "random:0.2", "--out", "run", *SHORT, *RECIPE),
    )
    assert ran.code == 0, ran
    assert keys(tmp_path / "run" / "model.safetensors") == keys(tmp_path / "net.pt")


@pytest.mark.parametrize("method", ["amun", "finetune"])
def test_features_between_0_and_1(method: str, own: Any, run: Callable[..., Any], tmp_path: Path) -> None:
    features(tmp_path / "d.npz", scale=1)
    torch.save(own("Features").state_dict(), tmp_path / "net.pt")
    ran = run(
        *("forget", "--checkpoint", "net.pt", "--model", "nets.py:Features", "--data", "npz:d.npz", "--out", "run"),
        *("--method", method, "--ids", "random:8", *SHORT, *RECIPE),
    )
    assert ran.code == 0, ran
    own("Features").load_state_dict(load_tensors(tmp_path / "run" / "model.safetensors")[0], strict=True)


def test_features_of_any_size_are_not_for_adversarial_methods(
    own: Any, run: Callable[..., Any], tmp_path: Path, listing: Callable[[Path], dict[str, str]]
) -> None:
    features(tmp_path / "d.npz", scale=50)
    torch.save(own("Features").state_dict(), tmp_path / "net.pt")
    before = listing(tmp_path)
    command = ("forget", "--checkpoint", "net.pt", "--model", "nets.py:Features", "--data", "npz:d.npz", "--out", "run")
    run(*command, *RECIPE).refused("0–1", "3.17348 to 44.1101", "another --method")
    assert listing(tmp_path) == before
    ran = run(*command, *RECIPE, *SHORT, "--method", "random-label", "--ids", "random:8")
    assert ran.code == 0, ran


def test_without_a_recipe_references_are_asked_for_before_any_work(
    own: Any, run: Callable[..., Any], tmp_path: Path, listing: Callable[[Path], dict[str, str]]
) -> None:
    images(tmp_path / "d.npz")
    torch.save(own("pictures").state_dict(), tmp_path / "net.pt")
    before = listing(tmp_path)
    command = ("forget", "--checkpoint", "net.pt", "--model", "nets.py:pictures", "--data", "npz:d.npz", "--out", "run")
    run(*command, *SHORT).refused("--recipe.optim.lr", "--references 0")
    run(*command, "--method", "retrain", "--references", "0").refused("--optim.lr", "Retrain")
    assert listing(tmp_path) == before
    ran = run(*command, *SHORT, "--references", "0", "--ids", "random:8", "--gate", "true")
    assert ran.code == 3, ran
    assert json.loads((tmp_path / "run" / "findings.json").read_text())["verdict"] == "inconclusive"


def test_in_python_on_a_plain_module(own: Any) -> None:
    from unteach import forget
    from unteach.methods import Amun
    from unteach.train import Sgd

    net, data = own("pictures").train(), blobs(60)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    made = forget(net, data, ["3", "5"], method=Amun(optim=Sgd(lr=0.01, epochs=1)))
    assert made.split.forget.ids.tolist() == ["3", "5"]
    assert net.training
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    assert type(made.model) is type(net)
    for ids, words in (([], "at least one id"), (["3", "3"], "once"), (["nobody"], "'nobody'"), ("random:2", None)):
        if words is None:
            assert len(forget(net, data, ids, method="gradient-ascent").split.forget) == 2
        else:
            with pytest.raises(Refusal, match=words):
                forget(net, data, ids)
    with pytest.raises(Refusal, match="a method"):
        forget(net, data, ["3"], method="fly")


def test_the_entry_point_is_the_same_function() -> None:
    from importlib.metadata import entry_points

    (script,) = entry_points(group="console_scripts", name="unteach")
    assert script.load().__module__ == main.__module__
