"""A user's own data sets: any map-style ``torch.utils.data.Dataset``, read item by item into examples."""

from __future__ import annotations

import json
import string
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import Any
from urllib.parse import parse_qsl

import numpy as np
import torch

from unteach.data.dataset import DataSet, checked, divided, paired
from unteach.data.images import pixels_of
from unteach.data.tables import numbered
from unteach.types import Examples, OwnLoss, Refusal
from unteach.user_code import pin, unpin

WORDS = {*string.ascii_letters, *string.digits, "_", "."}  # in the name of a module
INPUTS = ("input", "image")


@dataclass(frozen=True)
class Item:
    """One example as a data set gives it: an array, a number, name or list of 0 and 1, and texts or None."""

    input: np.ndarray
    label: Any
    id: str | None = None
    group: str | None = None
    kind: str | None = None


def item_of(given: Any, name: object) -> Item:
    """One item: (input, label), (input, label, id), (input, label, id, group), or a dict of these names, of image and kind.

    Inputs are tensors, arrays or Pillow images: uint8 ``c × h × w`` or ``h × w``, floats ``c × h × w`` in 0–1, features ``k``,
    embeddings ``tokens × width``. Labels are class numbers, names, or lists of 0 and 1; ids strings or whole numbers.
    Raises: Refusal, naming the item, for anything else.
    """
    if isinstance(given, Mapping):
        told = {"input": next((given[key] for key in INPUTS if key in given), None), **given}
    elif isinstance(given, tuple | list) and 2 <= len(given) <= 4:
        told = dict(zip(("input", "label", "id", "group"), given))
    else:
        told = {}
    if told.get("input") is None or told.get("label") is None:
        raise Refusal(
            f"expected (input, label), (input, label, id), (input, label, id, group), or a dict of input or image, label, id, "
            f"group, kind, in {name}, got {_shape(given)}; give one of these"
        )
    label = told["label"]
    label = label if isinstance(label, str) else np.asarray(label).tolist()
    texts = {what: _text(told[what], what, name) for what in ("id", "group", "kind") if told.get(what) is not None}
    return Item(_array(told["input"], name), label, **texts)


def examples_of(
    dataset: Any, *, name: str = "the data set", prefix: str = "", classes: tuple[str, ...] = ()
) -> Examples:
    """The examples of a map-style data set, all in memory.

    What an item may be: see ``item_of``. Ids stand in the items, or in an attribute ``ids``; else they are row numbers after
    ``prefix``. Class names: ``classes``, or the data set's attribute of that name. Raises: Refusal for items that are not
    alike, that are others at a second reading (eight are tried), or fail.
    """
    n, first = _length(dataset, name), _item(dataset, 0, name)
    inputs = np.empty((n, *first.input.shape), dtype=first.input.dtype)
    rows: list[Item] = []
    for at in range(n):
        one = _item(dataset, at, name)
        refuse_unless_like(one, first, f"item {at} of {name}")
        inputs[at] = one.input
        rows.append(replace(one, input=first.input[:0]))
    for at in np.linspace(0, n - 1, 8).astype(int).tolist():
        if _item(dataset, at, name).input.tobytes() != inputs[at].tobytes():
            raise Refusal(
                f"expected the same inputs at every reading of {name}, got others in item {at}; leave random variation to "
                "--augment.own"
            )
    told = getattr(dataset, "classes", ())
    known = classes or (tuple(told) if isinstance(told, list | tuple) and all(isinstance(c, str) for c in told) else ())
    labels, known = numbered([row.label for row in rows], known, name)
    columns = {
        f"{what}s": np.array([getattr(row, what) for row in rows])
        for what in ("id", "group", "kind")
        if getattr(first, what) is not None
    }
    if "ids" not in columns and hasattr(dataset, "ids"):
        columns["ids"] = np.array([_text(one, "id", name) for one in dataset.ids])
    return checked(name, inputs, labels, classes=known, prefix=prefix, **columns)


def data_set_of(given: Any, *, name: str = "own data", test_share: float = 0.2) -> DataSet:
    """A data set from map-style ones of the user's own: one, a tuple (train, test), or a dict of train, test and unseen.

    ``unseen``: non-members for attacks, where they are to be others than the test set. Without a test part a fixed share is
    held out. ``Examples`` may stand for any of them, and a ``DataSet`` is given back. Row numbers as ids are told in a note.
    """
    if isinstance(given, DataSet):
        return given
    parts = dict(zip(("train", "test"), given)) if isinstance(given, tuple) and len(given) == 2 else given
    parts = dict(parts) if isinstance(parts, Mapping) else {"train": parts}
    if (
        "train" not in parts
        or parts.keys() - {"train", "test", "unseen"}
        or ("unseen" in parts and "test" not in parts)
    ):
        raise Refusal(
            f"expected train, test and perhaps unseen in {name}, got {', '.join(map(str, parts))}; name them so"
        )
    train = _part(parts["train"], f"{name} (train)", "", ())
    if "test" not in parts:
        data = divided(name, train, test_share)
    else:
        data = paired(name, train, _part(parts["test"], f"{name} (test)", "test-", train.classes))
    if "unseen" in parts:
        unseen = _part(parts["unseen"], f"{name} (unseen)", "unseen-", train.classes)
        data = replace(data, unseen=paired(name, train, unseen).test)
    note = "ids are row numbers: they name the same examples only as long as the order stays; give ids in the items if you can"
    return replace(data, notes=(note,)) if train.ids.tolist() == [str(row) for row in range(len(train))] else data


