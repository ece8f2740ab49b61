"""Parquet tables: images as bytes or features as columns."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from unteach.data.dataset import DataSet, Where, checked, divided, paired
from unteach.data.images import decode_all
from unteach.types import Examples, Refusal

NOT_FEATURES = ("label", "id", "group")


def read_table(paths: Sequence[Path]) -> Any:
    """Parquet files of one layout as one table.

    Raises: Refusal for files that are no Parquet, or when pyarrow is not installed.
    """
    try:
        import pyarrow as arrow
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise Refusal(
            "expected pyarrow for Parquet files, got no such package; do pip install 'unteach[data]'"
        ) from error
    tables = []
    for path in paths:
        try:
            tables.append(parquet.ParquetFile(path).read())
        except (arrow.ArrowException, OSError) as error:
            raise Refusal(f"expected a Parquet file at {path}, got: {error}; it is cut or of another kind") from error
    try:
        return arrow.concat_tables(tables)
    except arrow.ArrowException as error:
        raise Refusal(
            f"expected Parquet files of one layout beside {paths[0]}, got: {error}; make columns alike"
        ) from error


def class_names(table: Any, column: str) -> tuple[str, ...]:
    """The class names that Hugging Face keeps beside a table, or none."""
    try:
        told = json.loads((table.schema.metadata or {})[b"huggingface"])
        return tuple(str(name) for name in told["info"]["features"][column]["names"])
    except (KeyError, TypeError, ValueError):  # other tables keep nothing there
        return ()


def image_bytes(column: Any) -> list[bytes]:
    """The encoded images of a column of bytes, or of Hugging Face's struct of bytes and path."""
    found: list[bytes] = []
    for number, row in enumerate(column.to_pylist()):
        data = row.get("bytes") if isinstance(row, dict) else row
        if not isinstance(data, bytes):
            raise Refusal(
                f"expected an encoded image in row {number}, got {type(data).__name__}; store images as bytes"
            )
        found.append(data)
    return found


def parquet(where: Where) -> DataSet:
    """A Parquet file, or a folder with train*.parquet and test*.parquet: column label, images or numbers, optional id, group.

    Images stand encoded (PNG, JPEG …) in a column image or img, as bytes or as Hugging Face's struct; without one, all other
    columns are features. Labels are numbers, names, or lists of 0 and 1. Without a test part a fixed share is held out.
    """
    path = Path(where.argument)
    name = f"parquet:{path}"
    files = {part: sorted(path.glob(f"{part}*.parquet")) for part in ("train", "test", "val", "")}
    if path.is_file():
        return divided(name, _examples([path], "", ()), where.test_share)
    test = files["test"] or files["val"]
    if files["train"] and test:
        train = _examples(files["train"], "", ())
        return paired(name, train, _examples(test, "test-", train.classes))
    if not files[""]:
        raise Refusal(f"expected a Parquet file, or a folder with *.parquet, at {path}, got none; check the path")
    return divided(name, _examples(files["train"] or files[""], "", ()), where.test_share)


def _examples(paths: Sequence[Path], prefix: str, classes: tuple[str, ...]) -> Examples:
    table = read_table(paths)
    columns = table.column_names
    if "label" not in columns:
        raise Refusal(f"expected a column label in {paths[0]}, got {', '.join(columns)}; rename it")
    image = next((name for name in ("image", "img") if name in columns), None)
    if image:
        inputs = decode_all(image_bytes(table[image]), paths[0])
    else:
        inputs = _features(table, [name for name in columns if name not in NOT_FEATURES], paths[0])
    labels, classes = _labels(table["label"].to_pylist(), classes or class_names(table, "label"), paths[0])
    ids, groups = (
        np.array([str(value) for value in table[name].to_pylist()]) if name in columns else None
        for name in ("id", "group")
    )
    return checked(str(paths[0]), inputs, labels, classes=classes, ids=ids, groups=groups, prefix=prefix)


def _features(table: Any, names: list[str], path: Path) -> np.ndarray:
    try:
        columns = [np.asarray(table[name].to_numpy(), dtype=np.float64) for name in names]
    except (ValueError, TypeError) as error:
        raise Refusal(
            f"expected an image column or numeric columns in {path}, got: {error}; drop the others"
        ) from error
    if not columns:
        raise Refusal(f"expected an image column or numeric columns beside label in {path}, got none; check the file")
    return np.stack(columns, axis=1)


def _labels(values: list[Any], classes: tuple[str, ...], path: Path) -> tuple[list[Any], tuple[str, ...]]:
    """Class numbers as they are; names turned into numbers, in sorted order where the classes are not known."""
    if any(value is None for value in values):
        raise Refusal(
            f"expected a label in every row of {path}, got an empty one in row {values.index(None)}; fill or drop it"
        )
    if not values or not all(isinstance(value, str) for value in values):
        return values, classes
    numbers = {name: number for number, name in enumerate(classes or sorted(set(values)))}
    if strange := [value for value in values if value not in numbers]:
        raise Refusal(
            f"expected classes ({', '.join(numbers)}) in {path}, got {strange[0]!r}; use the training set's classes"
        )
    return [numbers[value] for value in values], tuple(numbers)
