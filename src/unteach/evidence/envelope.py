"""Signing: DSSE envelopes and Ed25519 keys, by securesystemslib and cryptography.

*Source:* DSSE v1.0; Ed25519 of RFC 8032; keys as PEM of RFC 7468 and RFC 8410.
"""

from __future__ import annotations

import base64
import copy
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unteach.evidence.ids import read_bytes
from unteach.store import write, write_text
from unteach.types import Refusal

if TYPE_CHECKING:
    from securesystemslib.signer import CryptoSigner, SSlibKey

PAYLOAD_TYPE = "application/vnd.in-toto+json"
PASSWORD = "UNTEACH_KEY_PASSWORD"  # the variable that holds it


def new_key(path: Path) -> Path:
    """Make a key pair: the private key at this path, for its owner's eyes only, and the public one beside it as ``.pub``.

    The private key is encrypted where UNTEACH_KEY_PASSWORD is set. Raises: Refusal where one of the two is there already.
    """
    public = path.with_name(path.name + ".pub")
    for each in (path, public):
        if each.exists():
            raise Refusal(f"expected no file at {each}, got one; keys are never written over, choose another name")
    with _extra():
        from cryptography.hazmat.primitives import serialization as forms
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        key, secret = Ed25519PrivateKey.generate(), password()
        lock = forms.BestAvailableEncryption(secret) if secret else forms.NoEncryption()
        private = key.private_bytes(forms.Encoding.PEM, forms.PrivateFormat.PKCS8, lock)
        write(path, lambda temporary: temporary.write_bytes(private), mode=0o600)
        write_text(public, _public_pem(key.public_key()).decode())
    return public


def signer_of(path: Path) -> CryptoSigner:
    """Who signs with this private key (Ed25519, PEM)."""
    pem = read_bytes(path, "a private key")
    with _extra():
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key
        from securesystemslib.signer import CryptoSigner

        try:
            key = load_pem_private_key(pem, password())
        except (ValueError, TypeError) as error:  # TypeError: a password is missing, or there is one and none is needed
            raise Refusal(
                f"expected a private key in PEM at {path}, got: {error}; if it is encrypted, set {PASSWORD}"
            ) from error
        if not isinstance(key, Ed25519PrivateKey):
            raise Refusal(
                f"expected an Ed25519 key at {path}, got another kind; `unteach evidence --new_key FILE` makes one"
            )
        return CryptoSigner(key)


def public_key_of(path: Path) -> SSlibKey:
    """The public key in this file (Ed25519, PEM)."""
    pem = read_bytes(path, "a public key")
    with _extra():
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
        from cryptography.hazmat.primitives.serialization import load_pem_public_key
        from securesystemslib.signer import SSlibKey

        try:
            key = load_pem_public_key(pem)
        except (ValueError, UnsupportedAlgorithm) as error:
            raise Refusal(
                f"expected a public key in PEM at {path}, got: {error}; it was changed, or is another kind of file"
            ) from error
        # PEM readers overlook some changes; whoever compares keys by eye or by digest would not.
        if not isinstance(key, Ed25519PublicKey) or _public_pem(key).split() != pem.split():
            raise Refusal(
                f"expected an Ed25519 public key and nothing else at {path}, got more or another; it was changed"
            )
        return SSlibKey.from_crypto(key)


def enclosed(payload: str, signer: CryptoSigner) -> dict[str, Any]:
    """A signed envelope around this text."""
    from securesystemslib.dsse import Envelope

    envelope = Envelope(payload.encode(), PAYLOAD_TYPE, {})
    envelope.sign(signer)
    told: dict[str, Any] = envelope.to_dict()
    return told


def payload_of(envelope: dict[str, Any], where: str) -> bytes:
    """What is in an envelope of the right form, whether or not its signature holds.

    Raises: Refusal where something is spelled in another way than the one that stands for these bytes.
    """
    for text in (envelope["payload"], *(signature["sig"] for signature in envelope["signatures"])):
        if base64.b64encode(base64.b64decode(text)).decode() != text:  # spare bits of the last digit
            raise Refusal(f"expected base64 as DSSE writes it in {where}, got another spelling; it was changed")
    return base64.b64decode(envelope["payload"])


def signed_by(envelope: dict[str, Any], key: SSlibKey) -> bool:
    """Whether this key signed what is in the envelope."""
    with _extra():
        from securesystemslib.dsse import Envelope
        from securesystemslib.exceptions import VerificationError

        try:
            Envelope.from_dict(copy.deepcopy(envelope)).verify([key], 1)  # it rewrites what it is given
        except (VerificationError, ValueError):
            return False
        return True


@contextmanager
def _extra() -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise Refusal(
            f"expected securesystemslib for signatures, got: {error}; pip install 'unteach[evidence]'"
        ) from error


def password() -> bytes | None:
    """The password of private keys, from the environment; None where there is none."""
    return os.environ.get(PASSWORD, "").encode() or None


def _public_pem(key: Any) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    pem: bytes = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return pem
