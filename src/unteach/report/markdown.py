"""Findings → the same report as Markdown, for a ticket or a terminal; pictures are only on the HTML page."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from unteach.report import contents, tables, words
from unteach.report.classes import ForgottenClass, forgotten_classes
from unteach.report.glossary import terms
from unteach.report.measures import measure_tables
from unteach.report.reading import at, lines, text, why_missing
from unteach.report.tables import Cell, Table

SPECIAL = re.compile(r"([\\`*_\[\]|~$#])")
BLOCK_START = re.compile(r"^(?:[-+=]|\d+[.)])(?=[\s=-]|$)")


def as_markdown(findings: Mapping[str, Any]) -> str:
    """The report as GitHub-flavoured Markdown, the same bytes for the same findings."""
    blocks = [
        *_head(findings),
        "## Does this audit see anything?",
        "Tried on models whose answer is known. Target: every check passes.",
        _bullets(_control(c) for c in contents.controls(findings)),
        *_power(lines(at(findings, "power"))),
        "## The models side by side",
        *_table(tables.models_table(findings), why_missing(findings, "accuracy")),
        escaped(contents.intervals_sentence(findings)) if tables.models_table(findings).rows else "",
        escaped(contents.average_sentence(findings)),
        _bullets(map(escaped, lines(at(findings, "doubts")))),
        "## Can an attacker tell who was forgotten?",
        *_table(tables.games_table(findings), why_missing(findings, "FT", "membership")),
        "Histograms, ROC curves and the gap chart are in report.html.",
        *_classes(forgotten_classes(findings)),
        *_measures(measure_tables(findings)),
        "## Records still most exposed",
        escaped(tables.exposed_sentence(findings)),
        *_exposed(findings),
        "## What it cost",
        *_table(tables.cost_table(findings), why_missing(findings, "cost")),
        *_tail(findings),
    ]
    return "\n\n".join(block for block in blocks if block) + "\n"


def escaped(line: str) -> str:
    """Text that Markdown shows as it is: nothing in it becomes markup, a cell border or HTML."""
    line = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    line = SPECIAL.sub(r"\\\1", line)
    start = BLOCK_START.match(line)
    return line if start is None else f"{line[: start.end() - 1]}\\{line[start.end() - 1 :]}"


def _head(findings: Mapping[str, Any]) -> list[str]:
    verdict = contents.verdict(findings)
    given = text(at(findings, "verdict"))
    unknown = f"The findings say “{given}”." if verdict is words.NO_VERDICT and given else ""
    figures = tuple(
        (
            Cell(f.name, "", "head"),
            Cell(f"{f.value} {f.unit}".rstrip(), f.under),
            Cell(f.target.removeprefix("Target: ")),
        )
        for f in contents.key_figures(findings)
    )
    return [
        f"# Unlearning audit: {escaped(contents.heading(findings))}",
        _bullets(f"{term}: {escaped(value)}" for term, value in contents.request(findings)),
        f"## Verdict: {verdict.word}",
        escaped(text(at(findings, "summary"))) or verdict.meaning,
        escaped(unknown),
        _bullets(map(escaped, contents.reasons(findings))),
        f"**What to do.** {verdict.next} {escaped(text(at(findings, 'advice')))}".rstrip(),
        "## Key figures",
        *_table(Table("", (Cell("Figure"), Cell("Value"), Cell("Target")), figures), ""),
    ]


def _power(sentences: list[str]) -> list[str]:
    return ["How much this audit could have seen:", _bullets(map(escaped, sentences))] if sentences else []


def _measures(held: list[tuple[str, Table]]) -> list[str]:
    if not held:
        return []
    tables = [block for title, table in held for block in (f"### {title}", *_table(table, ""))]
    return ["## Further measures", escaped(words.MEASURES_LEAD), *tables]


def _tail(findings: Mapping[str, Any]) -> list[str]:
    skipped = [f"{escaped(metric)}: {escaped(reason)}" for metric, reason in contents.skipped(findings)]
    pairs = [
        _bullets([f"**{name}**", *(f"{escaped(key)}: {escaped(value)}" for key, value in group)])
        for name, group in contents.provenance(findings)
    ]
    explained = tuple(
        (Cell(t.name, "", "head"), Cell(t.what), Cell(t.direction), Cell(t.target)) for t in terms(findings)
    )
    columns = (Cell("Term"), Cell("What it is"), Cell("Better"), Cell("Target"))
    return [
        "## What was not measured",
        _bullets(skipped) or "The findings list nothing as skipped.",
        "## Settings and fingerprints",
        *(pairs or ["Not measured: the findings hold no settings."]),
        "## Glossary",
        *_table(Table("", columns, explained), ""),
        "## What this does not prove",
        _bullets(f"**{title}** {sentence}" for title, sentence in words.LIMITS.items()),
    ]


def _control(control: contents.Control) -> str:
    state = "not run" if control.passed is None else "passed" if control.passed else "FAILED"
    return f"**{state}**: {escaped(control.name)}. {escaped(control.sentence)}".rstrip()


def _classes(parts: list[ForgottenClass]) -> list[str]:
    """The section about forgotten classes; nothing where none was forgotten as a whole."""
    blocks = ["## Where the forgotten class goes", words.CLASSES_LEAD, words.CLASSES_SOURCE] if parts else []
    for part in parts:
        table = _table(part.table, "") if part.table.rows else []
        why = f"Not measured: {escaped(part.why)}." if part.why else ""
        title = f"### “{escaped(part.name)}”" if len(parts) > 1 else ""
        blocks += [title, escaped(part.lead), escaped(part.accuracy), *table, why]
    return blocks


def _exposed(findings: Mapping[str, Any]) -> list[str]:
    table = tables.exposed_table(findings)
    return [*_table(table, ""), words.IDS_NOTE] if table.rows else []


def _bullets(items: Iterable[str]) -> str:
    return "\n".join(f"- {item}" for item in items)


def _table(table: Table, reason: str) -> list[str]:
    """Caption and table, or why there is none."""
    if not table.rows:
        return [f"Not measured: {escaped(reason)}."]
    rule = ["---"] + ["---:" if _numeric(table) else "---"] * (len(table.columns) - 1)
    rows = [_row(table.columns), f"| {' | '.join(rule)} |", *(_row(cells) for cells in table.rows)]
    return [escaped(table.caption), "\n".join(rows)]


def _numeric(table: Table) -> bool:
    return bool(table.caption)


def _row(cells: tuple[Cell, ...]) -> str:
    shown = [
        f"{escaped(c.text)} ({escaped(c.under)})" if c.text and c.under else escaped(c.text or c.under) for c in cells
    ]
    return f"| {' | '.join(shown)} |"
