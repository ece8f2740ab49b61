"""Tiny-ImageNet: 200 classes of ImageNet, 64 × 64, in its own folders or in Hugging Face's Parquet files."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from unteach.data.augment import Augment
from unteach.data.dataset import DataSet, Where, checked, paired
from unteach.data.download import Archive, provided
from unteach.data.images import Look, read_all
from unteach.data.places import cache_folder, nowhere, places
from unteach.data.tables import examples, read_table
from unteach.types import Examples, Refusal

FOLDERS = ("tiny-imagenet-200", "tiny-imagenet", "tiny-imagenet/data")
WNID = re.compile(r"n\d{1,10}")
USUAL = Augment(crop=4, flip=True)
# The publishers name no digest. This SHA-256 and the MD5 90528d7ca1a48142e341f4ef8d21d0de of the same 248,100,043 bytes stand in
# many loaders that do not know of each other.
ARCHIVE = Archive(
    url="http://cs231n.stanford.edu/tiny-imagenet-200.zip",
    digest="sha256:6198c8ae015e2b3e007c7841da39ec069199b9aa3bfa943a462022fe5e43c821",
    folder="tiny-imagenet-200",
)


def tiny_imagenet(where: Where) -> DataSet:
    """Tiny-ImageNet (Le & Yang, 2015), 100,000 + 10,000 colour images 64 × 64, 200 classes; the test set is the validation part.

    Read from the official folders (the test part there has no labels), also where val was sorted into one folder a class; or
    from train*.parquet and valid*.parquet with columns image and label. Classes are numbered in the order of their WordNet
    numbers and named by their first word in words.txt. Ids are the names of the files. Grey images become colour images.
    It takes 1.4 GB of memory and about 20 seconds of one core. Raises: Refusal when images are missing that the lists name.
    """
    looked = places(where.root, FOLDERS, (cache_folder("tiny-imagenet") / ARCHIVE.folder,))
    for folder in looked:
        if (folder / "wnids.txt").is_file():
            return _from_folders(folder)
        files = [sorted(folder.glob(f"{part}*.parquet")) for part in ("train", "val")]
        if all(files):
            options = {"colour": "true"}
            train = examples(read_table(files[0]), files[0][0], options, prefix="", classes=())
            test = examples(read_table(files[1]), files[1][0], options, prefix="test-", classes=train.classes)
            return paired("tiny-imagenet", train, test, USUAL)
    if where.download:
        return _from_folders(provided("tiny-imagenet", ARCHIVE))
    advice = "give --data_root the folder with tiny-imagenet-200, or --download true"
    raise nowhere("tiny-imagenet", looked, advice)


def _from_folders(folder: Path) -> DataSet:
    wnids = sorted(_lines(folder / "wnids.txt"))
    if odd := [wnid for wnid in wnids if not WNID.fullmatch(wnid)]:
        raise Refusal(f"expected WordNet numbers such as n01443537 in {folder}/wnids.txt, got {odd[0]!r}; unpack again")
    classes = _class_names(wnids, folder / "words.txt")
    train = {wnid: _images(folder / "train" / wnid, folder / "train" / wnid / f"{wnid}_boxes.txt") for wnid in wnids}
    annotations = folder / "val" / "val_annotations.txt"
    if annotations.is_file() and (folder / "val" / "images").is_dir():
        of = dict(line.split("\t")[:2] for line in _lines(annotations) if "\t" in line)
        files = _images(folder / "val" / "images", annotations)
        if strange := [file for file in files if of.get(file.name) not in train]:
            raise Refusal(
                f"expected a class of wnids.txt for each image in {annotations}, got none for {strange[0]}; unpack again"
            )
        test = {wnid: [file for file in files if of[file.name] == wnid] for wnid in wnids}
    else:
        test = {wnid: _images(folder / "val" / wnid, None) for wnid in wnids}
    parts = [_examples(f"tiny-imagenet ({name})", files, classes) for name, files in (("train", train), ("val", test))]
    return paired("tiny-imagenet", parts[0], parts[1], USUAL)


def _images(folder: Path, listed: Path | None) -> list[Path]:
    """The images below a folder by name, once all that the list beside them names are there."""
    found = sorted(file for file in folder.rglob("*.JPEG") if not file.name.startswith("."))
    wanted = {line.split("\t")[0] for line in _lines(listed)} if listed is not None and listed.is_file() else set()
    if missing := sorted(wanted - {file.name for file in found}):
        raise Refusal(
            f"expected all {len(wanted)} images of {listed} in {folder}, got {len(missing)} too few, such as {missing[0]}; "
            "unpack the archive again"
        )
    if not found:
        raise Refusal(f"expected images (*.JPEG) in {folder}, got none; unpack the archive again")
    return found


def _examples(name: str, files: dict[str, list[Path]], classes: tuple[str, ...]) -> Examples:
    paths = [path for some in files.values() for path in some]
    labels = np.repeat(np.arange(len(files)), [len(some) for some in files.values()])
    ids = np.array([path.stem for path in paths])
    return checked(name, read_all(paths, Look(colour=True)), labels, classes=classes, ids=ids)


def _class_names(wnids: Sequence[str], words: Path) -> tuple[str, ...]:
    """The first of the words for each class; its WordNet number where there are none, or where two classes share one."""
    lines = (line.partition("\t") for line in _lines(words)) if words.is_file() else ()
    first = {wnid: text.partition(",")[0].strip() for wnid, _, text in lines}
    names = [first.get(wnid) or wnid for wnid in wnids]
    twice = {name for name, count in Counter(names).items() if count > 1}
    return tuple(wnid if name in twice else name for name, wnid in zip(names, wnids))


def _lines(path: Path) -> list[str]:
    try:
        return [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise Refusal(f"expected the list {path}, got: {error}; unpack the archive again") from error
