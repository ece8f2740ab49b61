"""Whether a list of ids is the one that the evidence is about, and whether one id is on it."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from unteach.evidence.check import Check, digests, fails, holds, unseen
from unteach.evidence.ids import SALT, leaf_of, leaves_of, read_ids, read_salt, seal_of_file
from unteach.types import Refusal


def check_member(request: dict[str, Any], name: str, proof: str) -> Check:
    """Whether an id is on the list, shown by its proof alone."""
    if leaf_of(name, proof) in request["leaves"]:
        return holds("member", f"{name!r} is one of the {request['count']} ids on the list")
    return fails("member", f"{name!r} with this proof is not on the list: the id, the proof or the evidence is another")


def check_ids(told: dict[str, Any], ids: Path | None, salt: Path | None) -> Iterator[Check]:
    """Whether the salt and the list are those of the evidence; without the salt nothing can be said."""
    if salt is None:
        yield unseen("salt", f"{SALT} is not at hand, so the list of ids can't be checked; give it by --salt")
        return
    try:
        secret = read_salt(salt)
    except Refusal:
        secret = b""
    if (found := hashlib.sha256(secret).hexdigest()) != told["salt_sha256"]:
        yield fails("salt", f"{salt} was changed, or is another salt; {digests(told['salt_sha256'], found)}")
        return
    yield holds("salt", f"{salt} is the salt that the list of ids was digested with")
    if ids is None:
        yield unseen("ids", f"{told['file']['name']} is not at hand, not checked; give it by --ids")
        return
    try:
        names, data = read_ids(ids)
    except Refusal as refusal:
        yield fails("ids", f"{ids} was changed: {refusal}")
        return
    yield _check_list(told, ids, names, data, secret)


def _check_list(told: dict[str, Any], path: Path, names: list[str], data: bytes, salt: bytes) -> Check:
    leaves = set(leaves_of(names, salt))
    missing, extra = len(set(told["leaves"]) - leaves), len(leaves - set(told["leaves"]))
    if missing or extra:
        sentence = f"{path} was changed: {missing} of {told['count']} ids are missing, {extra} are not in the evidence"
        return fails("ids", sentence)
    if not hmac.compare_digest(seal_of_file(data, salt), told["file"]["hmac_sha256"]):
        return fails("ids", f"{path} was changed: it names the same {len(names)} ids, but in other bytes")
    return holds("ids", f"{path} names exactly the {len(names)} ids of the evidence")
