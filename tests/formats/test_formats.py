"""Checkpoints in every common form: read into the untouched network, and written back as they came."""

from __future__ import annotations

import argparse
from collections import OrderedDict
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import safetensors
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from unteach.checkpoint import save_alike
from unteach.formats import Layout, fit, opened
from unteach.store import fingerprint, save_tensors, write
from unteach.types import Refusal


def network(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(1, 2, 3, bias=False), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 3))


def held(folder: Path, content: Any, name: str = "net.pt") -> Path:
    torch.save(content, folder / name)
    return folder / name


def read(path: Path) -> tuple[nn.Module, Layout]:
    new = network(1)
    return new, fit(new, opened(path))


def tensors_in(content: Any) -> int:
    """Every tensor in nested dictionaries and lists, however deep."""
    if isinstance(content, torch.Tensor):
        return 1
    inner = content.values() if isinstance(content, dict) else content if isinstance(content, list | tuple) else ()
    return sum(map(tensors_in, inner))


PREFIXES = ("module.", "model.", "net.", "_orig_mod.", "backbone.encoder.")
WRAPPERS = ("state_dict", "model", "model_state_dict", "weights of mine")


@given(
    prefixes=st.lists(st.sampled_from(PREFIXES), max_size=3), wrappers=st.lists(st.sampled_from(WRAPPERS), max_size=2)
)
@settings(max_examples=60, deadline=None)
def test_any_nesting_comes_back_as_it_was(
    prefixes: list[str], wrappers: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder, net, prefix = tmp_path_factory.mktemp("nested"), network(), "".join(prefixes)
    state = net.state_dict()
    content: Any = OrderedDict((prefix + name, value) for name, value in state.items())
    content._metadata = state._metadata  # type: ignore[attr-defined]
    for key in wrappers:
        content = {"epoch": 3, key: content, "names": ["a", ("b", 1.5)]}
    new, layout = read(held(folder, content))
    assert fingerprint(new) == fingerprint(net)
    assert all(name.endswith(own) for name, own in layout.names.items())
    save_alike(folder / "again.pt", new, layout)
    again = torch.load(folder / "again.pt", weights_only=True)
    for key in reversed(wrappers):
        assert list(again) == list(content)
        assert (again["epoch"], again["names"]) == (3, ["a", ("b", 1.5)])
        again, content = again[key], content[key]
    assert list(again) == list(content)
    assert all(torch.equal(again[name], content[name]) and again[name].dtype == content[name].dtype for name in content)
    assert again._metadata == state._metadata  # type: ignore[attr-defined]
    said = layout.notes()
    assert bool(said) == bool(prefix)
    assert not prefix or repr(prefix) in said[0]


def test_compiled_in_the_middle(tmp_path: Path) -> None:
    net = nn.ModuleDict({"body": network()})
    state = {name.replace("body.", "body._orig_mod."): value for name, value in net.state_dict().items()}
    other = nn.ModuleDict({"body": network(1)})
    layout = fit(other, opened(held(tmp_path, state)))
    assert fingerprint(other) == fingerprint(net)
    assert list(layout.named(other.state_dict())) == list(state)
    assert "'_orig_mod.'" in layout.notes()[0]


def test_a_prefix_is_taken_off_only_if_all_fits_then(tmp_path: Path) -> None:
    state = {f"model.{name}": value for name, value in network().state_dict().items()}
    with pytest.raises(Refusal, match=r"0 missing and 1 unknown .*'criterion.weight'.*own weights alone"):
        read(held(tmp_path, {"state_dict": {**state, "criterion.weight": torch.ones(3)}}))
    fewer = {name: value for name, value in state.items() if "running_var" not in name}
    with pytest.raises(Refusal, match=r"1 missing and 0 unknown .*'1.running_var'"):
        read(held(tmp_path, fewer))


def test_half_precision_comes_back_half_and_is_what_is_judged(tmp_path: Path) -> None:
    state = {n: v.half() if v.is_floating_point() else v for n, v in network().state_dict().items()}
    new, layout = read(held(tmp_path, state))
    with torch.no_grad():
        new[0].weight += 1e-3  # type: ignore[index]
    new.load_state_dict(layout.rounded(new.state_dict()))
    save_alike(tmp_path / "again.pt", new, layout)
    again = torch.load(tmp_path / "again.pt", weights_only=True)
    assert [v.dtype for v in again.values()] == [v.dtype for v in state.values()]
    assert again["1.num_batches_tracked"].dtype == torch.int64
    back = network(2)
    back.load_state_dict(again, strict=True)
    assert fingerprint(back) == fingerprint(new), "the judged network is the one that the file holds"


def test_state_of_training_stays_behind(tmp_path: Path) -> None:
    net = network()
    adam = torch.optim.Adam(net.parameters())
    net(torch.rand(2, 1, 4, 4)).sum().backward()
    adam.step()
    averaged = {name: value + 1 if value.is_floating_point() else value for name, value in net.state_dict().items()}
    content = {
        "model": net.state_dict(),
        "model_ema": averaged,
        "optimizer": adam.state_dict(),
        "lr_scheduler": {"last_epoch": 4},
        "scaler": {"scale": 1.0},
        "email": "me",
        "schema": {"optimizer": "adam", "widths": [2, 3]},
        "args": {"lr": 0.1, "class_weights": torch.ones(3)},
        "rng_state": torch.get_rng_state(),
        "best": torch.tensor(0.5),
    }
    new, layout = read(held(tmp_path, content))
    assert fingerprint(new) == fingerprint(net)
    left = {"model_ema", "optimizer", "lr_scheduler", "scaler", "args.class_weights", "rng_state", "best"}
    assert set(layout.left_out) == left
    assert "model_ema would fit too" in layout.notes()[-1]
    made = layout.content(new.state_dict())
    assert list(made) == ["model", "email", "schema", "args"]
    assert (made["schema"], made["args"]) == (content["schema"], {"lr": 0.1})
    assert tensors_in(made) == len(net.state_dict())


def test_several_weights_that_fit_are_for_the_user_to_choose(tmp_path: Path) -> None:
    student, teacher = network().state_dict(), network(5).state_dict()
    with pytest.raises(Refusal, match=r"several \('student', 'teacher'\)"):
        read(held(tmp_path, {"student": student, "teacher": teacher}))


def test_a_file_that_holds_itself_is_read_once(tmp_path: Path) -> None:
    content: dict[str, Any] = {"state_dict": network().state_dict(), "list": []}
    content["self"], content["more"] = content, {str(n): content for n in range(50)}
    content["list"].append(content["list"])
    _, layout = read(held(tmp_path, content))
    assert list(layout.around) == ["state_dict"]


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.into, self.out = nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False)
        self.out.weight = self.into.weight


