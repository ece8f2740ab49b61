"""The HTML page: self-contained, stable, safe, complete, and its numbers are those of the findings."""

from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from unteach.report import as_html, words
from unteach.types import Refusal

VOID = {"meta", "img", "br", "path", "circle", "rect", "use"}
SECTIONS = [
    "Key figures",
    "Does this audit see anything?",
    "The models side by side",
    "How far from retraining",
    "What the model’s confidence gives away",
    "Can an attacker tell who was forgotten?",
    "Records still most exposed",
    "What it cost",
    "What was not measured",
    "Settings and fingerprints",
    "Glossary",
    "What this does not prove",
]


class Outline(HTMLParser):
    """Tags in order, text by cell, ids, and whether every tag is closed."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, tuple[str, ...]]] = []
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.words: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, tuple(sorted(name for name, _ in attrs))))
        named = {name: value or "" for name, value in attrs}
        if "id" in named:
            self.ids.append(named["id"])
        self.links += [v for k, v in named.items() if k in ("src", "href", "action", "data", "srcset")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


@pytest.fixture(scope="module")
def page(invented_once: dict[str, Any]) -> str:
    findings = invented_once
    return as_html(findings, {e["id"]: np.zeros((8, 8), np.uint8) for e in findings["exposed"][:3]})


def test_needs_nothing_beside_itself(page: str) -> None:
    for address in ("http://", "https://", "<script", "xmlns", "@import", "<link", "<iframe", "javascript:"):
        assert address not in page
    assert set(re.findall(r"url\((.)", page)) <= {"#"}
    assert "default-src 'none'" in page


def test_markup_is_sound(page: str) -> None:
    outline = Outline(page)
    assert outline.open == []
    assert len(outline.ids) == len(set(outline.ids))
    assert all(link.startswith(("data:image/png;base64,", "#")) for link in outline.links)
    targets = set(re.findall(r"url\(#([^)\"]+)\)", page)) | {link[1:] for link in outline.links if link[0] == "#"}
    assert targets <= set(outline.ids)
    assert set(re.findall(r'aria-labelledby="([^"]+)"', page)) <= set(outline.ids)
    assert page.count("<svg") == page.count('role="img"') + page.count('aria-hidden="true"')
    assert all('alt="' in image for image in re.findall("<img[^>]*>", page))


def test_sections_stand_in_order(page: str) -> None:
    assert re.findall(r'<h2 id="[^"]*">([^<]*)</h2>', page) == SECTIONS
    assert re.findall(r'<h2 id="[^"]*">([^<]*)</h2>', as_html({})) == SECTIONS


def test_all_charts_are_there_in_the_pages_colours(page: str) -> None:
    assert page.count("<figure") == 3
    assert page.count('role="img"') == 5
    assert re.findall(r"#0(\d)0\1", page) == []
    for name in ("original", "unlearned", "retrained", "unseen", "band"):
        assert page.count(f"var(--chart-{name})") >= 1


def test_words_we_do_not_use(page: str) -> None:
    for said in ("compliant", "certified", "provably"):
        assert said not in page.casefold()


@pytest.mark.parametrize("verdict", [*words.VERDICTS, "something else"])
def test_each_verdict_has_a_word_a_shape_and_advice(verdict: str) -> None:
    known = words.VERDICTS.get(verdict, words.NO_VERDICT)
    page = as_html({"verdict": verdict})
    assert f'<section class="verdict {known.tone}"' in page
    assert known.next in page
    assert len({v.tone for v in words.VERDICTS.values()}) == len(words.VERDICTS)


def test_same_bytes_twice_and_under_a_users_matplotlibrc(findings: dict[str, Any]) -> None:
    first = as_html(findings)
    with mpl.rc_context({"font.size": 30, "axes.grid": True, "svg.fonttype": "path", "lines.linewidth": 9}):
        assert as_html(findings) == first


def test_the_key_table_equals_the_findings(page: str, findings: dict[str, Any]) -> None:
    body = page[page.index('<h2 id="models">') : page.index('<h2 id="gaps">')]
    rows = {}
    for row in re.findall(r"<tr[^>]*>(.*?)</tr>", body, re.DOTALL)[1:]:
        bare = re.sub(r"<small>.*?</small>", "", row)
        name, *cells = (c.strip().replace("−", "-") for c in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", bare, re.DOTALL))
        rows[name] = cells
    for role, name in words.ROLES.items():
        held = findings["models"][role]
        shares = [float(cell.removesuffix("%")) / 100 for cell in rows[name][:3]]
        assert shares == pytest.approx([held["accuracy"][p] for p in words.PARTS], abs=5.1e-4)
        assert float(rows[name][3]) == pytest.approx(held["games"]["FT"]["confidence"]["auc"], abs=5.1e-4)
    gaps = [findings["gaps"][p] for p in (*words.PARTS, "ft_auc")]
    assert [float(cell) for cell in rows["Gap"]] == pytest.approx(gaps, abs=0.051)


def test_key_figures_equal_the_findings(page: str, findings: dict[str, Any]) -> None:
    shown = [float(v.replace("−", "-").rstrip("%")) for v in re.findall(r'<p class="value">([^< ]+)', page)]
    cost = 100 * findings["cost"]["forget_seconds"] / findings["cost"]["retrain_seconds"]
    auc = findings["models"]["unlearned"]["games"]["FT"]["confidence"]["auc"]
    assert shown == pytest.approx([findings["gaps"]["forget"], findings["gaps"]["test"], auc, cost], abs=0.051)
    assert page.count('<p class="target">Target: ') == 4


def wordy(said: str) -> dict[str, Any]:
    """Findings with this text wherever a text may stand."""
    return {
        "verdict": said,
        "summary": said,
        "reasons": [said],
        "doubts": [said],
        "request": {"data": said, "spec": said, "ids_file": said, "data_fingerprint": said},
        "method": {"name": said, "source": said, "settings": {"x" + said: {"y" + said: said}}},
        "models": {"mine" + said: {"accuracy": {"forget": 0.5}, "games": {"FT": {"s" + said: {"auc": 0.5}}}}},
        "controls": {"c" + said: {"passed": False, "sentence": said}},
        "classes": [
            {
                "class": said,
                "neighbour": said,
                "why": said,
                "answers": [{"class": "z" + said, "unlearned": 1.0}, {"class": said, "retrained": 1.0}],
                "mia_nn": {"leakage": 0.1},
            }
        ],
        "exposed": [{"id": said, "label": said, "classname": said, "predicted": said, "score": 1.0}],
        "skipped": [{"metric": said, "reason": said}],
        "cost": {"parts": [{"what": said, "seconds": 1.0}]},
        "environment": {said: said},
        "fingerprints": {said: said},
        "when": said,
    }


HOSTILE = st.one_of(
    st.text(min_size=1, max_size=30),
    st.sampled_from(
        [
            "<script>alert(1)</script>",
            '" onload="x',
            "</style><b>",
            "{{ 7*7 }}",
            "&amp;<",
            "\u202egnp",
            "\ud800",
            "|",
        ]
    ),
)


@pytest.fixture(scope="module")
def harmless() -> Outline:
    return Outline(as_html(wordy("xx")))


@settings(max_examples=40, deadline=None)
@given(HOSTILE)
def test_no_text_becomes_markup(harmless: Outline, said: str) -> None:
    page = as_html(wordy("x" + said))
    assert Outline(page).tags == harmless.tags
    page.encode("utf-8")


def test_text_is_shown_as_given() -> None:
    said = '<b>{{ 7*7 }}</b> & "quoted"'
    assert "".join(Outline(as_html(wordy(said))).words).count(said) >= 15


def test_thumbnails_are_the_pixels_given(findings: dict[str, Any]) -> None:
    grey = np.arange(64, dtype=np.uint8).reshape(8, 8)
    colour = np.stack([grey, grey + 1, grey + 2], -1)
    first, second = (e["id"] for e in findings["exposed"][:2])
    page = as_html(findings, {first: grey, second: colour, "someone else": grey})
    found = [Image.open(io.BytesIO(base64.b64decode(u))) for u in re.findall(r"base64,([^\"]+)", page)]
    assert len(found) == 2
    np.testing.assert_array_equal(np.asarray(found[0]), grey)
    np.testing.assert_array_equal(np.asarray(found[1]), colour)
    assert words.PICTURES_NOTE in page
    assert words.PICTURES_NOTE not in as_html(findings)


@pytest.mark.parametrize(
    "pixels",
    [np.zeros((8, 8)), np.zeros((3, 8, 8), np.uint8), np.zeros((0, 8), np.uint8), np.zeros(8, np.uint8)],
)
def test_what_is_no_picture_is_refused(findings: dict[str, Any], pixels: np.ndarray) -> None:
    with pytest.raises(Refusal, match="expected thumbnail 'train-00017' to be uint8"):
        as_html(findings, {"train-00017": pixels})
