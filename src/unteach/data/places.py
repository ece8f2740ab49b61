"""Finding a data set's files on this machine."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from unteach.types import Refusal


def places(root: Path | None, subfolders: Iterable[str], more: Iterable[Path] = ()) -> list[Path]:
    """Folders to look into, in order: --data_root, UNTEACH_DATA, then usual ones; each also with its subfolders."""
    given = [root] if root else []
    if os.environ.get("UNTEACH_DATA"):
        given.append(Path(os.environ["UNTEACH_DATA"]))
    return [folder for top in given for folder in (*(top / name for name in subfolders), top)] + list(more)


def nowhere(name: str, looked: Iterable[Path], advice: str) -> Refusal:
    """The sentence that says where a data set was looked for."""
    where = ", ".join(str(folder) for folder in looked) or "nowhere (no --data_root, no UNTEACH_DATA)"
    return Refusal(f"expected the files of {name}, got none in: {where}; {advice}")


def cache_folder(name: str) -> Path:
    """Where downloads are kept: $XDG_CACHE_HOME/unteach/NAME, by default in ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "unteach" / name
