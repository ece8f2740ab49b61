"""A user's own methods: found by name, held to the contract, and run only when named."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest
import torch

from made import blobs
from unteach import plugins, user_code
from unteach.api import apply, forget
from unteach.challenge import Challenge
from unteach.data import DataSet
from unteach.engine import Engine
from unteach.methods import METHODS, FineTune
from unteach.models import Blueprint, build
from unteach.plugins import method_named, name_of, names, title
from unteach.recipe import Recipe
from unteach.references.job import TrainingJob
from unteach.references.manifest import DataSpec, Manifest, in_order, read
from unteach.references.pool import pack
from unteach.references.unlearning import UnlearningJob, restored_method, told
from unteach.store import fingerprint
from unteach.testing import check_method
from unteach.train import Sgd, Source, fit
from unteach.types import Refusal, Split

MINE = """
import copy
from dataclasses import dataclass
import torch

@dataclass(frozen=True, kw_only=True)
class Shrink:
    \"\"\"Multiply all weights.\"\"\"

    factor: float = 0.5
    \"\"\"By what.\"\"\"

    @property
    def needs(self):
        return frozenset({"retain"})

    def __call__(self, model, split, rng, engine):
        new = copy.deepcopy(model)
        with torch.no_grad():
            for weight in new.parameters():
                weight.mul_(self.factor)
        return new.eval()
"""
CHALLENGE = """
import random
import numpy as np
import torch
from torch import nn, optim
from torch.utils.data import DataLoader

SEEN = {}

def unlearning(net, retain, forget, validation):
    SEEN.update(retain=len(retain.dataset), forget=len(forget), validation=list(validation), training=net.training)
    optimizer = optim.SGD(net.parameters(), lr=0.01 * (1 + random.random() + np.random.rand()), momentum=0.9)
    net.train()
    for inputs, targets in retain:
        assert inputs.dtype == torch.float32 and 0 <= inputs.min() and inputs.max() <= 1
        optimizer.zero_grad()
        nn.CrossEntropyLoss()(net(inputs) + 0.01 * torch.randn(3), targets).backward()
        optimizer.step()
    net.eval()

def unlearning_by_name(net, retain, forget, validation):
    again = DataLoader(forget.dataset, batch_size=7, shuffle=True)
    for sample in [*forget, *again]:
        inputs, targets = sample["image"], sample["age_group"]
        assert torch.equal(inputs, sample[0]) and len(inputs) == len(targets)
        loss = -nn.CrossEntropyLoss()(net(inputs), targets)
        loss.backward()
    optim.SGD(net.parameters(), lr=0.001).step()
    return net

def one_batch(net, retain, forget, validation):
    next(iter(retain))

def renamed(net, retain, forget, validation):
    return nn.Sequential(net)

def wider(net, retain, forget, validation):
    net[-1] = nn.Linear(net[-1].in_features, 5)

def nan(net, retain, forget, validation):
    with torch.no_grad():
        net[-1].weight.fill_(float("nan"))

def number(net, retain, forget, validation):
    return 3

def raises(net, retain, forget, validation):
    raise ZeroDivisionError("in the user's own line")
"""
WRONG = """
from dataclasses import dataclass

class Plain:
    pass

@dataclass
class Thawed:
    pass

@dataclass(frozen=True)
class Idle:
    pass

@dataclass(frozen=True)
class Bare:
    lr: float
    needs = frozenset()
    def __call__(self, model, split, rng, engine): ...

@dataclass(frozen=True)
class InPlace:
    needs = frozenset()
    def __call__(self, model, split, rng, engine):
        next(model.parameters()).data.add_(1)
        import copy
        return copy.deepcopy(model)

@dataclass(frozen=True)
class Same:
    needs = frozenset()
    def __call__(self, model, split, rng, engine):
        return model

LIST = [1]
INSTANCE = InPlace()

def two(net, retain): ...
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's folder with the files; what is named in one test is not known to the next."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(user_code.NAMED, "{}")
    monkeypatch.setattr(user_code, "_LOADED", {})
    for name, text in (("mine.py", MINE), ("challenge_entry.py", CHALLENGE), ("wrong.py", WRONG)):
        (tmp_path / name).write_text(text)
    return tmp_path


