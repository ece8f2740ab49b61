"""Bad input: one sentence, exit code 2, nothing written, nothing lost."""

from __future__ import annotations

import json
import os
import pickle
import resource
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from made import blobs
from unteach.data import load as load_data
from unteach.store import load_tensors, save_tensors

Listing = Callable[[Path], dict[str, str]]


@pytest.fixture
def ask(case: Any, run: Callable[..., Any], tmp_path: Path, listing: Listing) -> Iterator[Callable[..., Any]]:
    """``unteach forget`` with some arguments exchanged; at the end nothing may have changed on the disk."""
    before: dict[str, str] = {}

    def asking(verb: str = "forget", **changes: object) -> Any:
        before.update(listing(tmp_path))
        usual = {"checkpoint": case.original, "data": case.data, "out": tmp_path / "out", "device": "cpu"}
        given = {**(usual if verb == "forget" else {"out": tmp_path / "out"}), **changes}
        return run(verb, *(part for name, value in given.items() for part in (f"--{name.replace('__', '.')}", value)))

    originals = listing(case.original.parent.parent)
    yield asking
    assert before == listing(tmp_path), "something was written or lost"
    assert originals == listing(case.original.parent.parent), "the originals were touched"


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("ids.txt", "record 3\nnobody\n", ["'nobody'", "unknown"]),
        ("ids.txt", "record 3\nrecord 3\n", ["once", "'record 3'"]),
        ("ids.txt", "\n# nothing\n", ["at least one id"]),
        ("ids.txt", "\n".join(f"record {i}" for i in range(96)), ["all 96"]),
        ("ids.xlsx", "record 3\n", [".txt, .csv or .json"]),
        ("ids.json", '{"record 3": 1}', ["a JSON list"]),
        ("ids.json", "[1.5]", ["1.5"]),
        ("ids.csv", "a,b\n1,2\n", ["column id"]),
        ("ids.txt", "\0\1", ["binary"]),
    ],
)
def test_requests(name: str, text: str, words: list[str], ask: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    ask(ids=tmp_path / name).refused(*words)


@pytest.mark.parametrize(
    "ids", ["nowhere.txt", "random:0", "random:1.5", "random:96", "class:9", "group:A", "random:x"]
)
def test_requests_without_a_file(ids: str, ask: Callable[..., Any]) -> None:
    ask(ids=ids).refused()


def test_ids_the_model_never_saw(
    case: Any, ask: Callable[..., Any], run: Callable[..., Any], tmp_path: Path, short: tuple[str, ...]
) -> None:
    (tmp_path / "without.txt").write_text("record 3\nrecord 5\n")
    (tmp_path / "ids.txt").write_text("record 5\nrecord 7\n")
    trained = run("train", "--data", case.data, "--without", tmp_path / "without.txt", "--out", tmp_path / "o", *short)
    assert trained.code == 0, trained
    ask(checkpoint=tmp_path / "o" / "model.safetensors", ids=tmp_path / "ids.txt").refused("never saw", "'record 5'")


def test_ids_that_were_forgotten_already(done: Path, ask: Callable[..., Any]) -> None:
    ask(checkpoint=done / "model.safetensors", ids=done / "forget.txt").refused("already forgot")


def broken(kind: str, folder: Path) -> Path:
    """Data that can't be right, in the form in which a user would have them."""
    good = blobs(30)
    arrays = {"inputs": good.inputs.numpy(), "labels": good.labels.numpy()}
    if kind == "labels out of range":
        arrays |= {"labels": good.labels.numpy() + 1, "classes": np.array(["a", "b", "c"])}
    elif kind == "negative labels":
        arrays["labels"] = good.labels.numpy() - 1
    elif kind == "NaN":
        arrays["inputs"] = np.where(np.arange(64).reshape(1, 1, 8, 8) == 9, np.nan, good.inputs.numpy() / 255.0)
    elif kind == "one label too few":
        arrays["labels"] = arrays["labels"][:-1]
    elif kind == "double ids":
        arrays["ids"] = np.array(["a"] * 30)
    elif kind == "python objects":
        arrays["labels"] = np.array([object()] * 30)
    np.savez(folder / "bad.npz", **arrays)
    if kind == "truncated":
        (folder / "bad.npz").write_bytes((folder / "bad.npz").read_bytes()[:500])
    return folder / "bad.npz"


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("labels out of range", ["labels of 0 to 2", "1 to 3"]),
        ("negative labels", ["-1"]),
        ("NaN", ["finite", "nan"]),
        ("one label too few", ["29"]),
        ("double ids", ["'a'"]),
        ("python objects", ["without objects"]),
        ("truncated", ["NumPy archive"]),
    ],
)
@pytest.mark.parametrize("verb", ["train", "forget"])
def test_data(kind: str, words: list[str], verb: str, ask: Callable[..., Any], tmp_path: Path) -> None:
    ask(verb, data=f"npz:{broken(kind, tmp_path)}").refused(*words)


