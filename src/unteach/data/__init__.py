"""Files on disk to examples, requests to forget to splits, and images to batches."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from unteach.data.augment import Augment, Resident
from unteach.data.cifar import cifar10, cifar20, cifar100
from unteach.data.dataset import DataSet, Where, checked, divided, hold_out
from unteach.data.digits import digits
from unteach.data.faces import cmu_faces
from unteach.data.fashion import fashion_mnist
from unteach.data.folder import folder
from unteach.data.hub import hub
from unteach.data.mucac import mucac
from unteach.data.mufac import mufac
from unteach.data.npz import npz
from unteach.data.request import forget_ids, split, write_ids
from unteach.data.shards import wds
from unteach.data.tables import parquet
from unteach.data.tiny_imagenet import tiny_imagenet
from unteach.data.torchvision_files import torchvision
from unteach.types import Refusal

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
    "parquet": parquet,
    "hub": hub,
    "wds": wds,
    "torchvision": torchvision,
}
WITH_TASK = ("cmu-faces", "mucac")
WITH_PATH = ("folder", "npz", "parquet", "hub", "wds")
WITH_OPTION = ("cmu-faces", "mufac", "mucac", "torchvision")


def load(
    spec: str,
    *,
    root: Path | None = None,
    download: bool = False,
    task: str | None = None,
    test_share: float = 0.2,
) -> DataSet:
    """The data set of this name, or in the user's own files: ``NAME``, ``folder:PATH``, ``npz:PATH``, ``parquet:PATH`` ….

    ``root``: a folder to look for known data sets in, before ``UNTEACH_DATA`` and the usual places. ``download``: whether
    missing official files may be fetched. ``task``: which labels, where there is a choice. ``test_share``: the part (0–1)
    held out as test set where the data bring none. Raises: Refusal for data that are not there or can't be right.
    """
    name, _, argument = spec.partition(":")
    if name not in DATA:
        known = ", ".join(f"{each}:PATH" if each in WITH_PATH else each for each in DATA)
        raise Refusal(f"expected a data set ({known}), got {spec!r}; choose one of these")
    if name in WITH_PATH and not argument:
        raise Refusal(f"expected {name}:PATH, got {spec!r}; name the file or folder after the colon")
    if argument and name not in (*WITH_PATH, *WITH_OPTION):
        raise Refusal(f"expected {name} without anything after it, got {spec!r}; leave out {':' + argument!r}")
    if task is not None and name not in WITH_TASK:
        raise Refusal(f"expected no task for {name}, which has one kind of labels, got {task!r}; leave out the task")
    return DATA[name](Where(argument=argument, root=root, download=download, task=task, test_share=test_share))


__all__ = [
    "DATA",
    "Augment",
    "DataSet",
    "Resident",
    "Where",
    "checked",
    "divided",
    "forget_ids",
    "hold_out",
    "load",
    "split",
    "write_ids",
]
