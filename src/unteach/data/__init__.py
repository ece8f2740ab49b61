"""Files on disk to examples, requests to forget to splits, and images to batches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from unteach.data.augment import Augment, Resident
from unteach.data.cifar import cifar10, cifar20, cifar100
from unteach.data.csv_tables import csv
from unteach.data.dataset import DataSet, Where, checked, divided, hold_out
from unteach.data.digits import digits
from unteach.data.faces import cmu_faces
from unteach.data.fashion import fashion_mnist
from unteach.data.folder import folder
from unteach.data.hub import hub
from unteach.data.memmap import memmap, write_memmap
from unteach.data.mucac import mucac
from unteach.data.mufac import mufac
from unteach.data.npz import npz
from unteach.data.own import data_set_of, examples_of, is_code, named_data, with_loss
from unteach.data.request import forget_ids, split, write_ids
from unteach.data.shards import wds
from unteach.data.tables import parquet
from unteach.data.tiny_imagenet import tiny_imagenet
from unteach.data.torchvision_files import torchvision
from unteach.types import Refusal
from unteach.user_code import is_pinned

DATA: dict[str, Callable[[Where], DataSet]] = {
    "digits": digits,
    "fashion-mnist": fashion_mnist,
    "cifar10": cifar10,
    "cifar20": cifar20,
    "cifar100": cifar100,
    "tiny-imagenet": tiny_imagenet,
    "cmu-faces": cmu_faces,
    "mufac": mufac,
    "mucac": mucac,
    "folder": folder,
    "npz": npz,
    "memmap": memmap,
    "csv": csv,
    "parquet": parquet,
    "hub": hub,
    "wds": wds,
    "torchvision": torchvision,
}
WITH_TASK = ("cmu-faces", "mucac")
WITH_PATH = ("folder", "npz", "memmap", "csv", "parquet", "hub", "wds")
WITH_OPTION = ("cmu-faces", "mufac", "mucac", "torchvision")


def load(
    spec: str,
    *,
    root: Path | None = None,
    download: bool = False,
    task: str | None = None,
    test_share: float = 0.2,
    loss: str = "",
) -> DataSet:
    """The data set of this name, or in the user's own files: ``NAME``, ``folder:PATH``, ``npz:PATH``, ``parquet:PATH`` ….

    Code of the user's own is pinned (``own.pinned("file.py:NAME?a=b")``); from Python ``data_set_of`` takes what it would make.
    ``root``: a folder to look for known data sets in, before ``UNTEACH_DATA`` and the usual places. ``download``: whether
    missing official files may be fetched. ``task``: which labels, where there is a choice. ``test_share``: the part (0–1)
    held out as test set where the data bring none. ``loss``: the user's own, pinned, in place of cross-entropy. Raises: Refusal
    for data that are not there or can't be right.
    """
    data = _read(spec, Where(root=root, download=download, task=task, test_share=test_share))
    return with_loss(data, loss) if loss else data


def _read(spec: str, where: Where) -> DataSet:
    name, _, argument = spec.partition(":")
    if name not in DATA and is_pinned(spec.partition("?")[0]):
        return named_data(spec, where.test_share)
    if is_code(spec):  # files tell specs too, and none may start code
        raise Refusal(
            f"expected code that was pinned, got {spec!r}; give own.pinned({spec!r}), or data_set_of(what it makes)"
        )
    if name not in DATA:
        known = ", ".join(f"{each}:PATH" if each in WITH_PATH else each for each in DATA)
        raise Refusal(f"expected a data set ({known}, file.py:NAME), got {spec!r}; choose one of these")
    if name in WITH_PATH and not argument:
        raise Refusal(f"expected {name}:PATH, got {spec!r}; name the file or folder after the colon")
    if argument and name not in (*WITH_PATH, *WITH_OPTION):
        raise Refusal(f"expected {name} without anything after it, got {spec!r}; leave out {':' + argument!r}")
    if where.task is not None and name not in WITH_TASK:
        raise Refusal(
            f"expected no task for {name}, which has one kind of labels, got {where.task!r}; leave out the task"
        )
    return DATA[name](replace(where, argument=argument))


__all__ = [
    "DATA",
    "Augment",
    "DataSet",
    "Resident",
    "Where",
    "checked",
    "data_set_of",
    "divided",
    "examples_of",
    "forget_ids",
    "hold_out",
    "load",
    "split",
    "write_ids",
    "write_memmap",
]
