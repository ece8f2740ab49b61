"""The secret that opens the service: made here, kept in a file that only its owner can read."""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path

from unteach.store import write
from unteach.types import Refusal

VARIABLE = "UNTEACH_TOKEN"
SHORTEST = 32  # characters; what token_urlsafe(32) gives has 43


def make_token(path: Path) -> None:
    """Write a new random token into a file that is not there yet; nobody else can read it.

    Raises: Refusal when the file is there.
    """
    if path.exists():
        raise Refusal(f"expected no file at {path} yet, got one; choose another name, or remove it")
    write(path, lambda temporary: temporary.write_text(f"{secrets.token_urlsafe(32)}\n"), mode=0o600)


def read_token(path: Path | None) -> str:
    """The token in a file, or without one in the environment (UNTEACH_TOKEN).

    Raises: Refusal for none, for a file that others can read, and for a token that is short or no one word of ASCII.
    """
    if path is None and VARIABLE not in os.environ:
        raise Refusal(
            f"expected a token, got none; make one with unteach serve --new_token FILE, then give --token_file FILE or {VARIABLE}"
        )
    where = VARIABLE if path is None else str(path)
    token = os.environ[VARIABLE] if path is None else _private_text(path)
    if len(token) < SHORTEST or not all("!" <= letter <= "~" for letter in token):
        raise Refusal(
            f"expected a token of {SHORTEST} or more letters, digits and signs in {where}, got another; make one with unteach "
            "serve --new_token FILE"
        )
    return token


def _private_text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            about = os.fstat(file.fileno())  # of the file that is read, whatever takes its name meanwhile
            if not stat.S_ISREG(about.st_mode) or about.st_mode & 0o077:
                raise Refusal(
                    f"expected a file that only its owner can read at {path}, got one of mode {stat.filemode(about.st_mode)}; "
                    f"chmod 600 {path}"
                )
            return file.read(1000).decode("utf-8", "replace").strip()
    except OSError as error:
        raise Refusal(f"expected a readable file at {path}, got: {error.strerror}; check the path") from error
