"""MUFAC: faces of Korean families, to be told into eight ages; people are to be forgotten."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from unteach.data.dataset import DataSet, Where, checked
from unteach.data.duplicates import perceptual_hash
from unteach.data.images import Look, read_all
from unteach.data.places import nowhere, places
from unteach.data.published import FACES, counted, missing, options
from unteach.data.request import BENCHMARK
from unteach.types import Examples, Refusal

AGES = ("0-6", "7-12", "13-19", "20-30", "31-45", "46-55", "56-66", "67-80")
VARIANTS = ("clean", "original", "identity", "household")
ROWS = {"train": 10_025, "val": 1_539, "test": 1_504}
CLEAN = {"forget": 1_062, "retain": 5_513, "test": 1_211, "unseen": 1_118}
CUT = 1_500
FOLDERS = {
    "train": ("train_images", "train_images_part1", "train_images_part2", "retain_images", "forget_images"),
    "val": ("val_images",),
    "test": ("test_images",),
}
COLUMNS = ({"family_id", "person_id", "age_class", "image_path"}, {"identity", "age_group", "image_path"})


@dataclass(frozen=True, kw_only=True)
class Face:
    """One row of a table: ``part`` is what the benchmark has it for, ``path`` None where the image is missing."""

    id: str
    part: str
    label: int
    household: str
    identity: str
    path: Path | None


def mufac(where: Where) -> DataSet:
    """MUFAC (Choi & Na, 2023), 13,068 colour faces 128 × 128 of Korean families in 8 ages: clean, original, identity, household.

    ``mufac:original``: the published split. Test set (utility) is the *val* table, unseen set (non-members) the *test* table;
    the request ``benchmark`` is the first 1,500 rows of the train table, which may cut through a person.
    ``mufac:clean`` (the default): without images of one perceptual hash, dropped in this order: forgotten ones that are also
    retained, test ones that are also unseen, unseen ones that are also trained on, and all but the first in each part.
    ``mufac:identity``: clean, and ``benchmark`` is whole persons in the order of the table, until there are as many images.
    ``mufac:household``: the same with whole households.

    Group: the person (household_role), with ``household`` the household. Id: the file's name, after ``val/`` or ``test/`` there.
    Both headers of the tables are read. ``size=64`` scales the images (hashes are of 128 pixels), ``any-count`` takes other
    numbers of images than the published ones; the request then is the same share of the rows.
    *Source:* Choi & Na, 2023, arXiv 2311.02240; the clean protocol: Spartalis et al., LoTUS, 2025, arXiv 2503.18314, notebook
    clean_MUFAC. *Departs:* hashes are computed here, the published list is not read; identity and household are our own.
    """
    chosen = options("mufac", where.argument, VARIANTS)
    looked = places(where.root, ("custom_korean_family_dataset_resolution_128", "MUFAC", "mufac"))
    folder = next((place for place in looked if (place / "custom_train_dataset.csv").is_file()), None)
    if folder is None:
        raise nowhere("mufac", looked, "unpack its archive there, with custom_train_dataset.csv and train_images")
    spec = f"mufac:{where.argument}" if where.argument else "mufac"
    tables = {part: _table(folder, part) for part in ROWS}
    there = {part: [face for face in table if face.path] for part, table in tables.items()}
    notes = counted(spec, {part: len(faces) for part, faces in there.items()}, ROWS, chosen.any_count)
    for part, table in tables.items():
        notes += missing(part, [face.id for face in table if not face.path], len(table))
    faces = [face for table in there.values() for face in table]
    pixels = None
    if chosen.variant != "original":
        pixels = _pixels(faces, 128)
        keep = distinct(perceptual_hash(torch.from_numpy(pixels)), np.array([face.part for face in faces]))
        faces, pixels = [face for face, stays in zip(faces, keep) if stays], pixels[keep]
        sizes = {part: sum(face.part == part for face in faces) for part in CLEAN}
        notes += counted(spec, sizes, CLEAN, chosen.any_count)
    if pixels is None or chosen.size != 128:
        pixels = _pixels(faces, chosen.size)
    return _data(chosen.variant, faces, pixels, notes)


def distinct(hashes: np.ndarray, parts: np.ndarray) -> np.ndarray:
    """Mask of what the clean protocol keeps. ``hashes``, ``parts`` (forget, retain, test, unseen): of shape ``n``."""
    keep = np.ones(len(hashes), dtype=bool)
    for part, others in (("forget", ("retain",)), ("test", ("unseen",)), ("unseen", ("forget", "retain"))):
        keep &= ~((parts == part) & np.isin(hashes, hashes[np.isin(parts, others)]))
    for part in np.unique(parts):
        rows = np.flatnonzero(keep & (parts == part))
        keep[rows] = False
        keep[rows[np.unique(hashes[rows], return_index=True)[1]]] = True
    return keep


def whole_groups(groups: np.ndarray, count: int) -> np.ndarray:
    """Mask of the first groups in the order of the data, all whole, that have ``count`` examples or more together."""
    taken: list[str] = []
    for name in dict.fromkeys(groups.tolist()):
        if np.isin(groups, taken).sum() >= count:
            break
        taken.append(name)
    return np.isin(groups, taken)


def _data(variant: str, faces: list[Face], pixels: np.ndarray, notes: tuple[str, ...]) -> DataSet:
    parts = np.array([face.part for face in faces])
    groups = np.array([face.household if variant == "household" else face.identity for face in faces])

    def examples(rows: np.ndarray) -> Examples:
        some = [faces[row] for row in np.flatnonzero(rows)]
        ids, labels = np.array([face.id for face in some]), np.array([face.label for face in some])
        return checked("mufac", pixels[rows], labels, classes=AGES, ids=ids, groups=groups[rows])

    train = examples(np.isin(parts, ("forget", "retain")))
    asked = parts[np.isin(parts, ("forget", "retain"))] == "forget"
    assert train.groups is not None
    if variant in ("identity", "household"):
        asked = whole_groups(train.groups, int(asked.sum()))
    if both := sorted(set(train.groups[asked].tolist()) & set(train.groups[~asked].tolist())):
        few = ", ".join(both[:3]) + (" …" if len(both) > 3 else "")
        notes += (
            f"the benchmark's request forgets some images of {few} and not all; mufac:identity takes whole persons",
        )
    request = {BENCHMARK: tuple(train.ids[asked].tolist())}
    test, unseen = examples(parts == "test"), examples(parts == "unseen")
    return DataSet(f"mufac:{variant}", train, test, FACES, unseen, request, notes)


def _pixels(faces: list[Face], size: int) -> np.ndarray:
    return read_all([face.path for face in faces if face.path], Look(colour=True, size=size))


def _table(folder: Path, part: str) -> list[Face]:
    """The rows of a part's table, each with its image where there is one, whatever the case of the ending."""
    path = folder / f"custom_{part}_dataset.csv"
    rows = _rows(path)
    files: dict[str, Path] = {}
    for place in (folder / name for name in FOLDERS[part]):
        for file in sorted(place.iterdir()) if place.is_dir() else ():
            files.setdefault(file.name.lower(), file)
    roles = {"val": ["test"] * len(rows), "test": ["unseen"] * len(rows)}
    of = roles.get(part) or ["forget" if asked else "retain" for asked in _asked(rows)]
    return [_face(row, role, part, path, files) for row, role in zip(rows, of)]