@pytest.fixture(scope="module")
def trained() -> tuple[torch.nn.Module, Split]:
    data = blobs(60, noise=0.45)
    model = build(Blueprint(name="small-cnn", classes=3, shape=(1, 8, 8)), seed=0)
    fit(model, [Source(data)], Sgd(lr=0.1, epochs=3, batch=32), seed=0, engine=exact())
    gone = np.arange(60) % 6 == 0
    return model, Split(forget=data.take(gone), retain=data.take(~gone))


def exact() -> Engine:
    return Engine(accelerator="cpu", precision="fp32")


def rng() -> torch.Generator:
    return torch.Generator().manual_seed(3)


def test_ours_stay_ours_however_they_are_named() -> None:
    assert title(method_named("unteach.methods.finetune:FineTune")) == "FineTune"
    with pytest.raises(Refusal, match="val_loader"):
        method_named("unteach.api:forget")


def test_the_table_is_asked_first() -> None:
    assert method_named("amun") == METHODS["amun"]()
    assert [name_of(method_named(name)) for name in METHODS] == list(METHODS)
    assert names()[: len(METHODS)] == list(METHODS)


def test_a_class_in_a_file(trained: tuple[torch.nn.Module, Split], folder: Path) -> None:
    model, split = trained
    method = method_named("mine.py:Shrink")
    check_method(method, model, split)
    new = apply(replace(method, factor=2.0), model, split, rng(), exact())  # type: ignore[type-var]
    assert all(torch.equal(a, 2 * b) for a, b in zip(new.parameters(), model.parameters()))
    assert title(method) == name_of(method) == "mine.py:Shrink"
    sha = hashlib.sha256(MINE.encode()).hexdigest()
    about = {"method": "mine.py:Shrink", "settings": {"factor": 0.5}, "code": {"name": "mine.py:Shrink", "sha256": sha}}
    assert told(method) == about
    assert str(folder) not in json.dumps(about), "reports may be passed on: no folders in them"
    assert type(method_named("mine.py:Shrink")) is type(method), "the same file is run once"


def test_a_class_of_an_importable_module(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(folder)
    method = method_named("mine:Shrink")
    assert told(method)["code"] == {"name": "mine:Shrink", "sha256": hashlib.sha256(MINE.encode()).hexdigest()}
    sys.modules.pop("mine")


def test_entry_points_join_the_table_and_are_imported_when_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from unteach.cli import main

    monkeypatch.syspath_prepend(folder)
    found = [
        EntryPoint("shrink", "mine:Shrink", plugins.GROUP),
        EntryPoint("amun", "mine:Shrink", plugins.GROUP),
        EntryPoint("broken", "nowhere:Thing", plugins.GROUP),
    ]
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: [e for e in found if e.group == group])
    assert names() == [*METHODS, "shrink", "broken"]
    assert main(["list"]) == 0
    assert "plug-in mine:Shrink" in capsys.readouterr().out
    assert "mine" not in sys.modules
    assert method_named("amun") == METHODS["amun"](), "a name of ours stays ours"
    assert title(method_named("shrink")) == "mine:Shrink"
    with pytest.raises(Refusal, match="nowhere"):
        method_named("broken")
    sys.modules.pop("mine")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("fly", "expected a method .*, got 'fly'"),
        ("nowhere.py:Shrink", "expected a Python file at nowhere.py"),
        ("mine.py:Other", "expected 'Other' in mine.py"),
        ("mine.py:", "name the file and what is in it"),
        (":Shrink", "name the file and what is in it"),
        ("..x:Shrink", "name the file and what is in it"),
        ("no.such.module:Shrink", "No module named"),
        ("wrong.py:Plain", "frozen dataclass"),
        ("wrong.py:Thawed", "frozen dataclass"),
        ("wrong.py:Idle", "a property needs and __call__"),
        ("wrong.py:Bare", "a default for every setting .* lr"),
        ("wrong.py:LIST", "class or function"),
        ("wrong.py:INSTANCE", "class or function, got InPlace"),
        ("wrong.py:two", r"val_loader\), got \(net, retain\)"),
    ],
)
def test_refusals(name: str, words: str) -> None:
    with pytest.raises(Refusal, match=words):
        method_named(name)


