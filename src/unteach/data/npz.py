"""NumPy archives: arrays of inputs and labels, by name."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from unteach.data.archives import refuse_bomb
from unteach.data.dataset import DataSet, Where, checked, divided, paired
from unteach.data.places import with_options
from unteach.data.scale import scaled
from unteach.types import Examples, Refusal

INPUTS = ("inputs", "x")
LABELS = ("labels", "y")


def npz(where: Where) -> DataSet:
    """A NumPy archive: inputs (or x), labels (or y); optional ids, groups, kinds, classes; test_… the same, or a hold-out.

    Images are uint8 ``n × c × h × w`` (0–255), or ``n × h × w`` if grey; features are numbers ``n × k``, embeddings floats
    ``n × tokens × width``. ``npz:PATH?scale=unit`` brings features to 0–1.
    """
    written, options = with_options(where.argument, ("scale",))
    return scaled(_read(Path(written), where), options.get("scale"))


def _read(path: Path, where: Where) -> DataSet:
    arrays = read_npz(path)
    names = tuple(str(name) for name in arrays["classes"].tolist()) if "classes" in arrays else ()
    if "classes" in arrays and arrays["classes"].ndim != 1:
        raise Refusal(
            f"expected a list of class names in {path}, got shape {arrays['classes'].shape}; one name a class"
        )
    name, train = f"npz:{where.argument}", part(path, arrays, "", names)
    if not any(f"test_{name}" in arrays for name in (*INPUTS, *LABELS)):
        return divided(name, train, where.test_share)
    return paired(name, train, part(path, arrays, "test_", train.classes))


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """All arrays of an archive, read without running code in it.

    Raises: Refusal for files that are missing, damaged, of another kind, or that hold Python objects.
    """
    if not path.is_file():
        raise Refusal(f"expected a NumPy archive at {path}, got no such file; check the path")
    try:
        with path.open("rb") as file:  # NumPy leaves a file open when it is no archive
            archive = np.load(file, allow_pickle=False)
            if isinstance(archive, np.ndarray):
                raise Refusal(f"expected an archive of named arrays at {path}, got a single one; use numpy.savez")
            refuse_bomb(path, sum(entry.file_size for entry in archive.zip.infolist()))
            return {name: lettered(archive[name]) for name in archive.files}
    except Refusal:
        raise
    except Exception as error:  # damaged archives fail in many ways
        raise Refusal(
            f"expected a NumPy archive at {path}, got: {error}; write it with numpy.savez, without objects"
        ) from error


def lettered(array: np.ndarray) -> np.ndarray:
    """The array, once it is sure that its text is of letters: NumPy takes a file's word for it, and Python fails later."""
    if (
        array.dtype.kind == "U"
        and (np.frombuffer(array.tobytes(), f"{array.dtype.byteorder}u4") > sys.maxunicode).any()
    ):
        raise ValueError("text with codes of no letters")
    return array


def part(path: Path, arrays: Mapping[str, np.ndarray], prefix: str, classes: tuple[str, ...]) -> Examples:
    """The examples in the arrays whose names begin so: with nothing, or with ``test_``."""
    found = []
    for names in (INPUTS, LABELS):
        name = next((prefix + each for each in names if prefix + each in arrays), None)
        if name is None:
            wanted = " or ".join(prefix + each for each in names)
            raise Refusal(f"expected an array {wanted} in {path}, got {', '.join(arrays) or 'none'}; name it so")
        found.append(arrays[name])
    inputs, labels = found
    if inputs.dtype == np.uint8 and inputs.ndim == 3:
        inputs = inputs[:, None]
    extra = {name: arrays.get(prefix + name) for name in ("ids", "groups", "kinds")}
    source = f"{path} ({'test' if prefix else 'train'})"
    return checked(source, inputs, labels, classes=classes, prefix="test-" if prefix else "", **extra)
