"""The report's tables: plain text in cells, with direction and target in every caption."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from unteach.report.compared import Measured, accuracy, auc, gap, role_name, role_note, roles, signals
from unteach.report.numerals import (
    area,
    areas,
    chance,
    count,
    duration,
    fixed,
    percent,
    percents,
    points,
    rate,
    within,
)
from unteach.report.reading import at, mappings, number, text, why_missing
from unteach.report.words import ABSENT, GAMES, PARTS

SHOWN = 24


@dataclass(frozen=True)
class Cell:
    """One cell: ``under`` is the small print (interval, reason); ``tone``: "", "absent", "head" or "word"."""

    text: str
    under: str = ""
    tone: str = ""


@dataclass(frozen=True)
class Table:
    """A table with the direction and target of its numbers in the caption."""

    caption: str
    columns: tuple[Cell, ...]
    rows: tuple[tuple[Cell, ...], ...]


def models_table(findings: Mapping[str, Any]) -> Table:
    """Models × accuracies and FT AUC with intervals; the last row is the gap."""
    columns = (Cell("Model"), *(Cell(name, "accuracy") for name in PARTS.values()), Cell("FT AUC", "attack"))
    rows = []
    for role in roles(findings):
        cells = [Cell(role_name(role), role_note(findings, role), "head")]
        cells += [_cell(accuracy(findings, role, p), percent, percents) for p in PARTS]
        rows.append((*cells, _cell(auc(findings, role, "FT"), area, areas)))
    if {"unlearned", "retrained"} <= set(roles(findings)):
        rows.append(_gap_row(findings))
    caption = (
        "Target of every column: the retrained model’s number, on either side. "
        "Small print: 95% intervals. The gap is unlearned − retrained, in points."
    )
    return Table(caption, columns, tuple(rows))


def _gap_row(findings: Mapping[str, Any]) -> tuple[Cell, ...]:
    read = [gap(findings, part) for part in (*PARTS, "ft_auc")]
    allowed, attack = read[0].tolerance, read[-1].tolerance
    note = f"target 0{within(allowed)}" + (f", AUC{within(attack)}" if attack != allowed else "")
    cells = [Cell(ABSENT, "", "absent") if g.measured is None else _gap_cell(g.measured) for g in read]
    return (Cell("Gap", note, "head"), *cells)


def _gap_cell(read: Measured) -> Cell:
    return Cell(points(read.value), " to ".join(map(points, read.ends)) if read.ends else "")


def _cell(read: Measured | None, value: Callable[[float], str], ends: Callable[[tuple[float, float]], str]) -> Cell:
    if read is None:
        return Cell(ABSENT, "", "absent")
    return Cell(value(read.value), ends(read.ends) if read.ends else "")


def games_table(findings: Mapping[str, Any]) -> Table:
    """Every membership game by every signal: AUC, then TPR at each FPR asked for."""
    held = roles(findings)
    rows = []
    for game, name in GAMES.items():
        for signal in signals(findings, game):
            title = f"{name[0].upper()}{name[1:]}, by {text(signal).replace('_', ' ')}"
            areas_row = [_cell(auc(findings, r, game, signal), area, areas) for r in held]
            rows.append((Cell(title, "AUC", "head"), *areas_row))
            rows += [
                _rates_row(findings, held, game, signal, at_fpr) for at_fpr in _asked(findings, held, game, signal)
            ]
    caption = (
        "Target of every number: the retrained model’s in the same row, on either side. "
        "AUC 0.5 is guessing; TPR near its FPR is guessing. Small print: 95% intervals."
    )
    columns = (Cell("Game"), *(Cell(role_name(r), role_note(findings, r)) for r in held))
    return Table(caption, columns, tuple(rows))


def _rates(findings: Mapping[str, Any], role: str, game: str, signal: str) -> dict[float, Mapping[str, Any]]:
    entries = mappings(at(findings, "models", role, "games", game, signal, "tpr"))
    return {fpr: entry for entry in entries if (fpr := number(entry.get("fpr"))) is not None}


def _asked(findings: Mapping[str, Any], held: list[str], game: str, signal: str) -> list[float]:
    return sorted({fpr for role in held for fpr in _rates(findings, role, game, signal)}, reverse=True)


def _rates_row(findings: Mapping[str, Any], held: list[str], game: str, signal: str, fpr: float) -> tuple[Cell, ...]:
    entries = [_rates(findings, role, game, signal).get(fpr, {}) for role in held]
    reasons = {text(e.get("skipped")) if number(e.get("tpr")) is None else "" for e in entries}
    shared = f": {reasons.pop()}" if len(reasons) == 1 and reasons != {""} else ""
    return (
        Cell("", f"TPR at {rate(fpr)} FPR{shared}", "head"),
        *(_rate_cell(e, not shared) for e in entries),
    )


def _rate_cell(entry: Mapping[str, Any], give_reason: bool) -> Cell:
    value, low, high = (number(entry.get(key)) for key in ("tpr", "low", "high"))
    if value is None:
        return Cell(ABSENT, text(entry.get("skipped")) if give_reason else "", "absent")
    return Cell(percent(value), "" if low is None or high is None else percents((low, high)))


def exposed_sentence(findings: Mapping[str, Any]) -> str:
    """How many records are flagged, beside the number for a model that never saw them."""
    new, floor = (number(at(findings, "exposed_count", r)) for r in ("unlearned", "held_out_retrained"))
    if new is None:
        return f"Number of records flagged: {ABSENT}: {why_missing(findings, 'exposed')}."
    reference = "a held-out retrained model, which never saw them"
    aim = f"as many as in {reference}, {ABSENT}" if floor is None else f"at most {count(floor)}, as in {reference}"
    return f"Records flagged as still exposed: {count(new)}. Target: {aim}."


def exposed(findings: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The most exposed records, as many as are shown."""
    return mappings(at(findings, "exposed"))[:SHOWN]


