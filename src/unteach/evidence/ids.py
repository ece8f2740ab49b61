"""A list of ids that evidence can hold without telling it: salted, and shown to hold one id at a time.

The leaf of an id is SHA-256(HMAC-SHA256(salt, id) followed by the id); the list's digest is SHA-256 over its sorted leaves.
Who has the leaves but not the salt can't try ids. Who gets the HMAC of one id, its proof, can see that this id is on the list,
and learns nothing of the others. *Source:* our own, of FIPS 180-4 and RFC 2104.
"""

from __future__ import annotations

import hashlib
import hmac
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from unteach.types import Refusal

HOW = "a leaf is SHA-256(HMAC-SHA256(salt, id) + id), in UTF-8; the digest is SHA-256 over the sorted leaves' bytes"
SALT = "ids.salt"
SHORTEST = 16  # bytes of salt: fewer can be tried


def proof_of(name: str, salt: bytes) -> str:
    """What shows, together with the leaves and without the salt, that this id is on the list: 64 hexadecimal digits."""
    return hmac.digest(salt, name.encode("utf-8", "surrogateescape"), "sha256").hex()


def leaf_of(name: str, proof: str) -> str:
    """The leaf that belongs to an id and its proof."""
    try:
        key = bytes.fromhex(proof)
    except ValueError:
        key = b""
    if len(key) != 32:
        raise Refusal(
            f"expected a proof of 64 hexadecimal digits, got {proof!r}; `unteach evidence --prove ID` prints it"
        )
    return hashlib.sha256(key + name.encode("utf-8", "surrogateescape")).hexdigest()


def leaves_of(names: Iterable[str], salt: bytes) -> list[str]:
    """The sorted leaves of these ids."""
    return sorted(leaf_of(name, proof_of(name, salt)) for name in names)


def digest_of_leaves(leaves: Iterable[str]) -> str:
    """The list's digest."""
    return hashlib.sha256(b"".join(bytes.fromhex(leaf) for leaf in leaves)).hexdigest()


def seal_of_file(data: bytes, salt: bytes) -> str:
    """A digest of the file of ids itself that says nothing to whoever lacks the salt."""
    return hmac.digest(salt, data, "sha256").hex()


def read_ids(path: Path) -> tuple[list[str], bytes]:
    """The ids of a text file, one a line, and its bytes."""
    data = read_bytes(path, "a list of ids, one a line,")
    try:
        lines = [line.strip() for line in data.decode("utf-8-sig").split("\n")]
    except UnicodeDecodeError as error:
        raise Refusal(f"expected ids in UTF-8 text, one a line, in {path}, got: {error}; give a forget.txt") from error
    names = [line for line in lines if line and not line.startswith("#")]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice or not names:
        got = f"{twice[0]!r} more than once" if twice else "none"
        raise Refusal(f"expected ids in {path}, each once, got {got}; give the forget.txt of the run")
    return names, data


def read_salt(path: Path) -> bytes:
    """The salt: all of the file's bytes."""
    salt = read_bytes(path, "a salt")
    if len(salt) < SHORTEST:
        raise Refusal(
            f"expected a salt of at least {SHORTEST} random bytes in {path}, got {len(salt)}; leave it out for a new one"
        )
    return salt


def read_bytes(path: Path, what: str) -> bytes:
    """A file's bytes, or a sentence."""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise Refusal(f"expected {what} at {path}, got: {error.strerror}; check the path") from error
