"""A book of entries that can only grow: SQLite, every entry sealed by the one before it."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

from unteach.ledger import soundness
from unteach.ledger.soundness import APPLICATION, SCHEMA, VERSION, Head
from unteach.types import Refusal

UNREADABLE = (sqlite3.Error, UnicodeError, OverflowError, MemoryError)  # what SQLite makes of damaged files


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One entry. ``seq`` counts from 1; ``at`` is what the machine's clock said (ISO 8601, UTC); ``body`` is JSON."""

    seq: int
    at: str
    kind: str
    body: dict[str, Any]
    previous: str
    hash: str


def now() -> datetime:
    """The machine's clock, in UTC."""
    return datetime.now(UTC)


@dataclass(frozen=True)
class Ledger:
    """An append-only file of entries, each with the SHA-256 of itself and of the entry before it.

    The file is made with the first entry. Any number of processes may append and read at once; an entry that was appended is
    on the disk. Order is that of ``seq``, whatever the clock says. The chain tells that entries were changed, removed or put
    in between; that the last ones were cut off, or that all of it was written anew, shows against a ``Head`` kept elsewhere.
    """

    path: Path
    clock: Callable[[], datetime] = now
    patience: float = 30.0
    """Seconds to wait while others write."""

    def append(self, kind: str, body: Mapping[str, Any]) -> Entry:
        """Add an entry and return it once it is on the disk. ``kind``: a short lower-case name; ``body``: plain values."""
        with self.turn() as turn:
            return turn.append(kind, body)

    @contextmanager
    def turn(self) -> Iterator[Turn]:
        """Read and append while nobody else appends; left by an exception, nothing of it is recorded."""
        with _told(self.path, "write"):
            if not self.path.exists():
                _make(self.path)
            with closing(self._connect("rw")) as connection:
                connection.execute("PRAGMA synchronous = FULL")
                connection.execute("PRAGMA fullfsync = ON")  # elsewhere than on Linux, FULL alone is not to the disk
                connection.execute("BEGIN IMMEDIATE")
                try:
                    _refuse_foreign(self.path, connection)
                    yield Turn(self.path, connection, self.clock)
                    connection.execute("COMMIT")
                finally:
                    if connection.in_transaction:
                        connection.execute("ROLLBACK")

    def entries(self, since: int = 0) -> list[Entry]:
        """The entries after number ``since``, in order.

        Raises: Refusal when there is no ledger, or anything in it was changed.
        """
        with self._reading() as connection:
            _refuse_foreign(self.path, connection)
            return _sound(self.path, soundness.rows(connection))[since:]

    def head(self) -> Head:
        """The last entry, to be kept elsewhere: with it, ``faults`` sees a ledger that was cut or written anew."""
        with self._reading() as connection:
            _refuse_foreign(self.path, connection)
            return soundness.head(connection)

    def faults(self, expected: tuple[int, str] | None = None) -> list[str]:
        """What was changed in this ledger, a sentence each; none for a sound one. ``expected``: the head it had once.

        Raises: Refusal when there is no such file.
        """
        try:
            with self._reading() as connection:
                return [*soundness.foreign(self.path, connection), *soundness.damage(connection)] or [
                    *soundness.broken(soundness.rows(connection)),
                    *soundness.lost(connection, expected),
                ]
        except Refusal as refusal:
            if not self.path.is_file():
                raise
            return [f"the ledger can't be read: {refusal}"]

    def notes(self) -> list[str]:
        """What is odd but no fault: entries at which the machine's clock had gone back."""
        entries = self.entries()
        return [
            f"at entry {entry.seq} the clock said {entry.at}, before the {before.at} of entry {before.seq}; order is by number"
            for before, entry in pairwise(entries)
            if entry.at < before.at
        ]

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        if not self.path.is_file():
            raise Refusal(f"expected a ledger at {self.path}, got no such file; check the path")
        with _told(self.path, "read"), closing(self._connect(self._quietly())) as connection:
            connection.execute("PRAGMA query_only = ON")
            connection.execute("BEGIN")
            yield connection

    def _quietly(self) -> str:
        """How to open it so that a reader leaves the folder as it was."""
        log = self.path.with_name(f"{self.path.name}-wal")
        with suppress(FileNotFoundError):
            if log.stat().st_size:
                return "ro"  # others are at work, or were killed: theirs to tidy up
        # Only who may write takes away the lock files that SQLite lays beside it; where nobody may, nobody writes either.
        return "rw" if os.access(self.path.parent, os.W_OK) else "ro&immutable=1"

    def _connect(self, mode: str) -> sqlite3.Connection:
        where = f"{self.path.absolute().as_uri()}?mode={mode}"
        return sqlite3.connect(where, uri=True, timeout=self.patience, isolation_level=None)


