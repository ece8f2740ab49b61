"""The chain of entries: it only grows, every change shows, and whatever is killed when, what was appended is there."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import random
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from unteach.ledger.chain import Entry, Ledger
from unteach.ledger.soundness import SCHEMA, Head
from unteach.types import Refusal

BODIES = st.dictionaries(
    st.text(), st.none() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
)


def tampered(path: Path, *statements: str) -> None:
    """Change a ledger behind its rules, which are put back."""
    with closing(sqlite3.connect(path)) as connection:
        for name, sql in SCHEMA.items():
            if sql.startswith("CREATE TRIGGER"):
                connection.execute(f"DROP TRIGGER {name}")
        for statement in statements:
            connection.execute(statement)
        for sql in SCHEMA.values():
            if sql.startswith("CREATE TRIGGER"):
                connection.execute(sql)
        connection.commit()


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    """Five entries."""
    made = Ledger(tmp_path / "ledger.sqlite")
    for number in range(1, 6):
        made.append("received", {"number": number})
    return made


def test_entries_are_sealed_as_the_documentation_says(ledger: Ledger) -> None:
    previous = ""
    for entry in ledger.entries():
        body = json.dumps(entry.body, sort_keys=True, separators=(",", ":"))
        content = json.dumps([entry.seq, entry.at, entry.kind, body, previous])
        assert (entry.previous, entry.hash) == (previous, hashlib.sha256(content.encode()).hexdigest())
        previous = entry.hash
    assert ledger.head() == Head(5, previous)
    assert [entry.seq for entry in ledger.entries(since=3)] == [4, 5]
    assert ledger.faults() == ledger.faults(expected=ledger.head()) == ledger.notes() == []


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("UPDATE entries SET body = '{\"number\":7}' WHERE seq = 3", "entry 3 (received) was changed"),
        ("UPDATE entries SET at = '2020-01-01' WHERE seq = 1", "entry 1 (received) was changed"),
        ("UPDATE entries SET kind = 'withdrawn' WHERE seq = 5", "entry 5 (withdrawn) was changed"),
        ("UPDATE entries SET hash = 'x' WHERE seq = 2", "entry 2 (received) was changed"),
        ("UPDATE entries SET previous = 'x' WHERE seq = 4", "entry 4 does not follow on entry 3"),
        ("UPDATE entries SET body = x'00' WHERE seq = 4", "entry 4 was changed: it is no entry"),
        ("UPDATE entries SET body = '[' WHERE seq = 4", "entry 4 was changed: it is no entry"),
        ("DELETE FROM entries WHERE seq = 2", "entry 2 is missing"),
        ("DELETE FROM entries WHERE seq IN (1, 2, 3)", "entries 1 to 3 are missing"),
        ("DROP TABLE entries", "'entries'"),
        ("PRAGMA user_version = 9", "version 9"),
        ("PRAGMA application_id = 9", "no ledger of unteach"),
        ("CREATE TABLE more (x)", "'more'"),
    ],
)
def test_every_change_is_named(ledger: Ledger, statement: str, words: str) -> None:
    if statement.startswith("DROP"):
        with closing(sqlite3.connect(ledger.path)) as connection:
            connection.execute(statement)
    else:
        tampered(ledger.path, statement)
    assert words in " ".join(ledger.faults())
    with pytest.raises(Refusal, match=r"expected .*ledger"):
        ledger.entries()


def test_rows_sealed_anew_show_at_the_next_one(ledger: Ledger) -> None:
    old = ledger.entries()[2]
    seal = hashlib.sha256(json.dumps([3, old.at, old.kind, '{"number":9}', old.previous]).encode()).hexdigest()
    tampered(ledger.path, f"UPDATE entries SET body = '{{\"number\":9}}', hash = '{seal}' WHERE seq = 3")
    assert ledger.faults() == ["entry 4 does not follow on entry 3: one of the two was replaced"]


def test_a_cut_or_rewritten_ledger_shows_against_a_head_kept_elsewhere(ledger: Ledger, tmp_path: Path) -> None:
    early = ledger.head()
    ledger.append("received", {"number": 6})
    late = ledger.head()
    assert ledger.faults(expected=early) == [], "a ledger may have grown"
    tampered(ledger.path, "DELETE FROM entries WHERE seq = 6")
    assert ledger.faults() == [], "by itself it can't tell"
    assert ledger.faults(expected=late) == [
        "the ledger ends with entry 5 and once had 6: its last entries were cut off"
    ]
    other = Ledger(tmp_path / "other.sqlite")
    for number in range(1, 7):
        other.append("received", {"number": number})
    assert "written anew" in other.faults(expected=late)[0]


def test_sqlite_itself_refuses_changes(ledger: Ledger) -> None:
    seal = "'2026', 'received', '{}', '', ''"
    with closing(sqlite3.connect(ledger.path)) as connection:
        for statement in (
            "UPDATE entries SET body = '{}'",
            "DELETE FROM entries",
            f"INSERT OR REPLACE INTO entries VALUES (2, {seal})",
            f"INSERT INTO entries VALUES (9, {seal})",
        ):
            with pytest.raises(sqlite3.IntegrityError, match="entries"):
                connection.execute(statement)
    assert ledger.faults() == []


@pytest.mark.parametrize(
    "content", [b"", b"not a database at all " * 99, b"SQLite format 3\0" + bytes(4080)], ids=["empty", "text", "zeros"]
)
def test_what_is_no_ledger_is_told_in_a_sentence(content: bytes, tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "x.sqlite")
    ledger.path.write_bytes(content)
    assert ledger.faults()
    for ask in (ledger.entries, ledger.head, ledger.notes, lambda: ledger.append("received", {})):
        with pytest.raises(Refusal, match="expected"):
            ask()
    assert ledger.path.read_bytes() == content


def test_a_ledger_that_is_not_there(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "none" / "x.sqlite")
    for ask in (ledger.entries, ledger.head, ledger.faults):
        with pytest.raises(Refusal, match="no such file"):
            ask()
    assert not ledger.path.parent.exists(), "asking makes nothing"


def test_what_can_not_be_kept_is_refused(ledger: Ledger) -> None:
    for kind, body in (("Upper", {}), ("x y", {}), ("received", {"x": float("nan")}), ("received", {"x": object()})):
        with pytest.raises(Refusal, match="expected"):
            ledger.append(kind, body)
    assert ledger.head().seq == 5


def test_a_turn_that_fails_leaves_nothing(ledger: Ledger) -> None:
    def stopped() -> None:
        with ledger.turn() as turn:
            turn.append("received", {"number": 6})
            assert len(turn.entries()) == 6
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert ledger.head().seq == 5


class Growing(RuleBasedStateMachine):
    """Whatever is appended, in turns that succeed or fail, with whatever clock, is read back in that order."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.at = datetime(2026, 1, 1, tzinfo=UTC)
        self.ledger = Ledger(self.folder / "ledger.sqlite", lambda: self.at)
        self.ledger.append("opened", {})
        self.known: list[tuple[str, dict[str, Any]]] = [("opened", {})]
        self.heads = [self.ledger.head()]

    @rule(days=st.floats(-1000, 1000))
    def turn_the_clock(self, days: float) -> None:
        self.at = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=days)

    @rule(kind=st.sampled_from(["received", "run-started"]), body=BODIES)
    def append(self, kind: str, body: dict[str, Any]) -> None:
        self.ledger.append(kind, body)
        self.known.append((kind, body))
        self.heads.append(self.ledger.head())

    @rule(bodies=st.lists(BODIES, min_size=1, max_size=3), fails=st.booleans())
    def several(self, bodies: list[dict[str, Any]], fails: bool) -> None:
        with suppress(ZeroDivisionError):
            with self.ledger.turn() as turn:
                for body in bodies:
                    turn.append("several", body)
                1 / (not fails)
            self.known += [("several", body) for body in bodies]

    @invariant()
    def sound(self) -> None:
        assert [(entry.kind, entry.body) for entry in self.ledger.entries()] == self.known
        assert all(not self.ledger.faults(expected=head) for head in self.heads)

    def teardown(self) -> None:
        shutil.rmtree(self.folder)


