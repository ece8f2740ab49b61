"""WebDataset shards: tar files whose members with one name and several endings make an example."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from unteach.data.archives import files_in
from unteach.data.dataset import DataSet, Where, checked, divided, paired
from unteach.data.folder import IMAGES
from unteach.data.images import LOOKS, decode_all, look_of
from unteach.data.places import is_whole, with_options
from unteach.data.tables import numbered
from unteach.types import Examples, Refusal

OPTIONS = ("image", "label", "group", "kind", "test", *LOOKS)
TESTS = ("test", "val", "valid", "validation")
MOST = 100_000  # shards that one pattern may name


def wds(where: Where) -> DataSet:
    """WebDataset shards: tar files of KEY.png (or jpg …) with KEY.cls, or KEY.json; the id of an example is its KEY.

    A shard, several as ``wds:shard-{000..009}.tar``, or a folder with train*.tar and test*.tar (or val), or with such
    subfolders. ``wds:train-{0..7}.tar?test=val-{0..1}.tar`` names the test part, relative to the first. Labels are numbers or
    names in KEY.cls, or in a field ``label`` of KEY.json; other fields by ``?label=class&group=person`` (``kind`` for subclasses,
    of which test data have examples too); ``image=left.png`` chooses among several images; ``size=64&colour=true`` brings
    images to one. Class names for numbers stand in classnames.txt beside the shards, one a line. Ids of the test part begin
    with ``test-``. Without a test part a fixed share is held out.
    """
    written, options = with_options(where.argument, OPTIONS)
    name = f"wds:{where.argument}"
    first, second, top = _parts(written, options.get("test"))
    train = _examples(first, options, "", _class_names(top / "classnames.txt"))
    if not second:
        return divided(name, train, where.test_share)
    return paired(name, train, _examples(second, options, "test-", train.classes))


def _parts(written: str, test: str | None) -> tuple[list[Path], list[Path], Path]:
    """Shards of the training part, of the test part if there is one, and the folder they lie in."""
    top = Path(written)
    if top.is_dir() and test is None:
        train, *tests = (
            [*sorted(top.glob(f"{part}*.tar")), *sorted(top.glob(f"{part}/*.tar"))] for part in ("train", *TESTS)
        )
        second = next((found for found in tests if found), [])
        first = train if train and second else [file for file in sorted(top.glob("*.tar")) if file not in second]
        if not first:
            raise Refusal(f"expected shards (*.tar) in {top}, got none; check the path")
        return first, second, top
    first = [Path(name) for name in braces(written)]
    folder = first[0].parent
    second = [folder / name for name in braces(test)] if test is not None else []
    if missing := [path for path in (*first, *second) if not path.is_file()]:
        raise Refusal(
            f"expected shards at {written}, got no file {missing[0]} ({len(missing)} missing); check the path"
        )
    return first, second, folder


def _class_names(path: Path) -> tuple[str, ...]:
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []
    return tuple(line.strip() for line in lines if line.strip())


def braces(pattern: str) -> list[str]:
    """The names that a pattern such as ``shard-{000..009}.tar`` stands for, numbers as wide as the first one."""
    pieces = re.split(r"\{(\d+)\.\.(\d+)\}", pattern)
    texts, lows, highs = pieces[::3], pieces[1::3], pieces[2::3]
    if any(set("{}") & set(text) for text in texts):
        raise Refusal(
            f"expected numbers such as {{000..009}} in braces, got {pattern}; write shards one range at a time"
        )
    known = all(map(is_whole, (*lows, *highs)))
    if known and (bad := next(((low, high) for low, high in zip(lows, highs) if int(low) > int(high)), None)):
        raise Refusal(f"expected a range that rises, got {{{bad[0]}..{bad[1]}}} in {pattern}; turn it round")
    if not known or prod(int(high) - int(low) + 1 for low, high in zip(lows, highs)) > MOST:
        raise Refusal(f"expected at most {MOST:,} shards, got {pattern:.60}; name fewer")
    ranges = [[f"{k:0{len(low)}d}" for k in range(int(low), int(high) + 1)] for low, high in zip(lows, highs)]
    return ["".join(a + b for a, b in zip(texts, (*chosen, ""))) for chosen in product(*ranges)]


@dataclass
class _Sample:
    """What one example has: its members by ending, and the shard they come from."""

    key: str
    shard: Path
    members: dict[str, bytes] = field(default_factory=dict)


def _samples(shards: Sequence[Path]) -> Iterator[_Sample]:
    """The examples in the order of the shards; their members stand side by side."""
    for shard in shards:
        sample: _Sample | None = None
        for name, content in files_in(shard):
            stem, dot, ending = name.name.partition(".")
            if not stem or not dot:  # of no example
                continue
            key = str(name.with_name(stem))
            if sample is not None and sample.key != key:
                yield sample
                sample = None
            sample = sample or _Sample(key, shard)
            sample.members[ending.lower()] = content
        if sample is not None:
            yield sample


def _examples(shards: Sequence[Path], options: Mapping[str, str], prefix: str, classes: tuple[str, ...]) -> Examples:
    ids, images, labels = [], [], []
    fields = {what: options[option] for what, option in (("groups", "group"), ("kinds", "kind")) if option in options}
    columns: dict[str, list[str]] = {what: [] for what in fields}
    for sample in _samples(shards):
        ids.append(prefix + sample.key)
        images.append(_image(sample, options.get("image")))
        labels.append(_label(sample, options.get("label")))
        for what, asked in fields.items():
            columns[what].append(str(_told(sample, asked)))
    if not ids:
        raise Refusal(f"expected examples (KEY.png with KEY.cls …) in {shards[0]}, got none; check the shards")
    numbers, classes = numbered(labels, classes, shards[0])
    groups, kinds = (np.array(columns[what]) if what in columns else None for what in ("groups", "kinds"))
    pixels = decode_all(images, shards[0].parent, look_of(options))
    return checked(
        str(shards[0].parent), pixels, numbers, classes=classes, ids=np.array(ids), groups=groups, kinds=kinds
    )


def _image(sample: _Sample, asked: str | None) -> bytes:
    found = [ending for ending in sample.members if f".{ending}".endswith(IMAGES)]
    if asked is not None:
        found = [asked.lower()] if asked.lower() in sample.members else []
    if len(found) != 1:
        raise Refusal(
            f"expected one image of {sample.key} in {sample.shard}, got {', '.join(sample.members)}; name its ending by ?image="
        )
    return sample.members[found[0]]


def _label(sample: _Sample, asked: str | None) -> Any:
    if asked is not None or "cls" not in sample.members:
        return _told(sample, asked or "label")
    text = sample.members["cls"].decode("utf-8", "replace").strip()
    return int(text) if is_whole(text) else text


def _told(sample: _Sample, name: str) -> Any:
    """A field of the example's JSON."""
    try:
        found = json.loads(sample.members["json"])[name]
    except (LookupError, ValueError, TypeError) as error:
        raise Refusal(
            f"expected a field {name!r} in {sample.key}.json in {sample.shard}, got {type(error).__name__}: {error}; "
            "name another by ?label=, ?group= or ?kind="
        ) from error
    if isinstance(found, dict) or found is None:
        raise Refusal(f"expected a name or number under {name!r} in {sample.key}.json, got {found}; name another field")
    return found
