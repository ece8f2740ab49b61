"""Tiny-ImageNet on files in exactly its layouts: the official folders, val sorted into classes, Hugging Face's Parquet."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from unteach.data import load
from unteach.data.augment import Augment
from unteach.types import Refusal

WNIDS = ("n02124075", "n01443537", "n04067472")  # as in the file, which is in no order
RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def _nothing_on_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("UNTEACH_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def jpeg(grey: bool = False) -> bytes:
    small = Image.fromarray(RNG.integers(0, 256, (4, 4, 3), dtype=np.uint8))
    out = io.BytesIO()
    small.resize((64, 64)).convert("L" if grey else "RGB").save(out, "JPEG")
    return out.getvalue()


def official(top: Path, per_class: int = 3, per_test: int = 2) -> dict[str, bytes]:
    """The folders as the archive has them; every first image of a class is grey."""
    folder, images = top / "tiny-imagenet-200", {}
    for wnid in WNIDS:
        (folder / "train" / wnid / "images").mkdir(parents=True)
        names = [f"{wnid}_{i}" for i in range(per_class)]
        for i, name in enumerate(names):
            images[name] = jpeg(grey=i == 0)
            (folder / "train" / wnid / "images" / f"{name}.JPEG").write_bytes(images[name])
        boxes = "".join(f"{name}.JPEG\t0\t0\t63\t63\n" for name in names)
        (folder / "train" / wnid / f"{wnid}_boxes.txt").write_text(boxes)
    (folder / "val" / "images").mkdir(parents=True)
    lines = []
    for i in range(per_test * len(WNIDS)):
        images[f"val_{i}"] = jpeg()
        (folder / "val" / "images" / f"val_{i}.JPEG").write_bytes(images[f"val_{i}"])
        lines.append(f"val_{i}.JPEG\t{WNIDS[i % len(WNIDS)]}\t0\t32\t44\t62\n")
    (folder / "val" / "val_annotations.txt").write_text("".join(lines))
    (folder / "test" / "images").mkdir(parents=True)
    (folder / "test" / "images" / "test_0.JPEG").write_bytes(jpeg())
    (folder / "wnids.txt").write_text("\n".join(WNIDS))
    (folder / "words.txt").write_text(
        "n00001740\tentity\nn01443537\tgoldfish, Carassius auratus\nn02124075\tEgyptian cat\nn04067472\treel\nn9\treel\n"
    )
    return images


def as_pixels(image: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(image)).convert("RGB")).transpose(2, 0, 1)


def test_the_official_folders(tmp_path: Path) -> None:
    images = official(tmp_path)
    data = load("tiny-imagenet", root=tmp_path)
    assert data.train.classes == ("goldfish", "Egyptian cat", "reel")
    order = sorted(WNIDS)
    assert data.train.ids.tolist() == [f"{wnid}_{i}" for wnid in order for i in range(3)]
    assert data.train.labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert data.augment == Augment(crop=4, flip=True)
    annotated = {f"val_{i}": order.index(WNIDS[i % 3]) for i in range(6)}
    assert dict(zip(data.test.ids.tolist(), data.test.labels.tolist())) == annotated
    for part in (data.train, data.test):
        for name, pixels in zip(part.ids.tolist(), part.inputs.numpy()):
            assert np.array_equal(pixels, as_pixels(images[name]))


def test_val_sorted_into_classes_by_whoever_unpacked_it(tmp_path: Path) -> None:
    official(tmp_path)
    as_it_was = load("tiny-imagenet", root=tmp_path)
    val = tmp_path / "tiny-imagenet-200" / "val"
    for line in (val / "val_annotations.txt").read_text().splitlines():
        name, wnid = line.split("\t")[:2]
        (val / wnid / "images").mkdir(parents=True, exist_ok=True)
        (val / "images" / name).rename(val / wnid / "images" / name)
    (val / "images").rmdir()
    assert load("tiny-imagenet", root=tmp_path).fingerprint == as_it_was.fingerprint


@pytest.mark.parametrize(
    "words", [None, "n01443537\treel\nn04067472\treel, spool\n"], ids=["no words", "one word twice"]
)
def test_classes_without_a_word_of_their_own_keep_their_number(tmp_path: Path, words: str | None) -> None:
    official(tmp_path)
    path = tmp_path / "tiny-imagenet-200" / "words.txt"
    path.unlink()
    if words is not None:
        path.write_text(words)
    assert load("tiny-imagenet", root=tmp_path).train.classes == tuple(sorted(WNIDS))


def test_parquet_of_the_hub(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    images = [jpeg(grey=i == 1) for i in range(5)]
    told = {
        "info": {"features": {"label": {"names": sorted(WNIDS), "_type": "ClassLabel"}, "image": {"_type": "Image"}}}
    }
    (tmp_path / "tiny-imagenet" / "data").mkdir(parents=True)
    for name, rows in (
        ("train-00000-of-00001-1359597a978bc4fa", [0, 1, 2]),
        ("valid-00000-of-00001-70d52db3c749a935", [3, 4]),
    ):
        table = arrow.table(
            {"image": [{"bytes": images[i], "path": None} for i in rows], "label": [i % 3 for i in rows]}
        )
        table = table.replace_schema_metadata({"huggingface": json.dumps(told)})
        parquet.write_table(table, tmp_path / "tiny-imagenet" / "data" / f"{name}.parquet")
    data = load("tiny-imagenet", root=tmp_path)
    assert data.train.classes == tuple(sorted(WNIDS))
    assert data.train.labels.tolist() == [0, 1, 2]
    assert data.test.labels.tolist() == [0, 1]
    assert np.array_equal(data.train.inputs.numpy(), np.stack([as_pixels(image) for image in images[:3]]))


def missing_train(top: Path) -> str:
    (top / "train" / WNIDS[0] / "images" / f"{WNIDS[0]}_1.JPEG").unlink()
    return f"{WNIDS[0]}_1.JPEG"


def missing_val(top: Path) -> str:
    (top / "val" / "images" / "val_4.JPEG").unlink()
    return r"val_4\.JPEG"


def missing_class(top: Path) -> str:
    for file in sorted((top / "train" / WNIDS[1]).rglob("*"), reverse=True):
        file.rmdir() if file.is_dir() else file.unlink()
    return "none; unpack"


def cut_image(top: Path) -> str:
    path = top / "train" / WNIDS[0] / "images" / f"{WNIDS[0]}_2.JPEG"
    path.write_bytes(path.read_bytes()[:200])
    return f"{WNIDS[0]}_2"


def unknown_class(top: Path) -> str:
    path = top / "val" / "val_annotations.txt"
    path.write_text(path.read_text().replace("val_1.JPEG\tn01443537", "val_1.JPEG\tn99999999"))
    return "wnids.txt"


def no_val(top: Path) -> str:
    (top / "val" / "val_annotations.txt").unlink()
    return "val"


def other_size(top: Path) -> str:
    path = top / "train" / WNIDS[1] / "images" / f"{WNIDS[1]}_0.JPEG"
    Image.new("RGB", (32, 64)).save(path)
    return "one size"


def no_text(top: Path) -> str:
    (top / "wnids.txt").write_bytes(b"\xff\xfe\x00")
    return "wnids.txt"


@pytest.mark.parametrize(
    "damage",
    [missing_train, missing_val, missing_class, cut_image, unknown_class, no_val, other_size, no_text],
    ids=lambda damage: damage.__name__,
)
def test_folders_that_can_not_be_right(tmp_path: Path, damage: object) -> None:
    official(tmp_path)
    says = damage(tmp_path / "tiny-imagenet-200")  # type: ignore[operator]
    with pytest.raises(Refusal, match=says):
        load("tiny-imagenet", root=tmp_path)


def test_absent_files_name_the_ways_out(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match=r"tiny-imagenet-200.*--download"):
        load("tiny-imagenet", root=tmp_path)