def test_images_of_different_sizes(ask: Callable[..., Any], tmp_path: Path) -> None:
    from PIL import Image

    for number, size in enumerate([8, 8, 8, 9]):
        (tmp_path / f"class {number % 2}").mkdir(exist_ok=True)
        Image.new("L", (size, 8)).save(tmp_path / f"class {number % 2}" / f"{number}.png")
    ask("train", data=f"folder:{tmp_path}").refused("3.png")


def test_data_that_are_not_there(ask: Callable[..., Any], tmp_path: Path) -> None:
    ask(data=f"npz:{tmp_path / 'nowhere.npz'}").refused("no such file")


class Evil:
    def __init__(self, flag: Path) -> None:
        self.flag = flag

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch '{self.flag}'",)


def test_a_pickle_with_code_does_not_run(ask: Callable[..., Any], tmp_path: Path) -> None:
    torch.save({"weight": Evil(tmp_path / "ran")}, tmp_path / "torch.pt")
    (tmp_path / "plain.pkl").write_bytes(pickle.dumps(Evil(tmp_path / "ran")))
    for name in ("torch.pt", "plain.pkl"):
        ask(checkpoint=tmp_path / name, model="small-cnn").refused("code")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999])
def test_a_truncated_checkpoint(suffix: str, share: float, case: Any, ask: Callable[..., Any], tmp_path: Path) -> None:
    whole = tmp_path / f"whole{suffix}"
    if suffix == ".pt":
        torch.save(load_tensors(case.original)[0], whole)
    else:
        whole.write_bytes(case.original.read_bytes())
    size = int(share * whole.stat().st_size)
    (tmp_path / f"cut{suffix}").write_bytes(whole.read_bytes()[:size])
    ask(checkpoint=tmp_path / f"cut{suffix}", model="small-cnn").refused(f"cut{suffix}")


def test_a_foreign_checkpoint(case: Any, ask: Callable[..., Any], tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(3, 2).state_dict(), tmp_path / "other.pt")
    ask(checkpoint=tmp_path / "other.pt").refused("does not say", "--model")
    ask(checkpoint=tmp_path / "other.pt", model="small-cnn").refused("missing", "unknown names")
    save_tensors(tmp_path / "odd.safetensors", {"a": torch.ones(1)}, ["a list"])  # type: ignore[arg-type]
    ask(checkpoint=tmp_path / "odd.safetensors").refused("odd.safetensors")
    for blueprint in ({"name": "small-cnn"}, {"name": "small-cnn", "shape": 3, "classes": 3}, {"fly": 1, "shape": []}):
        save_tensors(tmp_path / "odd.safetensors", load_tensors(case.original)[0], {"blueprint": blueprint})
        ask(checkpoint=tmp_path / "odd.safetensors").refused("odd.safetensors")


def test_a_checkpoint_with_nan(case: Any, ask: Callable[..., Any], tmp_path: Path) -> None:
    tensors, provenance = load_tensors(case.original)
    tensors["1.weight"][:] = torch.nan
    save_tensors(tmp_path / "nan.safetensors", tensors, provenance)
    ask(checkpoint=tmp_path / "nan.safetensors").refused("finite logits")


