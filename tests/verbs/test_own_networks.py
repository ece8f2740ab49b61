"""Networks of torchvision, timm and Hugging Face, and a user's own for tables: in as they are, out as they came."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from own_networks import HERE, ONCE, OWN, RECIPE, Own
from unteach.formats import opened


@pytest.mark.parametrize("name", OWN)
def test_from_check_to_verify_in_the_form_that_came(name: str, run: Callable[..., Any], tmp_path: Path) -> None:
    own: Own = OWN[name]
    own.write(tmp_path)
    before = own.checkpoint(tmp_path).read_bytes()
    flags = own.flags(tmp_path)
    original, asked = ("--checkpoint", own.checkpoint(tmp_path)), ("--ids", "random:6")
    ran = run("check", *original, *flags, *asked, "--out", tmp_path / "check", *ONCE, *RECIPE, *HERE)
    assert ran.code == 0, ran
    told = {remark["name"]: remark for remark in json.loads((tmp_path / "check" / "check.json").read_text())["remarks"]}
    assert told["fit"]["level"] == "stop", told  # its weights are random
    ran = run(
        *("forget", *original, *flags, *asked),
        *("--references", "1", "--retain_sample", "20", "--out", tmp_path / "run", *ONCE, *RECIPE, *HERE),
    )
    assert ran.code == 0, ran
    assert own.checkpoint(tmp_path).read_bytes() == before
    delivered = tmp_path / "run" / f"model{own.checkpoint(tmp_path).suffix}"
    theirs, ours = opened(own.checkpoint(tmp_path)), opened(delivered)
    (place, given), (where, made) = theirs.weights()[0], ours.weights()[0]
    assert place == where
    assert [(n, t.dtype, t.shape) for n, t in made.items()] == [(n, t.dtype, t.shape) for n, t in given.items()]
    assert any(not torch.equal(made[n], given[n]) for n in made)
    assert {k: v for k, v in ours.metadata.items() if k != "unteach"} == theirs.metadata
    own.read(delivered)
    filed = json.loads((tmp_path / "run" / "findings.json").read_text())
    assert {"original", "unlearned", "retrained"} <= filed["models"].keys()
    audited = run(
        *("audit", "--unlearned", delivered, "--original", own.checkpoint(tmp_path), *flags, *HERE),
        *("--retrained", tmp_path / "run" / "retrained-0.safetensors", "--ids", tmp_path / "run" / "forget.txt"),
        *("--retain_sample", "20", "--out", tmp_path / "audit"),
    )
    assert audited.code == 0, audited
    again = json.loads((tmp_path / "audit" / "findings.json").read_text())
    assert again["models"]["unlearned"]["accuracy"] == filed["models"]["unlearned"]["accuracy"]
    made = run("evidence", "--run", tmp_path / "run")
    assert made.code == 0, made
    verified = run("verify", tmp_path / "run" / "evidence.json", "--original", own.checkpoint(tmp_path))
    assert verified.code == 0, verified
    spoilt = bytearray(delivered.read_bytes())
    spoilt[len(spoilt) // 2] ^= 1
    delivered.write_bytes(spoilt)
    assert run("verify", tmp_path / "run" / "evidence.json").code == 3


def test_what_a_lightning_checkpoint_keeps(run: Callable[..., Any], tmp_path: Path) -> None:
    own = OWN["table"]
    own.write(tmp_path)
    ran = run(
        *("forget", "--checkpoint", own.checkpoint(tmp_path), *own.flags(tmp_path), "--ids", "random:6"),
        *("--references", "0", "--out", tmp_path / "run", *ONCE, *HERE),
    )
    assert ran.code == 0, ran
    assert "names of weights are read without their 'model.'" in ran.out
    assert "without loops, callbacks, optimizer_states, lr_schedulers, which may hold traces" in ran.out
    content = torch.load(tmp_path / "run" / "model.ckpt", weights_only=True)
    assert list(content) == ["epoch", "global_step", "pytorch-lightning_version", "state_dict", "hyper_parameters"]
    assert content["hyper_parameters"] == {"width": 16, "optimizer": "sgd"}
    assert content["state_dict"]["model.body.1.num_batches_tracked"].dtype == torch.int64


def test_hugging_face_reads_the_folder_of_results(run: Callable[..., Any], tmp_path: Path) -> None:
    own = OWN["hugging-face"]
    own.write(tmp_path)
    flags = own.flags(tmp_path)
    ran = run(
        *("forget", "--checkpoint", own.checkpoint(tmp_path), *flags, "--ids", "random:6"),
        *("--references", "0", "--out", tmp_path / "run", *ONCE, *HERE),
    )
    assert ran.code == 0, ran
    assert "prepares its inputs: mean 0.5 0.5 0.5, std 0.25 0.25 0.25" in ran.out
    model = own.read(tmp_path / "run" / "model.safetensors")
    assert torch.equal(
        model.classifier.weight, opened(tmp_path / "run" / "model.safetensors").content["classifier.weight"]
    )
    audit = ("--unlearned", tmp_path / "run" / "model.safetensors", "--original", own.checkpoint(tmp_path))
    ran = run("audit", *audit, *flags, "--ids", tmp_path / "run" / "forget.txt", "--out", tmp_path / "audit", *HERE)
    assert ran.code == 0, ran
