"""Data that stay on disk: they read like tensors, are never read whole, and train to the same bytes."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from made import blobs
from unteach.cli import main
from unteach.data import Augment, DataSet, load, write_memmap
from unteach.data.dataset import chained
from unteach.data.duplicates import exact, same_hash, twins
from unteach.engine import Engine
from unteach.mapped import Mapped, blocks
from unteach.models import Blueprint, build
from unteach.references.cache import Cache
from unteach.references.pool import chosen, size_of
from unteach.references.units import units_in
from unteach.references.work import score
from unteach.store import fingerprint, load_tensors
from unteach.train import Sgd, Source, fit
from unteach.types import Refusal

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (60, 3, 8, 8), dtype=np.uint8)
LABELS = np.arange(60) % 3


@pytest.fixture
def both(tmp_path: Path) -> tuple[DataSet, DataSet]:
    """The same images in memory, and on disk."""
    arrays = {"inputs": IMAGES, "labels": LABELS, "groups": np.array([f"g{i // 4}" for i in range(60)])}
    arrays["inputs"][5] = arrays["inputs"][50]
    np.savez(tmp_path / "a.npz", **arrays)
    (tmp_path / "map").mkdir()
    for name, array in arrays.items():
        np.save(tmp_path / "map" / f"{name}.npy", array)
    return load(f"npz:{tmp_path / 'a.npz'}"), load(f"memmap:{tmp_path / 'map'}")


# ---------------------------------------------------------------- rows on disk


def mapped() -> tuple[Mapped, torch.Tensor]:
    return Mapped([IMAGES]), torch.from_numpy(IMAGES)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_rows_are_those_of_a_tensor(data: st.DataObject) -> None:
    ours, theirs = mapped()
    for _ in range(data.draw(st.integers(0, 3))):
        if data.draw(st.booleans()):
            rows = data.draw(st.lists(st.integers(-len(theirs), len(theirs) - 1), min_size=1, max_size=9))
            ours, theirs = ours.chosen(np.array(rows)), theirs[rows]
        else:
            other = theirs[:2].clone()
            ours, theirs = torch.cat((ours, other, ours)), torch.cat((theirs, other, theirs))  # type: ignore[assignment]
    assert isinstance(ours, Mapped)
    assert (ours.shape, ours.dtype, len(ours)) == (theirs.shape, theirs.dtype, len(theirs))
    picks: list[Any] = [
        data.draw(st.integers(-len(theirs), len(theirs) - 1)),
        data.draw(st.slices(len(theirs)).filter(lambda s: s.step is None or s.step > 0)),
        torch.tensor(data.draw(st.lists(st.integers(0, len(theirs) - 1), max_size=5)), dtype=torch.long),
        torch.tensor(data.draw(st.lists(st.booleans(), min_size=len(theirs), max_size=len(theirs)))),
    ]
    for pick in picks:
        assert torch.equal(ours[pick], theirs[pick])


def test_what_is_asked_of_a_tensor_is_answered() -> None:
    ours, theirs = mapped()
    assert torch.equal(ours[:, 0], theirs[:, 0])
    assert torch.equal(ours.flip(-1), theirs.flip(-1))
    assert torch.equal(torch.cat((ours, ours), 1), torch.cat((theirs, theirs), 1))
    assert torch.equal(torch.stack(list(ours)), theirs)
    assert (int(ours.min()), int(ours.max())) == (int(theirs.min()), int(theirs.max()))
    features = Mapped([IMAGES[:, 0, 0].astype(np.float64)])
    assert features.dtype == torch.float32
    assert torch.nn.Linear(8, 2)(features).shape == (60, 2)
    ours[:1].zero_()  # a copy
    assert IMAGES[0].any()
    assert [len(block) for block in blocks(torch.zeros(3, 2**19))] == [2, 1]


# ---------------------------------------------------------------- the same as in memory


def test_the_same_data_set(both: tuple[DataSet, DataSet]) -> None:
    memory, disk = both
    assert isinstance(disk.train.inputs, Mapped)
    assert isinstance(disk.train.take([3, 1]).inputs, Mapped)
    assert disk.fingerprint == memory.fingerprint
    half = np.arange(size_of(memory)) % 2 == 0
    assert isinstance(chosen(disk, half).inputs, Mapped)
    assert chosen(disk, half).fingerprint() == chosen(memory, half).fingerprint()
    for clusters in (exact, twins, same_hash):
        found = [clusters(chained(data.train, data.test).inputs) for data in both]
        assert np.array_equal(*found)
        assert len(np.unique(found[0])) == 59


@pytest.mark.parametrize(
    "augment",
    [None, Augment(crop=2, flip=True), Augment(crop=1, reflect=True, zoom=0.2, brightness=0.2)],
    ids=["plain", "crop-flip", "all"],
)
def test_training_comes_to_the_same_bytes(both: tuple[DataSet, DataSet], augment: Augment | None) -> None:
    made, engine = [], Engine(accelerator="cpu", precision="fp32")
    for data in both:
        model = build(Blueprint(name="small-cnn", classes=3, shape=(3, 8, 8)), seed=1)
        sources = [Source(data.train.take(np.arange(30)), augment), Source(data.train.take(np.arange(30, 45)))]
        fit(
            model,
            sources,
            Sgd(lr=0.05, epochs=2, batch=16),
            seed=3,
            engine=engine,
            alongside=[Source(data.test, augment)],
        )
        made.append((fingerprint(model), score(model, data, 2, engine).tobytes()))
    assert made[0] == made[1]


def test_features_embeddings_and_float_images_train_alike(tmp_path: Path) -> None:
    for shape in ((4,), (5, 4), (1, 6, 6)):
        x, y = RNG.random((20, *shape)), np.arange(20) % 2
        folder = tmp_path / f"{len(shape)}"
        folder.mkdir()
        np.save(folder / "inputs.npy", x.astype(np.float16))
        np.save(folder / "labels.npy", y)
        np.savez(folder / "a.npz", inputs=x.astype(np.float16), labels=y)
        disk, memory = load(f"memmap:{folder}"), load(f"npz:{folder / 'a.npz'}")
        assert disk.train.inputs.dtype == torch.float32
        assert disk.fingerprint == memory.fingerprint
        states = []
        for data in (disk, memory):
            torch.manual_seed(0)
            net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(int(np.prod(shape)), 2))
            fit(net, [Source(data.train)], Sgd(epochs=1, batch=8), seed=0, engine=Engine(accelerator="cpu"))
            states.append(fingerprint(net))
        assert states[0] == states[1]


def test_nothing_reads_all_of_it(
    both: tuple[DataSet, DataSet], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading, splitting, halves, units and training ask for blocks and batches only."""
    largest, read = 0, Mapped._read

    def watched(self: Mapped, rows: np.ndarray) -> torch.Tensor:
        nonlocal largest
        largest = max(largest, len(rows))
        return read(self, rows)

    monkeypatch.setattr(Mapped, "_read", watched)
    monkeypatch.setattr("unteach.mapped.BLOCK", 4 * 192)
    monkeypatch.setattr("unteach.data.duplicates.CHUNK", 4)
    monkeypatch.setattr("unteach.data.duplicates.SAMPLE", 4)
    data = load(f"memmap:{tmp_path / 'map'}")
    assert data.fingerprint
    assert len(units_in(data, Cache(tmp_path / "cache"))) == 60
    model = build(Blueprint(name="small-cnn", classes=3, shape=(3, 8, 8)), seed=1)
    joined = chained(data.train.take(np.arange(20)), data.test)
    fit(model, [Source(joined, Augment(flip=True))], Sgd(epochs=1, batch=8), seed=3, engine=Engine(accelerator="cpu"))
    assert largest <= 8