def test_a_checkpoint_that_is_not_there(ask: Callable[..., Any], tmp_path: Path) -> None:
    ask(checkpoint=tmp_path / "nowhere.safetensors").refused("no such file")
    ask(checkpoint=tmp_path).refused("no such file")


def other_data(folder: Path, classes: int = 3, size: int = 8) -> str:
    data = blobs(30, classes=classes, size=size, seed=7)
    np.savez(folder / "other.npz", inputs=data.inputs.numpy(), labels=data.labels.numpy())
    return f"npz:{folder / 'other.npz'}"


def test_a_checkpoint_trained_on_other_data(ask: Callable[..., Any], tmp_path: Path) -> None:
    ask(data=other_data(tmp_path)).refused("trained on these data", "fingerprint")


def test_another_number_of_classes_or_pixels(case: Any, ask: Callable[..., Any], tmp_path: Path) -> None:
    torch.save(load_tensors(case.original)[0], tmp_path / "bare.pt")
    data = other_data(tmp_path, classes=4)
    ask(data=data).refused("4 classes", "3")
    ask(data=data, checkpoint=tmp_path / "bare.pt", model="small-cnn").refused("number of classes")
    data = other_data(tmp_path, size=16)
    ask(data=data).refused("(1, 16, 16)", "(1, 8, 8)")


NETWORKS = """
import torch
def broken(): raise KeyError("no weights here")
def nothing(): return 3
def needy(width): return torch.nn.Linear(width, 3)
def small(): return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 2))
def narrow(): return torch.nn.Linear(5, 3)
class Stuck(torch.nn.Linear):
    def forward(self, x): raise IndexError("lost")
class Pair(torch.nn.Linear):
    def forward(self, x): return x, x
def stuck(): return Stuck(64, 3)
def pair(): return Pair(64, 3)
class Several(torch.nn.Linear):
    def forward(self, x): return [x]
def several(): return Several(64, 3)
number = 3
"""


