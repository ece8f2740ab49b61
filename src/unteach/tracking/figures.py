"""What may be told of a run outside of its folder: settings and final numbers, flat, and nothing about single records."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

Plain = bool | int | float | str

REQUESTS = ("ids", "without", "validation")  # settings that name examples
# In a measure's place other parts may stand: names of classes, which may be people.
PARTS = ("forget", "retain", "test", "FT", "FR", "RT")


def flattened(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Plain]:
    """Nested settings by dotted names. Of paths only the last name is kept, of requests what ``shortened`` keeps."""
    flat: dict[str, Plain] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            flat |= flattened(value, f"{prefix}{name}.")
        elif name in REQUESTS and isinstance(value, str):
            flat |= {f"{prefix}{name}": shortened(value)} if value else {}
        elif isinstance(value, bool | int | float):
            flat[f"{prefix}{name}"] = value
        elif isinstance(value, list | tuple):
            flat[f"{prefix}{name}"] = ", ".join(_without_folders(str(part)) for part in value)
        elif value is not None:
            flat[f"{prefix}{name}"] = _without_folders(str(value))
    return flat


def shortened(request: str) -> str:
    """A request without what might tell who: ``random:0.1`` stays, ``group:Alice`` becomes group, a file of ids file."""
    kind, colon, _ = request.partition(":")
    if re.fullmatch(r"(random|groups):[\d.]+|benchmark|", request):
        return request
    return kind if colon and kind in ("class", "group") else "file"


def finals(findings: Mapping[str, Any]) -> tuple[dict[str, float], dict[str, str]]:
    """An audit's final numbers (gaps, costs, every model's accuracies and games, measures), and what the run was about."""
    numbers = {part: findings[part] for part in ("gaps", "cost", "models", "exposed_count") if findings.get(part)}
    flat = dict(_numbers(numbers))
    for measure in findings.get("measures", ()):
        if measure.get("part") in PARTS:
            flat |= _numbers({field: measure.get(field) for field in ("value", "target")}, _place(measure))
    request = findings["request"]
    tags = {
        "verdict": findings["verdict"],
        "method": findings["method"]["name"],
        "data": request["data"],
        "data_fingerprint": request["data_fingerprint"],
        "request": shortened(request["spec"]),
        "request_digest": request["ids_digest"],
        "tier": findings.get("tier", ""),
        **{f"{role}_fingerprint": digest for role, digest in findings["fingerprints"].items()},
    }
    return flat, {name: str(value) for name, value in tags.items() if value}


def _place(measure: Mapping[str, Any]) -> str:
    return f"measures/{measure['name']}/{measure['part']}/"


def _numbers(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """Numbers in nested mappings by paths; lists, which are curves or records, are passed over."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _numbers(value, f"{prefix}{name}/")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield f"{prefix}{name}", float(value)


def _without_folders(text: str) -> str:
    return re.sub(r"[^\s:=,]*/", "", text)
