"""Files under way: those of killed processes are taken away, those of living ones and other people's are not."""

from __future__ import annotations

import multiprocessing
import os
import signal
from glob import escape
from pathlib import Path

from unteach.store import write_text
from unteach.temporary import temporary


def killed_within(path: Path) -> Path:
    """What a process left that was killed while it wrote this file."""
    child = os.fork()
    if not child:
        with temporary(path) as made:
            made.write_text("half")
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    (left,) = path.parent.glob(f".{escape(path.name)}.*")
    assert left.read_text() == "half"
    return left


def test_what_a_killed_process_left_is_taken_away(tmp_path: Path) -> None:
    path = tmp_path / "x[1].json"
    left = killed_within(path)
    other = killed_within(tmp_path / "other.json")
    own = tmp_path / ".x[1].json.notes"
    own.write_text("mine")
    write_text(path, "whole")
    assert {each.name for each in tmp_path.iterdir()} == {path.name, own.name, other.name}
    assert path.read_text() == "whole"
    assert not left.exists()
    assert path.stat().st_mode & 0o777 == 0o644


def test_what_another_holds_stays(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    with temporary(path) as one, temporary(path) as other:
        one.write_text("one")
        other.write_text("other")
        other.replace(path)
        assert one.read_text() == "one"
        one.replace(path)
    assert [(each.name, each.read_text()) for each in tmp_path.iterdir()] == [("x.json", "one")]


def write_often(path: Path, letter: str) -> None:
    for _ in range(150):
        write_text(path, letter * 500)


def test_two_processes_write_the_same_file(tmp_path: Path) -> None:
    path, fork = tmp_path / "x.txt", multiprocessing.get_context("fork")
    both = [fork.Process(target=write_often, args=(path, letter)) for letter in "ab"]
    for one in both:
        one.start()
    while any(one.is_alive() for one in both):
        if path.exists():
            assert path.read_text() in ("a" * 500, "b" * 500)
    for one in both:
        one.join()
        assert one.exitcode == 0
    assert [each.name for each in tmp_path.iterdir()] == ["x.txt"]
