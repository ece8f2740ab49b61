"""``unteach spectrum`` and ``unteach clip`` on a checkpoint that was trained a moment ago."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from unteach.checkpoint import load
from unteach.cli import parse
from unteach.data import load as load_data
from unteach.spectral import layers_of, spectrum
from unteach.types import Refusal
from unteach.verbs.spectrum import ClipCheckpoint, Spectrum, shown, told_examples


def called(verb: type, *arguments: object) -> str:
    """What the verb prints; its flags are read as the command line reads them."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        assert parse(verb, "unteach", [str(argument) for argument in arguments])() == 0
    return out.getvalue()


def test_the_table_is_the_truth(case: Any, tmp_path: Path) -> None:
    file = tmp_path / "spectrum.json"
    out = called(
        Spectrum, "--checkpoint", case.original, "--top", 3, "--whole", "true", "--out", file, "--device", "cpu"
    )
    table = json.loads(file.read_text())
    network = load(case.original, data=told_examples(case.original)).model
    layers = layers_of(network, (1, 8, 8))
    assert [row["layer"] for row in table["layers"]] == [layer.name for layer in layers]
    for row, layer in zip(table["layers"], layers):
        truth = spectrum(layer.map())
        torch.testing.assert_close(torch.tensor(row["values"]), truth[:3].float(), rtol=1e-3, atol=0)
        torch.testing.assert_close(torch.tensor(row["spectrum"]).double(), truth, rtol=1e-6, atol=1e-6)
        assert max(row["residuals"]) <= 1.001e-3 * row["values"][0]
        assert f"{row['values'][0]:.3f}" in out
        if row["kind"] == "dense":
            assert row["reshaped"] == pytest.approx(row["values"][0], rel=1e-3)
    assert table["lipschitz"] > 0
    assert "Lipschitz constant" in out
    assert table["shape"] == [1, 8, 8]


def test_a_network_without_a_bound_says_why() -> None:
    text = shown({"layers": [], "lipschitz": None, "lipschitz_reason": "no rule for LayerNorm"})
    assert "no bound: no rule for LayerNorm" in text


def test_a_clipped_checkpoint_loads_and_is_under_the_target(case: Any, tmp_path: Path) -> None:
    out = tmp_path / "clipped"
    arguments = ("--checkpoint", case.original, "--data", case.data, "--out", out, "--device", "cpu")
    text = called(ClipCheckpoint, *arguments, "--clip.target", 0.9)
    data = load_data(case.data)
    old, new = (load(path, data=data.train) for path in (case.original, out / "model.safetensors"))
    assert list(new.model.state_dict()) == list(old.model.state_dict())
    for layer in layers_of(new.model, (1, 8, 8)):
        if layer.kind != "batch norm":
            assert float(spectrum(layer.map())[0]) < 0.9 * 1.002
    assert new.provenance.parent == old.fingerprint
    assert new.provenance.made_by["verb"] == "clip"
    assert new.provenance.made_by["settings"]["target"] == 0.9
    assert new.provenance.trained_on == old.provenance.trained_on
    assert not new.provenance.recipe, "a training by the old recipe would not be clipped"
    tables = json.loads((out / "spectrum.json").read_text())
    tops = [
        max(row["values"][0] for row in tables[k]["layers"] if row["kind"] != "batch norm") for k in ("before", "after")
    ]
    assert tops[0] > 1 > tops[1]
    assert len(tables["accuracy"]) == 2
    assert "test accuracy" in text
    called(ClipCheckpoint, *arguments, "--clip.target", 0.9)
    again = load(out / "model.safetensors", data=data.train)
    assert again.fingerprint == new.fingerprint, "the same command gives the same bytes"


def test_bad_input_is_refused_and_nothing_written(case: Any, tmp_path: Path) -> None:
    before = case.original.read_bytes()
    with pytest.raises(Refusal, match="expected --out elsewhere"):
        called(ClipCheckpoint, "--checkpoint", case.original, "--out", case.original.parent)
    with pytest.raises(Refusal, match="expected --top"):
        called(Spectrum, "--checkpoint", case.original, "--top", 0)
    with pytest.raises(Refusal, match="expected a model for inputs of shape"):
        called(Spectrum, "--checkpoint", case.original, "--data", _other_data(tmp_path))
    bare = tmp_path / "bare.pt"
    torch.save(load(case.original, data=told_examples(case.original)).model.state_dict(), bare)
    with pytest.raises(Refusal, match="to tell the shape of an input"):
        called(Spectrum, "--checkpoint", bare)
    assert case.original.read_bytes() == before
    assert not (tmp_path / "out").exists()
    named = called(Spectrum, "--checkpoint", bare, "--data", case.data, "--model", "small-cnn", "--device", "cpu")
    assert "convolution" in named


def _other_data(folder: Path) -> str:
    import numpy as np

    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (30, 1, 12, 12), dtype=np.uint8), np.arange(30) % 3
    np.savez(folder / "other.npz", inputs=images, labels=labels)
    return f"npz:{folder / 'other.npz'}"
