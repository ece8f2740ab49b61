"""The erasure job with a user's own method: flags, results, and what is refused before anything is written."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from unteach.store import load_tensors

MINE = '''
"""The user's file."""
import copy
from dataclasses import dataclass, field
import torch.nn as nn
from unteach.train import Sgd, Source, draw_seed, fit

@dataclass(frozen=True, kw_only=True)
class Tune:
    """Fine-tune on retain."""

    optim: Sgd = field(default_factory=lambda: Sgd(lr=0.01, epochs=1))
    """Optimiser."""
    strength: float = 0.5
    """How hard, 0 to 1."""

    @property
    def needs(self):
        return frozenset({"retain"})

    def __call__(self, model, split, rng, engine):
        new = copy.deepcopy(model)
        assert isinstance(new, nn.Module)
        with engine.stage("tune"):
            fit(new, [Source(split.retain)], self.optim, seed=draw_seed(rng), engine=engine, label="tune")
        return new

def unlearning(net, retain_loader, forget_loader, val_loader):
    import torch
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    for inputs, targets in retain_loader:
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(inputs), targets).backward()
        optimizer.step()

def broken(net, retain_loader, forget_loader, val_loader):
    raise ZeroDivisionError("in line with the user")
'''
QUICK = ("--device", "cpu", "--precision", "fp32", "--references", "0")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    from unteach import user_code

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(user_code.NAMED, "{}")
    (tmp_path / "mine.py").write_text(MINE)
    return tmp_path


def job(case: Any, out: str) -> tuple[object, ...]:
    return ("forget", "--checkpoint", case.original, "--data", case.data, "--ids", "random:0.2", "--out", out, *QUICK)


def test_a_class_with_its_own_flags(case: Any, run: Callable[..., Any], folder: Path) -> None:
    ran = run(*job(case, "run"), "--method", "mine.py:Tune", "--strength", "0.25", "--optim.epochs", "2")
    assert ran.code == 0, ran
    made_by = load_tensors(folder / "run" / "model.safetensors")[1]["made_by"]
    assert made_by["method"] == "mine.py:Tune"
    assert made_by["settings"]["strength"] == 0.25
    assert made_by["settings"]["optim"]["epochs"] == 2
    assert made_by["code"] == {"name": "mine.py:Tune", "sha256": hashlib.sha256(MINE.encode()).hexdigest()}


def test_changed_code_is_run_again(case: Any, run: Callable[..., Any], folder: Path) -> None:
    command = (*job(case, "run"), "--method", "mine.py:Tune")
    assert run(*command).code == 0
    first = load_tensors(folder / "run" / "model.safetensors")[1]["made_by"]
    (folder / "mine.py").write_text(MINE + "\n# mended\n")
    assert run(*command).code == 0
    second = load_tensors(folder / "run" / "model.safetensors")[1]["made_by"]
    assert first["key"] != second["key"]


def test_a_function_of_the_challenge(case: Any, run: Callable[..., Any], folder: Path) -> None:
    ran = run(*job(case, "run"), "--method", "mine.py:unlearning", "--batch", "16")
    assert ran.code == 0, ran
    made_by = load_tensors(folder / "run" / "model.safetensors")[1]["made_by"]
    sha = hashlib.sha256(MINE.encode()).hexdigest()
    assert made_by["settings"] == {"function": "mine.py:unlearning", "sha256": sha, "batch": 16}
    found = json.loads((folder / "run" / "findings.json").read_text())
    assert found["method"]["settings"]["function"] == "mine.py:unlearning"
    assert found["cost"]["parts"][0]["what"] == "mine.py:unlearning"
    assert found["cost"]["forget_epochs"] == pytest.approx(77 / 96)


def test_a_tier_is_made_with_the_users_own_method(case: Any, run: Callable[..., Any], folder: Path) -> None:
    command = ("references", "--data", case.data, "--ids", "random:0.2", "--unlearned", "2", "--folder", "cache")
    command += ("--recipe.optim.epochs", "1", "--precision", "fp32", "--executor.workers", "1")
    command += ("--executor.device", "cpu", "--quiet", "true", "--method", "mine.py:Tune")
    ran = run(*command)
    assert ran.code == 0, ran
    assert "all 4 models are in cache" in ran.out
    assert "all 4 models" in run(*command).out


def test_the_card_is_shown(run: Callable[..., Any]) -> None:
    ran = run("list", "--method", "mine.py:Tune")
    assert ran.code == 0, ran
    assert "Fine-tune on retain." in ran.out
    assert "unteach forget --method mine.py:Tune --help" in ran.out
    assert "challenge" in run("list", "--method", "mine.py:unlearning").out


@pytest.mark.slow
def test_help_names_the_users_own_settings(folder: Path) -> None:
    """In a process of its own, where torch is only there when it is used, and the file imports ``torch.nn``."""
    command = [sys.executable, "-W", "error", "-m", "unteach.cli", "forget", "--method", "mine.py:Tune", "--help"]
    ran = subprocess.run(command, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert "--strength" in ran.stdout
    assert "How hard, 0 to 1." in " ".join(ran.stdout.split())


def test_what_follows_from_the_choice_is_no_flag(case: Any, run: Callable[..., Any]) -> None:
    method = ("--method", "mine.py:unlearning")
    run(*job(case, "run"), *method, "--function", "other.py:f").refused("unrecognized arguments: --function")
    run(*job(case, "run"), *method, "--sha256", "0").refused("unrecognized arguments: --sha256")
    run(*job(case, "run"), *method, "--batch", "0").refused("batch to be at least 1")


@pytest.mark.parametrize("name", ["nowhere.py:Tune", "mine.py:Other", "fly"])
def test_refused_before_anything_is_written(
    name: str, case: Any, run: Callable[..., Any], folder: Path, listing: Callable[[Path], dict[str, str]]
) -> None:
    before = listing(folder)
    run(*job(case, "run"), "--method", name).refused(name.partition(":")[0])
    assert listing(folder) == before


def test_the_users_own_error_keeps_its_traceback_and_no_half_file_stays(
    case: Any, run: Callable[..., Any], folder: Path
) -> None:
    with pytest.raises(ZeroDivisionError, match="in line with the user"):
        run(*job(case, "run"), "--method", "mine.py:broken")
    assert not (folder / "run" / "model.safetensors").exists()
    assert not list((folder / "run").glob(".*"))


def test_an_ensemble_forgets_exactly(case: Any, run: Callable[..., Any], folder: Path) -> None:
    data = ("--data", case.data, "--device", "cpu", "--precision", "fp32")
    train = ("train", *data, "--model", "sisa", "--model_args", '{"shards": 3}', "--optim.epochs", "2")
    assert run(*train, "--out", "original").code == 0
    (folder / "ids.txt").write_text("record 7\n")
    assert run(*train, "--without", "ids.txt", "--out", "retrained").code == 0
    ran = run(
        *("forget", "--checkpoint", "original/model.safetensors", *data, "--ids", "ids.txt", "--out", "run"),
        *("--references", "0", "--method", "sisa"),
    )
    assert ran.code == 0, ran
    digests = [
        {
            name: tensor.numpy().tobytes()
            for name, tensor in load_tensors(folder / place / "model.safetensors")[0].items()
        }
        for place in ("retrained", "run", "original")
    ]
    assert digests[0] == digests[1]
    assert digests[1] != digests[2]
    found = json.loads((folder / "run" / "findings.json").read_text())
    assert found["cost"]["parts"][0]["what"] == "sisa, 1 of 3 shards"
