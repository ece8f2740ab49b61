"""Readers of known data sets, on files written here in exactly the published layout."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from unteach.data import DATA, Augment, DataSet, load
from unteach.data import fashion as fashion_module
from unteach.data.fashion import FILES, read_idx
from unteach.data.pickles import read_pickle
from unteach.types import Examples, Refusal

RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def _nothing_on_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("UNTEACH_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(fashion_module, "DEBIAN", tmp_path / "no-debian")


# ---------------------------------------------------------------- Fashion-MNIST


def idx(array: np.ndarray) -> bytes:
    return bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def fashion(folder: Path) -> dict[str, np.ndarray]:
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {
        "train-images-idx3-ubyte": RNG.integers(0, 256, (20, 28, 28), dtype=np.uint8),
        "train-labels-idx1-ubyte": np.arange(20, dtype=np.uint8) % 10,
        "t10k-images-idx3-ubyte": RNG.integers(0, 256, (10, 28, 28), dtype=np.uint8),
        "t10k-labels-idx1-ubyte": np.arange(10, dtype=np.uint8),
    }
    for name, array in arrays.items():
        (folder / f"{name}.gz").write_bytes(gzip.compress(idx(array)))
    return arrays


@pytest.mark.parametrize("below", [".", "fashion-mnist"])
def test_fashion_mnist_from_idx_files(tmp_path: Path, below: str) -> None:
    arrays = fashion(tmp_path / "data" / below)
    data = load("fashion-mnist", root=tmp_path / "data")
    assert np.array_equal(data.train.inputs[:, 0].numpy(), arrays["train-images-idx3-ubyte"])
    assert data.train.labels.tolist() == arrays["train-labels-idx1-ubyte"].tolist()
    assert np.array_equal(data.test.inputs[:, 0].numpy(), arrays["t10k-images-idx3-ubyte"])
    assert data.train.ids.tolist() == [str(i) for i in range(20)]
    assert data.test.ids.tolist() == [f"test-{i}" for i in range(10)]
    assert data.train.classes[9] == "Ankle boot"
    assert data.augment == Augment(crop=2, flip=True)


def test_the_environment_names_a_folder_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fashion(tmp_path / "data" / "fashion-mnist")
    monkeypatch.setenv("UNTEACH_DATA", str(tmp_path / "data"))
    assert len(load("fashion-mnist").train) == 20


def test_absent_files_name_every_place_and_the_ways_out(tmp_path: Path) -> None:
    with pytest.raises(Refusal) as refused:
        load("fashion-mnist", root=tmp_path / "here")
    for part in (tmp_path / "here", tmp_path / "no-debian", tmp_path / "cache", "dataset-fashion-mnist", "--download"):
        assert str(part) in str(refused.value)


def test_download_checks_what_it_gets_and_keeps_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fashion(tmp_path / "server")
    monkeypatch.setattr(fashion_module, "OFFICIAL", (tmp_path / "server").as_uri() + "/")
    with pytest.raises(Refusal, match="MD5"):
        load("fashion-mnist", download=True)
    assert not list((tmp_path / "cache").rglob("*.gz"))
    for name in FILES:
        md5 = hashlib.md5((tmp_path / "server" / name).read_bytes()).hexdigest()
        monkeypatch.setitem(FILES, name, md5)
    assert len(load("fashion-mnist", download=True).train) == 20
    assert sorted(file.name for file in (tmp_path / "cache" / "unteach" / "fashion-mnist").iterdir()) == sorted(FILES)
    monkeypatch.setattr(fashion_module, "OFFICIAL", (tmp_path / "gone").as_uri() + "/")
    assert len(load("fashion-mnist").train) == 20


def test_a_server_that_is_not_there_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fashion_module, "OFFICIAL", (tmp_path / "gone").as_uri() + "/")
    with pytest.raises(Refusal, match="by hand"):
        load("fashion-mnist", download=True)


PIXELS = np.arange(60, dtype=np.uint8).reshape(5, 4, 3)
WHOLE = gzip.compress(idx(PIXELS), mtime=0)


@settings(max_examples=60, deadline=None)
@given(length=st.integers(0, len(WHOLE) - 1))
def test_any_part_of_an_idx_file_is_refused(tmp_path_factory: pytest.TempPathFactory, length: int) -> None:
    path = tmp_path_factory.mktemp("idx") / "images.gz"
    path.write_bytes(WHOLE[:length])
    with pytest.raises(Refusal):
        read_idx(path, 3)


@settings(max_examples=60, deadline=None)
@given(at=st.integers(10, len(WHOLE) - 1), value=st.integers(1, 255))
def test_a_changed_byte_never_changes_a_pixel(tmp_path_factory: pytest.TempPathFactory, at: int, value: int) -> None:
    path = tmp_path_factory.mktemp("idx") / "images.gz"
    path.write_bytes(WHOLE[:at] + bytes([WHOLE[at] ^ value]) + WHOLE[at + 1 :])
    try:
        found = read_idx(path, 3)
    except Refusal:
        return
    assert np.array_equal(found, PIXELS)  # gzip pads with bits that mean nothing


@pytest.mark.parametrize(
    "unpacked",
    [
        b"\0\0\x0d\x03" + struct.pack(">3I", 1, 1, 1) + b"\0",
        idx(np.zeros((2, 2), np.uint8)),
        idx(np.zeros((2, 2, 2), np.uint8)) + b"\0",
        b"\0\0\x08\x03" + struct.pack(">3I", 2**31, 2**31, 2**31),
    ],
    ids=["reals", "two dimensions", "a byte too many", "larger than memory"],
)
def test_other_contents_are_no_idx(tmp_path: Path, unpacked: bytes) -> None:
    (tmp_path / "images.gz").write_bytes(gzip.compress(unpacked))
    with pytest.raises(Refusal):
        read_idx(tmp_path / "images.gz", 3)


@pytest.mark.parametrize("content", [b"", b"\0\0\x08\x03 not gzipped"], ids=["empty", "not gzipped"])
def test_other_files_are_no_idx(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "images.gz").write_bytes(content)
    with pytest.raises(Refusal):
        read_idx(tmp_path / "images.gz", 3)


def test_images_and_labels_must_be_as_many(tmp_path: Path) -> None:
    fashion(tmp_path)
    (tmp_path / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(np.zeros(19, np.uint8))))
    with pytest.raises(Refusal, match=r"one label per input .*20.* got 19"):
        load("fashion-mnist", root=tmp_path)


def test_labels_must_be_classes(tmp_path: Path) -> None:
    fashion(tmp_path)
    (tmp_path / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(np.full(20, 10, np.uint8))))
    with pytest.raises(Refusal, match="0 to 9"):
        load("fashion-mnist", root=tmp_path)


# ---------------------------------------------------------------- CIFAR


def python2(value: Any) -> bytes:
    """The opcodes of Python 2's pickle, protocol 2, for what CIFAR's files hold."""
    if isinstance(value, str | bytes):
        data = value if isinstance(value, bytes) else value.encode()
        return b"T" + struct.pack("<i", len(data)) + data
    if isinstance(value, bool) or value is None:
        return {True: b"\x88", False: b"\x89", None: b"N"}[value]
    if isinstance(value, int):
        return b"J" + struct.pack("<i", value)
    if isinstance(value, list):
        return b"](" + b"".join(map(python2, value)) + b"e"
    if isinstance(value, tuple):
        return b"(" + b"".join(map(python2, value)) + b"t"
    if isinstance(value, dict):
        return b"}(" + b"".join(python2(k) + python2(v) for k, v in value.items()) + b"u"
    made = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n" + python2((0,)) + python2("b") + b"tR"
    kind = b"cnumpy\ndtype\n" + python2(("u1", 0, 1)) + b"R" + python2((3, "|", None, None, None, -1, -1, 0)) + b"b"
    return made + b"(" + python2(1) + python2(value.shape) + kind + python2(False) + python2(value.tobytes()) + b"tb"


def rows(n: int) -> np.ndarray:
    return RNG.integers(0, 256, (n, 3072), dtype=np.uint8)


def write_pickle(path: Path, value: Any, writer: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"\x80\x02" + python2(value) + b"." if writer == "python 2" else pickle.dumps(value, protocol=2))


def as_images(pixels: np.ndarray) -> np.ndarray:
    """CIFAR's rows: 1,024 red values, then green, then blue, each row by row."""
    return np.stack([row.reshape(3, 32, 32) for row in pixels])


