"""Evidence from anywhere: any bytes are refused in a sentence or read, and what is read can be checked without a crash."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from unteach.evidence import Places, canonical, examined, opened, sealed
from unteach.types import Refusal

QUICK = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


def looked_at(path: Path, data: bytes) -> bool:
    """Whether it was read; then every check ran."""
    path.write_bytes(data)
    try:
        evidence = opened(path)
    except Refusal as refusal:
        assert str(refusal).startswith("expected ")  # noqa: PT017
        return False
    for check in examined(evidence, Places()):
        check.sentence.encode()
    return True


@QUICK
@given(data=st.binary(max_size=60) | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_bytes(data: bytes, tmp_path: Path) -> None:
    assert not looked_at(tmp_path / "evidence.json", data)


def places_in(value: Any) -> list[tuple[Any, Any]]:
    """Every container with every key of it, all the way down."""
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    return [pair for key in keys for pair in ((value, key), *places_in(value[key]))]


@QUICK
@given(data=st.data())
def test_a_statement_with_anything_in_any_place(data: st.DataObject, kept: Path, tmp_path: Path) -> None:
    statement = json.loads((kept / "run" / "evidence.json").read_text())
    changed = copy.deepcopy(statement)
    holder, key = data.draw(st.sampled_from(places_in(changed)))
    holder[key] = data.draw(JSON)
    looked_at(tmp_path / "a.json", json.dumps(changed, indent=1, sort_keys=True).encode() + b"\n")
    try:
        anew = canonical(sealed(changed)).encode()  # as somebody would who knows the format
    except (Refusal, ValueError, KeyError, TypeError):
        return
    looked_at(tmp_path / "b.json", anew)


@pytest.mark.parametrize(
    ("envelope", "words"),
    [
        ({"payload": "e30=", "payloadType": "application/vnd.in-toto+json", "signatures": []}, "names"),
        ({"payload": "!", "payloadType": "application/vnd.in-toto+json", "signatures": []}, "payload"),
        ({"payload": "e31=", "payloadType": "application/vnd.in-toto+json", "signatures": []}, "another spelling"),
        ({"payload": "e30=", "payloadType": "text", "signatures": []}, "payloadType"),
        ({"payload": "e30=", "payloadType": "application/vnd.in-toto+json"}, "names"),
    ],
    ids=["empty", "no-base64", "spare-bits", "type", "no-signatures"],
)
def test_envelopes_of_another_form(envelope: dict[str, Any], words: str, tmp_path: Path) -> None:
    (tmp_path / "evidence.json").write_text(canonical(envelope))
    with pytest.raises(Refusal, match=words):
        opened(tmp_path / "evidence.json")


def test_deep_and_missing(tmp_path: Path) -> None:
    assert not looked_at(tmp_path / "deep.json", b"[" * 100_000)
    assert not looked_at(tmp_path / "digits.json", b"1" * 5000)
    with pytest.raises(Refusal, match="expected evidence at"):
        opened(tmp_path / "none.json")


@pytest.mark.parametrize("name", ["../../etc/passwd", "a/b", "..", "", "a\nb", "\u202e"], ids=ascii)
def test_evidence_names_no_files_elsewhere(name: str, kept: Path, tmp_path: Path) -> None:
    statement = json.loads((kept / "run" / "evidence.json").read_text())
    statement["predicate"]["after"]["name"] = statement["subject"][0]["name"] = name
    (tmp_path / "evidence.json").write_text(canonical(statement))
    with pytest.raises(Refusal, match=r"subject\[\]\.name|after\.name"):
        opened(tmp_path / "evidence.json")
