"""One thing that was looked at, and where things are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from unteach.types import Refusal


@dataclass(frozen=True)
class Check:
    """One thing that was looked at. ``holds``: None where it was not at hand."""

    what: str
    holds: bool | None
    sentence: str


def holds(what: str, sentence: str) -> Check:
    """It is as the evidence says."""
    return Check(what, True, sentence)


def fails(what: str, sentence: str) -> Check:
    """It is not as the evidence says."""
    return Check(what, False, sentence)


def unseen(what: str, sentence: str) -> Check:
    """It was not at hand."""
    return Check(what, None, sentence)


@dataclass(frozen=True, kw_only=True)
class Places:
    """Where files are that don't lie beside the evidence under the names it gives them; None for those that do."""

    public_key: Path | None = None
    """Public key of who should have signed it (PEM), which you have from them and not from beside the evidence."""
    model: Path | None = None
    """The model that came out."""
    original: Path | None = None
    """The model that came in."""
    ids: Path | None = None
    """The list of ids, one a line."""
    salt: Path | None = None
    """The salt that the ids were digested with."""
    findings: Path | None = None
    """The audit's findings.json."""
    previous: Path | None = None
    """The evidence of how the model that came in was made."""
    ledger: Path | None = None
    """The ledger of requests; that it has grown since is no fault."""


def found(folder: Path, name: str, given: Path | None) -> Path | None:
    """The file that was given, which must be there, or the one of this name in the folder, if it is."""
    if given is not None and not given.is_file():
        raise Refusal(f"expected a file at {given}, got none; check the path, or leave it out")
    beside = folder / name
    return given or (beside if beside.is_file() else None)


def short(digest: str) -> str:
    return f"{digest[:12]}…"


def digests(expected: str, got: str) -> str:
    return f"expected {expected}, got {got or 'none'}"