def test_the_challenges_signature_runs_unchanged(trained: tuple[torch.nn.Module, Split]) -> None:
    model, split = trained
    method = method_named("challenge_entry.py:unlearning")
    assert method == Challenge(
        function="challenge_entry.py:unlearning", sha256=hashlib.sha256(CHALLENGE.encode()).hexdigest()
    )
    state = random.getstate(), np.random.get_state()[1].copy()  # noqa: NPY002
    new = check_method(method, model, split)
    assert random.getstate() == state[0]
    assert (np.random.get_state()[1] == state[1]).all()  # noqa: NPY002
    assert fingerprint(new) != fingerprint(model)
    function = user_code.load("challenge_entry.py:unlearning")
    seen = function.__globals__["SEEN"]
    assert seen == {"retain": 50, "forget": 1, "validation": [], "training": True}
    other = method(model, split, torch.Generator().manual_seed(4), exact())
    assert fingerprint(other) != fingerprint(new), "another seed shuffles otherwise"


def test_batches_also_answer_to_the_competitions_names(trained: tuple[torch.nn.Module, Split]) -> None:
    """Also those of a loader that the function makes anew. The step is the sum of the gradients, in training mode."""
    model, split = trained
    check_method(method_named("challenge_entry.py:unlearning_by_name"), model, split)


def test_what_is_drawn_is_billed(trained: tuple[torch.nn.Module, Split]) -> None:
    model, split = trained
    engine = exact()
    method = replace(method_named("challenge_entry.py:one_batch"), batch=20)  # type: ignore[type-var]
    method(model, split, rng(), engine)
    assert engine.meter.trained == 20
    assert [(stage.what, stage.units) for stage in engine.stages] == [("challenge_entry.py:one_batch", 20)]


def test_validation_data_and_several_labels_come_through(trained: tuple[torch.nn.Module, Split], folder: Path) -> None:
    model, split = trained
    (folder / "look.py").write_text(
        "def look(net, retain, forget, validation):\n"
        "    (inputs, labels), = validation\n"
        "    assert inputs.shape == (30, 1, 8, 8) and labels.shape == (30, 3) and labels.is_floating_point()\n"
    )
    held = blobs(30, seed=5)
    held = held.relabel(torch.nn.functional.one_hot(held.labels, 3).float())
    new = method_named("look.py:look")(model, replace(split, validation=held), rng(), exact())
    assert fingerprint(new) == fingerprint(model), "it changed nothing, and neither do we"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("challenge_entry.py:renamed", "names of the state dict to stay .* 20 missing and 20 new"),
        ("challenge_entry.py:wider", r"'14.weight' to stay torch.float32 of shape \(3, 128\) .* \(5, 128\)"),
        ("challenge_entry.py:nan", "finite weights .* '14.weight'"),
        ("challenge_entry.py:number", "a network or None .* got int"),
        ("wrong.py:InPlace", "leave the given model"),
        ("wrong.py:Same", "leave the given model"),
    ],
)
def test_what_comes_back_is_checked(name: str, words: str, trained: tuple[torch.nn.Module, Split]) -> None:
    model, split = trained
    model = copy.deepcopy(model)
    with pytest.raises(Refusal, match=words):
        apply(method_named(name), model, split, rng(), exact())


def test_the_users_own_errors_come_as_they_are(trained: tuple[torch.nn.Module, Split]) -> None:
    model, split = trained
    with pytest.raises(ZeroDivisionError, match="own line"):
        apply(method_named("challenge_entry.py:raises"), model, split, rng(), exact())
    assert random.random() != random.random(), "and the generators are alive"


def test_in_python_by_name(trained: tuple[torch.nn.Module, Split]) -> None:
    model, split = trained
    done = forget(model, blobs(60, noise=0.45), ["3", "5"], "mine.py:Shrink")
    assert fingerprint(done.model) == fingerprint(method_named("mine.py:Shrink")(model, split, rng(), exact()))


Jobs = Callable[..., tuple[Manifest, DataSet]]


