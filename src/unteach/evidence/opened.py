"""Evidence as it lies in a file: a bare statement, or a statement in a signed envelope."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unteach.evidence.envelope import payload_of
from unteach.evidence.form import STATEMENT
from unteach.evidence.ids import read_bytes
from unteach.evidence.statement import parsed
from unteach.types import Refusal


@dataclass(frozen=True)
class Opened:
    """A statement, the envelope around it (None without one), and the SHA-256 of the file."""

    path: Path
    statement: dict[str, Any]
    envelope: dict[str, Any] | None
    sha256: str

    @property
    def predicate(self) -> dict[str, Any]:
        found: dict[str, Any] = self.statement["predicate"]
        return found


def opened(path: Path) -> Opened:
    """The evidence in this file, whether or not what it says still holds.

    Raises: Refusal for a file that can't be read, or is not written exactly as unteach writes evidence.
    """
    data = read_bytes(path, "evidence")
    found, envelope = parsed(data, None, str(path)), None
    if "payload" in found:
        envelope, found = found, parsed(payload_of(found, str(path)), STATEMENT, f"the envelope of {path}")
        if (count := len(envelope["signatures"])) != 1:
            raise Refusal(f"expected one signature in the envelope {path}, got {count}; it was changed")
    return Opened(path, found, envelope, hashlib.sha256(data).hexdigest())