@pytest.mark.parametrize("writer", ["python 2", "python 3"])
def test_cifar10_from_python_batches(tmp_path: Path, writer: str) -> None:
    folder = tmp_path / "cifar-10-batches-py"
    batches = {f"data_batch_{i}": rows(4) for i in range(1, 6)} | {"test_batch": rows(10)}
    for name, pixels in batches.items():
        labels = [i % 10 for i in range(len(pixels))]
        names = [f"{i}.png".encode() for i in range(len(pixels))]
        found = {b"batch_label": name.encode(), b"labels": labels, b"data": pixels, b"filenames": names}
        write_pickle(folder / name, found, writer)
    write_pickle(folder / "batches.meta", {b"label_names": [f"kind {k}".encode() for k in range(10)]}, writer)
    data = load("cifar10", root=tmp_path)
    expected = np.concatenate([as_images(batches[f"data_batch_{i}"]) for i in range(1, 6)])
    assert np.array_equal(data.train.inputs.numpy(), expected)
    assert np.array_equal(data.test.inputs.numpy(), as_images(batches["test_batch"]))
    assert data.train.labels.tolist() == [0, 1, 2, 3] * 5
    assert data.train.classes == tuple(f"kind {k}" for k in range(10))
    assert data.augment == Augment(crop=4, flip=True)


