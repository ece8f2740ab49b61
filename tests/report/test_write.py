"""Files appear whole or not at all; JSON is canonical."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unteach.report import as_html, as_json, as_markdown, render
from unteach.types import Refusal


def test_writes_both_and_nothing_else(
    findings: dict[str, Any], thumbnails: dict[str, np.ndarray], tmp_path: Path
) -> None:
    folder = tmp_path / "runs" / "demo"
    paths = render(findings, folder, thumbnails=thumbnails)
    assert paths == [folder / "report.html", folder / "report.md"]
    assert sorted(folder.iterdir()) == paths
    assert paths[0].read_text("utf-8") == as_html(findings, thumbnails)
    assert paths[1].read_text("utf-8") == as_markdown(findings)
    render({}, folder)
    assert sorted(folder.iterdir()) == paths
    assert "amun" not in paths[0].read_text("utf-8")


def test_a_failed_write_leaves_the_old_file_and_no_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = render({"verdict": "inconclusive"}, tmp_path)[0].read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(Refusal, match="No space left on device; free space or choose another folder"):
        render({"verdict": "under-forgotten"}, tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {"report.html", "report.md"}
    assert (tmp_path / "report.html").read_bytes() == old


def test_bad_input_is_refused_before_anything_is_written(findings: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Refusal, match="expected to be able to write"):
        render({}, tmp_path / "file")
    with pytest.raises(Refusal, match="expected findings to be a mapping, got list"):
        render([], tmp_path)  # type: ignore[arg-type]
    with pytest.raises(Refusal, match="expected thumbnail"):
        render(findings, tmp_path, thumbnails={findings["exposed"][0]["id"]: np.zeros(3)})
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_json_is_sorted_finite_and_plain() -> None:
    given_ = {
        "b": np.float32(0.5),
        "a": [np.int64(3), float("nan"), -np.inf, np.bool_(True)],
        "p": Path("x"),
        1: (),
    }
    expected = {"1": [], "a": [3, None, None, True], "b": 0.5, "p": "x"}
    text = as_json(given_)
    assert json.loads(text, parse_constant=pytest.fail) == expected
    assert list(json.loads(text)) == sorted(expected)
    assert text.endswith("}\n")
    assert as_json({"m": np.eye(2)}) == as_json({"m": [[1.0, 0.0], [0.0, 1.0]]})
    as_json({"s": "\ud800"}).encode("utf-8")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)


@given(st.dictionaries(st.text(), JSON, max_size=4))
def test_json_round_trips(held: dict[str, Any]) -> None:
    assert json.loads(as_json(held)) == held
    assert as_json(json.loads(as_json(held))) == as_json(held)


def test_json_refuses_what_it_cannot_hold() -> None:
    with pytest.raises(Refusal, match="got object; do convert it"):
        as_json({"x": object()})
    with pytest.raises(Refusal, match="two that read the same"):
        as_json({1: "a", "1": "b"})
