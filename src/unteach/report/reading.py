"""Takes findings as they come: a part that is missing, misshapen or not finite is None, never an error."""

from __future__ import annotations

import re
from collections.abc import Mapping
from numbers import Real
from typing import Any

# What no text should carry into a page: controls, lone surrogates, marks that turn the reading direction.
UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")


def at(findings: Any, *path: str) -> Any:
    """The value under these keys, one inside the other, or None."""
    for key in path:
        if not isinstance(findings, Mapping):
            return None
        findings = findings.get(key)
    return findings


def number(value: Any) -> float | None:
    """A finite number, or None; truth values are not numbers, and nothing here measures up to 10¹⁵."""
    if isinstance(value, bool) or not isinstance(value, Real):
        return None
    try:
        read = float(value)
    except OverflowError:
        return None
    return read if abs(read) < 1e15 else None


def numbers(value: Any) -> list[float] | None:
    """A non-empty list of finite numbers, or None."""
    if isinstance(value, (str, bytes, Mapping)) or not hasattr(value, "__iter__"):
        return None
    read = [number(v) for v in value]
    return [v for v in read if v is not None] if read and None not in read else None


def interval(low_high: Any) -> tuple[float, float] | None:
    """``[low, high]`` in this order, or None."""
    ends = numbers(low_high)
    return (ends[0], ends[1]) if ends is not None and len(ends) == 2 and ends[0] <= ends[1] else None


def text(value: Any) -> str:
    """One printable line; unprintable characters show as �. Escaping is left to whoever prints it."""
    if value is None:
        return ""
    line = " ".join(str(value).split())
    return UNPRINTABLE.sub("�", line)


def mappings(value: Any) -> list[Mapping[str, Any]]:
    """The entries of a list that are mappings."""
    return [entry for entry in value if isinstance(entry, Mapping)] if isinstance(value, (list, tuple)) else []


def lines(value: Any) -> list[str]:
    """A list of sentences; a single string is a list of one."""
    several = [value] if isinstance(value, str) else value if isinstance(value, (list, tuple)) else []
    return [line for line in map(text, several) if line]


def flat(settings: Any, prefix: str = "") -> list[tuple[str, str]]:
    """Nested settings as ``("sgd.momentum", "0.9")`` pairs, in the order given."""
    if isinstance(settings, Mapping):
        pairs = []
        for key, value in settings.items():
            pairs += flat(value, f"{prefix}.{text(key)}" if prefix else text(key))
        return pairs
    if isinstance(settings, (list, tuple)):
        return [(prefix, ", ".join(map(text, settings)) or "none")]
    return [(prefix, "none" if settings is None else text(settings))] if prefix else []


def why_missing(findings: Any, *names: str) -> str:
    """The audit's own reason for skipping one of these, or that the findings do not hold it."""
    for entry in mappings(at(findings, "skipped")):
        metric = text(entry.get("metric")).casefold()
        if any(name.casefold() in metric for name in names) and entry.get("reason"):
            return text(entry["reason"])
    return "the findings do not hold it"
