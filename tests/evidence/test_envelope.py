"""Signatures: by the standard, with Ed25519 keys only, and found out when anything was changed."""

from __future__ import annotations

import base64
import json
import os
import stat
from pathlib import Path

import pytest

from unteach.cli import main
from unteach.evidence import Check, Places, examined, opened
from unteach.evidence.envelope import PASSWORD, new_key, public_key_of, signer_of
from unteach.types import Refusal

pytest.importorskip("securesystemslib")


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("keys") / "officer"
    new_key(path)
    return path


@pytest.fixture
def signed(copied: Path, key: Path) -> Path:
    assert main(["evidence", "--run", str(copied / "run"), "--key", str(key), "--overwrite", "true"]) == 0
    return copied / "run" / "evidence.json"


def signature(path: Path, public: Path | None) -> Check:
    return examined(opened(path), Places(public_key=public))[0]


def test_a_signature_holds_by_the_standard_alone(signed: Path, key: Path) -> None:
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    envelope = json.loads(signed.read_text())
    payload, kind = base64.b64decode(envelope["payload"]), envelope["payloadType"].encode()
    message = b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)  # DSSE v1.0, PAE
    public = load_pem_public_key(Path(f"{key}.pub").read_bytes())
    public.verify(base64.b64decode(envelope["signatures"][0]["sig"]), message)
    assert json.loads(payload)["_type"] == "https://in-toto.io/Statement/v1"
    assert signature(signed, Path(f"{key}.pub")).holds is True


def test_without_the_public_key_a_signature_says_nothing(signed: Path) -> None:
    assert signature(signed, None).holds is False
    assert main(["verify", str(signed)]) == 3


def test_another_key(signed: Path, tmp_path: Path) -> None:
    other = new_key(tmp_path / "other")
    found = signature(signed, other)
    assert found.holds is False
    assert "not by" in found.sentence


def test_the_envelope_taken_away(signed: Path, key: Path) -> None:
    signed.write_bytes(base64.b64decode(json.loads(signed.read_text())["payload"]))
    for public in (None, Path(f"{key}.pub")):
        assert "its envelope was taken away" in signature(signed, public).sentence
        assert signature(signed, public).holds is False


def test_a_signature_is_asked_for_where_there_is_none(kept: Path, key: Path) -> None:
    assert signature(kept / "run" / "evidence.json", None).holds is None
    assert signature(kept / "run" / "evidence.json", Path(f"{key}.pub")).holds is False


def test_a_signature_of_something_else(signed: Path, key: Path, kept: Path) -> None:
    envelope = json.loads(signed.read_text())
    text = base64.b64decode(envelope["payload"])
    changed = text.replace(b'"inconclusive"', b'"over-forgotten"')
    assert changed != text
    envelope["payload"] = base64.b64encode(changed).decode()
    signed.write_text(json.dumps(envelope, indent=1, sort_keys=True) + "\n")
    checks = examined(opened(signed), Places(public_key=Path(f"{key}.pub")))
    failed = {check.what for check in checks if check.holds is False}
    assert failed == {"signature", "statement", "audit"}


def test_keys_are_for_their_owner_and_never_written_over(key: Path) -> None:
    assert stat.S_IMODE(os.stat(key).st_mode) == 0o600
    with pytest.raises(Refusal, match="never written over"):
        new_key(key)
    Path(f"{key}2.pub").write_text("mine")
    with pytest.raises(Refusal, match="never written over"):
        new_key(Path(f"{key}2"))


def test_encrypted_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PASSWORD, "swordfish")
    public = new_key(tmp_path / "locked")
    assert b"ENCRYPTED" in (tmp_path / "locked").read_bytes()
    assert signer_of(tmp_path / "locked").public_key.keyid == public_key_of(public).keyid
    for password in ("", "wrong"):
        monkeypatch.setenv(PASSWORD, password)
        with pytest.raises(Refusal, match=PASSWORD):
            signer_of(tmp_path / "locked")


def test_other_files_are_no_keys(key: Path, tmp_path: Path) -> None:
    from cryptography.hazmat.primitives import serialization as forms
    from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key

    other = generate_private_key(SECP256R1())
    private = other.private_bytes(forms.Encoding.PEM, forms.PrivateFormat.PKCS8, forms.NoEncryption())
    (tmp_path / "ec").write_bytes(private)
    (tmp_path / "ec.pub").write_bytes(
        other.public_key().public_bytes(forms.Encoding.PEM, forms.PublicFormat.SubjectPublicKeyInfo)
    )
    with pytest.raises(Refusal, match="Ed25519"):
        signer_of(tmp_path / "ec")
    with pytest.raises(Refusal, match="Ed25519"):
        public_key_of(tmp_path / "ec.pub")
    with pytest.raises(Refusal, match="expected a public key in PEM"):
        public_key_of(key)
    with pytest.raises(Refusal, match="expected a private key in PEM"):
        signer_of(Path(f"{key}.pub"))
    with pytest.raises(Refusal, match="expected a private key at"):
        signer_of(tmp_path / "none")


def test_without_the_extra(kept: Path, key: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    for name in ("securesystemslib", "securesystemslib.signer", "cryptography.hazmat.primitives"):
        monkeypatch.setitem(sys.modules, name, None)
    for do in (signer_of, public_key_of):
        with pytest.raises(Refusal, match=r"pip install 'unteach\[evidence\]'"):
            do(key)
    assert main(["verify", str(kept / "run" / "evidence.json")]) == 0, "what is not signed needs no extra"
