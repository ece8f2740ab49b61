"""What shows that a ledger was changed: foreign rules, a damaged file, entries that don't seal themselves, a cut end."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

APPLICATION = 0x756E7465  # "unte", where SQLite keeps whose file it is
VERSION = 1
SCHEMA = {
    "entries": "CREATE TABLE entries (seq INTEGER PRIMARY KEY, at TEXT NOT NULL, kind TEXT NOT NULL, body TEXT NOT NULL, "
    "previous TEXT NOT NULL, hash TEXT NOT NULL)",
    "no_change": "CREATE TRIGGER no_change BEFORE UPDATE ON entries BEGIN SELECT RAISE(ABORT, 'entries stay as they are'); END",
    "no_removal": "CREATE TRIGGER no_removal BEFORE DELETE ON entries BEGIN SELECT RAISE(ABORT, 'entries stay'); END",
    "in_turn": "CREATE TRIGGER in_turn BEFORE INSERT ON entries "
    "WHEN NEW.seq IS NOT (SELECT ifnull(max(seq), 0) + 1 FROM entries) "
    "BEGIN SELECT RAISE(ABORT, 'entries come one after the other'); END",
}


class Head(NamedTuple):
    """The last entry of a ledger: number and hash; 0 and nothing while it is empty."""

    seq: int
    hash: str


def seal(seq: int, at: str, kind: str, body: str, previous: str) -> str:
    """The hash of an entry: SHA-256 of the JSON list of these five, ``body`` being canonical JSON text."""
    return hashlib.sha256(json.dumps([seq, at, kind, body, previous]).encode()).hexdigest()


def foreign(path: Path, connection: sqlite3.Connection) -> list[str]:
    """Whether it is a ledger of ours, of this version, with all its rules."""
    who, version = (connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version"))
    if who != APPLICATION:
        return [f"{path} is a database, but no ledger of unteach"]
    if version != VERSION:
        return [f"{path} says that it is a ledger of version {version}, where {VERSION} is known"]
    found = dict(connection.execute("SELECT name, sql FROM sqlite_master").fetchall())
    return [
        f"the rule {name!r} of {path} was {'removed' if name not in found else 'added' if name not in SCHEMA else 'changed'}"
        for name in sorted({*SCHEMA, *found}, key=str)
        if SCHEMA.get(name) != found.get(name)
    ]


def damage(connection: sqlite3.Connection) -> list[str]:
    """What SQLite finds wrong with its own file."""
    return [
        f"the file is damaged: {told}" for (told,) in connection.execute("PRAGMA integrity_check(5)") if told != "ok"
    ]


def rows(connection: sqlite3.Connection) -> list[tuple[Any, ...]]:
    """The entries as they stand in the file."""
    return connection.execute("SELECT seq, at, kind, body, previous, hash FROM entries ORDER BY seq").fetchall()


def head(connection: sqlite3.Connection) -> Head:
    """The last entry."""
    row = connection.execute("SELECT seq, hash FROM entries ORDER BY seq DESC LIMIT 1").fetchone()
    return Head(*row) if row else Head(0, "")


def broken(found: list[tuple[Any, ...]]) -> Iterator[str]:
    """Entries that don't seal themselves or don't follow on the one before."""
    last = Head(0, "")
    for seq, at, kind, body, previous, sealed in found:
        if seq != last.seq + 1:
            between = f"entry {last.seq + 1} is" if seq == last.seq + 2 else f"entries {last.seq + 1} to {seq - 1} are"
            yield f"{between} missing"
        elif previous != last.hash:
            yield f"entry {seq} does not follow on entry {last.seq}: one of the two was replaced"
        if not all(isinstance(part, str) for part in (at, kind, body, previous, sealed)) or not _entry(body):
            yield f"entry {seq} was changed: it is no entry any more"
        elif seal(seq, at, kind, body, previous) != sealed:
            yield f"entry {seq} ({kind}) was changed: what it says does not give its hash"
        last = Head(seq, sealed)


def _entry(body: str) -> bool:
    with suppress(ValueError, RecursionError):
        return isinstance(json.loads(body), dict)
    return False


def lost(connection: sqlite3.Connection, expected: tuple[int, str] | None) -> list[str]:
    """Whether the entry that once was the last is there as it was."""
    if expected is None or expected[0] == 0:
        return []
    seq, sealed = expected
    row = connection.execute("SELECT hash FROM entries WHERE seq = ?", (seq,)).fetchone()
    if row is None:
        return [f"the ledger ends with entry {head(connection).seq} and once had {seq}: its last entries were cut off"]
    return (
        [] if row[0] == sealed else [f"entry {seq} is another than the one that once was the last: it was written anew"]
    )
