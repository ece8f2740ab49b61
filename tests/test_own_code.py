"""Code of a user's own inside a training: a function that varies inputs, and a loss in place of cross-entropy."""

from __future__ import annotations

import contextlib
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from made import blobs
from unteach import user_code
from unteach.api import forget
from unteach.cli import main, parse
from unteach.data import Augment, DataSet, Resident
from unteach.data.dataset import chained
from unteach.data.own import with_loss
from unteach.engine import Engine
from unteach.methods import FineTune, NegGradPlus
from unteach.models import Blueprint, build
from unteach.recipe import Recipe
from unteach.references.manifest import DataSpec
from unteach.store import fingerprint, load_tensors, record, restored
from unteach.train import Sgd, Source, fit
from unteach.types import Examples, MultiClass, Refusal
from unteach.user_code import is_pinned, pin, unpin
from unteach.verbs.settings import DataChoice
from unteach.verbs.train import Train

MINE = """
import torch

def noisy(inputs, generator):
    return (inputs + 0.1 * torch.randn(inputs.shape, generator=generator)).clamp(0, 1)

def grey(inputs, generator):
    return inputs.mean(1)

def squared(logits, labels):
    wanted = torch.nn.functional.one_hot(labels, logits.shape[1])
    return (logits.softmax(1) - wanted).square().sum(1)

def crossed(logits, labels):
    return torch.nn.functional.cross_entropy(logits, labels, reduction="none")

def averaged(logits, labels):
    return crossed(logits, labels).mean()
"""


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(user_code, "_LOADED", {})
    monkeypatch.delenv(user_code.NAMED, raising=False)
    (tmp_path / "mine.py").write_text(MINE)
    return tmp_path / "mine.py"


def trained(examples: Examples, augment: Augment | None = None) -> torch.nn.Module:
    model = build(Blueprint(name="small-cnn", classes=3, shape=(1, 8, 8)), seed=0)
    engine = Engine(accelerator="cpu", precision="fp32")
    fit(model, [Source(examples, augment)], Sgd(lr=0.05, epochs=2, batch=16), seed=0, engine=engine)
    return model


def test_pinned_code_is_known_by_name_and_digest(mine: Path) -> None:
    told = pin(f"{mine}:noisy")
    assert told.startswith("mine.py:noisy@")
    assert pin(told) == told
    assert pin(unpin(told)) == told
    assert is_pinned(told)
    assert not is_pinned(f"{mine}:noisy")
    with pytest.raises(Refusal, match=r"user_code\.pin"):
        unpin(f"{mine}:noisy")
    mine.write_text(MINE + "#")
    assert pin(f"{mine}:noisy") != told


def test_own_variation_comes_last_and_draws_for_all(mine: Path) -> None:
    inputs, rows = blobs(12).inputs, torch.arange(12)
    own = Augment(flip=True, own=pin(f"{mine}:noisy"))
    shelf, plain = (Resident(inputs, augment, torch.device("cpu")) for augment in (own, replace(own, own="")))
    made = shelf.batch(rows, torch.Generator().manual_seed(5))
    rng = torch.Generator().manual_seed(5)
    mirrored = plain.batch(rows, rng)
    torch.testing.assert_close(made, unpin(own.own)(mirrored, rng), rtol=0, atol=0)
    parts = [shelf.batch(rows, torch.Generator().manual_seed(5), part) for part in (slice(0, 5), slice(5, 12))]
    assert torch.equal(torch.cat(parts), made)
    features = Resident(torch.rand(12, 4), Augment(own=own.own), torch.device("cpu"))
    assert not torch.equal(*(features.batch(rows, torch.Generator().manual_seed(k)) for k in (0, 1)))
    with pytest.raises(Refusal, match=r"mine\.py:grey.*keep shape"):
        Resident(inputs, Augment(own=pin(f"{mine}:grey")), torch.device("cpu")).batch(rows, rng)


