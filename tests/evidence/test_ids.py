"""The list of ids: the formula, proofs of one id, and what a list must be."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unteach.evidence.ids import digest_of_leaves, leaf_of, leaves_of, proof_of, read_ids, read_salt
from unteach.evidence.members import check_member
from unteach.types import Refusal


def by_hand(name: bytes, salt: bytes) -> str:
    """RFC 2104 with SHA-256, written out."""
    key = (hashlib.sha256(salt).digest() if len(salt) > 64 else salt).ljust(64, b"\0")
    inner = hashlib.sha256(bytes(b ^ 0x36 for b in key) + name).digest()
    proof = hashlib.sha256(bytes(b ^ 0x5C for b in key) + inner).digest()
    return hashlib.sha256(proof + name).hexdigest()


@given(names=st.lists(st.text(max_size=8), unique=True, max_size=6), salt=st.binary(min_size=16, max_size=80))
def test_leaves_are_as_the_formula_says(names: list[str], salt: bytes) -> None:
    encodable = [name for name in names if not any("\ud800" <= c <= "\udfff" for c in name)]
    leaves = leaves_of(encodable, salt)
    assert leaves == sorted(by_hand(name.encode(), salt) for name in encodable)
    assert leaves == leaves_of(reversed(encodable), salt)
    assert digest_of_leaves(leaves) == hashlib.sha256(bytes.fromhex("".join(leaves))).hexdigest()


@given(
    name=st.text("abc1", min_size=1, max_size=4),
    other=st.text("abc1", min_size=1, max_size=4),
    salt=st.binary(min_size=16, max_size=20),
)
def test_a_proof_shows_its_own_id_only(name: str, other: str, salt: bytes) -> None:
    request = {"leaves": leaves_of([name], salt), "count": 1}
    assert check_member(request, name, proof_of(name, salt)).holds
    assert check_member(request, other, proof_of(name, salt)).holds == (other == name)
    assert not check_member(request, name, proof_of(name, salt + b"x")).holds


@pytest.mark.parametrize("proof", ["", "zz", "ab", "0" * 63, "0" * 66], ids=["none", "no-hex", "short", "odd", "long"])
def test_no_proof(proof: str) -> None:
    with pytest.raises(Refusal, match="expected a proof of 64 hexadecimal digits"):
        leaf_of("a", proof)


def test_lists(tmp_path: Path) -> None:
    path = tmp_path / "ids.txt"
    path.write_text("\ufeffone\r\n\n# remark\n two \n")
    assert read_ids(path)[0] == ["one", "two"]
    for bad in (b"one\none\n", b"", b"\xff\xfe"):
        path.write_bytes(bad)
        with pytest.raises(Refusal, match="expected ids"):
            read_ids(path)
    path.write_bytes(b"too short")
    with pytest.raises(Refusal, match="at least 16 random bytes"):
        read_salt(path)
    with pytest.raises(Refusal, match=r"expected a salt at .*No such file"):
        read_salt(tmp_path / "none")