def test_the_whole_job_reads_batches_and_ends_with_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Train, forget, audit and report, from the command line; all of the network's inputs would be 600 rows."""
    whole = blobs(600, size=6)
    arrays = {"inputs": whole.inputs.numpy(), "labels": whole.labels.numpy()}
    np.savez(tmp_path / "a.npz", **arrays)
    (tmp_path / "map").mkdir()
    for name, array in arrays.items():
        np.save(tmp_path / "map" / f"{name}.npy", array)
    (tmp_path / "network.py").write_text(
        "from torch import nn\n\ndef flat():\n    return nn.Sequential(nn.Flatten(), nn.Linear(36, 3))\n"
    )
    read, sizes = Mapped._read, [0]
    monkeypatch.setattr(Mapped, "_read", lambda self, rows: sizes.append(len(rows)) or read(self, rows))  # type: ignore[func-returns-value]
    monkeypatch.setattr("unteach.mapped.BLOCK", 36 * 64)
    monkeypatch.setattr("unteach.data.duplicates.CHUNK", 64)
    monkeypatch.setattr("unteach.data.duplicates.SAMPLE", 64)
    made = []
    for spec in (f"npz:{tmp_path / 'a.npz'}", f"memmap:{tmp_path / 'map'}"):
        out = tmp_path / spec.partition(":")[0]
        both = [
            f"--data={spec}",
            f"--model={tmp_path / 'network.py'}:flat",
            "--optim.epochs=1",
            "--device=cpu",
            "--quiet=true",
        ]
        request = ["--method=finetune", "--ids=random:30", "--references=1", f"--checkpoint={out}/t/model.safetensors"]
        with contextlib.redirect_stdout(io.StringIO()):
            assert main(["train", *both, f"--out={out}/t"]) == 0
            assert main(["forget", *both, *request, f"--out={out}/f"]) == 0
        found = [load_tensors(out / part / "model.safetensors")[0] for part in "tf"]
        made.append([{name: tensor.numpy().tobytes() for name, tensor in tensors.items()} for tensors in found])
    assert made[0] == made[1]
    assert 0 < max(sizes) <= 256


