"""Finding a data set's files on this machine, and the words in which users say which."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from urllib.parse import parse_qsl

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


def with_options(argument: str, known: Sequence[str]) -> tuple[str, dict[str, str]]:
    """A path and what is said after it: ``images?label=fine_label&size=64`` has the options label and size.

    Raises: Refusal for options that are not ``known``, come twice, or say nothing.
    """
    path, mark, rest = argument.partition("?")
    if mark and not known:
        raise Refusal(f"expected no options for {path}, got ?{rest}; leave them out")
    try:
        pairs = parse_qsl(rest, keep_blank_values=True, strict_parsing=bool(mark))
    except ValueError as error:
        raise Refusal(f"expected ?NAME=VALUE&… after {path}, got ?{rest}; known are {', '.join(known)}") from error
    names = [name for name, _ in pairs]
    for name, value in pairs:
        if name not in known or not value or names.count(name) > 1:
            raise Refusal(
                f"expected each of the options {', '.join(known)} once, with a value, got {name}={value} in ?{rest}; mend it"
            )
    return path, dict(pairs)


def is_whole(text: str) -> bool:
    """Whether a text is a whole number from 0, in plain digits, of a size that arrays hold."""
    return text.isascii() and text.isdecimal() and len(text) <= 18


def whole_number(name: str, value: str | None) -> int | None:
    """The number in an option, or None where the option is left out."""
    if value is not None and not is_whole(value):
        raise Refusal(f"expected a whole number for the option {name}, got {value!r}; such as {name}=64")
    return None if value is None else int(value)


def inside(name: str, archive: Path) -> PurePosixPath:
    """The name of an archive's member, once it is sure that it leads to no place outside.

    Raises: Refusal for absolute names, ``..``, backslashes, drive letters and NUL.
    """
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts or set(name) & set("\\:\0"):
        raise Refusal(f"expected names inside {archive}, got {name!r}; this archive is not to be trusted")
    return path