TestGrowing = Growing.TestCase
TestGrowing.settings = settings(max_examples=15, stateful_step_count=8, deadline=None)


def append_many(path: Path, who: int, count: int) -> None:
    for number in range(count):
        Ledger(path).append("received", {"who": who, "number": number})


def test_two_processes_at_once(tmp_path: Path) -> None:
    """They also race for making the file."""
    ledger = Ledger(tmp_path / "ledger.sqlite")
    spawn = multiprocessing.get_context("fork")
    both = [spawn.Process(target=append_many, args=(ledger.path, who, 100)) for who in (0, 1)]
    for one in both:
        one.start()
    for one in both:
        one.join()
        assert one.exitcode == 0
    entries = ledger.entries()
    assert ledger.faults() == []
    for who in (0, 1):
        assert [entry.body["number"] for entry in entries if entry.body["who"] == who] == list(range(100))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ledger.sqlite"], "nothing is left lying about"


# Appends for ever and says each number once it is promised; no torch, so that it starts at once.
APPENDER = """
import sys, types
sys.modules["torch"] = types.ModuleType("torch")
from pathlib import Path
from unteach.ledger.chain import Ledger
ledger, number = Ledger(Path(sys.argv[1])), 0
while True:
    ledger.append("received", {"number": number})
    print(number, flush=True)
    number += 1
"""


