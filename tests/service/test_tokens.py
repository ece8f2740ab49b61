"""The secret that opens the service."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from unteach.service import make_token, read_token
from unteach.types import Refusal


@pytest.fixture(autouse=True)
def nothing_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("UNTEACH_TOKEN", raising=False)


def test_a_new_token_is_random_and_for_its_owner_alone(tmp_path: Path) -> None:
    paths = [tmp_path / "a", tmp_path / "deeper" / "b"]
    for path in paths:
        make_token(path)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    first, second = (read_token(path) for path in paths)
    assert first != second
    assert len(first) == len(second) == 43
    with pytest.raises(Refusal, match="expected no file"):
        make_token(paths[0])
    assert read_token(paths[0]) == first


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601], ids=oct)
def test_a_file_for_others_is_refused(tmp_path: Path, mode: int) -> None:
    make_token(tmp_path / "token")
    (tmp_path / "token").chmod(mode)
    with pytest.raises(Refusal, match="only its owner can read"):
        read_token(tmp_path / "token")


@pytest.mark.parametrize(
    "text", ["", "password", "x" * 31, "x" * 20 + " " + "x" * 20, "é" * 40, "x" * 40 + "\n" + "x" * 40], ids=ascii
)
def test_what_is_no_token_is_refused_and_not_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    path = tmp_path / "token"
    path.write_text(text)
    path.chmod(0o600)
    monkeypatch.setenv("UNTEACH_TOKEN", text)
    for given in (path, None):
        with pytest.raises(Refusal, match="32 or more letters") as refusal:
            read_token(given)
        assert not text or text not in str(refusal.value)


def test_where_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Refusal, match="--new_token FILE"):
        read_token(None)
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(Refusal):
            read_token(path)
    monkeypatch.setenv("UNTEACH_TOKEN", "x" * 32)
    assert read_token(None) == "x" * 32
