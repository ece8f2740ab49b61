"""Files are whole or absent, and loading runs no code."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unteach.store import fingerprint, load_into, load_tensors, read_json, save_tensors, write, write_json
from unteach.types import Refusal


def test_round_trip(tmp_path: Path) -> None:
    tensors = {"a": torch.arange(6).reshape(2, 3), "b": torch.tensor(1.5), "c": torch.tensor([True, False])}
    save_tensors(tmp_path / "x.safetensors", tensors, {"who": ["ü", 1]})
    back, provenance = load_tensors(tmp_path / "x.safetensors")
    assert back.keys() == tensors.keys()
    assert all(torch.equal(back[name], tensors[name]) for name in tensors)
    assert provenance == {"who": ["ü", 1]}


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "x.json"
    write_json(target, {"old": 1})

    def fail(path: Path) -> None:
        path.write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(Refusal, match="No space left"):
        write(target, fail)
    assert read_json(target) == {"old": 1}
    assert os.listdir(tmp_path) == ["x.json"]


def test_nan_is_no_json(tmp_path: Path) -> None:
    with pytest.raises(ValueError):
        write_json(tmp_path / "x.json", {"x": float("nan")})
    assert not list(tmp_path.iterdir())


@given(keep=st.integers(0, 400))
@settings(max_examples=30, deadline=None)
def test_a_cut_safetensors_file_is_refused(tmp_path_factory: pytest.TempPathFactory, keep: int) -> None:
    folder = tmp_path_factory.mktemp("cut")
    save_tensors(folder / "whole.safetensors", {"w": torch.ones(100)}, {})
    whole = (folder / "whole.safetensors").read_bytes()
    (folder / "cut.safetensors").write_bytes(whole[: min(keep, len(whole) - 1)])
    with pytest.raises(Refusal, match="truncated or of another kind"):
        load_tensors(folder / "cut.safetensors")


class _Evil:
    def __init__(self, flag: Path) -> None:
        self.flag = flag

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.flag}",)


@pytest.mark.parametrize("save", ["torch", "pickle"])
def test_a_pickle_with_code_is_refused_and_not_run(tmp_path: Path, save: str) -> None:
    flag, file = tmp_path / "ran", tmp_path / "evil.pt"
    if save == "torch":
        torch.save({"w": _Evil(flag)}, file)
    else:
        file.write_bytes(pickle.dumps(_Evil(flag)))
    with pytest.raises(Refusal):
        load_tensors(file)
    assert not flag.exists()


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 cut"])
def test_a_foreign_pytorch_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.pt").write_bytes(content)
    with pytest.raises(Refusal):
        load_tensors(tmp_path / "x.pt")


@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: {"state_dict": s, "epoch": 3}])
@pytest.mark.parametrize("prefix", ["", "module.", "model."])
def test_state_dicts_of_others_load(tmp_path: Path, wrap: object, prefix: str) -> None:
    net = torch.nn.Linear(3, 2)
    state = {f"{prefix}{name}": value for name, value in net.state_dict().items()}
    torch.save(wrap(state), tmp_path / "x.pt")  # type: ignore[operator]
    other = torch.nn.Linear(3, 2)
    load_into(other, load_tensors(tmp_path / "x.pt")[0], tmp_path / "x.pt")
    assert fingerprint(other) == fingerprint(net)


def test_a_state_dict_that_does_not_fit_is_named(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match=r"'bias'"):
        load_into(torch.nn.Linear(3, 2, bias=False), torch.nn.Linear(3, 2).state_dict(), tmp_path)
    with pytest.raises(Refusal, match=r"number of classes"):
        load_into(torch.nn.Linear(3, 4), torch.nn.Linear(3, 2).state_dict(), tmp_path)


def test_fingerprint_sees_one_bit() -> None:
    net = torch.nn.BatchNorm1d(4)
    before = fingerprint(net)
    assert before == fingerprint(net)
    net.num_batches_tracked += 1
    assert fingerprint(net) != before
