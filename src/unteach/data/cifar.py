"""CIFAR-10 and CIFAR-100 in the layouts people have: Python pickles, binary files, Hugging Face Parquet."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np

from unteach.data.augment import Augment
from unteach.data.dataset import DataSet, Where, checked, paired
from unteach.data.images import decode_all
from unteach.data.places import nowhere, places
from unteach.data.tables import class_names, image_bytes, read_table
from unteach.types import Examples, Refusal

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
USUAL = Augment(crop=4, flip=True)
ADVICE = (
    "give --data_root the folder with cifar-10-batches-py, cifar-10-batches-bin, or train-*.parquet and test-*.parquet"
)


def cifar10(where: Where) -> DataSet:
    """CIFAR-10 (Krizhevsky, 2009), 50,000 + 10,000 colour images 32 × 32: python pickles, binary or Parquet files."""
    return _cifar("cifar10", where, ("cifar-10-batches-py", "cifar-10-batches-bin", "cifar10", "cifar10-jpeg"))


def cifar100(where: Where) -> DataSet:
    """CIFAR-100 (Krizhevsky, 2009), fine labels; 50,000 + 10,000 colour images 32 × 32."""
    return _cifar("cifar100", where, ("cifar-100-python", "cifar-100-binary", "cifar100"))


def _cifar(name: str, where: Where, folders: tuple[str, ...]) -> DataSet:
    looked = places(where.root, folders)
    for folder in looked:
        for reader in (_from_pickles, _from_binary, _from_parquet):
            parts = reader(name, folder)
            if parts:
                return paired(name, parts[0], parts[1], USUAL)
    raise nowhere(name, looked, ADVICE.replace("cifar-10-batches-py, cifar-10-batches-bin", " or ".join(folders[:2])))


def _examples(name: str, rows: list[tuple[np.ndarray, np.ndarray]], prefix: str, classes: tuple[str, ...]) -> Examples:
    pixels = np.concatenate([images for images, _ in rows]).reshape(-1, 3, 32, 32)
    labels = np.concatenate([marks for _, marks in rows])
    if not classes:
        classes = CLASSES if name == "cifar10" else tuple(str(k) for k in range(100))
    return checked(f"{name} ({prefix or 'train'})", pixels, labels, classes=classes, prefix=prefix)


def _from_pickles(name: str, folder: Path) -> list[Examples] | None:
    ten = name == "cifar10"
    train = [f"data_batch_{i}" for i in range(1, 6)] if ten else ["train"]
    test = ["test_batch"] if ten else ["test"]
    if not all((folder / part).is_file() for part in (*train, *test)):
        return None
    key = b"labels" if ten else b"fine_labels"
    meta = folder / ("batches.meta" if ten else "meta")
    names = read_pickle(meta).get(b"label_names" if ten else b"fine_label_names", []) if meta.is_file() else []
    classes = tuple(n.decode() if isinstance(n, bytes) else str(n) for n in names)
    return [
        _examples(name, [_batch(folder / part, key) for part in parts], prefix, classes)
        for parts, prefix in ((train, ""), (test, "test-"))
    ]


def _batch(path: Path, key: bytes) -> tuple[np.ndarray, np.ndarray]:
    found = read_pickle(path)
    pixels, labels = found.get(b"data"), found.get(key)
    if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8 or pixels.ndim != 2 or pixels.shape[1] != 3072:
        raise Refusal(f"expected rows of 3,072 bytes in {path}, got something else; fetch the data set again")
    if (
        not isinstance(labels, list)
        or not all(isinstance(label, int) for label in labels)
        or len(labels) != len(pixels)
    ):
        raise Refusal(
            f"expected a list of {len(pixels)} labels in {path}, got something else; fetch the data set again"
        )
    return pixels, np.asarray(labels)


class _BytesOnly(pickle.Unpickler):
    """Lets through what an array of bytes needs, and nothing that could run code: pickle's own way is to subclass."""

    ALLOWED = frozenset(
        {
            ("numpy.core.multiarray", "_reconstruct"),
            ("numpy._core.multiarray", "_reconstruct"),
            ("numpy", "ndarray"),
            ("numpy", "dtype"),
            ("_codecs", "encode"),
        }
    )

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self.ALLOWED:
            raise pickle.UnpicklingError(f"{module}.{name} is not part of an array of bytes")
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)


def read_pickle(path: Path) -> dict[bytes, Any]:
    """The dictionary in one of CIFAR's pickle files, read without running code in it.

    Raises: Refusal for anything but a dictionary of numbers, strings, lists and byte arrays.
    """
    try:
        found = _BytesOnly(io.BytesIO(path.read_bytes()), encoding="bytes").load()
    except Exception as error:  # a damaged pickle can fail in any way
        raise Refusal(f"expected one of CIFAR's own files at {path}, got: {error}; fetch the data set again") from error
    if not isinstance(found, dict):
        raise Refusal(f"expected a dictionary in {path}, got {type(found).__name__}; fetch the data set again")
    return found


def _from_binary(name: str, folder: Path) -> list[Examples] | None:
    ten = name == "cifar10"
    train = [f"data_batch_{i}.bin" for i in range(1, 6)] if ten else ["train.bin"]
    test = ["test_batch.bin"] if ten else ["test.bin"]
    if not all((folder / part).is_file() for part in (*train, *test)):
        return None
    marks = 1 if ten else 2  # CIFAR-100 has the coarse label first, then the fine one

    def read(path: Path) -> tuple[np.ndarray, np.ndarray]:
        data = np.fromfile(path, np.uint8)
        if len(data) == 0 or len(data) % (3072 + marks):
            raise Refusal(f"expected rows of {3072 + marks} bytes in {path}, got {len(data)} bytes; the file is cut")
        rows = data.reshape(-1, 3072 + marks)
        return rows[:, marks:].copy(), rows[:, marks - 1]

    return [
        _examples(name, [read(folder / part) for part in parts], prefix, ())
        for parts, prefix in ((train, ""), (test, "test-"))
    ]


def _from_parquet(name: str, folder: Path) -> list[Examples] | None:
    files = {part: sorted(folder.glob(f"{part}*.parquet")) for part in ("train", "test")}
    if not all(files.values()):
        return None
    parts = []
    for part, prefix in (("train", ""), ("test", "test-")):
        table = read_table(files[part])
        label = next((column for column in ("fine_label", "label") if column in table.column_names), None)
        image = next((column for column in ("img", "image") if column in table.column_names), None)
        if label is None or image is None:
            raise Refusal(
                f"expected columns img and label in {files[part][0]}, got {table.column_names}; give CIFAR's own"
            )
        pixels = decode_all(image_bytes(table[image]), files[part][0], colour=True)
        if pixels.shape[1:] != (3, 32, 32):
            raise Refusal(
                f"expected colour images 32 × 32 in {files[part][0]}, got {pixels.shape[1:]}; give CIFAR's own"
            )
        parts.append(_examples(name, [(pixels, table[label].to_numpy())], prefix, class_names(table, label)))
    return parts