@pytest.mark.parametrize(
    ("factory", "words"),
    [
        ("nets.py:absent", ["'absent'"]),
        ("nets.py:number", ["'number'"]),
        ("nets.py:broken", ["nets.py:broken", "KeyError", "no weights here"]),
        ("nets.py:nothing", ["nets.py:nothing", "int"]),
        ("nets.py:needy", ["nets.py:needy", "width"]),
        ("nets.py:small", ["n × 3", "(2, 2)"]),
        ("nets.py:narrow", ["inputs of shape (1, 8, 8)"]),
        ("nets.py:stuck", ["IndexError", "lost"]),
        ("nets.py:pair", ["logits of shape"]),
        ("nets.py:several", ["a tensor, alone, first of a tuple, or called logits", "list"]),
        ("raises.py:net", ["raises.py:net", "ZeroDivisionError"]),
        ("typo.py:net", ["typo.py:net", "SyntaxError"]),
        ("lacks.py:net", ["no_such_module"]),
        ("nowhere.py:net", ["nowhere.py"]),
        ("no_such_package.nets:net", ["no_such_package"]),
        ("fly", ["a model name", "'fly'"]),
    ],
)
def test_networks(
    factory: str,
    words: list[str],
    case: Any,
    run: Callable[..., Any],
    tmp_path: Path,
    listing: Listing,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.dont_write_bytecode", True)
    (tmp_path / "nets.py").write_text(NETWORKS)
    (tmp_path / "raises.py").write_text("1 / 0")
    (tmp_path / "typo.py").write_text("def net(:")
    (tmp_path / "lacks.py").write_text("import no_such_module")
    before = listing(tmp_path)
    run("train", "--data", case.data, "--model", factory, "--out", "out").refused(*words)
    assert listing(tmp_path) == before


def test_arguments_that_a_network_does_not_know(ask: Callable[..., Any], case: Any) -> None:
    ask("train", data=case.data, model_args='{"depth": 9}').refused("small-cnn", "depth")


def test_a_retrained_model_that_saw_the_forget_set(case: Any, done: Path, ask: Callable[..., Any]) -> None:
    ask(retrained=case.original).refused("without the forget set")
    ask(retrained=done / "retrained-0.safetensors", ids="random:0.5").refused("without the forget set")
    asked = {"unlearned": done / "model.safetensors", "ids": done / "forget.txt", "data": case.data}
    ask("audit", **asked, retrained=case.original).refused("without the forget set")


def test_one_retrained_model_twice_is_no_control(
    case: Any, done: Path, run: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "copy.safetensors").write_bytes((done / "retrained-0.safetensors").read_bytes())
    models = ("--retrained", done / "retrained-0.safetensors", tmp_path / "copy.safetensors")
    ran = run("forget", "--checkpoint", case.original, "--data", case.data, "--ids", done / "forget.txt", *models)
    ran.refused("same weights")
    assert os.listdir(tmp_path) == ["copy.safetensors"]


def test_a_folder_with_another_run(case: Any, done: Path, run: Callable[..., Any], listing: Listing) -> None:
    before = listing(done)
    asked = ("forget", "--checkpoint", case.original, "--data", case.data, "--out", done)
    run(*asked, "--ids", "random:0.5").refused("other", "ids", "--overwrite")
    run("train", "--data", case.data, "--out", done).refused("--overwrite")
    assert listing(done) == before


@pytest.mark.parametrize("text", ["", "[]", "{"])
def test_a_folder_with_damaged_settings(text: str, ask: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "settings.json").write_text(text)
    ask().refused(str(tmp_path / "out"))


@pytest.mark.parametrize("name", ["model.safetensors", "findings.json", "report.html"])
def test_a_folder_with_files_of_another_program(name: str, ask: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).write_text("precious")
    ask().refused(name, "--overwrite")


def test_the_original_is_never_written_over(case: Any, ask: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "model.safetensors").write_bytes(case.original.read_bytes())
    ask(checkpoint=tmp_path / "out" / "model.safetensors", overwrite="true").refused("its own folder")


def test_an_output_folder_that_cannot_be(ask: Callable[..., Any], case: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    for out in (tmp_path / "file", tmp_path / "file" / "out", Path("/proc/unteach/out")):
        ask(out=out).refused(str(out))
        ask("train", data=case.data, out=out).refused(str(out))


def test_a_report_of_what_are_no_findings(run: Callable[..., Any], tmp_path: Path, done: Path) -> None:
    (tmp_path / "list.json").write_text("[1]")
    (tmp_path / "cut.json").write_text((done / "findings.json").read_text()[:-9])
    (tmp_path / "bare.json").write_text(json.dumps({"verdict": "none"}))
    run("report", "--findings", tmp_path / "list.json").refused("findings with a verdict")
    run("report", "--findings", tmp_path / "cut.json").refused("JSON")
    run("report", "--findings", done / "findings.json", "--out", tmp_path / "cut.json").refused("cut.json")
    assert run("report", "--findings", tmp_path / "bare.json", "--out", tmp_path / "page").code == 0


@pytest.mark.parametrize("limit", [100, 20_000, 400_000], ids=["settings", "checkpoint", "resumable state"])
def test_a_full_disk_costs_nothing_and_the_same_command_goes_on(
    limit: int, case: Any, done: Path, tmp_path: Path, listing: Listing
) -> None:
    """A limit on the size of files stands for the full disk: both fail in the middle of a write."""
    before = listing(case.original.parent)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        ran = case.forget(tmp_path / "run")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    ran.refused("be able to write", "free some space")
    assert not list((tmp_path / "run").glob(".*")), "temporary files are taken away"
    assert not (tmp_path / "run" / "model.safetensors").exists()
    assert listing(case.original.parent) == before
    assert case.forget(tmp_path / "run").code == 0
    ours, theirs = (load_tensors(folder / "model.safetensors")[0] for folder in (tmp_path / "run", done))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_a_disk_that_fills_up_at_the_end_leaves_the_old_results(
    case: Any, done: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, listing: Listing
) -> None:
    before = listing(done)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    case.forget(done).refused("No space left on device", "free some space")
    assert listing(done) == before


def test_data_in_the_archive_stay_as_they_were(case: Any, done: Path) -> None:
    path = Path(case.data.removeprefix("npz:"))
    before = path.read_bytes()
    load_data(case.data)
    case.forget(done)
    assert path.read_bytes() == before
