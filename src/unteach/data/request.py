"""What is to be forgotten: from a file of ids or a short description to ids, and from ids to a split."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from unteach.data.dataset import writable
from unteach.data.places import is_whole
from unteach.store import write_text
from unteach.types import Examples, MultiLabel, Refusal, Split

FORMS = (
    "a file of ids (.txt, .csv, .json), random:SHARE, random:COUNT, class:NAME, group:NAME, groups:COUNT or benchmark"
)
BENCHMARK = "benchmark"  # the name under which data sets keep the request of the paper they come from


def forget_ids(
    spec: str,
    train: Examples,
    rng_seed: int,
    unseen: Collection[str] = (),
    known: Mapping[str, Sequence[str]] | None = None,
) -> list[str]:
    """The ids that a request names: in the order of a file, else in the order of the data.

    ``random:0.1`` draws that share, ``random:100`` that many, without repetition and always the same for one seed;
    ``class:3``, ``class:NAME`` and ``group:NAME`` take several joined by commas; ``groups:5`` draws five whole groups, to
    which ``groups:6`` adds one. ``known``: requests of the data set's own, by name. All these are drawn from what is not
    ``unseen``: what a model never saw or already forgot, it can't forget. Raises: Refusal for requests that name nothing,
    everything, something unknown or something twice.
    """
    kind, colon, rest = spec.partition(":")
    known = known or {}
    if unseen and (spec in known or (colon and kind in ("random", "class", "group", "groups"))):
        left = train.take(~np.isin(train.ids, np.asarray(sorted(unseen))))
        return forget_ids(spec, left, rng_seed, known=known)
    if spec in known:
        rows = np.flatnonzero(np.isin(train.ids, np.asarray(known[spec])))
    elif spec == BENCHMARK:
        raise Refusal(
            "expected data with a benchmark's own request, such as mufac or mucac, got others; give a file of ids, or draw some"
        )
    elif colon and kind == "groups":
        rows = _drawn_groups(rest, train, rng_seed)
    elif colon and kind == "random":
        rows = _random(rest, len(train), rng_seed)
    elif colon and kind == "class":
        rows = _of_classes(rest, train)
    elif colon and kind == "group":
        rows = _of_groups(rest, train)
    else:
        ids = read_ids(spec)
        _where(ids, train)
        return ids
    ids = [str(name) for name in train.ids[rows]]
    _where(ids, train)
    return ids


def split(train: Examples, ids: Sequence[str]) -> Split:
    """The training set in two, each part in the order of the data: what is to be forgotten, and the rest.

    Raises: Refusal for ids that are unknown or come twice, for none, and for all.
    """
    forget = np.zeros(len(train), dtype=bool)
    forget[_where(ids, train)] = True
    return Split(forget=train.take(forget), retain=train.take(~forget))


def write_ids(path: Path, ids: Iterable[str]) -> None:
    """Ids to a text file, one a line, whole or not at all; ``forget_ids`` reads it back.

    Raises: Refusal for ids that would not come back as they are, and where the file can't be written.
    """
    names = [str(name) for name in ids]
    if bad := [name for name in names if not writable(name)]:
        raise Refusal(f"expected ids that fit on a line, got {bad[0]!r}; no line breaks, outer spaces or # in front")
    write_text(path, "".join(f"{name}\n" for name in names))


def _where(ids: Sequence[str], train: Examples) -> np.ndarray:
    """Positions of a sound request."""
    if len(ids) == 0:
        raise Refusal("expected at least one id to forget, got none; name what is to be forgotten")
    twice = [name for name, count in Counter(ids).items() if count > 1]
    if twice:
        raise Refusal(f"expected every id once, got {len(twice)} more than once: {_few(twice)}; name each once")
    rows = train.positions(ids)
    if len(rows) == len(train):
        raise Refusal(
            f"expected to keep some examples, got a request to forget all {len(train)}; delete the model instead"
        )
    return rows


def _few(names: Sequence[str]) -> str:
    return ", ".join(repr(str(name)) for name in names[:3]) + (" …" if len(names) > 3 else "")


def _random(text: str, n: int, seed: int) -> np.ndarray:
    try:
        count = int(text) if is_whole(text) else round(float(text) * n)
    except (ValueError, OverflowError) as error:
        raise Refusal(
            f"expected random:SHARE or random:COUNT, got random:{text}; such as random:0.1 or random:100"
        ) from error
    if not is_whole(text) and not 0 < float(text) < 1:
        raise Refusal(
            f"expected a share between 0 and 1, got random:{text}; whole numbers are counts, such as random:100"
        )
    if not 0 < count < n:
        raise Refusal(
            f"expected to draw between 1 and {n - 1} of {n} examples, got {count} (random:{text}); draw fewer or more"
        )
    return np.sort(np.random.default_rng(seed).permutation(n)[:count])


def _of_classes(text: str, train: Examples) -> np.ndarray:
    names = list(train.classes)
    chosen = []
    for name in _listed(text, names):
        if name in names:
            chosen.append(names.index(name))
        elif is_whole(name) and int(name) < len(names):
            chosen.append(int(name))
        else:
            raise Refusal(f"expected a class ({_choices(names)}), got {name!r}; give its name, or its number from 0")
    labels = train.labels.numpy()
    hit = np.isin(labels, chosen) if labels.ndim == 1 else (labels[:, chosen] > 0.5).any(axis=1)
    if not hit.any():
        raise Refusal(f"expected examples of class {text}, got none in the training set; choose another class")
    return np.flatnonzero(hit)


def _of_groups(text: str, train: Examples) -> np.ndarray:
    each = named(train)
    if each is None:
        raise Refusal(
            f"expected data with groups for group:{text}, got data without; give ids, or data with a group each"
        )
    names = sorted(set(each.tolist()))
    wanted = _listed(text, names)
    if unknown := [name for name in wanted if name not in names]:
        raise Refusal(
            f"expected groups of the training set ({_choices(names)}), got {_few(unknown)}; choose among these"
        )
    return np.flatnonzero(np.isin(each, wanted))


def _drawn_groups(text: str, train: Examples, seed: int) -> np.ndarray:
    each = named(train)
    if each is None:
        raise Refusal(f"expected data with groups for groups:{text}, got data without; draw examples by random:COUNT")
    names = np.unique(each)
    if not is_whole(text) or not 0 < int(text) < len(names):
        raise Refusal(
            f"expected groups:COUNT of 1 to {len(names) - 1} of {len(names)} groups, got groups:{text}; draw fewer or more"
        )
    return np.flatnonzero(np.isin(each, np.random.default_rng(seed).permutation(names)[: int(text)]))


def named(examples: Examples) -> np.ndarray | None:
    """What ``group:NAME`` and ``groups:COUNT`` mean, one an example: its group, or its kind (a subclass) without groups."""
    return examples.kinds if examples.groups is None else examples.groups


def alike(others: Examples, forget: Examples) -> np.ndarray:
    """Mask over other examples: those of the forgotten kinds, so that an attack sees membership and not the kind.

    All of them where the data have no kinds, or where no other example is of the forgotten ones.
    *Source:* the matched comparison that a shifted forget set asks for; our own.
    """
    if others.kinds is None or forget.kinds is None:
        return np.ones(len(others), dtype=bool)
    found = np.isin(others.kinds, forget.kinds)
    return found if found.any() else ~found


def _listed(text: str, names: Sequence[str]) -> list[str]:
    """One name, even with commas in it, or several between commas."""
    return [text] if text in names else [part.strip() for part in text.split(",")]


def _choices(names: Sequence[str]) -> str:
    return ", ".join(names[:20]) + (f" … {len(names)} in all" if len(names) > 20 else "")


def read_ids(spec: str) -> list[str]:
    """The ids in a file (.txt, .csv, .json) as they stand there. Raises: Refusal for a file that holds no list of ids."""
    path = Path(spec)
    if not path.is_file():
        raise Refusal(f"expected {FORMS}, got {spec!r}, which is no file here; check the path or the spelling")
    readers = {".txt": _lines, ".csv": _column, ".json": _list}
    if path.suffix.lower() not in readers:
        raise Refusal(
            f"expected a file of ids in .txt, .csv or .json, got {path.name}; write one id a line into a .txt"
        )
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise Refusal(
            f"expected a file of ids in UTF-8 text, got binary content in {path}; write one id a line into a .txt"
        )
    return readers[path.suffix.lower()](path, text)


def _lines(path: Path, text: str) -> list[str]:
    lines = [line.strip() for line in text.split("\n")]
    return [line for line in lines if line and not line.startswith("#")]


def _column(path: Path, text: str) -> list[str]:
    try:
        cells = [[cell.strip() for cell in row] for row in csv.reader(io.StringIO(text, newline=""))]
    except csv.Error as error:
        raise Refusal(f"expected a table of ids in {path}, got: {error}; write one id a line into a .txt") from error
    rows = [row for row in cells if any(row)]
    head = [cell.lower() for cell in rows[0]] if rows else []
    if "id" in head:
        at = head.index("id")
        if short := [row for row in rows[1:] if len(row) <= at or not row[at]]:
            raise Refusal(f"expected an id in every row of {path}, got {','.join(short[0])!r}; fill or drop that row")
        return [row[at] for row in rows[1:]]
    if any(len(row) != 1 for row in rows):
        raise Refusal(f"expected a column id in {path}, got {', '.join(rows[0])}; name the column of ids id")
    return [row[0] for row in rows]


def _list(path: Path, text: str) -> list[str]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Refusal(f'expected a JSON list of ids in {path}, got no JSON: {error}; such as ["17", "23"]') from error
    if not isinstance(found, list):
        raise Refusal(f'expected a JSON list of ids in {path}, got {type(found).__name__}; such as ["17", "23"]')
    if odd := [item for item in found if isinstance(item, bool) or not isinstance(item, str | int)]:
        raise Refusal(f'expected strings or whole numbers in {path}, got {odd[0]!r}; such as ["17", "23"]')
    return [str(item) for item in found]


def whole_classes(split: Split, who: str) -> Examples:
    """The retained examples, once it is sure that what is forgotten are whole classes and that some class stays."""
    if isinstance(split.task, MultiLabel):
        raise Refusal(f"expected one class for each example for {who}, got several labels; choose another method")
    if split.retain is None or not len(split.retain):
        raise Refusal(f"expected a retain set with at least one class in it for {who}, got none; forget fewer classes")
    names = split.forget.classes
    left = split.retain.labels[torch.isin(split.retain.labels, split.forget.labels)].bincount()
    if left.sum():
        label = int(left.argmax())
        name = names[label] if label < len(names) else label
        raise Refusal(
            f"expected whole classes to be forgotten for {who}, got {int(left[label])} retained examples of class {name!r}; "
            "ask for class:NAME or choose another method"
        )
    return split.retain


def kind_of(split: Split) -> str:
    """``class`` if none that is retained has a class of the request, ``group`` if none is of its groups, else ``random``.

    Kinds count where there are no groups. Requests in a file are told by this too. Several labels an example make no classes.
    """
    assert split.retain is not None
    one_class = not isinstance(split.task, MultiLabel)
    if one_class and not bool(torch.isin(split.retain.labels, split.forget.labels).any()):
        return "class"
    mine, theirs = named(split.forget), named(split.retain)
    if mine is not None and theirs is not None and not np.isin(theirs, mine).any():
        return "group"
    return "random"
