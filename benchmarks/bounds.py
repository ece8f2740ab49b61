"""What a target is, and when it is met.

Speed is never judged alone: a target is met when its number is on the right side of the bound *and* every check beside it
(success, distance, label, accuracy, equality of scores) holds. The gate asks less of the number (``SLACK``), and as much of
the checks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from measure import Spread

SLACK = 0.8
Found = Mapping[str, Any]  # a part's JSON


class UnmeasuredError(Exception):
    """Why a number is not there."""


class AbsentError(UnmeasuredError):
    """It can't be measured here: no data."""


@dataclass(frozen=True)
class AtLeast:
    value: float

    def holds(self, found: float) -> bool:
        return found >= self.value

    def slackened(self) -> AtLeast:
        return AtLeast(self.value * SLACK)

    def sign(self) -> str:
        return "≥"


@dataclass(frozen=True)
class AtMost:
    value: float

    def holds(self, found: float) -> bool:
        return found <= self.value

    def slackened(self) -> AtMost:
        return AtMost(self.value / SLACK)

    def sign(self) -> str:
        return "≤"


Bound = AtLeast | AtMost


def times(value: float) -> str:
    return f"{value:.1f} ×" if value < 99.5 else f"{value:.0f} ×"


def percent(value: float) -> str:
    return f"{value:.1%}"


def number(value: float) -> str:
    return f"{value:.3g}"


@dataclass(frozen=True)
class Check:
    """What must be equal, or no worse, for the time beside it to count."""

    what: str
    found: float
    bound: Bound
    show: Callable[[float], str] = number

    @property
    def held(self) -> bool:
        return self.bound.holds(self.found)

    def __str__(self) -> str:
        sign = self.bound.sign()
        told = f"{self.what} {self.show(self.found)} ({sign} {self.show(self.bound.value)})"
        return told if self.held else f"**{told}**"


@dataclass(frozen=True)
class Reading:
    """The number over rounds, the share of the limit it reaches, the checks, quiet rounds of how many, and which case it is."""

    now: Spread
    share: Spread | None = None
    checks: tuple[Check, ...] = ()
    quiet: tuple[int, int] | None = None
    case: str = ""


@dataclass(frozen=True)
class Target:
    """A line of the table. ``gated``: a ratio of CPU times at one thread, or of calls, which noise does not move."""

    key: str
    what: str
    part: str
    bound: Bound
    stretch: float | None
    read: Callable[[Found], Reading]
    show: Callable[[float], str] = times
    gated: bool = False

    @property
    def name(self) -> str:
        return f"{self.key} {self.what}"


def faults(target: Target, reading: Reading) -> list[str]:
    """What misses the target: the number, and the checks."""
    return judged(target, reading, target.bound, {check.what: check.bound for check in reading.checks})


def falls(target: Target, reading: Reading, known: Mapping[tuple[str, str], float]) -> list[str]:
    """What the gate lets not pass: as ``faults``, with slack on the number.

    ``known``: what is known to be missed, as last measured, by the target's name and the check's ("": the number itself). It
    takes the bound's place, so that it may not get worse.
    """
    low, kind = known.get((target.name, "")), type(target.bound)
    bound = (kind(low) if low else target.bound).slackened()
    floors = {check.what: known.get((target.name, check.what)) for check in reading.checks}
    bounds = {c.what: type(c.bound)(floor) if (floor := floors[c.what]) else c.bound for c in reading.checks}
    return judged(target, reading, bound, bounds)


def judged(target: Target, reading: Reading, bound: Bound, bounds: Mapping[str, Bound]) -> list[str]:
    told = []
    if not bound.holds(reading.now.median):
        told.append(f"{target.show(reading.now.median)}, not {bound.sign()} {target.show(bound.value)}")
    for check in reading.checks:
        if not bounds[check.what].holds(check.found):
            limit = bounds[check.what]
            told.append(f"{check.what} {check.show(check.found)}, not {limit.sign()} {check.show(limit.value)}")
    return told
