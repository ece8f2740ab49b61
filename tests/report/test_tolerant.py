"""A part that is missing or odd is said to be so; it never stops the report."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unteach.report import as_html, as_markdown
from unteach.report.charts import gap_chart, histograms, roc_chart

JUNK = [None, float("nan"), float("inf"), "text", True, -1, [], {}, [None], {"a": []}, 10**400, 1e300]


def paths(held: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in nested findings; of long lists the first entry only."""
    keys = list(held) if isinstance(held, dict) else range(min(len(held), 1)) if isinstance(held, list) else ()
    for key in keys:
        yield (*path, key)
        yield from paths(held[key], (*path, key))


def replaced(findings: dict[str, Any], path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    changed = copy.deepcopy(findings)
    held = changed
    for key in path[:-1]:
        held = held[key]
    held[path[-1]] = value
    return changed


@pytest.fixture(scope="module")
def small(invented_once: dict[str, Any], class_entry_once: dict[str, Any]) -> dict[str, Any]:
    """The invented findings with short curves, and with a class forgotten."""
    findings = copy.deepcopy({**invented_once, "classes": [class_entry_once]})
    for model in findings["models"].values():
        for game in model["games"].values():
            for played in game.values():
                played["roc"] = played["roc"][::20]
    return findings


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_any_part_may_be_junk(small: dict[str, Any], data: st.DataObject) -> None:
    path = data.draw(st.sampled_from(list(paths(small))))
    assert as_markdown(replaced(small, path, data.draw(st.sampled_from(JUNK))))


@settings(max_examples=6, deadline=None)
@given(data=st.data())
def test_any_drawn_part_may_be_junk(small: dict[str, Any], data: st.DataObject) -> None:
    drawn = [p for p in paths(small) if p[0] in ("models", "gaps", "tolerance", "classes")]
    path = data.draw(st.sampled_from(drawn))
    assert as_html(replaced(small, path, data.draw(st.sampled_from(JUNK))))


def test_any_part_about_a_class_may_be_junk(class_entry_once: dict[str, Any]) -> None:
    findings = {"classes": [class_entry_once]}
    for path in paths(findings):
        for value in JUNK:
            changed = replaced(findings, path, value)
            assert as_markdown(changed)


@pytest.mark.parametrize("part", ["models", "gaps", "controls", "exposed", "cost", "tolerance", "method", "request"])
def test_a_missing_part_is_named_not_hidden(small: dict[str, Any], part: str) -> None:
    page = as_html({key: value for key, value in small.items() if key != part})
    assert page.count("<h2 id=") == 13
    if part in ("models", "cost"):
        assert "not measured" in page


def test_the_audits_reason_is_given() -> None:
    skipped = [{"metric": "FT game", "reason": "one of its two sides has no examples"}]
    assert "not measured (one of its two sides has no examples)" in as_markdown({"skipped": skipped})
    assert "Not measured: one of its two sides has no examples." in as_html({"skipped": skipped})


def test_charts_refuse_nothing_and_draw_nothing_from_nothing() -> None:
    assert gap_chart({}) is None
    assert roc_chart({}) is None
    assert histograms({}) == []
    odd = {"edges": [0, 1, 2], "forget": [1, 1], "test": [0, 0]}
    assert histograms({"models": {"original": {"confidence_histogram": odd}}}) == []
    flat = {"FT": {"confidence": {"auc": 0.5, "roc": [[0, 0], [0, 0]], "n_negative": 10}}}
    assert roc_chart({"models": {"original": {"games": flat}}}) is None


def test_a_control_that_was_not_run_does_not_count_as_passed() -> None:
    text = as_markdown({"controls": {"original_caught": {"passed": None, "sentence": "No original."}}})
    assert "- **not run**: The original model is caught. No original." in text
    assert "**passed**" not in text
