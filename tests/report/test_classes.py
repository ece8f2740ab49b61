"""The section about forgotten classes: there only when there are some, its numbers those of the findings."""

from __future__ import annotations

import copy
import re
from typing import Any

import pytest

from unteach.report import as_html, as_markdown
from unteach.report.classes import forgotten_classes
from unteach.report.glossary import FOR_CLASSES
from unteach.report.words import CLASSES_LEAD, COLLAPSE, READINGS

TITLE = "Where the forgotten class goes"


def of(entry: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {"classes": [{**entry, **changes}]}


@pytest.mark.parametrize("classes", [None, [], "text", [3]])
def test_other_requests_and_old_findings_show_nothing_of_it(findings: dict[str, Any], classes: Any) -> None:
    old = as_html(findings), as_markdown(findings)
    assert (as_html({**findings, "classes": classes}), as_markdown({**findings, "classes": classes})) == old
    for text in old:
        assert TITLE not in text
        assert not any(term.name in text for term in FOR_CLASSES)


def test_the_section_stands_after_the_attack_and_says_that_it_moves_no_verdict(of_class: dict[str, Any]) -> None:
    page, text = as_html(of_class), as_markdown(of_class)
    titles = re.findall(r'<h2 id="[^"]*">([^<]*)</h2>', page)
    assert titles[titles.index(TITLE) - 1] == "Can an attacker tell who was forgotten?"
    assert f"## {TITLE}" in text.split("\n")
    for said in (page, text):
        assert CLASSES_LEAD in said
        assert "the verdict rests on the membership games and accuracies, not on these readings" in said
        assert "this project’s own test" in said
        assert "2506.20893" in said
        assert all(term.name in said for term in FOR_CLASSES)
        assert COLLAPSE in said


def test_the_table_equals_the_findings(of_class: dict[str, Any], class_entry: dict[str, Any]) -> None:
    (part,) = forgotten_classes(of_class)
    rows = {row[0].text: [cell.text for cell in row[1:]] for row in part.table.rows}
    assert rows["Neighbour routing, all readings"] == ["0.200", "0.400 or more", "no"]
    assert rows["Probability of the neighbour class"] == ["84.0%", "55.0–63.0%", "no"]
    assert rows["Probability left on what was forgotten"] == ["0.2%", "0.1–0.4%", "yes"]
    assert rows["Distance of the mean answer (TV)"] == ["0.310", "0.040 to 0.110", "no"]
    assert rows["MIA-NN leakage"] == ["0.250", "−0.040 to 0.050", "no"]
    assert len(rows) == len(READINGS) + 2
    assert all("better" in row[0].under for row in part.table.rows)
    assert "1,000 test images of “Coat”, 4 retrained models" in part.table.caption
    said = "original 91.0%, unlearned 0.0%, retrained 0.0%, held-out retrained 0.0%"
    assert said in part.accuracy
    assert set(READINGS) <= set(class_entry["routing"]["readings"])


def test_the_sentence_says_where_the_images_go(class_entry: dict[str, Any]) -> None:
    (part,) = forgotten_classes(of(class_entry))
    assert part.lead.startswith(
        "Images of “Coat” go most often to “Pullover” in retrained models (63.0%) and in the unlearned one (88.0%). "
        "The unlearned model stands out from all 4 retrained models (p-value 0.200); an exact retraining does so "
        "once in 5 times. Collapse: "
    )
    answers = [
        {"class": "Pullover", "unlearned": 0.12, "retrained": 0.63},
        {"class": "Coat", "unlearned": 0.7, "retrained": 0.0},
    ]
    routing = class_entry["routing"] | {"p_value": 0.6, "inside": True, "collapsed": False}
    (part,) = forgotten_classes(of(class_entry, answers=answers, routing=routing))
    assert part.lead == (
        "Images of “Coat” go most often to “Pullover” in retrained models (63.0%), but to “Coat” in the unlearned one "
        "(70.0%; to “Pullover” 12.0%). The unlearned model does not stand out from 4 retrained ones (p-value 0.600)."
    )


def test_what_could_not_be_compared_is_said(class_entry: dict[str, Any]) -> None:
    missing = dict.fromkeys(("neighbour", "answers", "routing", "mia_nn"))
    found = of(class_entry, **missing, why="it takes 3 retrained models to see their own spread, got 2")
    for said in (as_html(found), as_markdown(found)):
        assert "Not measured: it takes 3 retrained models to see their own spread, got 2." in said
        assert "original 91.0%" in said
    (part,) = forgotten_classes(found)
    assert part.table.rows == ()
    (empty,) = forgotten_classes({"classes": [{}]})
    assert empty.why == "the findings hold no readings of this class"


def test_several_classes_have_a_heading_each(of_class: dict[str, Any], class_entry: dict[str, Any]) -> None:
    assert '<h3 class="minor">“Coat”</h3>' not in as_html(of_class)
    both = {**of_class, "classes": [class_entry, {**copy.deepcopy(class_entry), "class": "Bag | <b>"}]}
    page, text = as_html(both), as_markdown(both)
    assert page.count('<h2 id="classes">') == 1
    assert re.findall(r'<h3 class="minor">(.*)</h3>', page)[-2:] == ["“Coat”", "“Bag | &lt;b&gt;”"]
    assert [line for line in text.split("\n") if line.startswith("### ")] == ["### “Coat”", r"### “Bag \| &lt;b&gt;”"]
