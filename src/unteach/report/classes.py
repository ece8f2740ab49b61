"""Where the images of each wholly forgotten class go: sentences and a table, decided once for HTML and Markdown."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from unteach.report.compared import role_name
from unteach.report.numerals import chance, count, fixed, percent, percents
from unteach.report.reading import at, mappings, number, numbers, text
from unteach.report.tables import Cell, Table
from unteach.report.words import ABSENT, COLLAPSE, READINGS, ROLES

SHARES = ("neighbour_share", "largest_share", "forgotten_mass")
COLUMNS = (
    Cell("Reading"),
    Cell("Unlearned"),
    Cell("Retrained", "target: among themselves"),
    Cell("Inside", "that range"),
)


@dataclass(frozen=True)
class ForgottenClass:
    """What is said about one class: where its images go, how often they are still labelled right, and the readings.

    The table has no rows where nothing could be compared; ``why`` says what is missing.
    """

    name: str
    lead: str
    accuracy: str
    table: Table
    why: str


def forgotten_classes(findings: Mapping[str, Any]) -> list[ForgottenClass]:
    """One part for every class that the findings tell of."""
    return [_part(entry) for entry in mappings(at(findings, "classes"))]


def _part(entry: Mapping[str, Any]) -> ForgottenClass:
    name = text(entry.get("class")) or "unnamed class"
    images, references = count(entry.get("images")), count(entry.get("references"))
    beside = f", {references} retrained models" if references else ""
    caption = (
        f"{images or 'All'} test images of “{name}”{beside}. Target: within the range of the retrained models, each "
        "held out in turn and compared with the others. An exact retraining is often outside on a single reading; the "
        "first row weighs all of routing at once."
    )
    rows = tuple(row for row in (_whole(entry), *_readings(entry), _leakage(entry)) if row)
    collapse = COLLAPSE if at(entry, "routing", "collapsed") is True else ""
    lead = " ".join(filter(None, (_destination(entry, name), _standing(entry), collapse)))
    why = text(entry.get("why")) or ("" if rows else "the findings hold no readings of this class")
    return ForgottenClass(name, lead, _accuracy(entry, name), Table(caption, COLUMNS, rows), why)


def _destination(entry: Mapping[str, Any], name: str) -> str:
    """Where the images go, in retrained models and in the unlearned one."""
    neighbour, answers = text(entry.get("neighbour")), mappings(entry.get("answers"))
    shares = {
        role: {text(a.get("class")): share for a in answers if (share := number(a.get(role))) is not None}
        for role in ("retrained", "unlearned")
    }
    if not (neighbour and shares["retrained"] and shares["unlearned"]):
        return ""
    mine = shares["unlearned"]
    most = max(mine, key=lambda c: (mine[c], c == neighbour))
    there, here = (percent(shares[role].get(neighbour, 0.0)) for role in ("retrained", "unlearned"))
    said = f"Images of “{name}” go most often to “{neighbour}” in retrained models ({there})"
    if most == neighbour:
        return f"{said} and in the unlearned one ({here})."
    return f"{said}, but to “{most}” in the unlearned one ({percent(mine[most])}; to “{neighbour}” {here})."


def _standing(entry: Mapping[str, Any]) -> str:
    """What the p-value says, with how often chance alone says it."""
    references, p = number(entry.get("references")), number(at(entry, "routing", "p_value"))
    inside = at(entry, "routing", "inside")
    if not references or p is None or not isinstance(inside, bool):
        return ""
    if inside:
        return f"The unlearned model does not stand out from {references:.0f} retrained ones (p-value {chance(p)})."
    return (
        f"The unlearned model stands out from all {references:.0f} retrained models (p-value {chance(p)}); "
        f"an exact retraining does so once in {references + 1:.0f} times."
    )


def _accuracy(entry: Mapping[str, Any], name: str) -> str:
    read = {role: number(at(entry, "accuracy", role)) for role in ROLES}
    said = ", ".join(f"{role_name(role).lower()} {percent(v)}" for role, v in read.items() if v is not None)
    return f"Labelled “{name}”, over all classes: {said}. Target: as retrained." if said else ""


def _whole(entry: Mapping[str, Any]) -> tuple[Cell, ...]:
    p, references = number(at(entry, "routing", "p_value")), number(entry.get("references")) or 0
    if p is None:
        return ()
    target = Cell(f"{fixed(2 / (references + 1), 3)} or more") if references > 0 else Cell(ABSENT, "", "absent")
    head = Cell("Neighbour routing, all readings", "p-value, higher is better", "head")
    return (head, Cell(chance(p)), target, _inside(at(entry, "routing", "inside")))


def _readings(entry: Mapping[str, Any]) -> list[tuple[Cell, ...]]:
    held = {key: at(entry, "routing", "readings", key) for key in READINGS}
    return [
        _row(*READINGS[key], at(one, "value"), at(one, "held_out"), at(one, "inside"), key in SHARES)
        for key, one in held.items()
        if isinstance(one, Mapping)
    ]


def _leakage(entry: Mapping[str, Any]) -> tuple[Cell, ...]:
    held = entry.get("mia_nn")
    if not isinstance(held, Mapping):
        return ()
    return _row("MIA-NN leakage", "nearer to 0 is better", at(held, "leakage"), at(held, "floor"), at(held, "inside"))


def _row(name: str, note: str, value: Any, among: Any, inside: Any, share: bool = False) -> tuple[Cell, ...]:
    mine, others = number(value), numbers(among)
    shown: Callable[[float], str] = percent if share else _plain
    ends = (min(others), max(others)) if others else None
    across = "" if ends is None else percents(ends) + "%" if share else " to ".join(map(_plain, ends))
    return (
        Cell(name, note, "head"),
        Cell(ABSENT, "", "absent") if mine is None else Cell(shown(mine)),
        Cell(across) if across else Cell(ABSENT, "", "absent"),
        _inside(inside),
    )


def _plain(value: float) -> str:
    return fixed(value, 3)


def _inside(held: Any) -> Cell:
    return Cell("yes" if held else "no") if isinstance(held, bool) else Cell("–", "", "absent")