@pytest.fixture
def planned(folder: Path) -> Jobs:
    """A manifest with one model that a method unlearned, written into the user's folder."""
    train, test = blobs(30), blobs(12, seed=1)
    parts = {"inputs": train.inputs, "labels": train.labels, "test_inputs": test.inputs, "test_labels": test.labels}
    np.savez(folder / "data.npz", **{name: tensor.numpy() for name, tensor in parts.items()})

    def plan(method: object) -> tuple[Path, Manifest]:
        from unteach.references.cache import Cache

        spec = DataSpec(spec=f"npz:{folder / 'data.npz'}")
        data = spec.load()
        blueprint = Blueprint(name="small-cnn", classes=3, shape=(1, 8, 8))
        recipe = Recipe(optim=Sgd(lr=0.1, epochs=1, batch=16))
        parent = TrainingJob(blueprint=blueprint, recipe=recipe, seed=0, kept=pack(np.arange(42) < 30))
        job = UnlearningJob(parent=parent, method=method, forgotten=pack(np.arange(42) < 5), seed=1)  # type: ignore[arg-type]
        made = Manifest(
            source=spec,
            fingerprint=data.fingerprint,
            cache=Cache(folder / "cache"),
            jobs=in_order([job], data.fingerprint),
            precision="fp32",
        )
        return made.write(), made

    return plan  # type: ignore[return-value]


@pytest.mark.parametrize("name", ["mine.py:Shrink", "challenge_entry.py:unlearning"])
def test_jobs_run_what_was_named_and_nothing_else(name: str, planned: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    path, manifest = planned(method_named(name))
    assert isinstance(path, Path)
    again = read(path)
    assert again.keys == manifest.keys  # type: ignore[attr-defined]
    monkeypatch.setattr(user_code, "_LOADED", {})  # a worker: a process that this one starts
    assert read(path).keys == manifest.keys  # type: ignore[attr-defined]
    monkeypatch.setattr(user_code, "_LOADED", {})
    monkeypatch.delenv(user_code.NAMED)  # a process of somebody who did not name it
    with pytest.raises(Refusal, match=f"expected the command line to name {name}"):
        read(path)


@pytest.mark.slow
def test_a_worker_process_does_the_job(planned: Jobs) -> None:
    path, manifest = planned(method_named("mine.py:Shrink"))
    work = "import sys; from pathlib import Path; from unteach.references.work import do\n"
    work += "for number in (0, 1): do(Path(sys.argv[1]), number, device='cpu')"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    ran = subprocess.run([sys.executable, "-c", work, str(path)], env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert manifest.left() == []  # type: ignore[attr-defined]


def test_changed_code_is_another_job_and_not_run_as_planned(
    planned: Jobs, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, before = planned(method_named("mine.py:Shrink"))
    (folder / "mine.py").write_text(MINE.replace("0.5", "0.25"))
    assert method_named("mine.py:Shrink").factor == 0.25  # type: ignore[attr-defined]
    _, after = planned(replace(method_named("mine.py:Shrink"), factor=0.5))  # type: ignore[type-var]
    assert before.keys[0] == after.keys[0]  # type: ignore[attr-defined]
    assert before.keys[1] != after.keys[1]  # type: ignore[attr-defined]
    monkeypatch.setattr(user_code, "_LOADED", {})
    with pytest.raises(Refusal, match="got a changed file"):
        read(path)  # type: ignore[arg-type]


def test_keys_do_not_depend_on_where_the_code_lies(planned: Jobs, folder: Path) -> None:
    (folder / "deep").mkdir()
    (folder / "deep" / "mine.py").write_text(MINE)
    keys = [planned(method_named(f"{place}mine.py:Shrink"))[1].keys for place in ("", "deep/")]  # type: ignore[attr-defined]
    assert keys[0] == keys[1]


def test_a_checkpoint_never_brings_code_back(folder: Path) -> None:
    about = told(method_named("mine.py:Shrink"))
    with pytest.raises(Refusal, match="expected a method of unteach"):
        restored_method(about["method"], about["settings"])
    (folder / "twin.py").write_text(MINE.replace("Shrink", "FineTune"))
    assert title(method_named("twin.py:FineTune")) == "twin.py:FineTune", "a namesake of ours is not taken for ours"
    assert restored_method("FineTune", told(FineTune())["settings"]) == FineTune()