def test_tied_weights(tmp_path: Path) -> None:
    net, other = Tied(), Tied()
    save_tensors(tmp_path / "one.safetensors", {"into.weight": net.into.weight}, {}, {"format": "pt"})
    layout = fit(other, opened(tmp_path / "one.safetensors"))
    assert torch.equal(other.out.weight, net.out.weight)
    assert other.out.weight is other.into.weight
    assert list(layout.named(other.state_dict())) == ["into.weight"]
    assert layout.metadata["format"] == "pt"
    with pytest.raises(Refusal, match="to be equal, as tied weights are"):
        fit(other, opened(held(tmp_path, {"into.weight": torch.zeros(4, 4), "out.weight": torch.ones(4, 4)})))
    layout = fit(other, opened(held(tmp_path, net.state_dict())))
    save_alike(tmp_path / "again.pt", other, layout)
    again = torch.load(tmp_path / "again.pt", weights_only=True)
    assert again["into.weight"].data_ptr() == again["out.weight"].data_ptr(), "tied weights are written once"


def test_the_same_bytes_each_time(tmp_path: Path) -> None:
    new, layout = read(held(tmp_path, {"state_dict": network().state_dict()}))
    for name in ("a.pt", "b.pt"):
        save_alike(tmp_path / name, new, layout)
    assert (tmp_path / "a.pt").read_bytes() == (tmp_path / "b.pt").read_bytes()


@pytest.mark.parametrize(
    ("name", "suffix"), [("net.pt", ".pt"), ("v1.2.ckpt", ".ckpt"), ("best.pth.tar", ".pth.tar"), ("weights", ".pt")]
)
def test_kinds_of_files(name: str, suffix: str, tmp_path: Path) -> None:
    assert read(held(tmp_path, network().state_dict(), name))[1].suffix == suffix


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (network(), "torch.nn.modules.container.Sequential"),
        ({"state_dict": {}, "hyper_parameters": argparse.Namespace(lr=1)}, "argparse.Namespace"),
    ],
    ids=["whole network", "lightning with objects"],
)
def test_objects_of_code_are_refused_with_what_to_do(content: Any, named: str, tmp_path: Path) -> None:
    with pytest.raises(Refusal) as told:
        opened(held(tmp_path, content))
    assert named in str(told.value)
    assert "state_dict()" in str(told.value)


def test_no_weights_at_all(tmp_path: Path) -> None:
    write(tmp_path / "net.pt", lambda path: torch.save({"epoch": 3}, path))
    with pytest.raises(Refusal, match=r"state dict .*'epoch'"):
        opened(tmp_path / "net.pt").weights()


def test_bytes_of_a_kernel_of_one_pixel() -> None:
    """torchvision's ResNet-50 in channels_last: such a kernel counts as contiguous, and can't be read as bytes as it is."""
    plain = nn.Sequential(nn.Conv2d(8, 4, 1, bias=False))
    digest = fingerprint(plain)
    weight = plain[0].weight
    weight.data = weight.data.as_strided(weight.shape, (8, 1, 8, 8))
    assert fingerprint(plain) == digest


@pytest.mark.parametrize("how", ["mixed", "too short"])
def test_a_file_that_is_replaced_while_it_is_read(how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, later = tmp_path / "net.safetensors", tmp_path / "later.safetensors"
    save_tensors(path, {"w": torch.zeros(4)}, {"told": 1})
    save_tensors(later, {"w": torch.ones(4)}, {"told": "a longer story"})
    real, opens = safetensors.safe_open, []

    def opening(name: Path, framework: str) -> Any:
        """As the library's: the name is opened once for the header and once for the tensors."""
        opens.append(name)
        file = real(name, framework=framework)
        if len(opens) > 1:
            return file
        later.replace(name)
        if how == "too short":
            raise RuntimeError("size is smaller than the required mapping size")
        mixed = Mock(wraps=file, **{"get_tensor.side_effect": lambda name: torch.full((4,), torch.nan)})
        return nullcontext(mixed)

    monkeypatch.setattr(safetensors, "safe_open", opening)
    found = opened(path)
    assert len(opens) == 2
    assert found.content["w"].tolist() == [1, 1, 1, 1]
    assert "a longer story" in found.metadata["unteach"]


def test_a_file_that_mapping_refuses_is_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "net.safetensors"
    save_tensors(path, {"w": torch.zeros(4)}, {})
    monkeypatch.setattr(safetensors, "safe_open", Mock(side_effect=RuntimeError("size is smaller")))
    with pytest.raises(Refusal, match=r"expected a whole safetensors file .* got: size is smaller"):
        opened(path)
