"""Models side by side: which are there, their numbers, and unlearned minus retrained with an interval."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from unteach.report.reading import at, interval, mappings, number, text
from unteach.report.words import GAPS, QUANTITIES, ROLE_NOTES, ROLES

SIGNALS = ("confidence", "loss")


@dataclass(frozen=True)
class Measured:
    """A number with its interval, where it has one."""

    value: float
    ends: tuple[float, float] | None = None


@dataclass(frozen=True)
class Gap:
    """Unlearned minus retrained, in points; ``paired`` where the audit gave the interval itself."""

    part: str
    name: str
    measured: Measured | None
    tolerance: float | None
    paired: bool = False


def roles(findings: Mapping[str, Any]) -> list[str]:
    """The models that the findings hold: the known ones in reading order, then any other."""
    held = at(findings, "models")
    if not isinstance(held, Mapping):
        return []
    known = [role for role in ROLES if isinstance(held.get(role), Mapping)]
    return known + [role for role in held if role not in ROLES and isinstance(held[role], Mapping)]


def role_name(role: str) -> str:
    return ROLES.get(role) or text(role)


def role_note(findings: Mapping[str, Any], role: str) -> str:
    """What a model is for; for the target also of how many models it is the mean."""
    note, several = ROLE_NOTES.get(role, ""), number(at(findings, "sizes", "retrained"))
    return f"{note}, mean of {several:.0f}" if role == "retrained" and several and several > 1 else note


def signals(findings: Mapping[str, Any], game: str) -> list[str]:
    """The signals that any model was attacked by in this game, logit-scaled confidence first."""
    games = [at(findings, "models", role, "games", game) for role in roles(findings)]
    held = {str(signal) for played in games if isinstance(played, Mapping) for signal in played}
    return [s for s in SIGNALS if s in held] + sorted(held - set(SIGNALS))


def accuracy(findings: Mapping[str, Any], role: str, part: str) -> Measured | None:
    """Accuracy of a model on a part of the data, as a share."""
    value = number(at(findings, "models", role, "accuracy", part))
    ends = interval(at(findings, "models", role, "accuracy_interval", part))
    return None if value is None else Measured(value, ends)


def auc(findings: Mapping[str, Any], role: str, game: str, signal: str = "") -> Measured | None:
    """Area under the ROC curve of a membership game; without a signal, of the first one measured."""
    signal = signal or next(iter(signals(findings, game)), "")
    held = at(findings, "models", role, "games", game, signal)
    value = number(at(held, "auc"))
    return None if value is None else Measured(value, interval([at(held, "low"), at(held, "high")]))


def gap(findings: Mapping[str, Any], part: str) -> Gap:
    """One gap to retraining.

    Value and interval are the audit's own (``gaps``; ``comparisons``, paired) where given. Else the
    interval joins those of the two models as if they were independent, usually wider than a paired one.

    *Source:* Newcombe, Statistics in Medicine 17, 1998, 873–890, method 10 (square-and-add).
    """
    compared = _compared(findings, part)
    new, target = (_of(findings, role, part) for role in ("unlearned", "retrained"))
    value = number(at(findings, "gaps", part))
    if value is None and compared:
        value = compared.value
    if value is None and new and target:
        value = 100 * (new.value - target.value)
    allowed = number(at(findings, "tolerance", "auc" if part.startswith("ft_") else "accuracy"))
    allowed = None if allowed is None else 100 * abs(allowed)
    if value is None:
        return Gap(part, GAPS[part], None, allowed)
    if compared and compared.ends:
        return Gap(part, GAPS[part], Measured(value, compared.ends), allowed, paired=True)
    return Gap(part, GAPS[part], Measured(value, _joined(value, new, target)), allowed)


def gaps(findings: Mapping[str, Any]) -> list[Gap]:
    """Every gap, in the order of the report."""
    return [gap(findings, part) for part in GAPS]


def _of(findings: Mapping[str, Any], role: str, part: str) -> Measured | None:
    return auc(findings, role, "FT") if part == "ft_auc" else accuracy(findings, role, part)


def _compared(findings: Mapping[str, Any], part: str) -> Measured | None:
    """The audit's own paired difference, in points."""
    for entry in mappings(at(findings, "comparisons", "unlearned")):
        if QUANTITIES.get(text(entry.get("quantity"))) == part:
            value = number(entry.get("difference"))
            ends = interval([entry.get("low"), entry.get("high")])
            if value is not None:
                return Measured(100 * value, (100 * ends[0], 100 * ends[1]) if ends else None)
    return None


def _joined(value: float, new: Measured | None, target: Measured | None) -> tuple[float, float] | None:
    if not (new and target and new.ends and target.ends):
        return None
    down = math.hypot(max(new.value - new.ends[0], 0), max(target.ends[1] - target.value, 0))
    up = math.hypot(max(new.ends[1] - new.value, 0), max(target.value - target.ends[0], 0))
    return value - 100 * down, value + 100 * up
