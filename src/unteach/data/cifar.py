"""CIFAR-10 and CIFAR-100 in the layouts people have: Python pickles, binary files, Hugging Face Parquet."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from unteach.data.augment import Augment
from unteach.data.dataset import DataSet, Where, checked, paired
from unteach.data.download import Archive, provided
from unteach.data.images import Look, decode_all
from unteach.data.pickles import read_pickle
from unteach.data.places import cache_folder, nowhere, places
from unteach.data.tables import class_names, image_bytes, read_table
from unteach.types import Examples, Refusal

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
# CIFAR-100: five fine classes in each of 20 coarse ones. Both are numbered in alphabetical order.
COARSE = {
    "aquatic_mammals": ("beaver", "dolphin", "otter", "seal", "whale"),
    "fish": ("aquarium_fish", "flatfish", "ray", "shark", "trout"),
    "flowers": ("orchid", "poppy", "rose", "sunflower", "tulip"),
    "food_containers": ("bottle", "bowl", "can", "cup", "plate"),
    "fruit_and_vegetables": ("apple", "mushroom", "orange", "pear", "sweet_pepper"),
    "household_electrical_devices": ("clock", "keyboard", "lamp", "telephone", "television"),
    "household_furniture": ("bed", "chair", "couch", "table", "wardrobe"),
    "insects": ("bee", "beetle", "butterfly", "caterpillar", "cockroach"),
    "large_carnivores": ("bear", "leopard", "lion", "tiger", "wolf"),
    "large_man-made_outdoor_things": ("bridge", "castle", "house", "road", "skyscraper"),
    "large_natural_outdoor_scenes": ("cloud", "forest", "mountain", "plain", "sea"),
    "large_omnivores_and_herbivores": ("camel", "cattle", "chimpanzee", "elephant", "kangaroo"),
    "medium_mammals": ("fox", "porcupine", "possum", "raccoon", "skunk"),
    "non-insect_invertebrates": ("crab", "lobster", "snail", "spider", "worm"),
    "people": ("baby", "boy", "girl", "man", "woman"),
    "reptiles": ("crocodile", "dinosaur", "lizard", "snake", "turtle"),
    "small_mammals": ("hamster", "mouse", "rabbit", "shrew", "squirrel"),
    "trees": ("maple_tree", "oak_tree", "palm_tree", "pine_tree", "willow_tree"),
    "vehicles_1": ("bicycle", "bus", "motorcycle", "pickup_truck", "train"),
    "vehicles_2": ("lawn_mower", "rocket", "streetcar", "tank", "tractor"),
}
FINE = tuple(sorted(name for names in COARSE.values() for name in names))
USUAL = Augment(crop=4, flip=True)
OFFICIAL = "https://www.cs.toronto.edu/~kriz/"


@dataclass(frozen=True, kw_only=True)
class _Layout:
    """What tells CIFAR-10's files from CIFAR-100's.

    ``meta``: the pickle with the class ``names``. ``keys``: of the labels in pickles, the finest last. ``classes``: their names
    where the files tell none.
    """

    name: str
    train: tuple[str, ...]
    test: tuple[str, ...]
    meta: str
    names: bytes
    keys: tuple[bytes, ...]
    classes: tuple[str, ...]
    folders: tuple[str, ...]
    archive: Archive


TEN = _Layout(
    name="cifar10",
    train=tuple(f"data_batch_{i}" for i in range(1, 6)),
    test=("test_batch",),
    meta="batches.meta",
    names=b"label_names",
    keys=(b"labels",),
    classes=CLASSES,
    folders=("cifar-10-batches-py", "cifar-10-batches-bin", "cifar10", "cifar10-jpeg"),
    # SHA-256 as Keras has it; the publishers name the MD5 c58f30108f718f92721af3b95e74349a of the same bytes.
    archive=Archive(
        url=OFFICIAL + "cifar-10-python.tar.gz",
        digest="sha256:6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
        folder="cifar-10-batches-py",
    ),
)
HUNDRED = _Layout(
    name="cifar100",
    train=("train",),
    test=("test",),
    meta="meta",
    names=b"fine_label_names",
    keys=(b"coarse_labels", b"fine_labels"),
    classes=FINE,
    folders=("cifar-100-python", "cifar-100-binary", "cifar100"),
    # Likewise; MD5 eb9058c3a382ffc7106e4002c42a8d85.
    archive=Archive(
        url=OFFICIAL + "cifar-100-python.tar.gz",
        digest="sha256:85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7",
        folder="cifar-100-python",
    ),
)


@dataclass(frozen=True)
class _Part:
    """What the files of one part hold: pixels ``n × 3 × 32 × 32``, a column for each sort of label with the finest last."""

    pixels: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]


def cifar10(where: Where) -> DataSet:
    """CIFAR-10 (Krizhevsky, 2009), 50,000 + 10,000 colour images 32 × 32: python pickles, binary or Parquet files."""
    return _plain(TEN, where)


def cifar100(where: Where) -> DataSet:
    """CIFAR-100 (Krizhevsky, 2009), fine labels; 50,000 + 10,000 colour images 32 × 32."""
    return _plain(HUNDRED, where)


def cifar20(where: Where) -> DataSet:
    """CIFAR-100 under its 20 coarse labels; the fine class is each image's kind: group:rocket forgets a subclass.

    Names are Krizhevsky's, whatever the files say: a common copy spells crab as cra. Raises: Refusal where a coarse label is
    not the one that its fine label belongs to.
    """
    coarse_of = {fine: number for number, names in enumerate(COARSE.values()) for fine in names}
    belongs = np.array([coarse_of[fine] for fine in FINE])
    parts = []
    for part, prefix in zip(_parts(HUNDRED, where), ("", "test-")):
        fine = _examples("cifar20", replace(part, classes=FINE), prefix)
        coarse = belongs[fine.labels.numpy()]
        if part.labels.shape[1] < 2 or (part.labels[:, 0] != coarse).any():
            raise Refusal(
                "expected the coarse label of each fine label for cifar20, got none, or another; fetch CIFAR-100 again"
            )
        kinds = np.array(FINE)[fine.labels.numpy()]
        parts.append(replace(fine, labels=torch.from_numpy(coarse), classes=tuple(COARSE), kinds=kinds))
    return paired("cifar20", parts[0], parts[1], USUAL)


def _plain(layout: _Layout, where: Where) -> DataSet:
    train, test = (_examples(layout.name, part, prefix) for part, prefix in zip(_parts(layout, where), ("", "test-")))
    return paired(layout.name, train, test, USUAL)


def _examples(name: str, part: _Part, prefix: str) -> Examples:
    source = f"{name} ({prefix or 'train'})"
    return checked(source, part.pixels, part.labels[:, -1], classes=part.classes, prefix=prefix)


def _parts(layout: _Layout, where: Where) -> list[_Part]:
    """Training and test part from the first place that has them in any layout."""
    looked = places(where.root, layout.folders, (cache_folder(layout.name) / layout.archive.folder,))
    for folder in looked:
        if parts := _read(layout, folder):
            return parts
    if where.download and (parts := _read(layout, provided(layout.name, layout.archive))):
        return parts
    advice = f"give --data_root the folder with {' or '.join(layout.folders[:2])}, or train-*.parquet and test-*.parquet, or "
    raise nowhere(layout.name, looked, advice + "--download true")


def _read(layout: _Layout, folder: Path) -> list[_Part] | None:
    for reader in (_from_pickles, _from_binary, _from_parquet):
        if parts := reader(layout, folder):
            return parts
    return None


def _part(rows: list[tuple[np.ndarray, np.ndarray]], classes: tuple[str, ...]) -> _Part:
    pixels = np.concatenate([images for images, _ in rows]).reshape(-1, 3, 32, 32)
    return _Part(pixels, np.concatenate([labels for _, labels in rows]), classes)


def _from_pickles(layout: _Layout, folder: Path) -> list[_Part] | None:
    if not all((folder / part).is_file() for part in (*layout.train, *layout.test)):
        return None
    meta = folder / layout.meta
    names = read_pickle(meta).get(layout.names, []) if meta.is_file() else []
    if not isinstance(names, list):
        raise Refusal(f"expected a list of class names in {meta}, got {type(names).__name__}; fetch the data set again")
    classes = tuple(n.decode(errors="replace") if isinstance(n, bytes) else str(n) for n in names) or layout.classes
    return [
        _part([_batch(folder / file, layout.keys) for file in files], classes) for files in (layout.train, layout.test)
    ]


def _batch(path: Path, keys: tuple[bytes, ...]) -> tuple[np.ndarray, np.ndarray]:
    found = read_pickle(path)
    pixels, columns = found.get(b"data"), [found.get(key) for key in keys if key in found]
    if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8 or pixels.ndim != 2 or pixels.shape[1] != 3072:
        raise Refusal(f"expected rows of 3,072 bytes in {path}, got something else; fetch the data set again")
    if keys[-1] not in found or not all(
        isinstance(labels, list) and len(labels) == len(pixels) and all(isinstance(label, int) for label in labels)
        for labels in columns
    ):
        raise Refusal(
            f"expected a list of {len(pixels)} labels in {path}, got something else; fetch the data set again"
        )
    return pixels, np.array(columns).T


def _from_binary(layout: _Layout, folder: Path) -> list[_Part] | None:
    if not all((folder / f"{part}.bin").is_file() for part in (*layout.train, *layout.test)):
        return None
    marks = len(layout.keys)

    def read(path: Path) -> tuple[np.ndarray, np.ndarray]:
        data = np.fromfile(path, np.uint8)
        if len(data) == 0 or len(data) % (3072 + marks):
            raise Refusal(f"expected rows of {3072 + marks} bytes in {path}, got {len(data)} bytes; the file is cut")
        rows = data.reshape(-1, 3072 + marks)
        return rows[:, marks:], rows[:, :marks]

    return [
        _part([read(folder / f"{file}.bin") for file in files], layout.classes) for files in (layout.train, layout.test)
    ]


def _from_parquet(layout: _Layout, folder: Path) -> list[_Part] | None:
    files = [sorted(folder.glob(f"{part}*.parquet")) for part in ("train", "test")]
    return [_table(paths, layout) for paths in files] if all(files) else None


def _table(paths: list[Path], layout: _Layout) -> _Part:
    table = read_table(paths)
    label, image = (
        next((name for name in names if name in table.column_names), None)
        for names in (("fine_label", "label"), ("img", "image"))
    )
    if label is None or image is None:
        raise Refusal(f"expected columns img and label in {paths[0]}, got {table.column_names}; give CIFAR's own")
    pixels = decode_all(image_bytes(table[image]), paths[0], Look(colour=True))
    if pixels.shape[1:] != (3, 32, 32):
        raise Refusal(f"expected colour images 32 × 32 in {paths[0]}, got {pixels.shape[1:]}; give CIFAR's own")
    columns = [table[name].to_numpy() for name in ("coarse_label", label) if name in table.column_names]
    return _part([(pixels, np.stack(columns, axis=1))], class_names(table, label) or layout.classes)
