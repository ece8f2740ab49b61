"""The files in tar and zip archives: plain files with names that lead nowhere else, and archives that were not cut."""

from __future__ import annotations

import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from unteach.data.places import inside
from unteach.types import Refusal

USUAL, FOLD = 2**28, 200  # bytes that any archive may grow to, and how many times its size where that is more


def most(packed: int) -> int:
    """The most bytes that are unpacked from so many; real data shrink less than what was made to fill memory or disk."""
    return max(USUAL, FOLD * packed)


def refuse_bomb(path: Path, unpacked: int) -> None:
    """Refuse a file that says it grows to more bytes than ``most`` when it is unpacked."""
    if unpacked > most(size := path.stat().st_size):
        raise Refusal(
            f"expected {path} ({size:,} bytes) to grow to {most(size):,} bytes at most, got {unpacked:,}; "
            "write it anew with less compression if you trust it"
        )


def files_in(archive: Path) -> Iterator[tuple[PurePosixPath, bytes]]:
    """Names and contents of an archive's files, in its order.

    Raises: Refusal for links and devices, names that lead outside, and archives that are damaged, cut, or of another kind.
    """
    try:
        yield from _zipped(archive) if zipfile.is_zipfile(archive) else _tarred(archive)
    except Refusal:
        raise
    except Exception as error:  # damaged archives fail in many ways
        raise Refusal(
            f"expected a tar or zip file at {archive}, got: {error}; it is cut or damaged, fetch it again"
        ) from error


def _zipped(archive: Path) -> Iterator[tuple[PurePosixPath, bytes]]:
    with zipfile.ZipFile(archive) as opened:
        refuse_bomb(archive, sum(entry.file_size for entry in opened.infolist()))
        for entry in opened.infolist():
            name = inside(entry.filename, archive)
            if not entry.is_dir():
                yield name, opened.read(entry)


def _tarred(archive: Path) -> Iterator[tuple[PurePosixPath, bytes]]:
    _refuse_without_end(archive)
    unpacked = 0
    with tarfile.open(archive) as tar:
        for member in tar:
            unpacked += member.size
            refuse_bomb(archive, unpacked)
            name = inside(member.name, archive)
            if member.isdir():
                continue
            if not member.isreg():
                raise Refusal(f"expected plain files in {archive}, got {member.name}, a link or device; write it anew")
            file = tar.extractfile(member)
            assert file is not None
            yield name, file.read()


def _refuse_without_end(archive: Path) -> None:
    """Python takes a tar file that was cut between two members for a whole one; compressed ones it does not."""
    with archive.open("rb") as file:
        plain = file.read(512)[257:262] == b"ustar"
        if plain:
            file.seek(-512, 2)
        if plain and any(file.read()):
            raise tarfile.ReadError("no end of the archive")
