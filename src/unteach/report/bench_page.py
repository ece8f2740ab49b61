"""Rows of a benchmark → one HTML page that needs no network, no script and no other file."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from unteach.report.shelf import shelf, style
from unteach.report.svg import INK, ORIGINAL, RETRAINED, SOFT, UNLEARNED, drawn

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TARGETS = ("original", "retrained")


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One table of a page: a request, its columns, and the rows' cells as text.

    ``gaps``: row → mean, lower and upper end (NaN for one seed) of what the chart shows, named by ``measure``; lower is nearer to
    retraining. ``fallen``: rows in which networks collapsed.
    """

    request: str
    columns: Sequence[str]
    rows: Mapping[str, Sequence[str]]
    measure: str
    gaps: Mapping[str, tuple[float, float, float]]
    fallen: frozenset[str] = frozenset()


def bench_html(
    title: str, about: str, facts: Mapping[str, str], tables: Sequence[Comparison], published: Mapping[str, Any] | None
) -> str:
    """The whole page, the same bytes for the same rows.

    ``facts``: what is the same in all cells, by name. ``published``: source, differs, columns and rows of the paper's table, if
    there is one.
    """
    from markupsafe import Markup

    charts = [gap_chart(table, number) for number, table in enumerate(tables)]
    return (
        shelf()
        .get_template("bench.html")
        .render(
            style=style(),
            title=title,
            about=about,
            facts=facts,
            tables=[(table, chart and Markup(chart)) for table, chart in zip(tables, charts)],
            published=published,
            targets=TARGETS,
        )
    )


def gap_chart(table: Comparison, number: int) -> str | None:
    """Distance to retraining by method, nearest first, with the interval over seeds; None where there is none.

    The axis ends at the original's distance, doubled: what lies beyond has an arrow and its number.
    """
    if not table.gaps:
        return None
    order = sorted(table.gaps, key=lambda name: (table.gaps[name][0], name))
    told = ", ".join(f"{name} {table.gaps[name][0]:.2f}" for name in order)
    label = f"Chart of {table.measure}, nearest to retraining first: {told}."
    return drawn(f"bench{number}", label, (640, 50 + 24 * len(order)), lambda figure: _draw(figure, table, order))


def _draw(figure: Figure, table: Comparison, order: list[str]) -> None:
    axes = figure.add_subplot()
    whole = [table.gaps[name][0] for name in order if name not in table.fallen]
    edge = 1.1 * min(max(whole, default=1.0), 2 * table.gaps.get("original", (math.inf,))[0]) or 1.0
    inks = {"original": ORIGINAL, "retrained": RETRAINED}
    for row, name in enumerate(order):
        mean, low, high = table.gaps[name]
        ink = inks.get(name, UNLEARNED)
        if mean > edge:
            axes.annotate(f"{mean:.1f} →", (edge, row), ha="right", va="center", color=INK)
            continue
        if not math.isnan(low):
            ends = [max(low, 0), min(high, edge)]
            axes.plot(ends, [row, row], color=ink, linewidth=2, solid_capstyle="round")
        axes.plot(mean, row, "o", color=ink, markersize=7)
    axes.set_xlim(0, edge)
    axes.set_ylim(len(order) - 0.4, -0.6)
    marks = [f"{name} (collapsed)" if name in table.fallen else name for name in order]
    axes.set_yticks(range(len(order)), marks, color=INK)
    axes.axvline(0, color=SOFT, linewidth=1)
    axes.grid(axis="x")
    axes.set_xlabel(f"{table.measure}, points")