def test_own_variation_is_part_of_the_recipe(mine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    augment = Augment(own=pin(f"{mine}:noisy"))
    first, again, plain = (fingerprint(trained(blobs(), each)) for each in (augment, augment, None))
    assert first == again != plain
    told = Recipe(augment=augment).as_json()
    assert Recipe.from_json(told).augment == augment
    assert "own" not in Recipe(augment=Augment(flip=True)).as_json()["augment"]
    monkeypatch.setattr(user_code, "_LOADED", {})
    monkeypatch.delenv(user_code.NAMED)
    with pytest.raises(Refusal, match="--code FILE:NAME"):
        trained(blobs(), Recipe.from_json(told).augment)


def test_the_command_line_pins_what_it_names(mine: Path) -> None:
    made = parse(Train, "unteach train", ["--augment.own", f"{mine}:noisy", "--augment.crop", "2"])
    assert made.training.augment == Augment(crop=2, own=pin(f"{mine}:noisy"))
    named = [f"--data={mine}:squared?a=1", f"--loss={mine}:squared", "--code", f"{mine}:grey", f"{mine}:noisy"]
    source = parse(Train, "unteach train", named).source
    squared, grey, noisy = (pin(f"{mine}:{name}") for name in ("squared", "grey", "noisy"))
    assert (source.data, source.loss, source.code) == (f"{squared}?a=1", squared, (grey, noisy))


def test_a_loss_of_ones_own_trains_and_leaves_measures_alone(mine: Path) -> None:
    data = DataSet("it", blobs(48), blobs(12, seed=1))
    same, other = (with_loss(data, pin(f"{mine}:{name}")) for name in ("crossed", "squared"))
    assert fingerprint(trained(same.train)) == fingerprint(trained(data.train))
    assert fingerprint(trained(other.train)) != fingerprint(trained(data.train))
    assert len({data.fingerprint, same.fingerprint, other.fingerprint}) == 3
    logits, labels = torch.randn(48, 3), data.train.labels
    wanted = torch.nn.functional.one_hot(labels, 3)
    expected = (logits.softmax(1) - wanted).square().sum(1)
    torch.testing.assert_close(other.train.task.loss(logits, labels), expected)
    for measure in ("confidence", "correct", "margin"):
        assert torch.equal(*(getattr(task, measure)(logits, labels) for task in (other.train.task, MultiClass(3))))
    for kept in (other.train.take([2, 1]), chained(other.train, other.test), other.train.relabel(labels)):
        assert kept.loss == other.train.loss


@pytest.mark.parametrize(
    "method", [FineTune(optim=Sgd(epochs=1)), NegGradPlus(optim=Sgd(epochs=1))], ids=["tune", "grad"]
)
def test_methods_use_it(mine: Path, method: FineTune | NegGradPlus) -> None:
    data = DataSet("it", blobs(48), blobs(12, seed=1))
    model, ids, made = trained(data.train), ["0", "7", "11"], []
    for name in ("", "crossed", "squared"):
        train = with_loss(data, pin(f"{mine}:{name}")).train if name else data.train
        made.append(fingerprint(forget(model, train, ids, method, engine=Engine(accelerator="cpu")).model))
    assert made[0] == made[1] != made[2]


def test_losses_that_can_not_be_right(mine: Path) -> None:
    data = DataSet("it", blobs(48), blobs(12, seed=1))
    averaged, crossed = (with_loss(data, pin(f"{mine}:{name}")).train for name in ("averaged", "crossed"))
    with pytest.raises(Refusal, match=r"one loss per example from mine\.py:averaged.*got \(\)"):
        averaged.task.loss(torch.zeros(48, 3), averaged.labels)
    with pytest.raises(Refusal, match="smoothing"):
        crossed.task.loss(torch.zeros(48, 3), crossed.labels, 0.1)


def run(*arguments: object) -> tuple[int, str]:
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        return main([str(argument) for argument in arguments]), out.getvalue()


def test_train_and_forget_with_all_of_it(mine: Path, tmp_path: Path) -> None:
    """The whole job: own data, loss and variation; a recipe's code runs only when it is named again."""
    train, test = blobs(60), blobs(30, seed=1)
    np.savez(tmp_path / "kept.npz", x=train.inputs.numpy(), y=train.labels, tx=test.inputs.numpy(), ty=test.labels)
    mine.write_text(
        MINE
        + """
import numpy as np

def data(path):
    kept = np.load(path)
    return tuple([(torch.from_numpy(x), int(y), f"{name}{i}") for i, (x, y) in enumerate(zip(kept[a], kept[b]))]
                 for a, b, name in (("x", "y", "a"), ("tx", "ty", "b")))
"""
    )
    whole = [
        f"--data={mine}:data?path={tmp_path / 'kept.npz'}",
        f"--loss={mine}:squared",
        "--device=cpu",
        "--quiet=true",
    ]
    short = ["--optim.epochs=2", "--optim.batch=16"]
    code, said = run("train", *whole, *short, f"--augment.own={mine}:noisy", "--out", tmp_path / "t")
    assert code == 0, said
    checkpoint = tmp_path / "t" / "model.safetensors"
    told = load_tensors(checkpoint)[1]
    assert told["recipe"]["augment"]["own"] == pin(f"{mine}:noisy")
    assert told["data"].startswith("mine.py:data?path=")
    task = [
        "forget",
        "--checkpoint",
        checkpoint,
        *whole,
        *short,
        "--method=finetune",
        "--ids=random:5",
        "--references=1",
    ]
    code, said = run(*task, f"--code={mine}:noisy", "--out", tmp_path / "f")
    assert code == 0, said
    assert (tmp_path / "f" / "report.html").is_file()
    code, said = run(*task[:3], whole[0], *whole[2:], *task[7:], "--out", tmp_path / "g")
    assert code == 2
    assert "trained on these data" in said
    user_code._LOADED.clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv(user_code.NAMED)
        code, said = run(*task, "--out", tmp_path / "h")
    assert code == 2
    assert "mine.py:noisy" in said
    assert "Traceback" not in said


def test_a_spec_in_a_file_starts_no_code(mine: Path) -> None:
    for spec in (
        DataSpec(spec="digits", loss=f"{mine}:squared"),
        DataSpec(spec="digits", loss=f"mine.py:squared@{'0' * 64}"),
    ):
        with pytest.raises(Refusal, match="expected"):
            spec.load()
    for choice in (
        DataChoice(data=f"{mine}:squared"),
        DataChoice(loss=f"{mine}:squared"),
        DataChoice(code=("mine.py:no",)),
    ):
        told = restored(DataChoice, record(choice))  # as settings.json or a ledger tells them
        if told.code:
            told.load()
            continue
        with pytest.raises(Refusal, match="pin"):
            told.load()
    assert not user_code._LOADED
