"""Validation data stay unseen by every model of a story, and sparse networks stay sparse through all of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from unteach.checkpoint import load
from unteach.data import load as load_data
from unteach.models.masks import masks_of
from unteach.store import load_tensors, read_json

DIGITS = ("--data", "digits", "--optim.epochs", "4", "--optim.batch", "64", "--optim.lr", "0.05", "--device", "cpu")


@pytest.fixture
def held(run: Callable[..., Any], tmp_path: Path) -> Path:
    """A digits model trained with a tenth held out."""
    assert run("train", *DIGITS, "--validation", "random:0.1", "--out", tmp_path / "held").code == 0
    return tmp_path / "held" / "model.safetensors"


def story(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = load_tensors(path)[1]["trained_on"]
    return found


def test_no_model_of_a_request_sees_validation_data(held: Path, run: Callable[..., Any], tmp_path: Path) -> None:
    kept_back = set(story(held)["validation"])
    train = load_data("digits").train
    assert len(kept_back) == round(0.1 * len(train))
    ids = [name for name in train.ids.tolist() if name not in kept_back][:30]
    (tmp_path / "ids.txt").write_text("\n".join(ids))
    out = tmp_path / "out"
    asked = ("--checkpoint", held, "--data", "digits", "--ids", tmp_path / "ids.txt", "--references", "1")
    assert (
        run("forget", *asked, "--method", "finetune", "--optim.epochs", "1", "--out", out, "--device", "cpu").code == 0
    )
    for name in ("model.safetensors", "retrained-0.safetensors"):
        told = story(out / name)
        assert set(told["validation"]) == kept_back, name
        assert set(told["left_out"]) == kept_back | set(ids), name
        assert told["count"] == len(train) - len(kept_back) - 30, name
    assert read_json(out / "findings.json")["request"]["retain"] == len(train) - len(kept_back) - 30


@pytest.mark.parametrize("asked", ["random:0.1", "class:3"])
def test_what_a_model_never_saw_is_not_drawn(asked: str, held: Path, run: Callable[..., Any], tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = (
        "forget",
        "--checkpoint",
        held,
        "--data",
        "digits",
        "--ids",
        asked,
        "--method",
        "finetune",
        "--references",
        "0",
    )
    assert run(*command, "--optim.epochs", "1", "--out", out, "--device", "cpu").code == 0
    drawn, kept_back = set((out / "forget.txt").read_text().split()), set(story(held)["validation"])
    train = load_data("digits").train
    assert not drawn & kept_back
    if asked == "class:3":
        alike = set(train.ids[(train.labels == 3).numpy()].tolist())
        assert drawn == alike - kept_back
    else:
        assert len(drawn) == round(0.1 * (len(train) - len(kept_back)))
    again = (
        "forget",
        "--checkpoint",
        out / "model.safetensors",
        *command[3:],
        "--optim.epochs",
        "1",
        "--device",
        "cpu",
    )
    if asked == "random:0.1":
        assert run(*again, "--out", tmp_path / "again").code == 0
        assert not set((tmp_path / "again" / "forget.txt").read_text().split()) & (drawn | kept_back)


def test_validation_data_must_be_unseen(held: Path, run: Callable[..., Any], tmp_path: Path) -> None:
    kept_back = story(held)["validation"]
    ids = [name for name in load_data("digits").train.ids.tolist() if name not in kept_back]
    (tmp_path / "seen.txt").write_text("\n".join(ids[:9]))
    (tmp_path / "ids.txt").write_text("\n".join(ids[9:20]))
    asked = ("forget", "--checkpoint", held, "--data", "digits", "--out", tmp_path / "out")
    run(*asked, "--ids", tmp_path / "ids.txt", "--validation", tmp_path / "seen.txt").refused("never saw", ids[0])
    (tmp_path / "held.txt").write_text("\n".join(kept_back[:5]))
    run(*asked, "--ids", tmp_path / "held.txt").refused("never saw")
    assert not (tmp_path / "out").exists()


def test_nothing_left_to_train_on(run: Callable[..., Any], tmp_path: Path) -> None:
    every = load_data("digits").train.ids.tolist()
    (tmp_path / "some.txt").write_text("\n".join(every[:700]))
    (tmp_path / "rest.txt").write_text("\n".join(every[700:]))
    ran = run(
        "train",
        *DIGITS,
        "--without",
        tmp_path / "some.txt",
        "--validation",
        tmp_path / "rest.txt",
        "--out",
        tmp_path / "o",
    )
    ran.refused("examples to train on")


def test_a_sparse_network_is_unlearned_and_retrained_sparse(run: Callable[..., Any], tmp_path: Path) -> None:
    made = run("train", *DIGITS, "--prune.share", "0.8", "--prune.rewind", "1", "--out", tmp_path / "sparse")
    assert made.code == 0
    out = tmp_path / "out"
    asked = ("--checkpoint", tmp_path / "sparse" / "model.safetensors", "--data", "digits", "--ids", "random:40")
    assert run("forget", *asked, "--references", "1", "--optim.epochs", "1", "--out", out, "--device", "cpu").code == 0
    train = load_data("digits").train
    shares, zeros = {}, {}
    for path in (tmp_path / "sparse" / "model.safetensors", out / "model.safetensors", out / "retrained-0.safetensors"):
        model = load(path, data=train).model
        kept = masks_of(model)
        shares[path.name, path.parent.name] = 1 - sum(int(m.sum()) for m in kept.values()) / sum(
            m.numel() for m in kept.values()
        )
        zeros[path] = torch.cat([~m.flatten() for m in kept.values()])
    assert all(share == pytest.approx(0.8, abs=0.01) for share in shares.values()), shares
    original, unlearned, retrained = zeros.values()
    assert torch.equal(original, unlearned), "the method keeps the mask"
    assert not torch.equal(original, retrained), "a retrained model finds its own"