def test_cifar100_takes_the_fine_labels(tmp_path: Path) -> None:
    for name, n in (("train", 6), ("test", 3)):
        value = {b"fine_labels": [99 - i for i in range(n)], b"coarse_labels": [1] * n, b"data": rows(n)}
        write_pickle(tmp_path / "cifar-100-python" / name, value, "python 2")
    data = load("cifar100", root=tmp_path)
    assert data.train.labels.tolist() == [99, 98, 97, 96, 95, 94]
    assert len(data.train.classes) == 100


def test_cifar10_binary(tmp_path: Path) -> None:
    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    files = {name: rows(3) for name in [*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"]}
    for name, pixels in files.items():
        (folder / name).write_bytes(b"".join(bytes([7 + i]) + row.tobytes() for i, row in enumerate(pixels)))
    data = load("cifar10", root=tmp_path)
    assert data.train.labels.tolist() == [7, 8, 9] * 5
    assert np.array_equal(data.test.inputs.numpy(), as_images(files["test_batch.bin"]))
    (folder / "test_batch.bin").write_bytes((folder / "test_batch.bin").read_bytes()[:-1])
    with pytest.raises(Refusal, match="cut"):
        load("cifar10", root=tmp_path)


def test_cifar100_binary_has_the_coarse_label_first(tmp_path: Path) -> None:
    folder = tmp_path / "cifar-100-binary"
    folder.mkdir()
    pixels = rows(2)
    for name in ("train.bin", "test.bin"):
        (folder / name).write_bytes(b"".join(bytes([3, 42 + i]) + row.tobytes() for i, row in enumerate(pixels)))
    data = load("cifar100", root=tmp_path)
    assert data.train.labels.tolist() == [42, 43]
    assert np.array_equal(data.train.inputs.numpy(), as_images(pixels))


def png(pixels: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels.transpose(1, 2, 0)).save(out, "PNG")
    return out.getvalue()


def write_parquet(path: Path, images: np.ndarray, labels: list[int], image: str, label: str) -> None:
    arrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    path.parent.mkdir(parents=True, exist_ok=True)
    names = {"info": {"features": {label: {"names": [f"kind {k}" for k in range(100)], "_type": "ClassLabel"}}}}
    table = arrow.table({image: [{"bytes": png(one), "path": "a.png"} for one in images], label: labels})
    parquet.write_table(table.replace_schema_metadata({"huggingface": json.dumps(names)}), path)


@pytest.mark.parametrize(
    ("name", "folder", "image", "label"),
    [("cifar10", "cifar10-jpeg", "img", "label"), ("cifar100", "cifar100", "image", "fine_label")],
)
def test_cifar_from_hugging_face_parquet(tmp_path: Path, name: str, folder: str, image: str, label: str) -> None:
    pixels = as_images(rows(8))
    write_parquet(tmp_path / folder / "train-00000-of-00002.parquet", pixels[:3], [1, 2, 3], image, label)
    write_parquet(tmp_path / folder / "train-00001-of-00002.parquet", pixels[3:6], [4, 5, 6], image, label)
    write_parquet(tmp_path / folder / "test-00000-of-00001.parquet", pixels[6:], [0, 9], image, label)
    data = load(name, root=tmp_path)
    assert np.array_equal(data.train.inputs.numpy(), pixels[:6])
    assert data.train.labels.tolist() == [1, 2, 3, 4, 5, 6]
    assert np.array_equal(data.test.inputs.numpy(), pixels[6:])
    assert data.train.classes[3] == "kind 3"
    (tmp_path / folder / "train-00001-of-00002.parquet").write_bytes(b"PAR1 not quite PAR1")
    with pytest.raises(Refusal, match="train-00001"):
        load(name, root=tmp_path)


def test_an_absent_cifar_names_the_places(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="cifar-100-python"):
        load("cifar100", root=tmp_path)


# ---------------------------------------------------------------- pickles with code in them


class Evil:
    """Pickles to a call; whether it was called shows in a file."""

    def __init__(self, call: Any, *arguments: Any) -> None:
        self.call, self.arguments = call, arguments

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.call, self.arguments


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_a_pickle_with_code_in_it_does_nothing_and_is_refused(tmp_path: Path, protocol: int) -> None:
    import os

    for number, evil in enumerate(
        [
            Evil(os.system, f"touch {tmp_path}/was-here"),
            Evil(exec, f"open({str(tmp_path / 'was-here')!r}, 'w')"),
            Evil(Path(tmp_path / "was-here").write_text, "x"),
            Evil(np.save, str(tmp_path / "was-here"), [1]),
            Evil(getattr, os, "system"),
        ]
    ):
        path = tmp_path / f"batch-{number}"
        try:
            path.write_bytes(pickle.dumps({b"data": evil}, protocol=protocol))
        except (pickle.PicklingError, TypeError):  # modules can't be pickled
            continue
        with pytest.raises(Refusal, match="fetch the data set again"):
            read_pickle(path)
    assert not list(tmp_path.glob("was-here*"))


BATCH = b"\x80\x02" + python2({"labels": [1, 2], "data": rows(2)}) + b"."


@settings(max_examples=40, deadline=None)
@given(length=st.integers(0, len(BATCH) - 1))
def test_any_part_of_a_batch_is_refused(tmp_path_factory: pytest.TempPathFactory, length: int) -> None:
    path = tmp_path_factory.mktemp("cifar") / "data_batch_1"
    path.write_bytes(BATCH[:length])
    with pytest.raises(Refusal):
        read_pickle(path)


@pytest.mark.parametrize(
    "value",
    [
        [1, 2],
        {"labels": [1, 2]},
        {"labels": [1, 2], "data": [1, 2]},
        {"labels": [1, 2], "data": np.zeros((2, 10), np.uint8)},
        {"labels": [1], "data": np.zeros((2, 3072), np.uint8)},
        {"labels": ["a", "b"], "data": np.zeros((2, 3072), np.uint8)},
        {"data": np.zeros((2, 3072), np.uint8)},
        {"labels": [1, 10], "data": np.zeros((2, 3072), np.uint8)},
    ],
)
def test_batches_that_hold_something_else_are_refused(tmp_path: Path, value: Any) -> None:
    for name in [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]:
        write_pickle(tmp_path / "cifar-10-batches-py" / name, value, "python 2")
    with pytest.raises(Refusal):
        load("cifar10", root=tmp_path)


# ---------------------------------------------------------------- CMU faces


def face(white: int, seed: int) -> tuple[bytes, np.ndarray]:
    values = np.random.default_rng(seed).integers(0, white + 1, (120, 128))
    lines = "\n".join(" ".join(map(str, row)) for row in values)
    return f"P2\n# a comment 1 2 3\n128 120\n{white}\n{lines}\n".encode(), values


def faces(folder: Path, people: int = 5) -> dict[str, tuple[int, np.ndarray]]:
    made = {}
    for number in range(people):
        person = f"p{number}"
        (folder / person).mkdir(parents=True)
        for pose, expression, eyes in (
            ("left", "sad", "open"),
            ("up", "happy", "sunglasses"),
            ("straight", "angry", "open"),
        ):
            stem = f"{person}_{pose}_{expression}_{eyes}"
            white = 100 + number
            data, values = face(white, len(made))
            (folder / person / f"{stem}.pgm").write_bytes(data)
            (folder / person / f"{stem}_2.pgm").write_bytes(b"half size, not read")
            made[stem] = (white, values)
    return made


def test_faces_by_pose_with_people_as_groups(tmp_path: Path) -> None:
    made = faces(tmp_path / "cmu-faces")
    data = load("cmu-faces", root=tmp_path)
    assert data.train.classes == ("straight", "left", "right", "up")
    assert data.train.groups is not None
    assert data.test.groups is not None
    assert set(data.train.groups.tolist()) == {"p0", "p1", "p2", "p3"}
    assert set(data.test.groups.tolist()) == {"p4"}
    for image, label, name in zip(data.train.inputs, data.train.labels, data.train.ids.tolist()):
        white, values = made[name]
        assert np.array_equal(image[0].numpy(), np.rint(values / white * 255))
        assert name.split("_")[1] == data.train.classes[int(label)]
    assert data.augment is None


def test_faces_by_all_labels_at_once(tmp_path: Path) -> None:
    faces(tmp_path / "cmu-faces")
    data = load("cmu-faces", root=tmp_path, task="all")
    for labels, name in zip(data.train.labels, data.train.ids.tolist()):
        _, pose, expression, eyes = name.split("_")
        told = {data.train.classes[k] for k in labels.nonzero()[:, 0]}
        assert told == {pose, expression, eyes} - {"open"}


def test_smaller_faces_are_block_means(tmp_path: Path) -> None:
    faces(tmp_path / "cmu-faces")
    whole, small = (load(spec, root=tmp_path).train.inputs for spec in ("cmu-faces", "cmu-faces:size=32"))
    assert small.shape[1:] == (1, 30, 32)
    torch.testing.assert_close(small.float(), torch.nn.functional.avg_pool2d(whole.float(), 4), rtol=0, atol=0.51)


def test_a_plain_pgm_reads_as_pillow_reads_it() -> None:
    from unteach.data.images import decode

    for white in (1, 100, 139, 255):
        data, _ = face(white, white)
        assert np.array_equal(decode(data, "it")[0], np.asarray(Image.open(io.BytesIO(data)).convert("L")))


def test_faces_that_can_not_be_right(tmp_path: Path) -> None:
    faces(tmp_path / "cmu-faces")
    odd = tmp_path / "cmu-faces" / "p0" / "p0_left_bored_open.pgm"
    odd.write_bytes(face(9, 0)[0])
    with pytest.raises(Refusal, match="p0_left_bored_open"):
        load("cmu-faces", root=tmp_path)
    odd.unlink()
    cut = tmp_path / "cmu-faces" / "p0" / "p0_left_sad_open.pgm"
    cut.write_bytes(cut.read_bytes()[:-200])
    with pytest.raises(Refusal, match="p0_left_sad_open"):
        load("cmu-faces", root=tmp_path)


# ---------------------------------------------------------------- all of them


def test_digits_are_scaled_whole_and_the_same_every_time() -> None:
    from sklearn.datasets import load_digits

    data = load("digits")
    assert len(data.train) + len(data.test) == 1797
    assert data.train.inputs.shape[1:] == (1, 8, 8)
    source = load_digits().images
    for part in (data.train, data.test):
        expected = np.rint(source[part.ids.astype(int)] * 255 / 16)
        assert np.array_equal(part.inputs[:, 0].numpy(), expected)
    assert not set(data.train.ids.tolist()) & set(data.test.ids.tolist())
    shares = torch.bincount(data.test.labels) / (torch.bincount(data.test.labels) + torch.bincount(data.train.labels))
    torch.testing.assert_close(shares, torch.full((10,), 0.2), atol=0.01, rtol=0)
    assert data.fingerprint == load("digits").fingerprint


def test_the_fingerprint_sees_both_parts() -> None:
    data = load("digits")
    other = DataSet("digits", data.train, data.test.take(range(1, len(data.test))))
    swapped = DataSet("digits", data.test, data.train)
    assert len({data.fingerprint, other.fingerprint, swapped.fingerprint}) == 3


@pytest.mark.parametrize(
    ("spec", "options", "says"),
    [
        ("mnist", {}, "fashion-mnist"),
        ("", {}, "digits"),
        ("npz", {}, "npz:PATH"),
        ("folder:", {}, "folder:PATH"),
        ("digits:big", {}, "leave out"),
        ("digits", {"task": "pose"}, "no task"),
        ("digits", {"test_share": 1.0}, "between 0 and 1"),
        ("cmu-faces", {"task": "age"}, "pose, expression, eyes, all"),
        ("cmu-faces:size=5", {}, "size=64"),
        ("cmu-faces", {"root": Path("/nowhere/at/all")}, "/nowhere/at/all/cmu-faces"),
    ],
)
def test_specs_that_can_not_be_right(spec: str, options: dict[str, Any], says: str) -> None:
    with pytest.raises(Refusal, match=says):
        load(spec, **options)


def test_every_reader_says_what_it_reads_in_a_line() -> None:
    for name, reader in DATA.items():
        first = (reader.__doc__ or "").partition("\n")[0]
        assert 20 < len(first) < 125, name
        assert first.endswith((".", ",")) or "(" in first, name


def test_what_is_left_is_read_once_for_the_same_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    data = load("digits")
    gone = data.train.ids[:3].tolist()
    expected = data.without(gone).fingerprint
    reads: list[int] = []
    whole = Examples.fingerprint
    monkeypatch.setattr(Examples, "fingerprint", lambda examples: reads.append(len(examples)) or whole(examples))
    found = {data.fingerprint_without(names) for names in (gone, gone[::-1], tuple(gone))}
    assert found == {expected}
    assert reads.count(len(data.train) - 3) == 1
    assert data.fingerprint_without(gone[:1]) != expected