class Turn:
    """Somebody's turn at a ledger: nobody else appends until it is over."""

    def __init__(self, path: Path, connection: sqlite3.Connection, clock: Callable[[], datetime]) -> None:
        self._path, self._connection, self._clock = path, connection, clock

    def entries(self) -> list[Entry]:
        """All entries so far, those of this turn included."""
        return _sound(self._path, soundness.rows(self._connection))

    def append(self, kind: str, body: Mapping[str, Any]) -> Entry:
        """Add an entry; it is recorded when the turn ends without an exception."""
        if not re.fullmatch(r"[a-z]+(-[a-z]+)*", kind):
            raise Refusal(f"expected a kind of lower-case words with hyphens, got {kind!r}; name it so")
        try:
            text = json.dumps(body, sort_keys=True, separators=(",", ":"), allow_nan=False)
        except (TypeError, ValueError, RecursionError) as error:
            raise Refusal(f"expected plain values in a ledger, got: {error}; give numbers, text, lists") from error
        head = soundness.head(self._connection)
        at = self._clock().astimezone(UTC).isoformat(timespec="microseconds")
        row = (head.seq + 1, at, kind, text, head.hash)
        seal = soundness.seal(*row)
        self._connection.execute("INSERT INTO entries VALUES (?, ?, ?, ?, ?, ?)", (*row, seal))
        return Entry(seq=row[0], at=at, kind=kind, body=json.loads(text), previous=head.hash, hash=seal)


def _make(path: Path) -> None:
    """An empty ledger, whole or not at all; where another process was quicker, that one's stays."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    os.close(handle)
    try:
        with closing(sqlite3.connect(name, isolation_level=None)) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("BEGIN IMMEDIATE")
            for statement in SCHEMA.values():
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {APPLICATION}")
            connection.execute(f"PRAGMA user_version = {VERSION}")
            connection.execute("COMMIT")
        Path(name).chmod(0o644)
        with suppress(FileExistsError):
            os.link(name, path)
        keep_names(path.parent)
    finally:
        Path(name).unlink(missing_ok=True)


def keep_names(folder: Path) -> None:
    """Bring the names in a folder to the disk: a file that was renamed into place is then there after a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _told(path: Path, what: str) -> Iterator[None]:
    try:
        yield
    except UNREADABLE as error:
        damaged = isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.OperationalError)
        advice = "restore it from a copy" if damaged else "check space, permissions and who else uses it"
        raise Refusal(f"expected to {what} the ledger {path}, got: {error}; {advice}") from error
    except OSError as error:
        raise Refusal(
            f"expected to {what} the ledger {path}, got: {error.strerror or error}; check the path"
        ) from error


def _refuse_foreign(path: Path, connection: sqlite3.Connection) -> None:
    if wrong := soundness.foreign(path, connection):
        raise Refusal(
            f"expected a ledger as unteach makes it, got: {wrong[0]}; give the ledger, or restore it from a copy"
        )


def _sound(path: Path, rows: list[tuple[Any, ...]]) -> list[Entry]:
    for fault in soundness.broken(rows):
        raise Refusal(f"expected {path} as it was written, got a ledger where {fault}; restore it from a copy")
    names = ("seq", "at", "kind", "body", "previous", "hash")
    return [Entry(**dict(zip(names, row)) | {"body": json.loads(row[3])}) for row in rows]
