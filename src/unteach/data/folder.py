"""Folders of images: one subfolder a class."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from unteach.data.dataset import DataSet, Where, checked, divided, paired
from unteach.data.images import LOOKS, Look, look_of, read_all
from unteach.data.places import with_options
from unteach.types import Examples, Refusal

IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".pgm", ".ppm", ".tif", ".tiff", ".webp")


def folder(where: Where) -> DataSet:
    """Image files in one subfolder a class, under PATH/train and PATH/test (or val), or under PATH with a fixed hold-out.

    An id is the path below PATH, such as ``train/cat/17.png``. Files that are no images by their ending are passed over.
    ``folder:PATH?size=64&colour=true`` brings images of several sizes or kinds to one.
    """
    written, options = with_options(where.argument, LOOKS)
    path, look = Path(written), look_of(options)
    if not path.is_dir():
        raise Refusal(f"expected a folder with one subfolder a class at {path}, got none; check the path")
    test = next((path / name for name in ("test", "val") if (path / name).is_dir()), None)
    if (path / "train").is_dir() and test is not None:
        train = _part(path, path / "train", (), look)
        return paired(f"folder:{where.argument}", train, _part(path, test, train.classes, look))
    return divided(f"folder:{where.argument}", _part(path, path, (), look), where.test_share)


def _part(top: Path, part: Path, classes: tuple[str, ...], look: Look) -> Examples:
    found = {
        sub.name: sorted(
            file for file in sub.rglob("*") if file.suffix.lower() in IMAGES and not file.name.startswith(".")
        )
        for sub in sorted(part.iterdir())
        if sub.is_dir() and not sub.name.startswith(".")
    }
    if empty := [name for name, files in found.items() if not files]:
        raise Refusal(
            f"expected images in every class folder of {part}, got none in {empty[0]}; add some or remove the folder"
        )
    classes = classes or tuple(found)
    if len(classes) < 2:
        raise Refusal(f"expected at least two class folders in {part}, got {len(classes)}; one subfolder a class")
    if strange := [name for name in found if name not in classes]:
        raise Refusal(
            f"expected the classes of the training images in {part}, got {strange[0]} too; make the folders alike"
        )
    files = [file for name in found for file in found[name]]
    labels = [classes.index(name) for name in found for _ in found[name]]
    ids = np.array([file.relative_to(top).as_posix() for file in files])
    return checked(str(part), read_all(files, look), labels, classes=classes, ids=ids)