def label_of(entry: Mapping[str, Any]) -> str:
    """The class name with its number; for several labels their names only."""
    name, label = text(entry.get("classname")), entry.get("label")
    if name and isinstance(label, int) and name != text(label):
        return f"{name} ({label})"
    return name or text(label)


def exposed_table(findings: Mapping[str, Any]) -> Table:
    """The most exposed records as numbers."""
    columns = (
        Cell("Record"),
        Cell("Label", "", "word"),
        Cell("Model says", "", "word"),
        Cell("Score", "lower is better"),
        Cell("p-value", "higher is better"),
        Cell("Confidence", "unlearned"),
        Cell("Confidence", "target: retrained"),
    )
    rows = []
    for entry in exposed(findings):
        words = [
            Cell(text(entry.get("id")), "", "head"),
            Cell(label_of(entry), "", "word"),
            Cell(text(entry.get("predicted")), "", "word"),
        ]
        shown = (("score", 2), ("p_value", 3), ("phi_unlearned", 2), ("phi_retrained", 2))
        values = [(key, number(entry.get(key)), decimals) for key, decimals in shown]
        rows.append((*words, *(_score(key, value, decimals) for key, value, decimals in values)))
    caption = "Most exposed first. Target: an unlearned model no surer of a record than the retrained one."
    return Table(caption, columns, tuple(rows))


def _score(key: str, value: float | None, decimals: int) -> Cell:
    if value is None:
        return Cell("–", "", "absent")
    return Cell(chance(value) if key == "p_value" else fixed(value, decimals))


def cost_table(findings: Mapping[str, Any]) -> Table:
    """Seconds and full-data epochs: the parts of forgetting, their sum, and retraining."""
    rows = [
        (Cell(text(p.get("what")) or "unnamed part", "", "head"), *_cost(p.get("seconds"), p.get("epochs")))
        for p in mappings(at(findings, "cost", "parts"))
    ]
    for key, name, note in (
        ("forget", "Forgetting", "in all, preparation included"),
        ("retrain", "Retraining", "for comparison"),
    ):
        held = [at(findings, "cost", f"{key}_{unit}") for unit in ("seconds", "epochs")]
        rows.append((Cell(name, note, "head"), *_cost(*held)))
    caption = "Lower is better. Target: well below the cost of retraining."
    return Table(caption, (Cell("Step"), Cell("Time"), Cell("Epochs", "full-data")), tuple(rows))


def _cost(seconds: Any, epochs: Any) -> tuple[Cell, Cell]:
    time, passes = number(seconds), number(epochs)
    return (
        Cell(ABSENT, "", "absent") if time is None else Cell(duration(time)),
        Cell(ABSENT, "", "absent") if passes is None else Cell(fixed(passes, 2)),
    )
