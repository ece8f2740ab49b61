"""Digests of weights without torch are those with torch, and damaged files are told."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from unteach.evidence.weights import read_weights
from unteach.store import fingerprint, save_tensors
from unteach.types import Refusal

KINDS = (torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.int32, torch.uint8, torch.bool)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    tensors=st.dictionaries(
        st.text("ab1_", min_size=1, max_size=4),
        st.tuples(st.sampled_from(KINDS), st.lists(st.integers(0, 3), min_size=1, max_size=3)),
        min_size=1,
        max_size=5,
    ),
    seed=st.integers(0, 9),
)
def test_fingerprint_is_that_of_the_store(
    tensors: dict[str, tuple[torch.dtype, list[int]]], seed: int, tmp_path: Path
) -> None:
    module = torch.nn.Module()
    rng = torch.Generator().manual_seed(seed)
    for name, (kind, shape) in tensors.items():
        module.register_buffer(name, (100 * torch.rand(shape, generator=rng)).to(kind))
    save_tensors(tmp_path / "model.safetensors", module.state_dict(), {"parent": "x"})
    found = read_weights(tmp_path / "model.safetensors")
    assert found.fingerprint == fingerprint(module)
    assert found.sha256 == hashlib.sha256((tmp_path / "model.safetensors").read_bytes()).hexdigest()
    assert found.provenance == {"parent": "x"}
    assert found.tensors.keys() == tensors.keys()


def test_scalars_count_too(tiny: Callable[[int], torch.nn.Module], tmp_path: Path) -> None:
    save_tensors(tmp_path / "model.safetensors", tiny(0).state_dict(), {})
    assert read_weights(tmp_path / "model.safetensors").fingerprint == fingerprint(tiny(0))


def test_each_tensor_has_a_digest_of_its_own(tiny: Callable[[int], torch.nn.Module], tmp_path: Path) -> None:
    for number, value in enumerate((1.0, 2.0)):
        model = tiny(0)
        with torch.no_grad():
            model[3].bias[1] = value
        save_tensors(tmp_path / f"{number}.safetensors", model.state_dict(), {})
    one, two = (read_weights(tmp_path / f"{number}.safetensors") for number in (0, 1))
    assert [name for name in one.tensors if one.tensors[name] != two.tensors[name]] == ["3.bias"]


def test_a_prefix_is_no_other_network_but_other_types_are(
    tiny: Callable[[int], torch.nn.Module], tmp_path: Path
) -> None:
    path, model = tmp_path / "model.safetensors", tiny(0)
    expected = fingerprint(model)
    for prefix in ("", "module.", "_orig_mod.module."):
        save_tensors(path, {f"{prefix}{name}": value for name, value in model.state_dict().items()}, {})
        assert read_weights(path, expected).fingerprint == expected
        assert (read_weights(path).fingerprint == expected) == (not prefix)
        assert read_weights(path, "0" * 64).fingerprint == read_weights(path).fingerprint
    save_tensors(path, {f"x{name}": value for name, value in model.state_dict().items()}, {})
    assert read_weights(path, expected).fingerprint != expected, "no name of a module ends there"
    save_tensors(path, model.half().state_dict(), {})
    assert read_weights(path, expected).fingerprint != expected


@pytest.mark.parametrize(
    "names", [["w"], ["a.w"], ["a.w", "b"], ["a.b.w", "a.b.v"], ["a.b.w", "a.bb.w"], [".w"]], ids=str
)
def test_any_names(names: list[str], tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    whole = {name: torch.full((2,), float(number)) for number, name in enumerate(names)}
    save_tensors(path, whole, {})
    for count in range(4):
        steps = ".".join(names[0].split(".")[:count])
        if count and not all(name.startswith(f"{steps}.") for name in names):
            continue
        module = torch.nn.Module()
        module.state_dict = lambda steps=steps: {  # type: ignore[method-assign]
            name.removeprefix(f"{steps}." if steps else ""): value for name, value in whole.items()
        }
        assert read_weights(path, fingerprint(module)).fingerprint == fingerprint(module)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_files_are_refused_or_read(data: st.DataObject, kept: Path, tmp_path: Path) -> None:
    whole = (kept / "original.safetensors").read_bytes()
    end = data.draw(st.integers(0, len(whole)))
    noise = data.draw(st.binary(max_size=40))
    at = data.draw(st.integers(0, 900))
    (tmp_path / "bad.safetensors").write_bytes((whole[:at] + noise + whole[at + len(noise) :])[:end])
    try:
        read_weights(tmp_path / "bad.safetensors")
    except Refusal as refusal:
        assert str(refusal).startswith("expected a whole safetensors file at")  # noqa: PT017


def test_missing(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="expected a whole safetensors file at"):
        read_weights(tmp_path / "none.safetensors")
