"""Hugging Face data sets on disk, in the files that ``datasets`` 5.2 writes, and options after paths."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from unteach.data import load
from unteach.data.places import with_options
from unteach.types import Refusal

arrow = pytest.importorskip("pyarrow")
RNG = np.random.default_rng(0)
FEATURES = {
    "photo": {"_type": "Image"},
    "animal": {"names": ["cat", "dog"], "_type": "ClassLabel"},
    "owner": {"dtype": "string", "_type": "Value"},
    "number": {"dtype": "string", "_type": "Value"},
}


def png(pixels: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def table(n: int, start: int = 0, sizes: tuple[int, ...] = (8,), features: dict[str, Any] = FEATURES) -> Any:
    rows = range(start, start + n)
    images = [RNG.integers(0, 256, (sizes[i % len(sizes)], 8, 3), dtype=np.uint8) for i in rows]
    columns = {
        "photo": [{"bytes": png(image), "path": None} for image in images],
        "animal": [i % 2 for i in rows],
        "owner": [f"p{i // 2}" for i in rows],
        "number": [f"no-{i}" for i in rows],
    }
    made = arrow.table({name: columns[name] for name in columns if name in features})
    return made.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})


def stream(path: Path, rows: Any) -> None:
    with arrow.OSFile(str(path), "wb") as out, arrow.ipc.new_stream(out, rows.schema) as writer:
        writer.write_table(rows)


def save(folder: Path, *shards: Any) -> None:
    """What ``Dataset.save_to_disk`` writes."""
    folder.mkdir(parents=True)
    names = [f"data-{i:05d}-of-{len(shards):05d}.arrow" for i in range(len(shards))]
    for name, rows in zip(names, shards):
        stream(folder / name, rows)
    state = {"_data_files": [{"filename": name} for name in names], "_fingerprint": "fcc9c5501800d6c5", "_split": None}
    (folder / "state.json").write_text(json.dumps(state))
    (folder / "dataset_info.json").write_text(json.dumps({"features": FEATURES}))


def save_parts(folder: Path, **parts: Any) -> None:
    """What ``DatasetDict.save_to_disk`` writes."""
    for name, rows in parts.items():
        save(folder / name, rows)
    (folder / "dataset_dict.json").write_text(json.dumps({"splits": list(parts)}))


def photos(rows: Any) -> np.ndarray:
    images = [Image.open(io.BytesIO(row["bytes"])) for row in rows["photo"].to_pylist()]
    return np.stack([np.asarray(image).transpose(2, 0, 1) for image in images])


@pytest.mark.parametrize("test", ["test", "validation", "valid"])
def test_columns_are_found_by_type(tmp_path: Path, test: str) -> None:
    parts = {"train": table(6), test: table(4, start=6)}
    save_parts(tmp_path / "saved", **parts)
    data = load(f"hub:{tmp_path}/saved")
    assert np.array_equal(data.train.inputs.numpy(), photos(parts["train"]))
    assert np.array_equal(data.test.inputs.numpy(), photos(parts[test]))
    assert data.train.labels.tolist() == [0, 1] * 3
    assert data.train.classes == ("cat", "dog")
    assert data.train.ids.tolist() == [str(i) for i in range(6)]
    assert data.test.ids.tolist() == [f"test-{i}" for i in range(4)]
    assert data.train.groups is None


def test_columns_are_named_by_options(tmp_path: Path) -> None:
    save_parts(tmp_path / "saved", train=table(6), extra=table(4, start=6), test=table(2))
    data = load(f"hub:{tmp_path}/saved?group=owner&id=number&test=extra")
    assert data.train.ids.tolist() == [f"no-{i}" for i in range(6)]
    assert data.train.groups is not None
    assert data.train.groups.tolist() == ["p0", "p0", "p1", "p1", "p2", "p2"]
    assert data.test.ids.tolist() == [f"no-{i}" for i in range(6, 10)]
    kinds = load(f"hub:{tmp_path}/saved?kind=owner").train
    assert kinds.groups is None
    assert kinds.kinds is not None
    assert kinds.kinds.tolist() == ["p0", "p0", "p1", "p1", "p2", "p2"]
    by_owner = load(f"hub:{tmp_path}/saved?label=owner&train=extra&test=extra")
    assert by_owner.train.classes == ("p3", "p4")


def test_a_data_set_of_one_part_in_shards_is_held_out_from(tmp_path: Path) -> None:
    save(tmp_path / "saved", table(5), table(5, start=5))
    data = load(f"hub:{tmp_path}/saved?id=number", test_share=0.2)
    assert len(data.train) == 8
    assert sorted([*data.train.ids.tolist(), *data.test.ids.tolist()]) == sorted(f"no-{i}" for i in range(10))


def test_images_of_several_sizes_are_brought_to_one(tmp_path: Path) -> None:
    save_parts(tmp_path / "saved", train=table(4, sizes=(8, 12)), test=table(2, sizes=(10,)))
    with pytest.raises(Refusal, match="size=64"):
        load(f"hub:{tmp_path}/saved")
    assert load(f"hub:{tmp_path}/saved?size=4").train.inputs.shape == (4, 3, 4, 4)


def test_files_of_the_cache(tmp_path: Path) -> None:
    stream(tmp_path / "set-train-00000-of-00002.arrow", table(3))
    stream(tmp_path / "set-train-00001-of-00002.arrow", table(3, start=3))
    stream(tmp_path / "set-test.arrow", table(2))
    stream(tmp_path / "cache-0123456789abcdef.arrow", table(9))
    data = load(f"hub:{tmp_path}?id=number")
    assert data.train.ids.tolist() == [f"no-{i}" for i in range(6)]
    assert len(data.test) == 2


def test_numbers_are_features(tmp_path: Path) -> None:
    rows = arrow.table({"a": [1.0, 2.0, 3.0, 4.0], "b": [4, 3, 2, 1], "label": [0, 0, 1, 1]})
    save(tmp_path / "saved", rows)
    data = load(f"hub:{tmp_path}/saved", test_share=0.5)
    assert data.train.inputs.tolist() == [[1.0, 4.0], [3.0, 2.0]]


def test_what_datasets_itself_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    features = datasets.Features(
        {
            "photo": datasets.Image(),
            "animal": datasets.ClassLabel(names=["cat", "dog"]),
            "owner": datasets.Value("string"),
        }
    )
    images = [Image.fromarray(RNG.integers(0, 256, (8, 8, 3), dtype=np.uint8)) for _ in range(6)]
    rows = {"photo": images, "animal": [0, 1] * 3, "owner": ["a"] * 6}
    whole = datasets.Dataset.from_dict(rows, features=features)
    whole.select([5, 1, 3, 2]).save_to_disk(str(tmp_path / "saved"))
    data = load(f"hub:{tmp_path}/saved?group=owner", test_share=0.5)
    assert len(data.train) + len(data.test) == 4
    assert data.train.classes == ("cat", "dog")


def cut(folder: Path) -> str:
    path = next((folder / "train").glob("*.arrow"))
    path.write_bytes(path.read_bytes()[:-8])
    return "cut"


def cut_in_the_middle(folder: Path) -> str:
    path = next((folder / "train").glob("*.arrow"))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return "cut"


def no_files(folder: Path) -> str:
    next((folder / "train").glob("*.arrow")).unlink()
    return "data-00000"


def no_state(folder: Path) -> str:
    (folder / "train" / "state.json").unlink()
    return "state.json"


def odd_state(folder: Path) -> str:
    (folder / "train" / "state.json").write_text("[1]")
    return "state.json"


def outside(folder: Path) -> str:
    (folder / "train" / "state.json").write_text(json.dumps({"_data_files": [{"filename": "../../etc/passwd"}]}))
    return "not to be trusted"


def nameless(folder: Path) -> str:
    (folder / "train" / "state.json").write_text(json.dumps({"_data_files": [{}]}))
    return "names inside"


def selection(folder: Path) -> str:
    state = json.loads((folder / "train" / "state.json").read_text())
    (folder / "train" / "state.json").write_text(json.dumps(state | {"_indices_data_files": [{"filename": "i.arrow"}]}))
    return "selection"


def odd_splits(folder: Path) -> str:
    (folder / "dataset_dict.json").write_text("{}")
    return "splits"


@pytest.mark.parametrize(
    "damage",
    [cut, cut_in_the_middle, no_files, no_state, odd_state, outside, nameless, selection, odd_splits],
    ids=lambda damage: damage.__name__,
)
def test_files_that_can_not_be_right(tmp_path: Path, damage: Callable[[Path], str]) -> None:
    save_parts(tmp_path / "saved", train=table(6), test=table(4))
    says = damage(tmp_path / "saved")
    with pytest.raises(Refusal, match=says):
        load(f"hub:{tmp_path}/saved")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("?label=breed", r"'breed'.*photo, animal"),
        ("?group=breed", "'breed'"),
        ("?labels=animal", "labels=animal"),
        ("?label=", "with a value"),
        ("?label=animal&label=owner", "once"),
        ("?label", "NAME=VALUE"),
        ("?test=gone", r"'gone'.*train, test"),
        ("?size=big", "whole number"),
        ("?size=0", "1 pixel"),
        ("?colour=yes", "true or false"),
        ("?label=photo", "labels"),
    ],
    ids=lambda value: value.strip("?") if value.startswith("?") else "",
)
def test_options_that_can_not_be_right(tmp_path: Path, options: str, says: str) -> None:
    save_parts(tmp_path / "saved", train=table(6), test=table(4))
    with pytest.raises(Refusal, match=says):
        load(f"hub:{tmp_path}/saved{options}")


def test_two_columns_of_labels_are_a_choice_for_the_user(tmp_path: Path) -> None:
    features = FEATURES | {"owner": {"names": ["p0", "p1", "p2"], "_type": "ClassLabel"}}
    save(tmp_path / "saved", table(6, features=features))
    with pytest.raises(Refusal, match=r"\?label="):
        load(f"hub:{tmp_path}/saved")
    assert load(f"hub:{tmp_path}/saved?label=animal").train.classes == ("cat", "dog")


def test_a_folder_without_arrow_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="save_to_disk"):
        load(f"hub:{tmp_path}")


def test_options_stand_after_the_path() -> None:
    assert with_options("a/b", ("x",)) == ("a/b", {})
    assert with_options("a/b?x=1%202&y=%3F", ("x", "y")) == ("a/b", {"x": "1 2", "y": "?"})