@pytest.mark.slow
def test_data_four_times_larger_than_what_may_be_allocated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    from data_memory import fill, in_process

    fill(tmp_path / "data", 1024)
    assert in_process("load", tmp_path / "data", 256) is True
    found = in_process("job", tmp_path / "data", 256)
    assert isinstance(found, dict)
    assert found["growth"] < 256 * 2**20


# ---------------------------------------------------------------- folders


def test_a_folder_is_written_item_by_item_and_read_back(tmp_path: Path) -> None:
    items = [(x, "abc"[y], f"{i:03}", f"g{i // 2}") for i, (x, y) in enumerate(zip(IMAGES, LABELS))]
    write_memmap(tmp_path / "new", iter(items), items[:4], classes=("c", "b", "a"))
    data = load(f"memmap:{tmp_path / 'new'}")
    assert np.array_equal(data.train.inputs[:].numpy(), IMAGES)
    assert data.train.ids.tolist() == [f"{i:03}" for i in range(60)]
    assert data.train.groups is not None
    assert (data.train.classes, data.test.labels.tolist()) == (("c", "b", "a"), [2, 1, 0, 2])
    assert np.load(tmp_path / "new" / "inputs.npy").shape == (60, 3, 8, 8)
    assert oct((tmp_path / "new").stat().st_mode)[-3:] == "755"
    with pytest.raises(Refusal, match="new folder"):
        write_memmap(tmp_path / "new", items)


def test_what_can_not_be_written_leaves_nothing(tmp_path: Path) -> None:
    good = (IMAGES[0], 0, "a")
    for items, says in (
        ([good, (IMAGES[0, :, :4], 1, "b")], "item 1"),
        ([good, (IMAGES[0], 1)], "ids in all"),
        ([good, (IMAGES[0], "cat", "b")], "'cat'"),
        ([good, (IMAGES[0], 1, "#b")], "fit on a line"),
        ([], "at least one"),
    ):
        with pytest.raises(Refusal, match=says):
            write_memmap(tmp_path / "out" / "data", iter(items))
        assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({"inputs": b""}, "as inputs"),
        ({"inputs": b"\x93NUMPY"}, "as inputs"),
        ({"inputs": "cut"}, "as inputs"),
        ({"labels": None}, "labels or y"),
        ({"labels": np.array([object()])}, "as labels"),
        ({"inputs": None}, "inputs.npy and labels.npy"),
        ({"inputs": np.full((6, 2), np.nan)}, "row 0"),
        ({"inputs": np.full((6, 1, 2, 2), 2.0)}, "0–1"),
        ({"inputs": np.zeros((6, 2, 2), np.int64)}, "tokens"),
        ({"ids": np.array(list("aabcde"))}, "'a' more than once"),
        ({"test_inputs": np.zeros((2, 3)), "test_labels": np.array([0, 1])}, "like the training inputs"),
        ({"test_labels": np.array([0, 1])}, "test_inputs"),
    ],
)
def test_folders_that_can_not_be_right(tmp_path: Path, files: dict[str, Any], says: str) -> None:
    np.save(tmp_path / "cut.npy", np.zeros((600, 2)))
    cut = (tmp_path / "cut.npy").read_bytes()[:-100]
    (tmp_path / "cut.npy").unlink()
    for name, content in ({"inputs": np.zeros((6, 2)), "labels": np.arange(6) % 2} | files).items():
        path = tmp_path / f"{name}.npy"
        if isinstance(content, np.ndarray):
            np.save(path, content, allow_pickle=True)
        elif content is not None:
            path.write_bytes(cut if content == "cut" else content)
    with pytest.raises(Refusal, match=says):
        load(f"memmap:{tmp_path}")
