"""Files made to do harm: pickles with code, archives that lead elsewhere, files that grow, sizes that nothing backs."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import struct
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from fuzz.data_readers import idx, npy, parquet_of, tar_of
from fuzz.edits import SAFETENSORS
from fuzz.hostile import Fault, Files, Target, attempt
from fuzz.model_readers import NETWORK, examples, network, saved, written
from unteach.checkpoint import load, save
from unteach.data import Where, cifar100, fashion_mnist
from unteach.data import load as load_data
from unteach.data.images import decode
from unteach.formats import opened
from unteach.provenance import Provenance
from unteach.references.cache import Cache, Record
from unteach.resume import Resume
from unteach.store import load_tensors
from unteach.types import Refusal


class Code:
    """What a pickle of it runs: a call that leaves a file behind."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.marker,)


def torch_zip(content: bytes) -> bytes:
    """A checkpoint in torch's zip format with this pickle in it."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as made:
        for name, data in {"data.pkl": content, "version": b"3\n", "byteorder": b"little"}.items():
            made.writestr(f"archive/{name}", data)
    return out.getvalue()


def cifar_file(content: Any) -> Files:
    return dict.fromkeys(("train", "test", "meta"), pickle.dumps(content, protocol=2))


def read_resume(path: Path) -> None:
    Resume(path, {}).load(network(), {})


Trap = Callable[[Code], tuple[Files, Callable[[Path], Any]]]
TRAPS: dict[str, Trap] = {
    "plain .pt": lambda code: ({"a.pt": pickle.dumps(code)}, lambda f: opened(f / "a.pt")),
    "zipped .ckpt": lambda code: ({"a.ckpt": saved({"w": code})}, lambda f: opened(f / "a.ckpt")),
    "legacy .pth": lambda code: (
        {"a.pth": saved({"w": code}, _use_new_zipfile_serialization=False)},
        lambda f: load(f / "a.pth", data=examples(), model="mlp"),
    ),
    "beside the weights": lambda code: (
        {"a.pth.tar": saved({"state_dict": network().state_dict(), "args": code})},
        lambda f: load_tensors(f / "a.pth.tar"),
    ),
    "own zip": lambda code: ({"a.pt": torch_zip(pickle.dumps(code))}, lambda f: opened(f / "a.pt")),
    "zip in a zip": lambda code: ({"a.pt": torch_zip(torch_zip(pickle.dumps(code)))}, lambda f: opened(f / "a.pt")),
    "a pickle called safetensors": lambda code: (
        {"a.safetensors": pickle.dumps(code)},
        lambda f: load_tensors(f / "a.safetensors"),
    ),
    "state to go on from": lambda code: (
        {"a.resume": saved({"identity": code})},
        lambda f: read_resume(f / "a.resume"),
    ),
    "CIFAR": lambda code: (cifar_file({b"data": code}), lambda f: cifar100(Where(root=f))),
    "npz": lambda code: (
        written(lambda f: np.savez(f / "a.npz", inputs=np.array([code], dtype=object), labels=np.zeros(1, int))),
        lambda f: load_data(f"npz:{f}/a.npz"),
    ),
    "memmap": lambda code: (
        {"inputs.npy": npy(np.zeros((4, 2))), "labels.npy": npy(np.array([code] * 4, dtype=object), allow_pickle=True)},
        lambda f: load_data(f"memmap:{f}"),
    ),
}


@pytest.mark.parametrize("name", TRAPS)
def test_a_pickle_with_code_does_nothing(name: str, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    files, read = TRAPS[name](Code(marker))
    assert attempt(Target(name, list, read), files, tmp_path) == "refusal"
    assert not marker.exists()
    pickle.loads(pickle.dumps(Code(marker)))
    assert marker.exists(), "the trap would have worked"


@pytest.mark.parametrize("name", ["../out", "/tmp/unteach-out", "a/../../out", "C:\\out"])
def test_no_name_leads_out_of_an_archive(name: str, tmp_path: Path) -> None:
    files = {"train.tar": tar_of({f"{name}.png": b"x", f"{name}.cls": b"0"})}
    assert attempt(Target("tar", list, lambda f: load_data(f"wds:{f}")), files, tmp_path) == "refusal"


@pytest.mark.parametrize("key", ["../../out", "/tmp/out"])
def test_no_record_names_files_outside_the_cache(key: str, tmp_path: Path) -> None:
    (tmp_path / "out.json").write_text("{}")
    cache = Cache(tmp_path / "cache")
    made = Record(key="k", kind="t", data="d", data_fingerprint="ab", network="n", recipe="r", seed=0)
    cache.put(made)
    (path,) = (tmp_path / "cache" / "records").iterdir()
    path.write_text(json.dumps(json.loads(path.read_text()) | {"key": key}))
    assert cache.records() == []


def read_images(folder: Path) -> Any:
    return load_data(f"folder:{folder}")


def test_no_program_draws_an_image() -> None:
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n(x) (w) file\n%%EOF\n"
    with pytest.raises(
        Refusal, match="cannot identify"
    ):  # and is not handed to Ghostscript, whether there is one or not
        decode(eps, "a.png")


def png_of(width: int, height: int) -> bytes:
    """An image of one colour, some kilobytes however large."""
    out = io.BytesIO()
    Image.new("1", (width, height)).save(out, "PNG")
    return out.getvalue()


def zeros(size: int) -> bytes:
    """Some thousandth of so many zeros."""
    out = io.BytesIO()
    with gzip.open(out, "wb") as file:
        for _ in range(size >> 20):
            file.write(bytes(1 << 20))
    return out.getvalue()


def bomb_npz(folder: Path) -> None:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": (4, 1 << 20)})
    with zipfile.ZipFile(folder / "a.npz", "w", zipfile.ZIP_DEFLATED) as made, made.open("inputs.npy", "w") as file:
        file.write(header.getvalue())
        for _ in range(4):
            file.write(bytes(1 << 20))


def test_files_that_grow_are_refused_in_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unteach.data.archives.USUAL", 1 << 20)
    folder = tmp_path / "images"
    for name in ("a/1.png", "a/2.png", "b/1.png", "b/2.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(png_of(9000, 9000))
    with pytest.raises(Refusal, match=r"at most 67,108,864 pixels in .*, got 9,000 × 9,000"):
        read_images(folder)
    content = zeros(4 << 20)
    for part in ("train", "t10k"):
        (tmp_path / f"{part}-images-idx3-ubyte.gz").write_bytes(content)
        (tmp_path / f"{part}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(np.zeros(2, np.uint8))))
    with pytest.raises(Refusal, match=r"to grow to 1,048,576 bytes at most"):
        fashion_mnist(Where(root=tmp_path))
    bomb_npz(tmp_path)
    with pytest.raises(Refusal, match=r"a\.npz .* to grow to"):
        load_data(f"npz:{tmp_path}/a.npz")
    rows = np.zeros(1 << 21, np.int8)
    (tmp_path / "a.parquet").write_bytes(parquet_of({"a": rows, "label": rows}))
    with pytest.raises(Refusal, match=r"a\.parquet .* to grow to"):
        load_data(f"parquet:{tmp_path}/a.parquet")


HUGE = {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}
CLAIMS: dict[str, Callable[[], tuple[Files, Callable[[Path], Any]]]] = {
    "idx": lambda: (
        {"train-images-idx3-ubyte.gz": struct.pack(">4B3I", 0, 0, 8, 3, 2**31, 2**15, 28)}
        | dict.fromkeys(
            ("train-labels-idx1-ubyte.gz", "t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"), idx(np.zeros(2, np.uint8))
        ),
        lambda f: fashion_mnist(Where(root=f)),
    ),
    "npy": lambda: (
        {"inputs.npy": npy(np.zeros((4, 2))).replace(b"(4, 2), ", b"(4, 1099511627776), "), "labels.npy": npy(np.arange(4) % 2)},
        lambda f: load_data(f"memmap:{f}"),
    ),
    "tar": lambda: (
        {"a.tar": tar_of({"a.png": b"x"}).replace(b"00000000001\0", b"77777777777\0")},
        lambda f: load_data(f"wds:{f}"),
    ),
    "safetensors": lambda: (
        {"a.safetensors": SAFETENSORS[1]({"header": {"w": HUGE}, "tensors": "00"})},
        lambda f: load_tensors(f / "a.safetensors"),
    ),
    "memo of a pickle": lambda: (
        dict.fromkeys(("train", "test"), b"\x80\x02}r\xff\xff\xff\x7f."),
        lambda f: cifar100(Where(root=f)),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CLAIMS)
def test_a_size_that_nothing_backs_is_refused(name: str, tmp_path: Path) -> None:
    files, read = CLAIMS[name]()
    assert attempt(Target(name, list, read), files, tmp_path) == "refusal"


def test_a_checkpoint_that_tells_a_network_larger_than_itself(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save(path, network(), Provenance())
    value = SAFETENSORS[0](path.read_bytes())
    told = json.loads(value["header"]["__metadata__"]["unteach"])
    told["blueprint"]["arguments"]["hidden"] = [2**28]
    value["header"]["__metadata__"]["unteach"] = json.dumps(told)
    path.write_bytes(SAFETENSORS[1](value))
    with pytest.raises(Refusal, match="to hold the network that it tells"):
        load(path, data=examples())


@pytest.mark.parametrize("kind", ["sparse", "meta", "complex", "wide", "empty"])
def test_tensors_of_odd_kinds(kind: str, tmp_path: Path) -> None:
    state = dict(network().state_dict())
    name, weight = next(iter(state.items()))
    odd = {
        "sparse": weight.to_sparse(),
        "meta": weight.to("meta"),
        "complex": weight.to(torch.complex64),
        "wide": torch.zeros(1).expand(2**40),
        "empty": torch.zeros(0),
    }
    files = {"a.pt": saved(state | {name: odd[kind]})}

    def read(folder: Path) -> None:
        load(folder / "a.pt", data=examples(), model="mlp", arguments=NETWORK.arguments)

    assert attempt(Target(kind, list, read), files, tmp_path) == "refusal"


def test_the_watch_sees_what_it_should(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    bad: list[Callable[[Path], Any]] = [
        lambda _: (tmp_path / "out").write_text("x"),
        lambda _: subprocess.run(["true"], check=True),
        lambda _: [].pop(),
        lambda _: (_ for _ in ()).throw(Refusal("no")),
        lambda _: bytearray(1 << 40),
    ]
    for read in bad:
        with pytest.raises(Fault):
            attempt(Target("bad", list, read), {"a": b""}, tmp_path / "in")
    assert attempt(Target("good", list, lambda f: (f / "b").write_text("x")), {"a": b""}, tmp_path / "in") == "result"
