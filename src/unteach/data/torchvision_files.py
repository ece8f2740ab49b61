"""Data sets that torchvision has left on this disk, in its folders, read without torchvision."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from unteach.data.augment import Augment
from unteach.data.cifar import cifar10, cifar100
from unteach.data.dataset import DataSet, Where, checked, paired
from unteach.data.fashion import CLASSES as FASHION
from unteach.data.fashion import read_idx
from unteach.data.images import LOOKS, Look, look_of, read_all
from unteach.data.matlab import read_matlab
from unteach.data.places import inside, nowhere, places, with_options
from unteach.types import Examples, Refusal

DIGITS = tuple(str(k) for k in range(10))
KUZUSHIJI = ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo")
STL = ("airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck")
PICTURES = Augment(crop=4, flip=True)


@dataclass(frozen=True, kw_only=True)
class _Set:
    """One of torchvision's data sets: the ``folders`` it may lie in, a ``file`` that is then there, and how it is read.

    ``read`` gives training and test part of a folder. ``looks``: whether its images differ in size, so that they need a look.
    """

    folders: tuple[str, ...]
    file: str
    read: Callable[[Path, Look], tuple[Examples, Examples]]
    augment: Augment | None = PICTURES
    looks: bool = False


def torchvision(where: Where) -> DataSet:
    """A data set that torchvision downloaded, such as torchvision:SVHN, in the folder given as its root (data_root).

    MNIST, FashionMNIST, KMNIST, CIFAR10, CIFAR100, SVHN, STL10; and Flowers102, Food101, OxfordIIITPet, whose images are
    brought to one size by ``torchvision:Food101?size=64``. Training and test part are torchvision's, of Flowers102 train and val
    together. Ids are row numbers, or the names of the images' files. *Departs:* torchvision itself is not used: its readers
    unpickle CIFAR's files as they are, and it does not import beside a CPU build of torch.
    """
    name = where.argument.partition("?")[0]
    if name in ("CIFAR10", "CIFAR100"):
        with_options(where.argument, ())
        return (cifar10 if name == "CIFAR10" else cifar100)(where)
    if name not in SETS:
        known = ", ".join(sorted((*SETS, "CIFAR10", "CIFAR100")))
        raise Refusal(
            f"expected torchvision:NAME of {known}, got {name!r}; others by folder:PATH, hub:PATH or wds:PATTERN"
        )
    one = SETS[name]
    look = look_of(with_options(where.argument, LOOKS if one.looks else ())[1])
    looked = places(where.root, one.folders)
    folder = next((place for place in looked if (place / one.file).is_file()), None)
    if folder is None:
        raise nowhere(
            f"torchvision's {name}", looked, f"give --data_root the root that has {one.folders[0]}/{one.file}"
        )
    try:
        train, test = one.read(folder, look)
    except (OSError, UnicodeDecodeError) as error:
        raise Refusal(f"expected the whole of {name} in {folder}, got: {error}; fetch it again") from error
    return paired(f"torchvision:{where.argument}", train, test, one.augment)


def _idx(classes: tuple[str, ...]) -> Callable[[Path, Look], tuple[Examples, Examples]]:
    def read(folder: Path, _: Look) -> tuple[Examples, Examples]:
        train, test = (
            checked(
                f"{folder} ({part})",
                read_idx(folder / f"{part}-images-idx3-ubyte", 3)[:, None],
                read_idx(folder / f"{part}-labels-idx1-ubyte", 1),
                classes=classes,
                prefix=prefix,
            )
            for part, prefix in (("train", ""), ("t10k", "test-"))
        )
        return train, test

    return read


def _svhn(folder: Path, _: Look) -> tuple[Examples, Examples]:
    """MATLAB's files: images ``32 × 32 × 3 × n``, labels ``n × 1`` with 10 for the digit 0."""

    def part(name: str, prefix: str) -> Examples:
        path = folder / f"{name}_32x32.mat"
        images, labels = read_matlab(path, "X"), read_matlab(path, "y").ravel()
        if images.dtype != np.uint8 or images.shape[:3] != (32, 32, 3) or not np.isin(labels, np.arange(1, 11)).all():
            raise Refusal(
                f"expected SVHN's images and labels in {path}, got {images.dtype} {images.shape}; fetch it again"
            )
        return checked(
            str(path), images.transpose(3, 2, 0, 1), labels.astype(np.int64) % 10, classes=DIGITS, prefix=prefix
        )

    return part("train", ""), part("test", "test-")


def _stl10(folder: Path, _: Look) -> tuple[Examples, Examples]:
    """Bytes of images ``n × 3 × 96 × 96``, column by column; labels from 1."""

    def part(name: str, prefix: str) -> Examples:
        pixels, labels = (
            np.fromfile(folder / f"{name}_X.bin", np.uint8),
            np.fromfile(folder / f"{name}_y.bin", np.uint8),
        )
        if len(pixels) != 3 * 96 * 96 * len(labels) or not np.isin(labels, np.arange(1, 11)).all():
            raise Refusal(
                f"expected 27,648 bytes for each of {len(labels)} labels of 1 to 10 in {folder}/{name}_X.bin, got {len(pixels)}; "
                "fetch it again"
            )
        images = pixels.reshape(-1, 3, 96, 96).transpose(0, 1, 3, 2)
        return checked(f"{folder} ({name})", images, labels.astype(np.int64) - 1, classes=STL, prefix=prefix)

    return part("train", ""), part("test", "test-")


