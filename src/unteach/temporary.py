"""Files under way: beside the one they become, under a hidden name, and taken away when their process was killed."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows: no such locks, and what is open can't be renamed; what is left over there stays
    fcntl = None  # type: ignore[assignment]


@contextmanager
def temporary(path: Path) -> Iterator[Path]:
    """A new empty file in the folder of ``path``, to be renamed to it, or gone in the end.

    Its maker holds a lock on it, which goes with the process however that ends. Those for the same ``path`` that nobody holds
    were left by processes that were killed, and go first.
    """
    _remove_leftovers(path)
    handle, made = _held(path)
    try:
        yield made
    finally:
        made.unlink(missing_ok=True)
        if handle is not None:
            os.close(handle)


def _held(path: Path) -> tuple[int | None, Path]:
    while True:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
        if fcntl is None:
            os.close(handle)
            return None, Path(name)
        with suppress(OSError):  # some network file systems have no locks either
            fcntl.flock(handle, fcntl.LOCK_EX)
        if os.fstat(handle).st_nlink:  # else another process took it for left over before it was locked
            return handle, Path(name)
        os.close(handle)


def _remove_leftovers(path: Path) -> None:
    if fcntl is None:
        return
    for left in path.parent.glob(f".{escape(path.name)}.*.part"):
        with suppress(OSError), left.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            left.unlink()
