"""One byte changed anywhere is found, in a sentence that names what was changed."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from unteach.evidence import Check, Places, examined, opened
from unteach.evidence.envelope import new_key
from unteach.ledger.chain import Ledger
from unteach.types import Refusal
from unteach.verbs import Evidence

pytest.importorskip("securesystemslib")

FILES = {  # path → what the sentence must name
    "run/model.safetensors": "model.safetensors was changed",
    "original.safetensors": "original.safetensors was changed",
    "run/forget.txt": "forget.txt was changed",
    "run/ids.salt": "ids.salt was changed",
    "run/findings.json": "findings.json was changed",
    "run/settings.json": "settings.json was changed",
    "run/report.html": "report.html was changed",
    "run/events.jsonl": "events.jsonl was changed",
    "run/officer.html": "officer.html was changed",
    "earlier.json": "earlier.json was changed",
    "run/evidence.json": "changed",
    "key.pub": "key.pub",
}


@pytest.fixture(scope="module")
def whole(kept: Path, tiny: Any, run_maker: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Signed evidence of a second request, with the evidence of the first one, a ledger, and all files."""
    folder = tmp_path_factory.mktemp("whole")
    shutil.copy(kept / "run" / "model.safetensors", folder / "original.safetensors")
    shutil.copy(kept / "run" / "evidence.json", folder / "earlier.json")
    ledger = Ledger(folder / "ledger.sqlite")
    for number in range(3):
        ledger.append("received", {"number": number})
    new_key(folder / "key")
    run_maker(folder / "run", folder / "original.safetensors", tiny(1), tiny(2))
    made = Evidence(
        run=folder / "run", key=folder / "key", previous=folder / "earlier.json", ledger=folder / "ledger.sqlite"
    )
    assert made() == 0
    return folder


def checks(folder: Path) -> list[Check]:
    places = Places(
        original=folder / "original.safetensors",
        previous=folder / "earlier.json",
        public_key=folder / "key.pub",
        ledger=folder / "ledger.sqlite",
    )
    return examined(opened(folder / "run" / "evidence.json"), places)


def test_untouched(whole: Path) -> None:
    found = checks(whole)
    assert {check.holds for check in found} == {True}, found
    assert {"signature", "statement", "model", "original", "ids", "salt", "audit", "previous", "ledger", "parent"} <= {
        check.what for check in found
    }


@pytest.mark.parametrize("name", FILES)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_one_byte(name: str, data: st.DataObject, whole: Path) -> None:
    path = whole / name
    kept = path.read_bytes()
    at = data.draw(st.integers(0, len(kept) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda value: value != kept[at]))
    path.write_bytes(kept[:at] + bytes([byte]) + kept[at + 1 :])
    try:
        said = [check.sentence for check in checks(whole) if check.holds is False]
    except Refusal as refusal:
        assert name in ("run/evidence.json", "key.pub"), (
            "what can't be read ends the check only where all depends on it"
        )
        said = [str(refusal)]
    finally:
        path.write_bytes(kept)
    if name == "key.pub" and bytes([byte]).isspace() and bytes([kept[at]]).isspace():
        return  # the same key
    assert said, (name, at, byte)
    assert any(FILES[name] in sentence for sentence in said), said


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_one_byte_of_what_is_not_signed(data: st.DataObject, kept: Path) -> None:
    path = kept / "run" / "evidence.json"
    whole = path.read_bytes()
    at = data.draw(st.integers(0, len(whole) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda value: value != whole[at]))
    path.write_bytes(whole[:at] + bytes([byte]) + whole[at + 1 :])
    try:
        said = [check.sentence for check in examined(opened(path), Places()) if check.holds is False]
    except Refusal as refusal:
        said = [str(refusal)]
    finally:
        path.write_bytes(whole)
    assert any("evidence.json" in sentence for sentence in said), said


@pytest.mark.parametrize("name", FILES)
def test_cut_short_or_gone(name: str, whole: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(whole, tmp_path / "whole"))
    path = folder / name
    path.write_bytes(path.read_bytes()[:-1] if name != "key.pub" else b"")
    try:
        assert any(check.holds is False and path.name in check.sentence for check in checks(folder))
    except Refusal as refusal:
        assert name in ("run/evidence.json", "key.pub")
        assert path.name in str(refusal)  # noqa: PT017
    path.unlink()
    try:
        found = checks(folder)
    except Refusal as refusal:
        assert path.name in str(refusal)  # noqa: PT017 - it was named, or is the evidence itself
        assert not name.startswith("run/") or name == "run/evidence.json"
        return
    assert [check.holds for check in found if path.name in check.sentence] == [None]
    assert all(check.holds is not False for check in found)


def test_the_tensor_is_named(whole: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(whole, tmp_path / "whole"))
    path = folder / "run" / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    (said,) = [check.sentence for check in checks(folder) if check.what == "model"]
    assert "tensor '" in said
    assert "header" not in said
    data[-1] ^= 1
    at = data.index(b'"seconds') + 1
    data[at : at + 7] = b"sekonds"
    path.write_bytes(data)
    (said,) = [check.sentence for check in checks(folder) if check.what == "model"]
    assert "its tensors are the same, its header differs" in said


def test_ids_that_were_added_or_taken_away_are_counted(whole: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(whole, tmp_path / "whole"))
    path = folder / "run" / "forget.txt"
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    for text, words in (
        (lines[1:], "1 of 4 ids are missing, 0 are not"),
        ([*lines, "new\n"], "0 of 4 ids are missing, 1 are not"),
        (lines[::-1], "the same 4 ids, but in other bytes"),
    ):
        path.write_text("".join(text), encoding="utf-8")
        (said,) = [check.sentence for check in checks(folder) if check.what == "ids"]
        assert words in said


def test_a_ledger_that_grew_holds_and_one_that_was_changed_or_cut_does_not(whole: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(whole, tmp_path / "whole"))
    path = folder / "ledger.sqlite"
    Ledger(path).append("received", {"number": 3})
    assert checks(folder)[-1].holds is True
    for command in ("UPDATE entries SET body = '{\"number\":7}' WHERE seq = 2", "DELETE FROM entries WHERE seq > 2"):
        shutil.copy(whole / "ledger.sqlite", path)
        with closing(sqlite3.connect(path)) as connection:
            rules = [row[0] for row in connection.execute("SELECT sql FROM sqlite_master WHERE type = 'trigger'")]
            for name in ("no_change", "no_removal"):
                connection.execute(f"DROP TRIGGER {name}")
            connection.execute(command)
            for rule in rules[:2]:
                connection.execute(rule)
            connection.commit()
        assert checks(folder)[-1].what == "ledger"
        assert checks(folder)[-1].holds is False
        assert "ledger.sqlite was changed: " in checks(folder)[-1].sentence
