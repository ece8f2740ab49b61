"""What stands around the tables, decided once for HTML and Markdown; escaped by whoever prints it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from unteach.report.compared import accuracy, auc, gap, gaps
from unteach.report.numerals import area, areas, count, duration, fixed, percent, points, within
from unteach.report.reading import at, flat, lines, mappings, number, text, why_missing
from unteach.report.words import ABSENT, CONTROLS, NO_VERDICT, PARTS, VERDICTS, Verdict


@dataclass(frozen=True)
class Figure:
    """A key figure: no number stands without what it means and what it should be."""

    name: str
    value: str
    under: str
    target: str
    unit: str = ""


@dataclass(frozen=True)
class Control:
    """A check of the audit itself; ``passed`` is None when it was not run."""

    name: str
    passed: bool | None
    sentence: str


def reasons(findings: Mapping[str, Any]) -> list[str]:
    """Why the verdict is what it is; before that, what was seen as soon as the method was through, if it is worth a word."""
    seen = text(at(findings, "diagnosis", "sentence"))
    worth = seen and text(at(findings, "diagnosis", "kind")) != "fine"
    return [*([seen[0].upper() + seen[1:]] if worth else []), *lines(at(findings, "reasons"))]


def verdict(findings: Mapping[str, Any]) -> Verdict:
    """What the findings' verdict means, or that there is none."""
    return VERDICTS.get(text(at(findings, "verdict")), NO_VERDICT)


def heading(findings: Mapping[str, Any]) -> str:
    """The method and the data, as far as they are known."""
    method, data = text(at(findings, "method", "name")), text(at(findings, "request", "data"))
    return " on ".join(part for part in (method, data) if part) or "Unlearning audit"


def request(findings: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What was asked for, as term and value; only what is known."""
    sizes = {p: count(at(findings, "request", p)) or count(at(findings, "sizes", p)) for p in PARTS}
    asked = [
        ("Asked to forget", f"{sizes['forget']} training records" if sizes["forget"] else ""),
        ("Chosen by", text(at(findings, "request", "spec"))),
        ("Retained", f"{sizes['retain']} records" if sizes["retain"] else ""),
        ("Unseen, for comparison", f"{sizes['test']} records" if sizes["test"] else ""),
        ("Unseen, for attacks", f"{apart} records" if (apart := count(at(findings, "request", "unseen"))) else ""),
        ("Models beside it", text(at(findings, "tier"))),
        ("List of records", text(at(findings, "request", "ids_file"))),
        ("Date", text(at(findings, "when"))),
    ]
    return [(term, value) for term, value in asked if value]


def key_figures(findings: Mapping[str, Any]) -> list[Figure]:
    """The four numbers to read first."""
    return [
        _gap_figure(findings, "forget", "Forgotten records: accuracy gap to retraining"),
        _gap_figure(findings, "test", "Unseen records: accuracy gap to retraining"),
        _attack_figure(findings),
        _cost_figure(findings),
    ]


def _gap_figure(findings: Mapping[str, Any], part: str, name: str) -> Figure:
    read = gap(findings, part)
    target = f"Target: 0{within(read.tolerance)}. A gap on either side counts."
    if read.measured is None:
        return Figure(name, ABSENT, why_missing(findings, "accuracy", part), target)
    sides = [(r, accuracy(findings, r, part)) for r in ("unlearned", "retrained")]
    under = ", ".join(f"{r} {percent(m.value)}" for r, m in sides if m)
    return Figure(name, points(read.measured.value), under, target, "points")


def _attack_figure(findings: Mapping[str, Any]) -> Figure:
    name = "Forgotten against unseen: attack (FT AUC)"
    new, aim = auc(findings, "unlearned", "FT"), auc(findings, "retrained", "FT")
    allowed = within(number(at(findings, "tolerance", "auc")), 3)
    target = "Target: the retrained model’s value, which was not measured."
    if aim:
        target = f"Target: {area(aim.value)}{allowed}, as retrained. 0.5 is guessing."
    if new is None:
        return Figure(name, ABSENT, why_missing(findings, "FT", "membership"), target)
    return Figure(name, area(new.value), f"interval {areas(new.ends)}" if new.ends else "", target)


def _cost_figure(findings: Mapping[str, Any]) -> Figure:
    name, target = "Time: share of retraining", "Target: well below 100%. Lower is better."
    new, old = (number(at(findings, "cost", f"{what}_seconds")) for what in ("forget", "retrain"))
    if new is None:
        return Figure(name, ABSENT, why_missing(findings, "cost", "seconds"), target)
    if not old:
        return Figure(name, duration(new), "retraining was not timed", target)
    return Figure(name, percent(new / old), f"{duration(new)} instead of {duration(old)}", target)


def controls(findings: Mapping[str, Any]) -> list[Control]:
    """The audit's checks of itself: the expected ones first, then any other."""
    held = at(findings, "controls")
    held = held if isinstance(held, Mapping) else {}
    names = [*CONTROLS, *(name for name in held if name not in CONTROLS)]
    return [_control(findings, name, held.get(name)) for name in names]


def _control(findings: Mapping[str, Any], name: str, held: Any) -> Control:
    passed = at(held, "passed")
    passed = bool(passed) if isinstance(passed, (bool, int)) else None
    sentence = text(at(held, "sentence")) or (f"Not run: {why_missing(findings, name)}." if passed is None else "")
    return Control(CONTROLS.get(name) or text(name).replace("_", " ").capitalize(), passed, sentence)


def intervals_sentence(findings: Mapping[str, Any]) -> str:
    """Where the intervals of the gaps come from."""
    paired = [g.paired for g in gaps(findings) if g.measured]
    joined = "joined from the two models’ own intervals, usually wider than a paired one"
    if all(paired):
        return "The intervals come from paired differences."
    if not any(paired):
        return f"The intervals are {joined}."
    names = ", ".join(g.name for g in gaps(findings) if g.measured and not g.paired)
    return f"The intervals come from paired differences; but for {names} they are {joined}."


def average_sentence(findings: Mapping[str, Any]) -> str:
    """The composite, never alone."""
    average = number(at(findings, "gaps", "average"))
    if average is None:
        return ""
    return (
        f"Average size of the four gaps: {fixed(average, 1)} points. Lower is better, target 0. "
        "It can hide one large gap among small ones: read the row above first."
    )


def skipped(findings: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What was not measured, and why."""
    entries = mappings(at(findings, "skipped"))
    return [(text(e.get("metric")) or "unnamed", text(e.get("reason")) or "no reason given") for e in entries]


def provenance(findings: Mapping[str, Any]) -> list[tuple[str, list[tuple[str, str]]]]:
    """Settings, fingerprints, environment: groups of name and value, empty ones left out."""
    method = [
        ("name", text(at(findings, "method", "name"))),
        ("source", text(at(findings, "method", "source"))),
    ]
    data = [("data", text(at(findings, "request", "data_fingerprint")))]
    groups = [
        ("Method", [(k, v) for k, v in method if v] + flat(at(findings, "method", "settings"))),
        ("Tolerance (shares)", flat(at(findings, "tolerance"))),
        ("Fingerprints", [(k, v) for k, v in data if v] + flat(at(findings, "fingerprints"))),
        ("Environment", flat(at(findings, "environment"))),
    ]
    return [(name, pairs) for name, pairs in groups if pairs]
