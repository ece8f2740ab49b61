"""The section of further measures: there only when there are some, its numbers those of the findings."""

from __future__ import annotations

from typing import Any

import pytest

from unteach.report import as_html, as_markdown
from unteach.report.measures import measure_tables
from unteach.report.words import FAMILIES

ROW = {
    "name": "JS divergence",
    "family": "distance",
    "part": "forget",
    "value": 0.0143,
    "target": 0.0071,
    "retrained": [0.0069, 0.0073],
    "interval": [0.0097, 0.0192],
    "two_sided": False,
    "unit": "nats",
    "size": 431,
    "models": 1,
    "chance": 0.0004,
}


@pytest.mark.parametrize("held", [None, [], "text", [3]], ids=str)
def test_old_findings_show_nothing_of_it(findings: dict[str, Any], held: Any) -> None:
    for draw in (as_html, as_markdown):
        assert draw({**findings, "measures": held}) == draw(findings)
        assert "Further measures" not in draw(findings)


def test_a_row_says_value_interval_target_range_and_chance() -> None:
    ((title, table),) = measure_tables({"measures": [ROW]})
    assert title == FAMILIES["distance"][0]
    (row,) = table.rows
    assert [cell.text for cell in row] == [
        "JS divergence, forget",
        "0.0143 nats",
        "0.0071 nats",
        "0.0069 to 0.0073",
        "< 0.001",
    ]
    assert row[0].under == "lower is better; 431 examples"
    assert row[1].under == "0.0097 to 0.0192"


def test_families_come_in_the_order_of_the_report_and_unknown_ones_last() -> None:
    rows = [{**ROW, "family": family} for family in ("novel", "utility", "membership")]
    titles = [title for title, _ in measure_tables({"measures": rows})]
    assert titles == [FAMILIES["membership"][0], FAMILIES["utility"][0], "Novel"]


@pytest.mark.parametrize("broken", ["value", "target", "retrained", "interval", "chance", "name", "size", "unit"])
@pytest.mark.parametrize("wrong", [None, "text", float("nan"), [], {}], ids=["none", "text", "nan", "list", "mapping"])
def test_damaged_rows_are_drawn_without_an_error(findings: dict[str, Any], broken: str, wrong: Any) -> None:
    held = {**findings, "measures": [{**ROW, broken: wrong}]}
    assert "Further measures" in as_html(held)
    assert "Further measures" in as_markdown(held)


def test_values_by_record_are_drawn(findings: dict[str, Any]) -> None:
    drawn = {"edges": [0.0, 0.5, 1.0], "judged": [0.25, 0.75], "retrained": [0.5, 0.5]}
    said = "Histogram: JS divergence, forget."
    assert said in as_html({**findings, "measures": [{**ROW, "histogram": drawn}]})
    for wrong in (None, [], {"edges": [0.0]}, {**drawn, "judged": [1.0]}, {**drawn, "edges": [1.0, 0.5, 0.0]}):
        page = as_html({**findings, "measures": [{**ROW, "histogram": wrong}]})
        assert said not in page
        assert "Further measures" in page


def test_what_the_audit_could_have_seen_is_said(findings: dict[str, Any]) -> None:
    sentence = "A difference of 3.5 points in <forget> accuracy would have raised an alarm."
    for draw in (as_html, as_markdown):
        assert "3.5 points in &lt;forget&gt; accuracy" in draw({**findings, "power": [sentence]})
        assert "could have seen" not in draw(findings)


def test_the_range_of_retrained_models_is_drawn_where_there_are_several(findings: dict[str, Any]) -> None:
    game = findings["models"]["retrained"]["games"]["FT"]["confidence"]
    game["roc_range"] = [[max(0.0, y - 0.01), min(1.0, y + 0.01)] for _, y in game["roc"]]
    assert "Range of retrained" in as_html(findings)
    for wrong in (None, [], [[1, 0]] * len(game["roc"]), game["roc_range"][:-1], "text"):
        game["roc_range"] = wrong
        assert "Range of retrained" not in as_html(findings)
