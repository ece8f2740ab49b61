"""A user's own data: folders of images, NumPy archives, Parquet tables, and the checks all readers share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from unteach.data import DataSet, checked, hold_out, load
from unteach.types import MultiLabel, Refusal

RNG = np.random.default_rng(0)


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def grey() -> np.ndarray:
    return RNG.integers(0, 256, (5, 4), dtype=np.uint8)


# ---------------------------------------------------------------- folders


def cats_and_dogs(folder: Path, n: int = 5) -> dict[str, np.ndarray]:
    made = {}
    for kind in ("cat", "dog"):
        for i in range(n):
            made[f"{kind}/{i}.png"] = grey()
            save(folder / kind / f"{i}.png", made[f"{kind}/{i}.png"])
        (folder / kind / "notes.txt").write_text("no image")
        (folder / kind / f".{i}.png").write_text("no image either")
    return made


def test_a_folder_with_a_hold_out(tmp_path: Path) -> None:
    made = cats_and_dogs(tmp_path)
    data = load(f"folder:{tmp_path}")
    assert data.train.classes == ("cat", "dog")
    assert torch.bincount(data.train.labels).tolist() == [4, 4]
    assert torch.bincount(data.test.labels).tolist() == [1, 1]
    assert {*data.train.ids.tolist(), *data.test.ids.tolist()} == set(made)
    for part in (data.train, data.test):
        for image, label, name in zip(part.inputs, part.labels, part.ids.tolist()):
            assert np.array_equal(image[0].numpy(), made[name])
            assert name.startswith(part.classes[int(label)])
    assert load(f"folder:{tmp_path}").fingerprint == data.fingerprint
    assert len(load(f"folder:{tmp_path}", test_share=0.4).test) == 4


@pytest.mark.parametrize("test", ["test", "val"])
def test_a_folder_with_its_own_test_part(tmp_path: Path, test: str) -> None:
    cats_and_dogs(tmp_path / "train")
    save(tmp_path / test / "dog" / "deep" / "x.png", grey())
    data = load(f"folder:{tmp_path}")
    assert len(data.train) == 10
    assert data.test.ids.tolist() == [f"{test}/dog/deep/x.png"]
    assert data.test.labels.tolist() == [1]


def test_colour_images_have_three_channels_and_lose_transparency(tmp_path: Path) -> None:
    pixels = RNG.integers(0, 256, (3, 4, 4), dtype=np.uint8)
    for name in ("a/1", "a/2", "b/1", "b/2"):
        save(tmp_path / f"{name}.png", pixels)
    data = load(f"folder:{tmp_path}")
    assert np.array_equal(data.train.inputs[0].numpy(), pixels[:, :, :3].transpose(2, 0, 1))


def bad_folders(top: Path) -> dict[str, str]:
    """What is wrong, and what the refusal must name."""
    for name in ("size", "mode", "corrupt", "foreign", "deep"):
        cats_and_dogs(top / name)
    save(top / "size" / "dog" / "9.png", np.zeros((5, 5), np.uint8))
    save(top / "mode" / "dog" / "9.png", np.zeros((5, 4, 3), np.uint8))
    whole = (top / "corrupt" / "dog" / "3.png").read_bytes()
    (top / "corrupt" / "dog" / "3.png").write_bytes(whole[: len(whole) // 2])
    (top / "foreign" / "cat" / "2.png").write_text("not an image")
    Image.fromarray(np.zeros((5, 4), np.uint16)).save(top / "deep" / "cat" / "2.png")
    (top / "empty").mkdir()
    cats_and_dogs(top / "hollow")
    (top / "hollow" / "eel").mkdir()
    save(top / "single" / "cat" / "1.png", grey())
    cats_and_dogs(top / "strange" / "train")
    save(top / "strange" / "test" / "eel" / "1.png", grey())
    cats_and_dogs(top / "unlike" / "train")
    save(top / "unlike" / "test" / "cat" / "1.png", np.zeros((9, 9), np.uint8))
    cats_and_dogs(top / "alone", n=1)
    return {
        "size": r"cat/0\.png.*dog/9\.png",
        "mode": r"cat/0\.png.*dog/9\.png",
        "corrupt": r"dog/3\.png",
        "foreign": r"cat/2\.png",
        "deep": r"cat/2\.png.*I;16",
        "empty": "at least two",
        "hollow": "none in eel",
        "single": "at least two",
        "strange": "eel",
        "unlike": "test inputs like the training inputs",
        "alone": "two or more examples",
        "absent": "check the path",
    }


def test_folders_that_can_not_be_right(tmp_path: Path) -> None:
    for name, says in bad_folders(tmp_path).items():
        with pytest.raises(Refusal, match=says):
            load(f"folder:{tmp_path / name}")


# ---------------------------------------------------------------- NumPy archives


def archive(path: Path, **arrays: Any) -> str:
    np.savez(path, **arrays)
    return f"npz:{path}"


def test_an_archive_of_images(tmp_path: Path) -> None:
    images = RNG.integers(0, 256, (10, 3, 4, 4), dtype=np.uint8)
    names = [f"n{i}" for i in range(10)]
    spec = archive(
        tmp_path / "a.npz", inputs=images, labels=np.arange(10) % 2, ids=names, groups=["g"] * 10, classes=["no", "yes"]
    )
    data = load(spec)
    assert data.train.classes == ("no", "yes")
    for part in (data.train, data.test):
        rows = [names.index(name) for name in part.ids.tolist()]
        assert np.array_equal(part.inputs.numpy(), images[rows])
        assert part.labels.tolist() == [row % 2 for row in rows]
    assert len(data.train) == 8


def test_an_archive_of_features_with_a_test_part(tmp_path: Path) -> None:
    x = RNG.normal(size=(6, 3))
    spec = archive(tmp_path / "a.npz", x=x, y=[0, 1, 2, 0, 1, 2], test_x=x[:2].astype(">f8"), test_y=[2.0, 0.0])
    data = load(spec)
    torch.testing.assert_close(data.train.inputs, torch.tensor(x, dtype=torch.float32))
    torch.testing.assert_close(data.test.inputs, data.train.inputs[:2])
    assert data.test.labels.tolist() == [2, 0]
    assert data.test.classes == ("0", "1", "2")
    assert data.test.ids.tolist() == ["test-0", "test-1"]


def test_grey_images_without_channels_and_several_labels(tmp_path: Path) -> None:
    y = np.eye(3)[np.arange(6) % 3]
    data = load(archive(tmp_path / "a.npz", x=np.zeros((6, 5, 4), np.uint8), y=y))
    assert data.train.inputs.shape[1:] == (1, 5, 4)
    assert isinstance(data.train.task, MultiLabel)
    assert data.train.labels.dtype == torch.float32


X, Y = np.zeros((4, 2), np.float32), np.array([0, 1, 0, 1])


def with_hole(value: float) -> np.ndarray:
    x = X.copy()
    x[2, 1] = value
    return x


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ({"y": Y}, "inputs or x"),
        ({"x": X}, "labels or y"),
        ({"x": X, "y": Y, "test_x": X}, "test_labels or test_y"),
        ({"x": X, "y": Y, "test_y": Y}, "test_inputs or test_x"),
        ({"x": X, "y": Y, "test_x": X[:, :1], "test_y": Y}, "like the training inputs"),
        ({"x": X, "y": Y, "test_x": X, "test_y": np.eye(4)[:, :2]}, "like the training inputs"),
        ({"x": X, "y": Y, "test_x": X, "test_y": Y + 1}, "labels of 0 to 1"),
        ({"x": with_hole(np.nan), "y": Y}, r"nan in row 2 at \(1,\)"),
        ({"x": with_hole(-np.inf), "y": Y}, r"-inf in row 2 at \(1,\)"),
        ({"x": np.full((4, 2), 1e300), "y": Y}, "finite"),
        ({"x": X[:, :, None, None] - 1, "y": Y}, "0–1"),
        ({"x": X[:, :, None, None] + 255, "y": Y}, "0–1"),
        ({"x": X.astype(str), "y": Y}, "numbers"),
        ({"x": X.astype(complex), "y": Y}, "numbers"),
        ({"x": X[:, 0], "y": Y}, "n × features"),
        ({"x": X[:0], "y": Y[:0]}, "at least one"),
        ({"x": X[:, :0], "y": Y}, "at least one"),
        ({"x": X, "y": Y[:3]}, "one label per input .*4.* got 3"),
        ({"x": X, "y": Y - 1}, "got -1 to 0"),
        ({"x": X, "y": Y + 10**9}, "labels of 0 to 3"),
        ({"x": X, "y": Y, "classes": ["only"]}, "labels of 0 to 0"),
        ({"x": X, "y": Y, "classes": ["same", "same"]}, "rename"),
        ({"x": X, "y": Y, "classes": "word"}, "list of class names"),
        ({"x": X, "y": Y + 0.5}, "whole numbers"),
        ({"x": X, "y": np.array([0, 1, np.nan, 0])}, "whole numbers"),
        ({"x": X, "y": Y.astype(str)}, "numbers"),
        ({"x": X, "y": np.full((4, 3), 2)}, "0 and 1"),
        ({"x": X, "y": np.eye(4), "classes": ["a", "b"]}, "class names"),
        ({"x": X, "y": Y, "ids": ["a", "b", "a", "c"]}, "'a' more than once"),
        ({"x": X, "y": Y, "ids": ["a", "b"]}, "ids per input"),
        ({"x": X, "y": Y, "ids": ["a", "b", "", "c"]}, "fit on a line"),
        ({"x": X, "y": Y, "ids": ["a", "b", "#c", "d"]}, "'#c'"),
        ({"x": X, "y": Y, "groups": [["a"]] * 4}, "groups per input"),
        ({"x": X, "y": np.array([object()] * 4)}, "without objects"),
    ],
)
def test_archives_that_can_not_be_right(tmp_path: Path, arrays: dict[str, Any], says: str) -> None:
    with pytest.raises(Refusal, match=says):
        load(archive(tmp_path / "a.npz", **arrays))


def test_files_that_are_no_archive(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "whole.npz", x=RNG.normal(size=(40, 3)), y=np.arange(40) % 2)
    whole = (tmp_path / "whole.npz").read_bytes()
    np.save(tmp_path / "single.npy", X)
    contents = {
        "empty": b"",
        "text": b"hello",
        "single": (tmp_path / "single.npy").read_bytes(),
        "zip": b"PK\x05\x06" + bytes(18),
    }
    contents |= {f"cut {n}": whole[:n] for n in range(1, len(whole), 97)}
    for name, content in contents.items():
        (tmp_path / "a.npz").write_bytes(content)
        with pytest.raises(Refusal):
            load(f"npz:{tmp_path / 'a.npz'}")
        assert name
    with pytest.raises(Refusal, match="no such file"):
        load(f"npz:{tmp_path / 'absent.npz'}")


# ---------------------------------------------------------------- Parquet tables


def table(path: Path, columns: dict[str, Any]) -> None:
    arrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(arrow.table(columns), path)


def pictures(n: int, folder: Path) -> tuple[np.ndarray, list[bytes]]:
    pixels = np.stack([grey() for _ in range(n)])
    for i, one in enumerate(pixels):
        save(folder / f"{i}.png", one)
    return pixels, [(folder / f"{i}.png").read_bytes() for i in range(n)]


@pytest.mark.parametrize("struct", [False, True])
def test_a_table_of_images_with_named_classes(tmp_path: Path, struct: bool) -> None:
    pixels, encoded = pictures(10, tmp_path / "png")
    column = [{"bytes": data, "path": None} for data in encoded] if struct else encoded
    rows = {
        "image": column,
        "label": ["no", "yes"] * 5,
        "id": [100 + i for i in range(10)],
        "group": list("aabbccddee"),
    }
    table(tmp_path / "a.parquet", rows)
    data = load(f"parquet:{tmp_path / 'a.parquet'}")
    assert data.train.classes == ("no", "yes")
    assert data.train.groups is not None
    for part in (data.train, data.test):
        at = part.ids.astype(int) - 100
        assert np.array_equal(part.inputs[:, 0].numpy(), pixels[at])
        assert part.labels.tolist() == (at % 2).tolist()


def test_a_folder_of_tables_of_features(tmp_path: Path) -> None:
    table(tmp_path / "year=2020" / "train-0.parquet", {"a": [1.0, 2.0], "b": [3, 4], "label": ["x", "z"]})
    table(tmp_path / "year=2020" / "train-1.parquet", {"a": [5.0], "b": [6], "label": ["y"]})
    table(tmp_path / "year=2020" / "test.parquet", {"a": [7.0], "b": [8], "label": ["z"]})
    data = load(f"parquet:{tmp_path / 'year=2020'}")
    assert data.train.inputs.tolist() == [[1, 3], [2, 4], [5, 6]]
    assert data.train.classes == ("x", "y", "z")
    assert data.test.labels.tolist() == [2]
    assert data.test.ids.tolist() == ["test-0"]


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({"a": [1.0, 2.0]}, "column label"),
        ({"label": [0, 1]}, "numeric columns beside label"),
        ({"a": ["x", "y"], "label": [0, 1]}, "numeric columns"),
        ({"a": [1.0, None], "label": [0, 1]}, r"nan in row 1 at \(0,\)"),
        ({"a": [1.0, 2.0], "label": [0, None]}, "row 1"),
        ({"a": [1.0, 2.0], "label": [0.5, 1]}, "whole numbers"),
        ({"a": [1.0, 2.0], "label": [[0, 1], [1]]}, "labels"),
        ({"a": [1.0, 2.0], "label": [0, 1], "id": ["x", "x"]}, "'x' more than once"),
        ({"a": [1.0, 2.0], "label": [0, 1], "id": ["x", None]}, "id in every row .* row 1"),
        ({"a": [1.0, 2.0], "label": [0, 1], "group": [None, 1]}, "group in every row .* row 0"),
        ({"image": ["x", "y"], "label": [0, 1]}, "row 0, got str"),
        ({"image": [b"x", b"y"], "label": [0, 1]}, "row 0"),
        ({"image": [None, b"y"], "label": [0, 1]}, "row 0, got NoneType"),
    ],
)
def test_tables_that_can_not_be_right(tmp_path: Path, columns: dict[str, Any], says: str) -> None:
    table(tmp_path / "a.parquet", columns)
    with pytest.raises(Refusal, match=says):
        load(f"parquet:{tmp_path / 'a.parquet'}")


def test_ids_in_a_column_of_text_keep_their_zeros(tmp_path: Path) -> None:
    table(tmp_path / "a.parquet", {"a": [1.0, 2.0, 4.0, 6.0], "label": [0, 1, 0, 1], "id": ["007", "7", "070", "0"]})
    data = load(f"parquet:{tmp_path / 'a.parquet'}?scale=unit")
    assert {*data.train.ids.tolist(), *data.test.ids.tolist()} == {"007", "7", "070", "0"}
    assert (float(data.train.inputs.min()), float(data.train.inputs.max())) == (0, 1)


def test_files_that_are_no_table(tmp_path: Path) -> None:
    table(tmp_path / "whole.parquet", {"a": [1.0] * 50, "label": [0, 1] * 25})
    whole = (tmp_path / "whole.parquet").read_bytes()
    for content in (b"", b"PAR1", b"PAR1" + bytes(20) + b"PAR1", whole[: len(whole) // 2], whole[:-1]):
        (tmp_path / "a.parquet").write_bytes(content)
        with pytest.raises(Refusal, match="cut or of another kind"):
            load(f"parquet:{tmp_path / 'a.parquet'}")
    (tmp_path / "nothing").mkdir()
    for path in ("nothing", "absent"):
        with pytest.raises(Refusal, match="check the path"):
            load(f"parquet:{tmp_path / path}")


def test_a_test_class_unknown_to_training_is_named(tmp_path: Path) -> None:
    table(tmp_path / "train.parquet", {"a": [1.0, 2.0], "label": ["x", "y"]})
    table(tmp_path / "test.parquet", {"a": [1.0], "label": ["w"]})
    with pytest.raises(Refusal, match="'w'"):
        load(f"parquet:{tmp_path}")


# ---------------------------------------------------------------- what all share


@settings(max_examples=50, deadline=None)
@given(labels=st.lists(st.integers(0, 4), min_size=1, max_size=60), share=st.floats(0.05, 0.95))
def test_a_hold_out_keeps_every_class_on_both_sides(labels: list[int], share: float) -> None:
    mask = hold_out(torch.tensor(labels), share)
    for key in set(labels):
        here = mask[np.array(labels) == key]
        if len(here) == 1:
            assert not here.any()
        else:
            assert 0 < here.sum() < len(here)
            assert abs(here.sum() - share * len(here)) <= 1
    assert np.array_equal(mask, hold_out(torch.tensor(labels), share))


def test_read_only_and_strided_arrays_become_tensors_of_their_own() -> None:
    images = np.zeros((4, 3, 6, 6), np.uint8)
    images.flags.writeable = False
    made = checked("it", images[:, :, ::2, ::-1], Y)
    made.inputs[0] = 1
    assert not images.any()


def test_a_data_set_is_compared_by_its_fingerprint_only() -> None:
    one, two = (DataSet("it", checked("it", X + k, Y), checked("it", X, Y, prefix="test-")) for k in (0, 1))
    assert one.fingerprint != two.fingerprint
    assert len(one.fingerprint) == 64
