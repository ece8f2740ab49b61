"""Tables in csv files: numbers as features."""

from __future__ import annotations

import csv as standard
from array import array
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from unteach.data.dataset import DataSet, Where, checked, divided, paired
from unteach.data.places import is_whole, with_options
from unteach.data.scale import scaled
from unteach.data.tables import USUAL, numbered
from unteach.types import Examples, Refusal

ROLES = ("label", "id", "group", "kind")


def csv(where: Where) -> DataSet:
    """A csv file with column names, or a folder with train.csv and test.csv: column label, numbers, optional id, group.

    UTF-8, between commas. Every column without such a part to play is a feature, a number in each row. Labels are class numbers,
    or names; ids, groups and kinds are text, so that 007 stays 007. Other columns by name, as for ``parquet``:
    ``csv:PATH?label=diagnosis&id=patient&group=household&kind=site``. ``scale=unit`` brings features to 0–1. Without a test
    part a fixed share is held out.
    """
    written, options = with_options(where.argument, (*ROLES, "scale"))
    path, name = Path(written), f"csv:{where.argument}"
    if (path / "train.csv").is_file() and (path / "test.csv").is_file():
        columns, train = _examples(path / "train.csv", options, "", (), ())
        _, test = _examples(path / "test.csv", options, "test-", train.classes, columns)
        data = paired(name, train, test)
    elif path.is_file():
        data = divided(name, _examples(path, options, "", (), ())[1], where.test_share)
    else:
        raise Refusal(
            f"expected a csv file, or a folder with train.csv and test.csv, at {path}, got none; check the path"
        )
    return scaled(data, options.get("scale"))


def _examples(
    path: Path, options: Mapping[str, str], prefix: str, classes: tuple[str, ...], columns: tuple[str, ...]
) -> tuple[tuple[str, ...], Examples]:
    """The features' names in order, and the examples. ``columns``: the order in the training part."""
    rows = _rows(path)
    head = next(rows, [])
    if len(set(head)) != len(head):
        raise Refusal(f"expected different column names in {path}, got {', '.join(head)}; rename the doubles")
    role = {what: _column(what, options, head, path) for what in ROLES}
    if role["label"] is None:
        raise Refusal(f"expected a column label in {path}, got {', '.join(head) or 'nothing'}; name one by ?label=")
    features = [name for name in head if name not in role.values()]
    if columns and sorted(columns) != sorted(features):
        odd = sorted({*columns} ^ {*features})[0]
        raise Refusal(
            f"expected the features of the training part in {path}, got others, such as {odd!r}; make them alike"
        )
    features = list(columns) or features
    texts: dict[str, list[str]] = {what: [] for what, name in role.items() if name}
    at = {name: number for number, name in enumerate(head)}
    numbers = array("d")
    for line, row in enumerate(rows, 2):
        if len(row) != len(head):
            raise Refusal(f"expected {len(head)} cells in row {line} of {path}, got {len(row)}; mend that row")
        for what, cells in texts.items():
            cells.append(_filled(row[at[str(role[what])]], str(role[what]), line, path))
        numbers.extend(_number(row[at[name]], name, line, path) for name in features)
    n = len(texts["label"])
    cells, by_name = texts.pop("label"), any(not name.isdecimal() for name in classes)
    labels, classes = numbered(cells if by_name else _whole(cells), classes, path)
    names = {f"{what}s": np.array(cells) for what, cells in texts.items()}
    x = np.frombuffer(numbers).reshape(n, len(features)) if n and features else np.zeros((0, 0))
    return tuple(features), checked(str(path), x, labels, classes=classes, prefix=prefix, **names)


def _rows(path: Path) -> Iterator[list[str]]:
    """Cells without outer spaces; empty lines are passed over."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            for row in standard.reader(file, strict=True):
                if row:
                    yield [cell.strip() for cell in row]
    except (OSError, UnicodeDecodeError, standard.Error) as error:
        raise Refusal(f"expected a csv file in UTF-8 at {path}, got: {error}; save it anew") from error


def _column(what: str, options: Mapping[str, str], head: list[str], path: Path) -> str | None:
    asked = options.get(what)
    if asked is not None and asked not in head:
        raise Refusal(f"expected the column {asked!r} in {path}, got {', '.join(head)}; name one of these")
    return asked or next((name for name in USUAL[what] if name in head), None)


def _filled(cell: str, column: str, line: int, path: Path) -> str:
    if not cell:
        raise Refusal(f"expected {column} in every row of {path}, got an empty one in row {line}; fill or drop it")
    return cell


def _number(cell: str, column: str, line: int, path: Path) -> float:
    try:
        return float(cell)
    except ValueError as error:
        raise Refusal(
            f"expected a number in column {column!r}, row {line} of {path}, got {cell!r}; fill it, drop the column, or name it "
            "by ?id=, ?group= or ?kind="
        ) from error


def _whole(cells: list[str]) -> list[Any]:
    """Class numbers, where all are."""
    return [int(cell) for cell in cells] if all(map(is_whole, cells)) else list(cells)
