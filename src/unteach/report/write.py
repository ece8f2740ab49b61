"""Puts a report on disk, whole or not at all."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import numpy as np

from unteach.report.markdown import as_markdown
from unteach.report.page import as_html
from unteach.temporary import temporary
from unteach.types import Refusal


def render(
    findings: Mapping[str, Any], folder: Path | str, *, thumbnails: Mapping[str, np.ndarray] | None = None
) -> list[Path]:
    """Write ``report.html`` and ``report.md`` into ``folder`` and return their paths.

    Both are made before either is written, and each takes its name only once it is whole. ``thumbnails``:
    id → uint8 pixels ``h × w`` or ``h × w × 3``. Raises Refusal when the findings are no mapping, a thumbnail
    is no picture, or the folder can't be written.
    """
    if not isinstance(findings, Mapping):
        raise Refusal(f"expected findings to be a mapping, got {type(findings).__name__}; pass what the audit returned")
    texts = {"report.html": as_html(findings, thumbnails), "report.md": as_markdown(findings)}
    return [_put(Path(folder) / name, content) for name, content in texts.items()]


def as_json(findings: Mapping[str, Any]) -> str:
    """Canonical JSON: sorted keys, two spaces, a final newline; a number that is not finite becomes null."""
    return json.dumps(_plain(findings), sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, np.bool_):
        return bool(value)
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, Mapping):
        plain = {str(key): _plain(held) for key, held in value.items()}
        if len(plain) != len(value):
            raise Refusal("expected keys that differ as text, got two that read the same; do rename one")
        return plain
    if isinstance(value, (list, tuple)):
        return [_plain(held) for held in value]
    raise Refusal(f"expected findings of numbers, texts, lists and mappings, got {type(value).__name__}; do convert it")


def _put(path: Path, content: str) -> Path:
    """Write beside the final name, then rename: a reader sees the old file or the new one, never a half."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary(path) as part:
            with part.open("w", encoding="utf-8", newline="\n") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            part.chmod(0o644)
            part.replace(path)
    except OSError as error:
        raise Refusal(
            f"expected to be able to write {path}, got {error.strerror or error}; free space or choose another folder"
        ) from error
    return path