def killed(path: Path, after: float) -> int:
    """Kill an appender so long after its first entry; returns how many it promised."""
    child = subprocess.Popen([sys.executable, "-c", APPENDER, str(path)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    first = child.stdout.readline()
    time.sleep(after)
    child.send_signal(signal.SIGKILL)
    rest = child.stdout.read()
    child.wait()
    child.stdout.close()
    return (first + rest).count("\n")


def stand_kills(folder: Path, count: int) -> None:
    rng = random.Random(7)
    for number in range(count):
        ledger = Ledger(folder / f"{number}.sqlite")
        promised = killed(ledger.path, rng.uniform(0, 0.05))
        entries = [entry.body["number"] for entry in ledger.entries()]
        assert entries == list(range(len(entries)))
        assert len(entries) - promised in (0, 1), "at most one was recorded and not yet said"
        assert ledger.faults() == []
        ledger.append("received", {"number": len(entries)})


def test_killed_at_any_moment(tmp_path: Path) -> None:
    stand_kills(tmp_path, 20)


@pytest.mark.slow
def test_killed_at_two_hundred_moments(tmp_path: Path) -> None:
    stand_kills(tmp_path, 200)


def flipped(ledger: Ledger, at: int, bit: int, known: list[Entry], head: Head) -> None:
    """One bit of the file: it is found, refused, or nothing that the ledger says is changed."""
    content = bytearray(ledger.path.read_bytes())
    content[at % len(content)] ^= 1 << bit
    copy = Ledger(ledger.path.with_name("copy.sqlite"))
    copy.path.write_bytes(content)
    if not copy.faults(expected=head):
        assert copy.entries() == known
        assert copy.head() == head
    else:
        with suppress(Refusal):
            copy.entries()


@given(data=st.data())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_one_flipped_bit(ledger: Ledger, data: st.DataObject) -> None:
    size = ledger.path.stat().st_size
    at = data.draw(st.integers(0, 120) | st.integers(0, size - 1))
    flipped(ledger, at, data.draw(st.integers(0, 7)), ledger.entries(), ledger.head())


@pytest.mark.slow
def test_every_flipped_byte(ledger: Ledger) -> None:
    known, head = ledger.entries(), ledger.head()
    for at in range(ledger.path.stat().st_size):
        flipped(ledger, at, at % 8, known, head)


def test_a_clock_that_goes_back_is_noted_and_changes_no_order(tmp_path: Path) -> None:
    times = [datetime(2026, 5, day, tzinfo=UTC) for day in (3, 4, 1, 2)]
    ledger = Ledger(tmp_path / "ledger.sqlite", iter(times).__next__)
    for number in range(4):
        ledger.append("received", {"number": number})
    assert [entry.body["number"] for entry in ledger.entries()] == [0, 1, 2, 3]
    assert ledger.faults() == []
    (note,) = ledger.notes()
    assert note.startswith("at entry 3 the clock said 2026-05-01T00:00:00.000000+00:00, before the 2026-05-04")


@pytest.fixture
def small_files() -> Iterator[None]:
    """A limit on the size of files stands for the full disk: both fail in the middle of a write."""
    old = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    signal.signal(signal.SIGXFSZ, old)


@pytest.mark.usefixtures("small_files")
def test_a_full_disk(tmp_path: Path) -> None:
    ledger, kept = Ledger(tmp_path / "ledger.sqlite"), []

    def fill() -> None:
        for number in range(1000):
            ledger.append("received", {"number": number, "long": "x" * 2000})
            kept.append(number)

    with pytest.raises(Refusal, match="expected to write the ledger"):
        fill()
    assert len(kept) > 2
    assert [entry.body["number"] for entry in ledger.entries()] == kept
    assert ledger.faults() == []


def test_no_room_for_the_first_entry(tmp_path: Path, small_files: None) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    with pytest.raises(Refusal, match="expected to write the ledger"):
        Ledger(tmp_path / "ledger.sqlite").append("received", {})
    assert not list(tmp_path.iterdir())


def test_a_read_only_folder(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who may do anything is not stopped by permissions, so what the system would say stands in for them."""
    known, folder = ledger.entries(), ledger.path.parent
    monkeypatch.setattr("os.access", lambda path, mode: False)
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    folder.chmod(0o555)
    try:
        assert ledger.entries() == known
        assert ledger.faults() == []
        assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before, "reading leaves no files"
        if os.geteuid():
            with pytest.raises(Refusal, match="expected to write the ledger"):
                ledger.append("received", {})
            with pytest.raises(Refusal, match="expected to write the ledger"):
                Ledger(folder / "new.sqlite").append("received", {})
    finally:
        folder.chmod(0o755)
