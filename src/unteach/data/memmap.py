"""Data larger than memory: a folder of NumPy files, the inputs of which stay on disk."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

from unteach.data.dataset import DataSet, Where, divided, paired, writable
from unteach.data.npz import INPUTS, lettered, part
from unteach.data.own import Item, items, refuse_unless_like
from unteach.types import Refusal

NAMES = ("ids", "groups", "kinds", "classes")


def memmap(where: Where) -> DataSet:
    """A folder of inputs.npy (may be larger than memory) and labels.npy; optional ids, groups, kinds, classes; test_… the same.

    inputs.npy is memory-mapped and read batch by batch: uint8 images ``n × c × h × w`` (0–255), floats of that shape in 0–1,
    features ``n × k``, or embeddings ``n × tokens × width``. Names stand in ids.npy, or in ids.txt, one a line, and so on.
    Without test_inputs.npy a fixed share is held out. ``unteach.data.write_memmap`` writes such a folder. The file must stay as
    it is while it is used.
    """
    folder = Path(where.argument)
    if not (folder / "inputs.npy").is_file():
        raise Refusal(f"expected a folder with inputs.npy and labels.npy at {folder}, got none; check the path")
    names = [f"{prefix}{name}" for prefix in ("", "test_") for name in ("inputs", "labels", *NAMES)]
    arrays = {name: array for name in names if (array := _array(folder, name)) is not None}
    classes = tuple(str(one) for one in arrays.get("classes", np.array([])).ravel().tolist())
    train = part(folder, arrays, "", classes)
    if "test_inputs" not in arrays and "test_labels" not in arrays:
        return divided(f"memmap:{folder}", train, where.test_share)
    return paired(f"memmap:{folder}", train, part(folder, arrays, "test_", train.classes))


def write_memmap(folder: Path | str, train: Any, test: Any = None, *, classes: tuple[str, ...] = ()) -> Path:
    """Write a folder for ``memmap:`` from map-style data sets or any streams of items, one item in memory at a time.

    Items are those of ``own.item_of``; labels that are names need their ``classes``, which are numbered in this order. The
    folder is there whole or not at all. Raises: Refusal for one that is there already, and for items that are not alike.
    """
    folder = Path(folder)
    if folder.exists():
        raise Refusal(f"expected a new folder for the data, got {folder}, which is there; choose another")
    folder.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        for prefix, given in (("", train), ("test_", test)):
            if given is not None:
                _write(made, prefix, given, classes)
        if classes:
            _write_lines(made / "classes.txt", list(classes))
        made.chmod(0o755)
        made.rename(folder)
    except BaseException:
        shutil.rmtree(made, ignore_errors=True)
        raise
    return folder


def _array(folder: Path, name: str) -> np.ndarray | None:
    """A file's array, or its lines; inputs as a memory map. None where there is no such file."""
    path, lines = folder / f"{name}.npy", folder / f"{name}.txt"
    try:
        if path.is_file():
            mapped = name.endswith(INPUTS[0])
            return lettered(np.load(path, mmap_mode="r" if mapped else None, allow_pickle=False))
        if lines.is_file():
            return np.array(lines.read_text(encoding="utf-8").split("\n")[:-1])
    except Exception as error:  # damaged files fail in many ways
        raise Refusal(
            f"expected a NumPy array or lines of text in {folder} as {name}, got: {error}; write it anew"
        ) from error
    return None


def _write(folder: Path, prefix: str, given: Any, classes: tuple[str, ...]) -> None:
    """One part: inputs straight to disk, the rest kept until the end."""
    numbers: Mapping[str, int] = {name: number for number, name in enumerate(classes)}
    what, first, labels = f"the {'test' if prefix else 'training'} part", None, []
    names: dict[str, list[str]] = {"ids": [], "groups": [], "kinds": []}
    with (folder / f"{prefix}inputs.npy").open("wb") as file:
        for at, item in enumerate(items(given, what)):
            if first is None:
                first, start = item, _head(file, item, 0)
            refuse_unless_like(item, first, f"item {at} of {what}")
            file.write(np.ascontiguousarray(item.input).data)
            if isinstance(item.label, str) and item.label not in numbers:
                raise Refusal(
                    f"expected labels of classes ({', '.join(classes)}), got {item.label!r}; name all classes"
                )
            labels.append(numbers[item.label] if isinstance(item.label, str) else item.label)
            for column, text in (("ids", item.id), ("groups", item.group), ("kinds", item.kind)):
                names[column] += [] if text is None else [text]
        if first is None:
            raise Refusal(f"expected at least one item in {what}, got none; check the data")
        file.seek(0)
        if _head(file, first, len(labels)) != start:
            raise Refusal("expected a head of the same length, got another; this NumPy is not known to unteach")
    np.save(folder / f"{prefix}labels.npy", np.array(labels), allow_pickle=False)
    for column, texts in names.items():
        if texts:
            _write_lines(folder / f"{prefix}{column}.txt", texts)


def _head(file: IO[bytes], item: Item, count: int) -> int:
    """Write the head of an array of so many items; NumPy leaves room for the first number to grow."""
    about = {"descr": item.input.dtype.str, "fortran_order": False, "shape": (count, *item.input.shape)}
    np.lib.format.write_array_header_1_0(file, about)
    return file.tell()


def _write_lines(path: Path, texts: list[str]) -> None:
    if bad := [text for text in texts if not writable(text)]:
        raise Refusal(f"expected names that fit on a line, got {bad[0]!r}; no line breaks, outer spaces or # in front")
    path.write_text("".join(f"{text}\n" for text in texts), encoding="utf-8", newline="\n")
