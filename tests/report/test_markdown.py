"""Markdown: tables well formed, text never markup, the same numbers as the page."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unteach.report import as_markdown, words
from unteach.report.glossary import GLOSSARY
from unteach.report.markdown import escaped


def tables(text: str) -> list[list[str]]:
    blocks = [block.split("\n") for block in text.split("\n\n")]
    return [block for block in blocks if block[0].startswith("|")]


def columns(row: str) -> int:
    return len(re.findall(r"(?<!\\)(?:\\\\)*\|", row)) - 1


def test_tables_are_well_formed(findings: dict[str, Any]) -> None:
    found = tables(as_markdown(findings))
    assert len(found) == 6
    for table in found:
        assert re.fullmatch(r"\|(?: ---:? \|)+", table[1])
        assert len({columns(row) for row in table}) == 1
        assert all(row.startswith("| ") and row.endswith(" |") for row in table)


def test_sections_and_limits_are_there(findings: dict[str, Any]) -> None:
    text = as_markdown(findings)
    assert text.startswith("# Unlearning audit: amun on fashion-mnist\n")
    assert "\n## Verdict: inconclusive\n" in text
    for title in words.LIMITS:
        assert f"- **{title}** " in text
    assert all(f"| {term.name} |" in text for term in GLOSSARY)
    assert not any(said in text.casefold() for said in ("compliant", "certified", "provably"))
    assert as_markdown(findings) == text


def test_numbers_are_those_of_the_findings(findings: dict[str, Any]) -> None:
    text = as_markdown(findings)
    for role, name in words.ROLES.items():
        row = next(line for line in text.split("\n") if line.startswith(f"| {name} ("))
        held = findings["models"][role]["accuracy"]
        shown = [float(v) / 100 for v in re.findall(r"\| ([\d.]+)%", row)]
        assert shown == pytest.approx([held[p] for p in words.PARTS], abs=5.1e-4)


@settings(max_examples=200)
@given(st.text(max_size=40))
def test_text_is_never_markup(said: str) -> None:
    line = escaped(" ".join(said.split()))
    assert "<" not in line
    assert not re.search(r"(?<!\\)(?:\\\\)*[|`*_\[]", line)
    assert not re.match(r"[-+#>=]\s|\d+[.)]\s", line)


@settings(max_examples=40, deadline=None)
@given(st.text(min_size=1, max_size=20))
def test_hostile_names_keep_the_table_whole(said: str) -> None:
    text = as_markdown({"exposed": [{"id": said, "classname": said, "predicted": said, "score": 1.0}]})
    for table in tables(text):
        assert len({columns(row) for row in table}) == 1