def _flowers(folder: Path, look: Look) -> tuple[Examples, Examples]:
    """Images by number, a table of labels from 1, and tables of the numbers of each part."""
    labels = read_matlab(folder / "imagelabels.mat", "labels").ravel().astype(np.int64) - 1
    parts = {
        name: read_matlab(folder / "setid.mat", name).ravel().astype(np.int64) for name in ("trnid", "valid", "tstid")
    }
    classes = tuple(str(k + 1) for k in range(102))

    def part(numbers: np.ndarray) -> Examples:
        if numbers.min(initial=1) < 1 or numbers.max(initial=1) > len(labels):
            raise Refusal(f"expected numbers of 1 to {len(labels)} in {folder}/setid.mat, got others; fetch it again")
        files = [folder / "jpg" / f"image_{number:05d}.jpg" for number in numbers.tolist()]
        return _pictures(folder, files, labels[numbers - 1], classes, look)

    return part(np.sort(np.concatenate((parts["trnid"], parts["valid"])))), part(np.sort(parts["tstid"]))


def _food(folder: Path, look: Look) -> tuple[Examples, Examples]:
    """Lists of CLASS/NUMBER in meta, images in images/CLASS/NUMBER.jpg."""
    lists = [(folder / "meta" / f"{part}.txt").read_text().split() for part in ("train", "test")]
    classes = tuple(sorted({line.partition("/")[0] for line in lists[0]}))

    def part(lines: list[str]) -> Examples:
        names = [line.partition("/")[0] for line in lines]
        files = [folder / "images" / inside(f"{line}.jpg", folder) for line in lines]
        return _pictures(folder, files, _numbers(names, classes, folder), classes, look)

    return part(lists[0]), part(lists[1])


def _pets(folder: Path, look: Look) -> tuple[Examples, Examples]:
    """Lists of ``BREED_NUMBER class species breed`` in annotations, images in images/BREED_NUMBER.jpg."""

    def names(part: str) -> list[str]:
        lines = (folder / "annotations" / f"{part}.txt").read_text().splitlines()
        return [line.split()[0] for line in lines if line.strip() and not line.startswith("#")]

    parts = [names("trainval"), names("test")]
    classes = tuple(sorted({name.rpartition("_")[0] for name in parts[0]}))

    def part(stems: list[str]) -> Examples:
        files = [folder / "images" / inside(f"{stem}.jpg", folder) for stem in stems]
        numbers = _numbers([stem.rpartition("_")[0] for stem in stems], classes, folder)
        return _pictures(folder, files, numbers, classes, look)

    return part(parts[0]), part(parts[1])


def _numbers(names: list[str], classes: tuple[str, ...], folder: Path) -> list[int]:
    at = {name: number for number, name in enumerate(classes)}
    if strange := [name for name in names if name not in at]:
        raise Refusal(f"expected the training set's classes in {folder}, got {strange[0]!r}; fetch it again")
    return [at[name] for name in names]


def _pictures(folder: Path, files: list[Path], labels: Any, classes: tuple[str, ...], look: Look) -> Examples:
    ids = np.array([file.relative_to(folder).with_suffix("").as_posix() for file in files])
    return checked(str(folder), read_all(files, look), labels, classes=classes, ids=ids)


SETS = {
    "MNIST": _Set(
        folders=("MNIST/raw",), file="train-images-idx3-ubyte", read=_idx(DIGITS), augment=Augment(crop=2, flip=False)
    ),
    "FashionMNIST": _Set(
        folders=("FashionMNIST/raw",),
        file="train-images-idx3-ubyte",
        read=_idx(FASHION),
        augment=Augment(crop=2, flip=True),
    ),
    "KMNIST": _Set(
        folders=("KMNIST/raw",),
        file="train-images-idx3-ubyte",
        read=_idx(KUZUSHIJI),
        augment=Augment(crop=2, flip=False),
    ),
    "SVHN": _Set(folders=("SVHN", "svhn"), file="train_32x32.mat", read=_svhn, augment=Augment(crop=4, flip=False)),
    "STL10": _Set(folders=("stl10_binary",), file="train_X.bin", read=_stl10),
    "Flowers102": _Set(folders=("flowers-102",), file="setid.mat", read=_flowers, looks=True),
    "Food101": _Set(folders=("food-101",), file="meta/train.txt", read=_food, looks=True),
    "OxfordIIITPet": _Set(folders=("oxford-iiit-pet",), file="annotations/trainval.txt", read=_pets, looks=True),
}
