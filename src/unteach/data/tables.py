"""Tables, Parquet above all: images as bytes or features as columns."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from unteach.data.archives import refuse_bomb
from unteach.data.dataset import DataSet, Where, checked, divided, paired
from unteach.data.images import LOOKS, decode_all, look_of
from unteach.data.places import with_options
from unteach.data.scale import scaled
from unteach.types import Examples, Refusal

OPTIONS = ("image", "label", "id", "group", "kind", "scale", *LOOKS)
# Names that columns have where none is asked for, and Hugging Face's type for them.
USUAL = {"image": ("image", "img"), "label": ("label",), "id": ("id",), "group": ("group",), "kind": ()}
TYPES = {"image": "Image", "label": "ClassLabel"}


def read_table(paths: Sequence[Path]) -> Any:
    """Parquet files of one layout as one table.

    Raises: Refusal for files that are no Parquet, or when pyarrow is not installed.
    """
    arrow = import_arrow()
    from pyarrow import parquet

    tables = []
    for path in paths:
        try:
            file = parquet.ParquetFile(path)
            refuse_bomb(path, 8 * file.metadata.num_rows * file.metadata.num_columns)
            tables.append(sound(file.read()))
        except (arrow.ArrowException, OSError, ValueError) as error:
            raise Refusal(f"expected a Parquet file at {path}, got: {error}; it is cut or of another kind") from error
    return stacked(tables, paths[0])


def sound(table: Any) -> Any:
    """The table, once it is sure that no offset in it leads outside and that text is text: Arrow takes a file's word for it."""
    table.validate(full=True)
    return table


def import_arrow() -> Any:
    """pyarrow, which reads tables."""
    try:
        import pyarrow
    except ImportError as error:
        raise Refusal("expected pyarrow to read tables, got no such package; do pip install 'unteach[data]'") from error
    return pyarrow


def stacked(tables: Sequence[Any], source: Path) -> Any:
    """Tables of one layout as one."""
    arrow = import_arrow()
    try:
        return arrow.concat_tables(tables)
    except arrow.ArrowException as error:
        raise Refusal(f"expected files of one layout beside {source}, got: {error}; make columns alike") from error


def features(table: Any) -> dict[str, Any]:
    """What Hugging Face keeps beside a table about each column, or nothing."""
    try:
        found = json.loads((table.schema.metadata or {})[b"huggingface"])["info"]["features"]
        return {str(name): dict(feature) for name, feature in found.items() if isinstance(feature, dict)}
    except (KeyError, TypeError, ValueError, AttributeError):  # other tables keep nothing there
        return {}


def class_names(table: Any, column: str) -> tuple[str, ...]:
    """The class names that Hugging Face keeps beside a table, or none."""
    names = features(table).get(column, {}).get("names")
    return tuple(str(name) for name in names) if isinstance(names, list) else ()


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
    columns are features. Labels are numbers, names, or lists of 0 and 1. Other columns by name, and images of several sizes:
    ``parquet:PATH?image=photo&label=fine_label&group=person&size=64&colour=true``. ``kind=breed`` names a column of subclasses,
    of which test data have examples too; ``scale=unit`` brings features to 0–1. Without a test part a fixed share is held out.
    """
    written, options = with_options(where.argument, OPTIONS)
    return scaled(_read(Path(written), options, where), options.get("scale"))


def _read(path: Path, options: Mapping[str, str], where: Where) -> DataSet:
    name = f"parquet:{where.argument}"
    files = {part: sorted(path.glob(f"{part}*.parquet")) for part in ("train", "test", "val", "")}
    if path.is_file():
        return divided(name, _of_files([path], options, "", ()), where.test_share)
    test = files["test"] or files["val"]
    if files["train"] and test:
        train = _of_files(files["train"], options, "", ())
        return paired(name, train, _of_files(test, options, "test-", train.classes))
    if not files[""]:
        raise Refusal(f"expected a Parquet file, or a folder with *.parquet, at {path}, got none; check the path")
    return divided(name, _of_files(files["train"] or files[""], options, "", ()), where.test_share)


def _of_files(paths: Sequence[Path], options: Mapping[str, str], prefix: str, classes: tuple[str, ...]) -> Examples:
    return examples(read_table(paths), paths[0], options, prefix=prefix, classes=classes)


def examples(
    table: Any, source: Path, options: Mapping[str, str], *, prefix: str, classes: tuple[str, ...]
) -> Examples:
    """The examples in a table read from ``source``, its columns as OPTIONS say, or with their usual names or types.

    ``prefix`` of row numbers as ids, where there is no column for them. ``classes``: those of the training set, if this is
    another part.
    """
    role = {name: _column(table, source, name, options.get(name)) for name in USUAL}
    label = role["label"]
    if label is None:
        raise Refusal(f"expected a column label in {source}, got {', '.join(table.column_names)}; name one by ?label=")
    if role["image"]:
        inputs = decode_all(image_bytes(table[role["image"]]), source, look_of(options))
    else:
        inputs = _features(table, [name for name in table.column_names if name not in role.values()], source)
    labels, classes = numbered(table[label].to_pylist(), classes or class_names(table, label), source)
    names = {
        what: _names(table[column].to_pylist(), column, source)
        for what, column in (("ids", role["id"]), ("groups", role["group"]), ("kinds", role["kind"]))
        if column
    }
    return checked(str(source), inputs, labels, classes=classes, prefix=prefix, **names)


def _column(table: Any, source: Path, what: str, asked: str | None) -> str | None:
    """The column for this: the one asked for, or of a usual name, or the only one of its type."""
    there = table.column_names
    if asked is not None and asked not in there:
        raise Refusal(f"expected the column {asked!r} in {source}, got {', '.join(there)}; name one of these")
    typed = [
        name
        for name, feature in features(table).items()
        if name in there and what in TYPES and feature.get("_type") == TYPES[what]
    ]
    named = [name for name in USUAL[what] if name in there]
    return asked or next(iter(named), typed[0] if len(typed) == 1 else None)


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


def _names(values: list[Any], column: str, source: Path) -> np.ndarray:
    """Names as text: numbers in a column of text keep their leading zeros."""
    if any(value is None for value in values):
        raise Refusal(
            f"expected {column} in every row of {source}, got none in row {values.index(None)}; fill or drop it"
        )
    return np.array([str(value) for value in values])


def numbered(values: list[Any], classes: tuple[str, ...], path: object) -> tuple[list[Any], tuple[str, ...]]:
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
