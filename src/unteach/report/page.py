"""Findings → one HTML page that needs no network, no script and no other file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from unteach.report import charts, contents, tables, words
from unteach.report.classes import forgotten_classes
from unteach.report.compared import signals
from unteach.report.glossary import terms
from unteach.report.measures import measure_histograms, measure_tables
from unteach.report.pictures import as_data_uri
from unteach.report.reading import at, lines, number, text, why_missing
from unteach.report.shelf import shelf, style

if TYPE_CHECKING:
    import numpy as np


def as_html(findings: Mapping[str, Any], thumbnails: Mapping[str, np.ndarray] | None = None) -> str:
    """The whole page, the same bytes for the same findings.

    ``thumbnails``: id → uint8 pixels, ``h × w`` or ``h × w × 3``; only those of exposed records are embedded.
    """
    from markupsafe import Markup

    drawings = {"gaps": charts.gap_chart(findings), "roc": charts.roc_chart(findings)}
    return (
        shelf()
        .get_template("report.html")
        .render(
            style=style(),
            charts={name: drawing and Markup(drawing) for name, drawing in drawings.items()},
            spreads=[(title, Markup(drawing)) for title, drawing in measure_histograms(findings)],
            histograms=[(title, Markup(drawing)) for title, drawing in charts.histograms(findings)],
            gallery=_gallery(findings, thumbnails or {}),
            signal=_signal(findings),
            why=lambda *names: why_missing(findings, *names),
            words=words,
            **_contents(findings),
        )
    )


def _contents(findings: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "verdict": contents.verdict(findings),
        "given": text(at(findings, "verdict")),
        "heading": contents.heading(findings),
        "request": contents.request(findings),
        "summary": text(at(findings, "summary")),
        "reasons": contents.reasons(findings),
        "advice": text(at(findings, "advice")),
        "doubts": lines(at(findings, "doubts")),
        "figures": contents.key_figures(findings),
        "controls": contents.controls(findings),
        "power": lines(at(findings, "power")),
        "intervals": contents.intervals_sentence(findings),
        "average": contents.average_sentence(findings),
        "models": tables.models_table(findings),
        "games": tables.games_table(findings),
        "classes": forgotten_classes(findings),
        "measures": measure_tables(findings),
        "exposed_sentence": tables.exposed_sentence(findings),
        "exposed": tables.exposed_table(findings),
        "cost": tables.cost_table(findings),
        "skipped": contents.skipped(findings),
        "glossary": terms(findings),
        "provenance": contents.provenance(findings),
    }


def _signal(findings: Mapping[str, Any]) -> str:
    return next(iter(signals(findings, "FT")), "confidence").replace("_", " ")


def _gallery(findings: Mapping[str, Any], thumbnails: Mapping[str, np.ndarray]) -> list[dict[str, str]]:
    """Exposed records that come with a picture, in the order of exposure."""
    cards = []
    for entry in tables.exposed(findings):
        name = text(entry.get("id"))
        pixels = thumbnails.get(str(entry.get("id")))
        if pixels is None:
            continue
        score = number(entry.get("score"))
        cards.append(
            {
                "uri": as_data_uri(name, pixels),
                "id": name,
                "label": tables.label_of(entry),
                "predicted": text(entry.get("predicted")),
                "score": "not measured" if score is None else f"{score:.2f}".replace("-", "−"),
            }
        )
    return cards
