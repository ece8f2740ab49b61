"""Official archives: fetched only when asked for, checked against a published digest, unpacked where nothing can escape."""

from __future__ import annotations

import hashlib
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from unteach.data.archives import files_in
from unteach.data.places import cache_folder
from unteach.types import Refusal


@dataclass(frozen=True, kw_only=True)
class Archive:
    """A tar or zip file that holds a data set in one folder."""

    url: str
    """Where its publishers offer it."""
    digest: str
    """What it must hold: ``sha256:…`` or ``md5:…`` in hexadecimal digits."""
    folder: str
    """The folder in it."""


def provided(name: str, archive: Archive) -> Path:
    """The archive's folder in the cache of data set ``name``, fetched and unpacked if it is not there.

    Raises: Refusal when it can't be had, or is not the one with this digest; nothing of it is left then.
    """
    cache = cache_folder(name)
    if not (cache / archive.folder).is_dir():
        path = cache / archive.url.rpartition("/")[2]
        fetch(archive.url, path, archive.digest)
        try:
            unpack(path, cache, archive.folder)
        finally:
            path.unlink(missing_ok=True)
    return cache / archive.folder


def fetch(url: str, path: Path, digest: str) -> None:
    """Fetch a file, whole or not at all; ``digest`` as in `Archive`."""
    from http.client import HTTPException
    from urllib.request import urlopen

    path.parent.mkdir(parents=True, exist_ok=True)
    kind, _, wanted = digest.partition(":")
    found = hashlib.new(kind, usedforsecurity=False)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file, urlopen(url, timeout=60) as answer:
            while block := answer.read(1 << 20):
                found.update(block)
                file.write(block)
        if found.hexdigest() != wanted:
            raise Refusal(
                f"expected {path.name} with {kind.upper()} {wanted}, got other content from {url}; try again later"
            )
        Path(temporary).replace(path)
    except (OSError, HTTPException) as error:
        raise Refusal(f"expected to fetch {url}, got: {error}; fetch it by hand into {path.parent}") from error
    finally:
        Path(temporary).unlink(missing_ok=True)


def unpack(archive: Path, into: Path, folder: str) -> None:
    """Unpack one folder of a tar or zip file, whole or not at all.

    Raises: Refusal for an archive that is damaged, could write elsewhere, or has another folder.
    """
    with tempfile.TemporaryDirectory(dir=into, prefix=f".{folder}.") as temporary:
        for name, content in files_in(archive):
            target = Path(temporary) / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
        if not (Path(temporary) / folder).is_dir():
            raise Refusal(f"expected the folder {folder} in {archive}, got others; fetch it again")
        (Path(temporary) / folder).rename(into / folder)