def _rows(path: Path) -> list[dict[str, str]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
        rows = [
            {str(k).strip().lower(): str(v).strip() for k, v in row.items()}
            for row in csv.DictReader(io.StringIO(text))
        ]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise Refusal(f"expected a table of MUFAC at {path}, got: {error}; unpack the archive again") from error
    if not rows or not any(columns <= rows[0].keys() for columns in COLUMNS):
        told = ", ".join(rows[0]) if rows else "no rows"
        raise Refusal(
            f"expected columns {' or '.join(', '.join(sorted(columns)) for columns in COLUMNS)} in {path}, got {told}; "
            "give MUFAC's own table"
        )
    return rows


def _asked(rows: list[dict[str, str]]) -> list[bool]:
    """Which training rows the benchmark forgets: those flagged, or else the first, 1,500 of the published number."""
    flags = [row.get("forget_flag", "").lower() in ("1", "1.0", "true", "yes") for row in rows]
    if any(flags) and not all(flags):
        return flags
    usual = 100 * abs(len(rows) - ROWS["train"]) <= ROWS["train"]
    cut = CUT if usual else round(len(rows) * CUT / ROWS["train"])
    return [number < cut for number in range(len(rows))]


def _face(row: dict[str, str], role: str, part: str, path: Path, files: dict[str, Path]) -> Face:
    name = row["image_path"].replace("\\", "/").rpartition("/")[2]
    age = row["age_class"] if "age_class" in row else row["age_group"]
    letter = age.lower()
    if letter not in (*"abcdefgh", *AGES):
        raise Refusal(f"expected an age of a to h for {name} in {path}, got {age!r}; mend the table")
    household = row.get("family_id") or name.partition("_")[0]
    person = row["person_id"] if "person_id" in row else row["identity"]
    return Face(
        id=name if part == "train" else f"{part}/{name}",
        part=role,
        label=AGES.index(letter) if letter in AGES else "abcdefgh".index(letter),
        household=household,
        identity=person if person.startswith(f"{household}_") else f"{household}_{person}",
        path=files.get(name.lower()),
    )
