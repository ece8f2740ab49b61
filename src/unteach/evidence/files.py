"""Whether models and other files are, to the bit, those that the evidence names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from unteach.evidence.check import Check, digests, fails, holds, short, unseen
from unteach.evidence.weights import Weights, file_sha256, read_weights
from unteach.types import Refusal


def check_model(what: str, told: dict[str, Any], path: Path | None) -> tuple[Weights | None, Check]:
    """The weights in a file, if they can be read, and whether it is the model that the evidence names.

    ``what``: "model" or "original", as the flag for it is called.
    """
    which = "the model that came out" if what == "model" else "the model that came in"
    if told["sha256"] is None:
        return None, unseen(what, f"{which} was not at hand when the evidence was made, not checked")
    if path is None:
        return None, unseen(what, f"{which} ({told['name']}) is not at hand, not checked; give it by --{what}")
    try:
        weights = read_weights(path, told["fingerprint"]) if told["tensors"] else None
    except Refusal:
        return None, fails(what, f"{path} was changed or is not {which}: it is no whole safetensors file")
    found = weights.sha256 if weights else file_sha256(path)
    if found == told["sha256"]:
        return weights, holds(what, f"{path} is {which} (SHA-256 {short(found)})")
    where = f": {_which(told['tensors'], weights.tensors)}" if weights else ""
    return weights, fails(what, f"{path} was changed or is not {which}{where}; {digests(told['sha256'], found)}")


def _which(told: dict[str, str], found: dict[str, str]) -> str:
    """Which tensors of a model differ."""
    if differ := sorted(name for name in told.keys() | found.keys() if told.get(name) != found.get(name)):
        more = f" and {len(differ) - 1} more" if len(differ) > 1 else ""
        return f"tensor {differ[0]!r}{more} of {len(told)} differs"
    return "its tensors are the same, its header differs"


def check_file(name: str, digest: str, path: Path | None) -> Check:
    """Whether this is the file whose SHA-256 the evidence tells."""
    if path is None:
        return unseen(name, f"{name} is not at hand, not checked")
    found = file_sha256(path)
    if found == digest:
        return holds(name, f"{path} is the file that the evidence names (SHA-256 {short(found)})")
    return fails(name, f"{path} was changed; {digests(digest, found)}")
