"""What a forget run left in its folder, as far as evidence speaks of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unteach.evidence.ids import read_ids
from unteach.evidence.weights import Weights, file_sha256, read_weights
from unteach.store import read_json
from unteach.types import Refusal

MODEL, IDS = "model.safetensors", "forget.txt"
FILES = ("settings.json", "findings.json", "report.html", "report.md", "events.jsonl")


@dataclass(frozen=True)
class Run:
    """A finished run.

    ``weights``: that came out. ``original``: the file that came in, None if it is not at hand, and its weights, None if it is no
    safetensors file. ``exports``: file name → SHA-256 of the same weights in the user's own format. ``names``, ``ids``: the ids
    of the request, and the bytes of their file.
    """

    folder: Path
    settings: dict[str, Any]
    findings: dict[str, Any]
    weights: Weights
    original: Path | None
    original_weights: Weights | None
    exports: dict[str, str]
    names: list[str]
    ids: bytes


def read_run(folder: Path, original: Path | None = None) -> Run:
    """A forget run's files. ``original``: the model that came in; left out, the one that the run's settings name, if it is there.

    Raises: Refusal for a folder that holds no finished run, or whose model does not say what it was made from.
    """
    for name in (MODEL, IDS, "settings.json", "findings.json"):
        if not (folder / name).is_file():
            raise Refusal(
                f"expected a finished forget run in {folder}, got no {name} there; give the --out of `unteach forget`"
            )
    settings, findings = (_mapping(folder / name) for name in ("settings.json", "findings.json"))
    weights = read_weights(folder / MODEL, _judged(findings))
    if not weights.provenance.get("parent"):
        raise Refusal(
            f"expected {folder / MODEL} to say which model it was made from, got one that does not; give the --out of a run of "
            "`unteach forget`"
        )
    if original is None:
        named = Path(str(settings.get("checkpoint", "")))
        original = named if named.is_file() else None
    elif not original.is_file():
        raise Refusal(f"expected the model that came in at {original}, got no such file; check --original")
    parent = str(weights.provenance["parent"])
    known = read_weights(original, parent) if original is not None and original.suffix == ".safetensors" else None
    others = [path for path in sorted(folder.glob("model.*")) if path.name != MODEL]
    exports = {path.name: file_sha256(path) for path in others}
    names, ids = read_ids(folder / IDS)
    return Run(folder, settings, findings, weights, original, known, exports, names, ids)


def _mapping(path: Path) -> dict[str, Any]:
    found = read_json(path)
    if not isinstance(found, dict):
        raise Refusal(f"expected settings or findings in {path}, got {type(found).__name__}; the file is damaged")
    return found


def _judged(findings: dict[str, Any]) -> str:
    """The fingerprint of the network that was judged."""
    told = findings.get("fingerprints")
    return str(told.get("unlearned", "")) if isinstance(told, dict) else ""
