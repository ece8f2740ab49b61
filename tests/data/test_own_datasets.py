"""A user's own map-style data sets: what an item may be, where ids come from, and code that runs only when it is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset, IterableDataset, TensorDataset

from unteach import user_code
from unteach.data import DataSet, data_set_of, examples_of, load
from unteach.data.own import pinned
from unteach.references.manifest import DataSpec
from unteach.types import MultiLabel, Refusal
from unteach.verbs.settings import DataChoice, anywhere

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (6, 3, 5, 4), dtype=np.uint8)
LABELS = [0, 1, 0, 1, 0, 1]

MINE = """
import torch
from torch.utils.data import Dataset

class Mine(Dataset):
    def __init__(self, n: int = 6, shift: float = 0.0, word: str = ""):
        self.n, self.shift, self.word = n, shift, word
    def __len__(self):
        return self.n
    def __getitem__(self, at):
        return torch.full((2,), at + self.shift), at % 2, f"{self.word}{at:03}"

def pair(n: int = 6):
    return Mine(n), Mine(4, word="t")

def broken():
    raise KeyError("no such place")
"""


class Items(Dataset[Any]):
    def __init__(self, items: list[Any], **more: Any) -> None:
        self.items = items
        self.__dict__.update(more)

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, at: int) -> Any:
        return self.items[at]


class Moving(Items):
    def __getitem__(self, at: int) -> Any:
        return torch.rand(3), at % 2


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Any:
        return iter([(torch.zeros(2), 0)])


def tuples(width: int) -> list[Any]:
    return [(x, y, 100 + i, f"g{i // 2}")[:width] for i, (x, y) in enumerate(zip(PIXELS, LABELS))]


def dicts(key: str) -> list[Any]:
    return [{key: x, "label": y, "id": f"{i:03}", "kind": "k"} for i, (x, y) in enumerate(zip(PIXELS, LABELS))]


@pytest.mark.parametrize("width", [2, 3, 4])
def test_tuples_of_two_to_four(width: int) -> None:
    made = examples_of(Items(tuples(width)))
    assert np.array_equal(made.inputs.numpy(), PIXELS)
    assert made.labels.tolist() == LABELS
    assert made.ids.tolist() == [str(i + (100 if width > 2 else 0)) for i in range(6)]
    assert (None if made.groups is None else made.groups.tolist()) == (
        ["g0", "g0", "g1", "g1", "g2", "g2"] if width == 4 else None
    )


@pytest.mark.parametrize("key", ["input", "image"])
def test_dicts_keep_zeros_in_front_of_ids(key: str) -> None:
    made = examples_of(Items(dicts(key)))
    assert made.ids.tolist() == ["000", "001", "002", "003", "004", "005"]
    assert made.kinds is not None
    assert made.groups is None


@pytest.mark.parametrize(
    ("form", "shape", "dtype"),
    [
        (lambda x: torch.from_numpy(x), (3, 5, 4), torch.uint8),
        (lambda x: Image.fromarray(x.transpose(1, 2, 0)), (3, 5, 4), torch.uint8),
        (lambda x: Image.fromarray(x[0]), (1, 5, 4), torch.uint8),
        (lambda x: x[0], (1, 5, 4), torch.uint8),
        (lambda x: x / 255, (3, 5, 4), torch.float32),
        (lambda x: x[0] / 7.0 - 9, (5, 4), torch.float32),
        (lambda x: x[0, 0].astype(np.int64), (4,), torch.float32),
    ],
    ids=["tensor", "pillow", "grey-pillow", "grey", "floats", "embedding", "features"],
)
def test_inputs_of_every_form(form: Any, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    made = examples_of(Items([(form(x), y) for x, y in zip(PIXELS, LABELS)]))
    assert made.inputs.shape == (6, *shape)
    assert made.inputs.dtype == dtype
    if dtype == torch.uint8:
        assert np.array_equal(made.inputs.numpy(), PIXELS[:, : shape[0]])


def test_labels_by_name_and_several_at_once() -> None:
    named = examples_of(Items([(x, "ab"[y]) for x, y in zip(PIXELS, LABELS)]), classes=("b", "a"))
    assert named.labels.tolist() == [1, 0, 1, 0, 1, 0]
    several = examples_of(Items([(x, torch.tensor([1, y])) for x, y in zip(PIXELS, LABELS)]))
    assert isinstance(several.task, MultiLabel)
    assert examples_of(Items(tuples(2), classes=["no", "yes"])).classes == ("no", "yes")
    assert examples_of(Items(tuples(2), ids=list("abcdef"))).ids.tolist() == list("abcdef")


def test_one_a_pair_a_dict_and_what_is_ready() -> None:
    one = data_set_of(TensorDataset(torch.arange(12.0).reshape(6, 2), torch.tensor(LABELS)))
    assert len(one.train) + len(one.test) == 6
    assert any("row numbers" in note for note in data_set_of((Items(tuples(2)), Items(tuples(2)))).notes)
    pair = data_set_of((Items(tuples(3)), Items(tuples(2))))
    assert (len(pair.train), pair.test.ids.tolist()[0], pair.notes) == (6, "test-0", ())
    three = data_set_of({"train": Items(tuples(3)), "test": Items(tuples(2)), "unseen": Items(tuples(2))})
    assert three.non_members.ids.tolist()[0] == "unseen-0"
    assert data_set_of(three) is three
    assert data_set_of(three.train).train.classes == three.train.classes
    assert np.array_equal(data_set_of([*tuples(2)]).train.inputs.numpy().shape[1:], (3, 5, 4))


@pytest.mark.parametrize(
    ("items", "says"),
    [
        ([], "at least one item"),
        ([(PIXELS[0],)], r"\(input, label\).*tuple of 1"),
        ([PIXELS[0]], r"\(input, label\).*ndarray"),
        ([{"picture": PIXELS[0], "label": 0}], "input or image"),
        ([(PIXELS[0], None)], "label"),
        ([("text", 0)], "tensor, array or Pillow image"),
        ([(PIXELS[0].transpose(1, 2, 0), 0)], "channels first"),
        ([(PIXELS[0], 0), (PIXELS[0][:, :4], 0)], r"one shape.*item 1"),
        ([(PIXELS[0], 0), (PIXELS[0] / 255, 0)], r"one shape and type.*item 1"),
        ([(PIXELS[0], 0, "a"), (PIXELS[1], 0)], r"ids in all items.*item 1"),
        ([(PIXELS[0], 0, "a"), (PIXELS[1], 0, "a")], "'a' more than once"),
        ([(PIXELS[0], 0, 1.5)], "string or whole number as id"),
        ([(PIXELS[0], 0, True)], "string or whole number as id"),
        ([(PIXELS[0] / 100 - 1, 0)], "first layer"),
    ],
)
def test_items_that_can_not_be_right(items: list[Any], says: str) -> None:
    with pytest.raises(Refusal, match=says):
        examples_of(Items(items))


def test_sets_that_move_stream_or_fail() -> None:
    with pytest.raises(Refusal, match=r"every reading.*--augment\.own"):
        examples_of(Moving([0] * 4))
    with pytest.raises(Refusal, match="write_memmap"):
        examples_of(Stream())
    with pytest.raises(Refusal, match=r"item 2 .*IndexError"):
        examples_of(type("Short", (Items,), {"__len__": lambda self: 3})(tuples(2)[:2]))
    for parts in ({"test": Items(tuples(2))}, {"train": 1, "unseen": 2}, {"train": 1, "more": 2}):
        with pytest.raises(Refusal, match="train, test and perhaps unseen"):
            data_set_of(parts)


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(user_code, "_LOADED", {})
    monkeypatch.delenv(user_code.NAMED, raising=False)
    (tmp_path / "mine.py").write_text(MINE)
    return tmp_path / "mine.py"


def test_a_class_or_function_in_a_file(mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = DataChoice(data=pinned(f"{mine}:Mine?n=10&shift=0.5&word=id")).load()
    assert isinstance(data, DataSet)
    assert sorted([*data.train.ids.tolist(), *data.test.ids.tolist()]) == [f"id{i:03}" for i in range(10)]
    assert float(data.train.inputs.min()) == 0.5
    assert data.name == "mine.py:Mine?n=10&shift=0.5&word=id"
    pair = DataChoice(data=pinned(f"{mine}:pair")).load()
    assert (len(pair.train), pair.test.ids.tolist()[0]) == (6, "t000")
    for spec, says in (("broken", "KeyError"), ("pair?m=1", "TypeError"), ("absent", "class or function")):
        with pytest.raises(Refusal, match=says):
            DataChoice(data=pinned(f"{mine}:{spec}")).load()
    for spec in ("nowhere:x", "imagenet", "fodler:/x", "digits:x"):
        with pytest.raises(Refusal, match="expected"):
            DataChoice(data=pinned(spec)).load()
    assert capsys.readouterr().out == ""


def test_a_job_finds_the_code_again_only_if_it_was_named(mine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = anywhere(DataChoice(data=pinned(f"{mine}:Mine?n=8")))
    assert str(mine.parent) not in told.spec
    assert told.load().fingerprint == load(pinned(f"{mine}:Mine?n=8")).fingerprint
    monkeypatch.setattr(user_code, "_LOADED", {})  # a process that the named one started
    assert len(DataSpec(spec=told.spec, test_share=0.25).load().train) == 6
    for spec in (f"{mine}:Mine", f"{mine}:Mine@{'0' * 64}"):
        with pytest.raises(Refusal, match="expected"):
            DataSpec(spec=spec).load()
    monkeypatch.setattr(user_code, "_LOADED", {})
    monkeypatch.delenv(user_code.NAMED)
    with pytest.raises(Refusal, match=r"command line to name mine\.py:Mine"):
        DataSpec(spec=told.spec, test_share=0.3).load()