def named_data(spec: str, test_share: float) -> DataSet:
    """The data that pinned code gives, ``file.py:NAME@SHA256?a=b``: a class or function, called with these arguments.

    Values of arguments are read as JSON where they are JSON, and as text else. Raises: Refusal where nobody named the code,
    and for whatever it raises itself.
    """
    code, _, rest = spec.partition("?")
    make = unpin(code)
    arguments = {key: _value(value) for key, value in parse_qsl(rest, keep_blank_values=True)}
    name = code.rpartition("@")[0]
    try:
        given = make(**arguments)
    except Refusal:
        raise
    except Exception as error:  # the user's own code fails in any way it likes
        with_them = f" with {arguments}" if arguments else ""
        raise Refusal(
            f"expected {name} to make a data set{with_them}, got {type(error).__name__}: {error}; mend it, or its arguments"
        ) from error
    return data_set_of(given, name=f"{name}{'?' * bool(rest)}{rest}", test_share=test_share)


def pinned(spec: str) -> str:
    """The spec of data with the user's own code, if it names some, pinned: see ``user_code.pin``, which runs the file."""
    if not is_code(spec):
        return spec
    code, mark, rest = spec.partition("?")
    return f"{pin(code)}{mark}{rest}"


def is_code(spec: str) -> bool:
    """Whether these data are what a user's own code makes: file.py:NAME or pkg.module:NAME, not the name of a reader."""
    from unteach.data import DATA

    name, colon, _ = spec.partition("?")[0].rpartition(":")
    if not colon or spec.partition(":")[0] in DATA:
        return False
    return name.endswith(".py") or (set(name) <= WORDS and find_spec(name.partition(".")[0]) is not None)


def with_loss(data: DataSet, loss: str) -> DataSet:
    """The data with a loss of the user's own, for whoever trains on them: pinned code (logits, labels) -> loss of each."""
    own = OwnLoss(unpin(loss), loss)
    train, test = replace(data.train, loss=own), replace(data.test, loss=own)
    return replace(data, train=train, test=test, unseen=None if data.unseen is None else replace(data.unseen, loss=own))


def refuse_unless_like(one: Item, first: Item, name: object) -> None:
    """Refuse an item whose input or texts are not like those of the first."""
    for what in ("id", "group", "kind"):
        if (getattr(one, what) is None) != (getattr(first, what) is None):
            raise Refusal(f"expected {what}s in all items or in none, got another in {name}; make them alike")
    if (one.input.shape, one.input.dtype) != (first.input.shape, first.input.dtype):
        raise Refusal(
            f"expected inputs of one shape and type, got {first.input.dtype} {first.input.shape} in the first item and "
            f"{one.input.dtype} {one.input.shape} in {name}; bring them to one"
        )


def _part(given: Any, name: str, prefix: str, classes: tuple[str, ...]) -> Examples:
    return given if isinstance(given, Examples) else examples_of(given, name=name, prefix=prefix, classes=classes)


def _length(dataset: Any, name: str) -> int:
    try:
        n = len(dataset)
    except (TypeError, NotImplementedError) as error:
        raise Refusal(
            f"expected a data set with __len__ and __getitem__ as {name}, got {type(dataset).__name__}; write a stream with "
            "unteach.data.write_memmap first"
        ) from error
    if n < 1:
        raise Refusal(f"expected at least one item in {name}, got none; check the data set")
    return int(n)


def _item(dataset: Any, at: int, name: str) -> Item:
    try:
        given = dataset[at]
    except Refusal:
        raise
    except Exception as error:  # the user's own code fails in any way it likes
        raise Refusal(
            f"expected item {at} of {name}, got {type(error).__name__}: {error}; mend the data set"
        ) from error
    return item_of(given, f"item {at} of {name}")


def items(dataset: Any, name: str) -> Iterator[Item]:
    """The items of a map-style data set, or of anything that gives them one after the other."""
    if hasattr(dataset, "__getitem__") and hasattr(dataset, "__len__"):
        yield from (_item(dataset, at, name) for at in range(_length(dataset, name)))
    else:
        yield from (item_of(given, f"item {at} of {name}") for at, given in enumerate(dataset))


def _array(given: Any, name: object) -> np.ndarray:
    """uint8 ``c × h × w``, or numbers of 1 to 3 dimensions as float32 (2: tokens × width)."""
    if hasattr(given, "convert") and hasattr(given, "mode"):
        return pixels_of(given, name)
    x = given.detach().cpu().numpy() if isinstance(given, torch.Tensor) else np.asarray(given)
    if x.dtype == np.uint8 and x.ndim == 2:
        x = x[None]
    if x.dtype.kind not in "buif" or x.ndim not in (1, 2, 3):
        raise Refusal(
            f"expected a tensor, array or Pillow image in {name}, got {_shape(given)}; make it numbers of 1 to 3 dimensions"
        )
    if x.ndim == 3 and x.shape[2] in (1, 3) and x.shape[0] not in (1, 3):
        raise Refusal(f"expected an image as c × h × w in {name}, got h × w × c, {x.shape}; put the channels first")
    return x if x.dtype == np.uint8 and x.ndim == 3 else x.astype(np.float32)


def _text(value: Any, what: str, name: object) -> str:
    plain = value.item() if isinstance(value, np.generic | np.ndarray | torch.Tensor) and np.size(value) == 1 else value
    if isinstance(plain, bool) or not isinstance(plain, str | int):
        raise Refusal(f"expected a string or whole number as {what} in {name}, got {value!r}; give one of these")
    return str(plain)


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _shape(given: Any) -> str:
    size = f" of {len(given)}" if isinstance(given, tuple | list | Mapping) else ""
    return f"{type(given).__name__}{size}"
