"""CMU Face Images: 20 people, photographed in four poses with four faces, with and without sunglasses."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from unteach.data.dataset import DataSet, Where, checked
from unteach.data.images import read_all
from unteach.data.places import nowhere, places
from unteach.types import Examples, Refusal

POSES = ("straight", "left", "right", "up")
EXPRESSIONS = ("neutral", "happy", "sad", "angry")
EYES = ("open", "sunglasses")
TASKS = {"pose": POSES, "expression": EXPRESSIONS, "eyes": EYES, "all": (*POSES, *EXPRESSIONS, "sunglasses")}
WIDTHS = {"": 128, "size=128": 128, "size=64": 64, "size=32": 32}
NAME = re.compile(rf"(\w+?)_({'|'.join(POSES)})_({'|'.join(EXPRESSIONS)})_({'|'.join(EYES)})")


def cmu_faces(where: Where) -> DataSet:
    """CMU Face Images (Mitchell, UCI 1999), 624 grey images 128 × 120 of 20 people; task pose, expression, eyes or all.

    Group: the person. Id: the file's name without ending. Test set: all images of the last people by name (a fifth of
    them), so that non-members are unseen people. Task ``all`` is multi-label with nine labels: four poses, four expressions,
    sunglasses. ``cmu-faces:size=64`` (or 32) averages blocks of 2 × 2 (or 4 × 4) pixels. Mirror images are no usual
    variation here: they would turn left into right.
    """
    if where.argument not in WIDTHS:
        raise Refusal(
            f"expected cmu-faces, cmu-faces:size=64 or cmu-faces:size=32, got cmu-faces:{where.argument}; choose one"
        )
    task = where.task or "pose"
    if task not in TASKS:
        raise Refusal(f"expected a task of cmu-faces ({', '.join(TASKS)}), got {task!r}; choose one of these")
    looked = places(where.root, ("cmu-faces", "faces"))
    found = next((files for files in map(_files, looked) if files), None)
    if found is None:
        raise nowhere(
            "cmu-faces", looked, "unpack the UCI archive there, with <person>/<person>_<pose>_<expression>_<eyes>.pgm"
        )
    people = np.array([path.parent.name for path in found])
    names = sorted(set(people.tolist()))
    unseen = round(where.test_share * len(names))
    if not 0 < unseen < len(names):
        raise Refusal(
            f"expected to hold some of {len(names)} people out, got a share of {where.test_share}; 0.2 is usual"
        )
    whole = _examples(found, people, task, 128 // WIDTHS[where.argument])
    test = np.isin(people, names[-unseen:])
    return DataSet("cmu-faces", whole.take(~test), whole.take(test))


def _files(folder: Path) -> list[Path]:
    """Full-size images: the archive's copies at half and quarter size (…_2.pgm, …_4.pgm) are left aside."""
    return [path for path in sorted(folder.glob("*/*_*_*_*.pgm")) if not path.stem.endswith(("_2", "_4"))]


def _examples(files: list[Path], people: np.ndarray, task: str, block: int) -> Examples:
    pixels = read_all(files)
    n, _, height, width = pixels.shape
    if block > 1:
        if height % block or width % block:
            raise Refusal(
                f"expected sizes that are multiples of {block}, got {width} × {height}; use cmu-faces without a size"
            )
        blocks = pixels.reshape(n, 1, height // block, block, width // block, block)
        pixels = np.rint(blocks.mean(axis=(3, 5))).astype(np.uint8)
    labels = np.array([_label(path, task) for path in files])
    ids = np.array([path.stem for path in files])
    return checked("cmu-faces", pixels, labels, classes=TASKS[task], ids=ids, groups=people)


def _label(path: Path, task: str) -> int | list[int]:
    match = NAME.fullmatch(path.stem)
    if match is None:
        raise Refusal(
            f"expected <person>_<pose>_<expression>_<eyes>.pgm in {path.parent}, got {path.name}; rename or remove it"
        )
    _, pose, expression, eyes = match.groups()
    if task == "all":
        return [int(word in (pose, expression, eyes)) for word in TASKS["all"]]
    return TASKS[task].index({"pose": pose, "expression": expression, "eyes": eyes}[task])
