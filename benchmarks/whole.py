"""What the files of a job hold, whether they are whole, and whether those of two jobs are the same but for what tells times."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from unteach.ledger import Ledger, Queue
from unteach.store import load_tensors
from unteach.types import Refusal

# The names, in JSON, of what tells times, and what they were spent on.
TIMES = {"seconds", "at", "cost", "stages"}


def listing(folder: Path) -> dict[str, int]:
    """Names and sizes of all files under a folder; what vanishes meanwhile is left out."""
    found, folders = {}, [str(folder)]
    while folders:
        with contextlib.suppress(FileNotFoundError), os.scandir(folders.pop()) as entries:
            for entry in entries:
                if entry.is_dir():
                    folders.append(entry.path)
                else:
                    with contextlib.suppress(FileNotFoundError):
                        found[os.path.relpath(entry.path, folder)] = entry.stat().st_size
    return found


def contents(folder: Path) -> dict[str, Any]:
    return {name: content_of(folder / name) for name in listing(folder)}


def damage(folder: Path) -> Iterator[str]:
    """Files under their final names that are not whole."""
    for name in listing(folder):
        path = folder / name
        if path.name.startswith(".") or path.name.endswith(("-wal", "-shm")):
            continue
        try:
            content_of(path)
        except (Refusal, ValueError, RuntimeError, EOFError, KeyError) as error:
            yield f"{name} is not whole: {error}"


def content_of(path: Path) -> Any:
    """What a file holds, without times. Raises: ValueError, Refusal or whatever its reader does for one that is not whole."""
    if path.suffix == ".safetensors":
        told = load_tensors(path)[1]
        data = path.read_bytes()
        return timeless(told), hashlib.sha256(data[8 + int.from_bytes(data[:8], "little") :]).hexdigest()
    if path.suffix == ".json":
        return timeless(json.loads(path.read_text()))
    if path.suffix == ".jsonl":
        whole, _, rest = path.read_text().rpartition("\n")
        if rest:
            raise ValueError(f"a line that ends in {rest[-20:]!r}")
        told = [timeless(json.loads(line)) for line in whole.splitlines()]
        return sorted({json.dumps(each, sort_keys=True) for each in told if each["event"] != "stage"})
    if path.suffix == ".resume":
        return sorted(torch.load(path, weights_only=True))
    if path.suffix == ".html" and not path.read_text().rstrip().endswith("</html>"):
        raise ValueError("no end")
    if path.suffix == ".sqlite":
        return of_ledger(path)
    return path.read_bytes() if path.suffix == ".txt" and path.name != "log.txt" else None


def of_ledger(path: Path) -> Any:
    """What was done with which requests in which runs."""
    if faults := Ledger(path).faults():
        raise ValueError("; ".join(faults))
    state = Queue(path.parent).state()
    runs = [(run.requests, run.parent, run.status, timeless(run.numbers)) for run in state.runs]
    return [(each.number, each.key, each.count, each.status, each.run) for each in state.requests], runs


def timeless(value: Any) -> Any:
    """JSON without what tells times."""
    if isinstance(value, dict):
        return {name: timeless(held) for name, held in value.items() if name not in TIMES}
    return [timeless(held) for held in value] if isinstance(value, list) else value


def different(ours: dict[str, Any], theirs: dict[str, Any]) -> list[str]:
    return sorted(name for name in ours.keys() | theirs.keys() if ours.get(name, ...) != theirs.get(name, ...))
