"""Hugging Face data sets on this disk: Arrow files, read by pyarrow without running any code of theirs."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from unteach.data.dataset import DataSet, Where, divided, paired
from unteach.data.places import inside, with_options
from unteach.data.scale import scaled
from unteach.data.tables import OPTIONS, examples, import_arrow, sound, stacked
from unteach.types import Refusal

TESTS = ("test", "validation", "valid", "val")
SHARD = re.compile(r"-\d{5}-of-\d{5}$")
END = b"\xff\xff\xff\xff\0\0\0\0"  # of an Arrow stream: without it the last rows may be missing


def hub(where: Where) -> DataSet:
    """A Hugging Face data set saved by save_to_disk, or its folder in Hugging Face's cache: Arrow files of images or numbers.

    Columns are found by type (Image, ClassLabel) or name, as in ``parquet``, with the same options, and two for the parts:
    ``hub:PATH?label=fine_label&group=person&train=train&test=validation``. The test part is test, validation, valid or val;
    without one a fixed share is held out. Parquet files of the hub: ``parquet:PATH``.
    """
    written, options = with_options(where.argument, (*OPTIONS, "train", "test"))
    return scaled(_read(Path(written), options, where), options.get("scale"))


def _read(path: Path, options: Mapping[str, str], where: Where) -> DataSet:
    name = f"hub:{where.argument}"
    parts = _parts(path)
    first = options.get("train", "train" if "train" in parts or len(parts) > 1 else next(iter(parts)))
    second = options.get("test", next((part for part in TESTS if part in parts and part != first), None))
    for part in (first, second):
        if part is not None and part not in parts:
            raise Refusal(f"expected a part {part!r} in {path}, got {', '.join(parts)}; name them by ?train=…&test=…")
    train = examples(_table(parts[first]), path, options, prefix="", classes=())
    if second is None:
        return divided(name, train, where.test_share)
    test = examples(_table(parts[second]), path, options, prefix="test-", classes=train.classes)
    return paired(name, train, test)


def _parts(path: Path) -> dict[str, list[Path]]:
    """The files of each part."""
    if (path / "dataset_dict.json").is_file():
        names = _listed(path / "dataset_dict.json", "splits")
        return {str(name): _saved(path / inside(str(name), path)) for name in names}
    if (path / "state.json").is_file():
        return {"train": _saved(path)}
    found: dict[str, list[Path]] = {}
    for file in sorted(path.glob("*.arrow")):
        if not file.name.startswith("cache-"):  # what map() left
            found.setdefault(SHARD.sub("", file.stem).rpartition("-")[2], []).append(file)
    if not found:
        raise Refusal(
            f"expected a data set saved by save_to_disk, or Hugging Face's *.arrow files, at {path}, got none; check the path"
        )
    return found


def _saved(folder: Path) -> list[Path]:
    state = folder / "state.json"
    if _listed(state, "_indices_data_files", optional=True):
        raise Refusal(f"expected all rows of {folder} in order, got a selection; save it anew with a newer datasets")
    names = [file.get("filename") if isinstance(file, dict) else None for file in _listed(state, "_data_files")]
    return [folder / inside(str(name or ""), folder) for name in names]


def _listed(path: Path, key: str, optional: bool = False) -> list[Any]:
    """The list under a key of a JSON file."""
    try:
        found = json.loads(path.read_bytes())[key]
        if isinstance(found, list) and found:
            return found
        problem = f"no list of {key}"
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        problem = f"{type(error).__name__}: {error}"
    if optional:
        return []
    raise Refusal(f"expected what save_to_disk writes in {path}, got {problem}; save it anew")


def _table(paths: Sequence[Path]) -> Any:
    arrow = import_arrow()
    tables = []
    for path in paths:
        try:
            with path.open("rb") as file:
                file.seek(max(0, path.stat().st_size - len(END)))
                if file.read() != END:
                    raise arrow.ArrowInvalid("a stream without its end")
            with arrow.memory_map(str(path)) as source, arrow.ipc.open_stream(source) as reader:
                tables.append(sound(reader.read_all()))
        except (arrow.ArrowException, OSError, ValueError) as error:
            raise Refusal(f"expected an Arrow stream at {path}, got: {error}; it is cut or of another kind") from error
    return stacked(tables, paths[0])
