"""MUCAC: faces of celebrities with three yes-or-no attributes; people are to be forgotten."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from unteach.data.dataset import DataSet, Where, checked
from unteach.data.images import Look, read_all
from unteach.data.places import is_whole, nowhere, places
from unteach.data.published import FACES, counted, missing, options
from unteach.data.request import BENCHMARK
from unteach.types import Examples, Refusal

COLUMNS = {"Male": 21, "Smiling": 32, "Young": 40}  # of the attribute table, the file's name being column 0
TASKS = {
    "multilabel": ("male", "smiling", "young"),
    "male": ("female", "male"),
    "smiling": ("not smiling", "smiling"),
    "young": ("not young", "young"),
}
TRAINED, RETAINED, UNSEEN = 190, 1250, 4855  # identities below the first are the test set, from the last on unseen
PUBLISHED = {"test": 2_053, "forget": 10_135, "retain": 15_711, "unseen": 2_001}
ATTRIBUTES = ("CelebA-HQ-attribute.txt", "CelebAMask-HQ-attribute-anno.txt")


def mucac(where: Where) -> DataSet:
    """MUCAC (Choi & Na, 2023), 30,000 colour faces of CelebA-HQ, 128 × 128; task multilabel, male, smiling or young.

    By the number of the identity: below 190 the test set (utility), from 4855 on the unseen set (non-members), the rest
    training data, of which the request ``benchmark`` forgets all below 1250. Group: the identity. Id: the file's name without
    ending; files stand in the order of their numbers. Task ``multilabel`` has the labels male, smiling, young in this order.

    Listed images that are missing are told. ``size=64`` scales to other sizes, ``any-count`` takes other numbers of images than
    the published ones. Scaling 1024 pixels takes minutes each time: copies of 128 × 128 under the same numbers, of any
    format, load in seconds.
    *Source:* Choi & Na, 2023, arXiv 2311.02240, and its public code. *Departs:* images are scaled by a bicubic filter, where
    the authors' code has a bilinear one; files are sorted, where that code takes them in any order.
    """
    chosen = options("mucac", where.argument, ("",))
    task = where.task or "multilabel"
    if task not in TASKS:
        raise Refusal(f"expected a task of mucac ({', '.join(TASKS)}), got {task!r}; choose one of these")
    looked = places(where.root, ("mucac", "MUCAC", "CelebAMask-HQ"))
    folder = next((place for place in looked if _find(place, "CelebA-HQ-identity.txt")), None)
    images = folder and _find(folder, "CelebA-HQ-img")
    table = folder and next((path for name in ATTRIBUTES if (path := _find(folder, name))), None)
    if folder is None or images is None or table is None:
        raise nowhere("mucac", looked, f"give a folder with CelebA-HQ-img, CelebA-HQ-identity.txt and {ATTRIBUTES[0]}")
    known = _identities(folder)
    marks = _marks(table)
    files = {path.stem: path for path in sorted(images.iterdir())}
    listed = sorted(known.keys() & marks.keys(), key=int)
    names = np.array([name for name in listed if name in files])
    notes = missing("mucac", [f"{name}.jpg" for name in listed if name not in files], len(listed))
    people = np.array([known[name] for name in names.tolist()], dtype=np.int64)
    parts = np.array(["test", "forget", "retain", "unseen"])[np.digitize(people, (TRAINED, RETAINED, UNSEEN))]
    spec = f"mucac:{where.argument}" if where.argument else "mucac"
    sizes = {part: int((parts == part).sum()) for part in PUBLISHED}
    notes += counted(spec, sizes, PUBLISHED, chosen.any_count)

    def examples(rows: np.ndarray) -> Examples:
        some = names[rows].tolist()
        pixels = read_all([files[name] for name in some], Look(colour=True, size=chosen.size))
        labels = np.array([marks[name] for name in some]).reshape(-1, len(COLUMNS))
        wanted = labels if task == "multilabel" else labels[:, list(TASKS).index(task) - 1]
        groups = people[rows].astype(str)
        return checked("mucac", pixels, wanted, classes=TASKS[task], ids=names[rows], groups=groups)

    train, test, unseen = (examples(np.isin(parts, of)) for of in (("forget", "retain"), "test", "unseen"))
    request = {BENCHMARK: tuple(names[parts == "forget"].tolist())}
    return DataSet("mucac", train, test, FACES, unseen, request, notes)


def _find(folder: Path, name: str) -> Path | None:
    """A file or folder of the archive, which people unpack in two ways."""
    return next((path for path in (folder / name, folder / "CelebAMask-HQ" / name) if path.exists()), None)


def _identities(folder: Path) -> dict[str, int]:
    """The identity of each image, by the file's name without ending."""
    path = _find(folder, "CelebA-HQ-identity.txt")
    assert path is not None
    rows = [line.split() for line in _text(path).splitlines() if line.strip()]
    if bad := [row for row in rows if len(row) != 2 or not is_whole(row[1]) or not is_whole(_stem(row[0]))]:
        raise Refusal(
            f"expected a file's number and an identity in every line of {path}, got {' '.join(bad[0])!r}; mend it"
        )
    return {_stem(name): int(identity) for name, identity in rows}


def _marks(path: Path) -> dict[str, list[int]]:
    """Male, smiling and young, 0 or 1, of each image."""
    lines = _text(path).splitlines()
    head = lines[1].split() if len(lines) > 1 else []
    for name, column in COLUMNS.items():
        if len(head) < column or head[column - 1] != name:
            raise Refusal(
                f"expected {name} to be attribute {column} in line 2 of {path}, got others; give CelebA-HQ's own"
            )
    rows = [line.split() for line in lines[2:] if line.strip()]
    wanted = {str(sign) for sign in (-1, 1)}
    if bad := [row for row in rows if len(row) != len(head) + 1 or not {row[at] for at in COLUMNS.values()} <= wanted]:
        raise Refusal(
            f"expected a file and {len(head)} marks of 1 or -1 in every line of {path}, got {bad[0][:3]}; mend it"
        )
    return {_stem(row[0]): [int(row[at] == "1") for at in COLUMNS.values()] for row in rows}


def _stem(name: str) -> str:
    return name.partition(".")[0]


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise Refusal(f"expected a table of MUCAC at {path}, got: {error}; fetch it again") from error
