"""Tables in csv files, and features brought to 0–1."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unteach.data import DataSet, checked, load
from unteach.data.scale import scaled
from unteach.types import Refusal

PLAIN = "id,age,label,height\n007,1,no,2.5\n7,3,yes,-4\n\n70,5,no,1e3\n"


def written(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_names_features_and_zeros_in_front_of_ids(tmp_path: Path) -> None:
    test = "height,label,age\n9,yes,8\n"  # in another order, without ids
    written(tmp_path / "train.csv", "\ufeff" + PLAIN)
    written(tmp_path / "test.csv", test)
    data = load(f"csv:{tmp_path}")
    assert data.train.ids.tolist() == ["007", "7", "70"]
    assert data.train.inputs.tolist() == [[1, 2.5], [3, -4], [5, 1000]]
    assert (data.train.classes, data.train.labels.tolist()) == (("no", "yes"), [0, 1, 0])
    assert (data.test.inputs.tolist(), data.test.labels.tolist()) == ([[8, 9]], [1])
    assert data.test.ids.tolist() == ["test-0"]


def test_columns_by_name_numbers_as_labels_and_a_hold_out(tmp_path: Path) -> None:
    rows = "".join(f'{i % 2},"home, {i // 2}",p{i},{i},s\n' for i in range(10))
    path = written(tmp_path / "a.csv", f"sick,house,who,x,site\n{rows}")
    data = load(f"csv:{path}?label=sick&group=house&id=who&kind=site")
    assert data.train.groups is not None
    assert data.train.groups[0] == "home, 0"
    assert (len(data.train), len(data.test), data.train.inputs.shape[1]) == (8, 2, 1)
    assert data.train.classes == ("0", "1")
    assert data.train.kinds is not None


def test_labels_of_a_test_part_are_read_as_those_of_training(tmp_path: Path) -> None:
    written(tmp_path / "train.csv", "x,label\n1,1\n2,a\n3,0\n")
    written(tmp_path / "test.csv", "x,label\n1,1\n2,0\n")
    data = load(f"csv:{tmp_path}")
    assert [data.train.classes[k] for k in data.test.labels.tolist()] == ["1", "0"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "column label"),
        ("a;label\n1;2\n", "column label"),
        ("a,label\n", "at least one example"),
        ("a,label\n1,0\n2\n", "2 cells in row 3"),
        ("a,label\n1,0\n,1\n", "column 'a', row 3"),
        ("a,label\nx,0\n", r"column 'a', row 2.*\?id="),
        ("a,label\n1,0\n2,\n", "label in every row .* row 3"),
        ("id,a,label\n,1,0\n", "id in every row .* row 2"),
        ("id,a,label\nx,1,0\nx,1,1\n", "'x' more than once"),
        ("a,a,label\n1,1,0\n", "different column names"),
        ("a,label\nnan,0\n1,1\n", "finite"),
        ('a,label\n"1"x,0\n', "csv file in UTF-8"),
        ("label\n0\n1\n", "at least one example"),
    ],
)
def test_files_that_can_not_be_right(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(Refusal, match=says):
        load(f"csv:{written(tmp_path / 'a.csv', text)}")


def test_other_refusals(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", PLAIN)
    for spec, says in (
        (f"{path}?label=sex", "column 'sex'"),
        (f"{path}?scale=log", "scale=unit"),
        (f"{path}?size=3", "options"),
        (f"{tmp_path / 'none.csv'}", "check"),
        (f"{tmp_path}", "train.csv and test.csv"),
    ):
        with pytest.raises(Refusal, match=says):
            load(f"csv:{spec}")
    (tmp_path / "b.csv").write_bytes(b"a,label\n\xff,0\n")
    with pytest.raises(Refusal, match="UTF-8"):
        load(f"csv:{tmp_path / 'b.csv'}")
    written(tmp_path / "train.csv", PLAIN)
    written(tmp_path / "test.csv", "age,label\n1,no\n")
    with pytest.raises(Refusal, match="'height'"):
        load(f"csv:{tmp_path}")


@settings(max_examples=50, deadline=None)
@given(
    rows=st.lists(st.lists(st.floats(-(2.0**90), 2.0**90, width=32), min_size=3, max_size=3), min_size=2, max_size=20),
    more=st.lists(st.floats(-(2.0**90), 2.0**90, width=32), min_size=3, max_size=3),
)
def test_scaled_features_keep_order_and_lie_in_0_to_1(rows: list[list[float]], more: list[float]) -> None:
    x = np.array(rows, dtype=np.float32)
    data = DataSet("it", checked("it", x, np.zeros(len(x))), checked("it", np.array([more]), [0], classes=("0",)))
    made = scaled(data, "unit")
    for part in (made.train.inputs, made.test.inputs):
        assert part.dtype == torch.float32
        assert 0 <= part.min() <= part.max() <= 1
    for column in range(3):
        if x[:, column].min() == x[:, column].max():
            assert not made.train.inputs[:, column].any()
        else:
            assert made.train.inputs[x[:, column].argmin(), column] == 0
            assert made.train.inputs[x[:, column].argmax(), column] == 1
            assert (np.diff(made.train.inputs[np.argsort(x[:, column]), column].numpy()) >= 0).all()


def test_scaling_uses_the_training_part_alone_and_says_so(tmp_path: Path) -> None:
    x, test = np.array([[0.0, 5], [10, 5]]), np.array([[20.0, 9], [5, 5], [-1, 0]])
    np.savez(tmp_path / "a.npz", x=x, y=[0, 1], test_x=test, test_y=[0, 1, 1])
    data = load(f"npz:{tmp_path / 'a.npz'}?scale=unit")
    assert data.train.inputs.tolist() == [[0, 0], [1, 0]]
    assert data.test.inputs.tolist() == [[1, 0], [0.5, 0], [0, 0]]
    assert "forgotten rows included" in data.notes[0]
    embeddings = np.arange(12.0).reshape(2, 3, 2)
    np.savez(tmp_path / "b.npz", x=embeddings, y=[0, 1], test_x=embeddings, test_y=[0, 1])
    assert load(f"npz:{tmp_path / 'b.npz'}?scale=unit").train.inputs[:, :, 0].flatten().tolist() == [
        pytest.approx(k / 5) for k in range(6)
    ]
    np.savez(tmp_path / "c.npz", x=np.zeros((4, 1, 2, 2), np.uint8), y=[0, 1, 0, 1])
    with pytest.raises(Refusal, match="images need none"):
        load(f"npz:{tmp_path / 'c.npz'}?scale=unit")
