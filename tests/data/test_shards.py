"""WebDataset shards, written here with tarfile in the layout that WebDataset's writers leave."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from unteach.data import load
from unteach.data.shards import braces
from unteach.types import Refusal

RNG = np.random.default_rng(0)


def png(size: int = 8, grey: bool = False) -> bytes:
    out = io.BytesIO()
    Image.fromarray(RNG.integers(0, 256, (size, size) if grey else (size, size, 3), dtype=np.uint8)).save(out, "PNG")
    return out.getvalue()


def pixels(image: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(image))).transpose(2, 0, 1)


def shard(path: Path, members: dict[str, bytes], *, link: str | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as out:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            out.addfile(entry, io.BytesIO(content))
        if link:
            entry = tarfile.TarInfo("9.png")
            entry.type, entry.linkname = tarfile.SYMTYPE, link
            out.addfile(entry)


def by_cls(start: int, n: int, **options: Any) -> dict[str, bytes]:
    members = {}
    for i in range(start, start + n):
        members |= {f"s{i:04d}.png": png(**options), f"s{i:04d}.cls": f"{i % 3}\n".encode()}
    return members


def by_json(start: int, n: int) -> dict[str, bytes]:
    members = {}
    for i in range(start, start + n):
        told = {"label": "cat" if i % 2 else "dog", "person": f"p{i // 2}", "age": i, "tags": [i % 2, 1]}
        members |= {
            f"./in/{i}.json": json.dumps(told).encode(),
            f"./in/{i}.left.PNG": png(),
            f"./in/{i}.right.png": png(),
        }
    return members


def test_shards_by_a_pattern(tmp_path: Path) -> None:
    members = [by_cls(0, 4), by_cls(4, 4)]
    for number, some in enumerate(members):
        shard(tmp_path / f"train-{number:03d}.tar", some)
    shard(tmp_path / "val-0.tar", by_cls(0, 3))
    data = load(f"wds:{tmp_path}/train-{{000..001}}.tar?test=val-{{0..0}}.tar")
    assert data.train.ids.tolist() == [f"s{i:04d}" for i in range(8)]
    assert data.test.ids.tolist() == [f"test-s{i:04d}" for i in range(3)]
    assert data.train.labels.tolist() == [i % 3 for i in range(8)]
    images = [content for some in members for name, content in some.items() if name.endswith("png")]
    assert np.array_equal(data.train.inputs.numpy(), np.stack([pixels(image) for image in images]))


@pytest.mark.parametrize("layout", ["files", "folders"])
@pytest.mark.parametrize("test", ["test", "val"])
def test_a_folder_of_shards(tmp_path: Path, layout: str, test: str) -> None:
    join = "/" if layout == "folders" else "-"
    shard(tmp_path / f"train{join}0.tar", by_cls(0, 4))
    shard(tmp_path / f"train{join}1.tar", by_cls(4, 2))
    shard(tmp_path / f"{test}{join}0.tar", by_cls(0, 3))
    (tmp_path / "classnames.txt").write_text("ant\nbee\ncat\n")
    data = load(f"wds:{tmp_path}")
    assert (len(data.train), len(data.test)) == (6, 3)
    assert data.train.classes == data.test.classes == ("ant", "bee", "cat")


@pytest.mark.parametrize("name", ["all.tar", "all.tar.gz"])
def test_one_shard_is_held_out_from(tmp_path: Path, name: str) -> None:
    shard(tmp_path / name, by_cls(0, 9))
    data = load(f"wds:{tmp_path}/{name}", test_share=0.3)
    assert (len(data.train), len(data.test)) == (6, 3)


def test_fields_of_json(tmp_path: Path) -> None:
    members = by_json(0, 6)
    shard(tmp_path / "a.tar", members)
    data = load(f"wds:{tmp_path}/a.tar?image=right.png&group=person", test_share=0.3)
    assert sorted([*data.train.ids.tolist(), *data.test.ids.tolist()]) == [f"in/{i}" for i in range(6)]
    assert data.train.classes == ("cat", "dog")
    assert data.train.groups is not None
    number = int(data.train.ids[0].rpartition("/")[2])
    assert data.train.groups[0] == f"p{number // 2}"
    assert np.array_equal(data.train.inputs[0].numpy(), pixels(members[f"./in/{number}.right.png"]))
    kinds = load(f"wds:{tmp_path}/a.tar?image=left.png&kind=person&label=tags").train
    assert kinds.groups is None
    assert kinds.kinds is not None
    assert kinds.labels.ndim == 2


def test_sizes_and_kinds_of_images_are_brought_to_one(tmp_path: Path) -> None:
    shard(tmp_path / "a.tar", by_cls(0, 3) | by_cls(3, 3, size=12) | by_cls(6, 3, grey=True))
    with pytest.raises(Refusal, match="colour=true"):
        load(f"wds:{tmp_path}/a.tar")
    assert load(f"wds:{tmp_path}/a.tar?size=8&colour=true").train.inputs.shape[1:] == (3, 8, 8)


def outside(path: Path) -> str:
    shard(path, by_cls(0, 3) | {"../out.png": png(), "../out.cls": b"0"})
    return "not to be trusted"


def absolute(path: Path) -> str:
    shard(path, by_cls(0, 3) | {"/out.png": png(), "/out.cls": b"0"})
    return "not to be trusted"


def linked(path: Path) -> str:
    shard(path, by_cls(0, 3), link="/etc/passwd")
    return "link"


def cut_between_members(path: Path) -> str:
    shard(path, by_cls(0, 3))
    path.write_bytes(path.read_bytes()[:2048])
    return "cut"


def no_tar(path: Path) -> str:
    path.write_bytes(b"nothing of the kind")
    return "tar"


def empty(path: Path) -> str:
    shard(path, {"README": b"no ending", "._s1.png": b"what a Mac leaves"})
    return "none"


def without_label(path: Path) -> str:
    shard(path, {"1.png": png()})
    return r"'label' in 1\.json"


def without_image(path: Path) -> str:
    shard(path, {"1.cls": b"0"})
    return "one image of 1"


def two_images(path: Path) -> str:
    shard(path, {"1.a.png": png(), "1.b.png": png(), "1.cls": b"0"})
    return r"a\.png, b\.png"


def same_key_again(path: Path) -> str:
    shard(
        path,
        {"1.png": png(), "1.cls": b"0", "2.png": png(), "2.cls": b"1", "1.jpg": png(), "1.txt": b"", "1.json": b"{}"},
    )
    return "label"


def damaged_image(path: Path) -> str:
    shard(path, by_cls(0, 2) | {"2.png": png()[:40], "2.cls": b"0"})
    return "whole image"


def no_json(path: Path) -> str:
    shard(path, {"1.png": png(), "1.json": b"{"})
    return "JSONDecodeError"


def empty_label(path: Path) -> str:
    shard(path, {"1.png": png(), "1.json": b'{"label": null}'})
    return "None"


@pytest.mark.parametrize(
    "make",
    [
        outside,
        absolute,
        linked,
        cut_between_members,
        no_tar,
        empty,
        without_label,
        without_image,
        two_images,
        same_key_again,
        damaged_image,
        no_json,
        empty_label,
    ],
    ids=lambda make: make.__name__,
)
def test_shards_that_can_not_be_right(tmp_path: Path, make: Callable[[Path], str]) -> None:
    says = make(tmp_path / "a.tar")
    with pytest.raises(Refusal, match=says):
        load(f"wds:{tmp_path}/a.tar")
    assert [file.name for file in tmp_path.iterdir()] == ["a.tar"], "nothing is unpacked"


def test_an_id_in_two_shards_is_refused(tmp_path: Path) -> None:
    shard(tmp_path / "0.tar", by_cls(0, 3))
    shard(tmp_path / "1.tar", by_cls(2, 3))
    with pytest.raises(Refusal, match="s0002"):
        load(f"wds:{tmp_path}/{{0..1}}.tar")


@pytest.mark.parametrize(
    ("argument", "says"),
    [
        ("{0..3}.tar", r"2\.tar \(2 missing\)"),
        ("{3..0}.tar", "rises"),
        ("{a,b}.tar", "in braces"),
        ("0.tar?test=9.tar", r"9\.tar"),
        ("0.tar?groups=person", "groups=person"),
        ("none", "none"),
    ],
)
def test_patterns_that_can_not_be_right(tmp_path: Path, argument: str, says: str) -> None:
    for number in range(2):
        shard(tmp_path / f"{number}.tar", by_cls(3 * number, 3))
    with pytest.raises(Refusal, match=says):
        load(f"wds:{tmp_path}/{argument}")


def test_a_folder_without_shards_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match=r"\*\.tar"):
        load(f"wds:{tmp_path}")


@settings(max_examples=60, deadline=None)
@given(low=st.integers(0, 120), count=st.integers(1, 20), width=st.integers(1, 6), twice=st.booleans())
def test_braces_name_what_a_shell_names(low: int, count: int, width: int, twice: bool) -> None:
    first = f"{low:0{width}d}"
    names = [f"a-{k:0{len(first)}d}" for k in range(low, low + count)]
    pattern = f"a-{{{first}..{low + count - 1}}}"
    assert braces(pattern) == names
    if twice:
        assert braces(pattern + "-{0..1}.tar") == [f"{name}-{k}.tar" for name in names for k in (0, 1)]
    assert braces("plain.tar") == ["plain.tar"]
