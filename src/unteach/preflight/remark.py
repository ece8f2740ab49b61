"""What a check says."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

LEVELS = ("stop", "warn", "note", "fine")


@dataclass(frozen=True, kw_only=True)
class Remark:
    """One thing that a check found.

    ``name``: of the check. ``level``: stop (forgetting would be refused or worthless), warn (it may be), note (to be known)
    or fine. ``sentence``: what is so; ``do``: what can be done about it. ``numbers``: what the sentence stands on; shares are
    0–1, times seconds, sizes bytes. ``extend``: ids that the request would have to name as well.
    """

    name: str
    level: str
    sentence: str
    do: str = ""
    numbers: Mapping[str, float | int | str | None] = field(default_factory=dict)
    extend: tuple[str, ...] = ()


def in_order(remarks: Iterable[Remark]) -> list[Remark]:
    """By level, the gravest first; within a level as they were found."""
    return sorted(remarks, key=lambda remark: LEVELS.index(remark.level))


def extended(ids: Sequence[str], remarks: Iterable[Remark]) -> list[str]:
    """The request with all ids that remarks say belong to it, each once: the request's order, then theirs."""
    return list(dict.fromkeys([*ids, *(name for remark in remarks for name in remark.extend)]))


def percent(share: float) -> str:
    """A share (0–1) for a sentence."""
    return f"{100 * share:.1f} %"


def few(names: Iterable[str], most: int = 3) -> str:
    """The first of many names, for a sentence."""
    listed = list(names)
    return ", ".join(repr(str(name)) for name in listed[:most]) + (" …" if len(listed) > most else "")


def counted(count: int, one: str, many: str) -> str:
    """A number with its noun: "1 record", "2 records"."""
    return f"{count:,} {one if count == 1 else many}"
