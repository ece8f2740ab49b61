"""Every further measure beside what retraining makes of it: one table a family, decided once for HTML and Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from unteach.report.numerals import chance, count, fixed, rate
from unteach.report.reading import at, interval, mappings, number, numbers, text
from unteach.report.svg import UNLEARNED, UNSEEN, drawn
from unteach.report.tables import Cell, Table
from unteach.report.words import ABSENT, FAMILIES

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMNS = (
    Cell("Measure"),
    Cell("Unlearned"),
    Cell("Retrained", "target: their mean"),
    Cell("Their range"),
    Cell("Chance", "of one more retrained"),
)


def measure_tables(findings: Mapping[str, Any]) -> list[tuple[str, Table]]:
    """Title and table of each family that the findings hold measures of, in the order of the report."""
    held = mappings(at(findings, "measures"))
    families = [*FAMILIES, *dict.fromkeys(text(one.get("family")) for one in held)]
    tables = {}
    for family in families:
        title, caption = FAMILIES.get(family, (family.capitalize() or "Other measures", ""))
        rows = tuple(_row(one) for one in held if text(one.get("family")) == family)
        if rows and family not in tables:
            tables[family] = (title, Table(caption, COLUMNS, rows))
    return list(tables.values())


def _row(one: Mapping[str, Any]) -> tuple[Cell, ...]:
    among = numbers(one.get("retrained"))
    decimals = _decimals([number(one.get("value")), *(among or [])])
    unit = text(one.get("unit"))
    ends = interval(one.get("interval"))
    odds = number(one.get("chance"))
    return (
        Cell(_name(one), _note(one), "head"),
        _cell(number(one.get("value")), decimals, unit, _span(ends, decimals) if ends else ""),
        _cell(number(one.get("target")), decimals, unit),
        Cell(_span((min(among), max(among)), decimals)) if among and len(among) > 1 else Cell("–", "", "absent"),
        Cell("–", "", "absent") if odds is None else Cell(chance(odds)),
    )


def _name(one: Mapping[str, Any]) -> str:
    name, part = text(one.get("name")) or "unnamed", text(one.get("part"))
    return f"{name}, {part}" if part else name


def _note(one: Mapping[str, Any]) -> str:
    size, models = count(one.get("size")), number(one.get("models")) or 1
    better = "nearer is better" if one.get("two_sided") is not False else "lower is better"
    several = f", {count(models)} models" if models > 1 else ""
    return better + (f"; {size} examples{several}" if number(one.get("size")) else several)


def _cell(value: float | None, decimals: int, unit: str, under: str = "") -> Cell:
    if value is None:
        return Cell(ABSENT, "", "absent")
    return Cell(f"{fixed(value, decimals)} {unit}".rstrip(), under)


def _span(ends: tuple[float, float], decimals: int) -> str:
    return " to ".join(fixed(end, decimals) for end in ends)


def _decimals(values: list[float | None]) -> int:
    """Three significant figures of the largest number in the row, at most four decimals."""
    largest = max((abs(v) for v in values if v is not None), default=0.0)
    return 0 if largest >= 1000 else 1 if largest >= 100 else 2 if largest >= 10 else 3 if largest >= 0.1 else 4


def measure_histograms(findings: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Title and picture of every measure that has values by record, for the judged model and for retrained ones."""
    pictures: list[tuple[str, str]] = []
    for one in mappings(at(findings, "measures")):
        edges, mine, others = (numbers(at(one, "histogram", key)) for key in ("edges", "judged", "retrained"))
        if not (edges and mine and others) or not len(mine) == len(others) == len(edges) - 1:
            continue
        if min(mine + others) < 0 or edges != sorted(set(edges)):
            continue
        unit = text(one.get("unit"))

        def draw(figure: Figure, edges: Any = edges, mine: Any = mine, others: Any = others, unit: str = unit) -> None:
            axes = figure.add_subplot()
            axes.stairs(others, edges, fill=True, color=UNSEEN, linewidth=0)
            axes.stairs(mine, edges, color=UNLEARNED, linewidth=2)
            axes.yaxis.set_major_formatter(lambda y, _: rate(y))
            axes.grid(axis="y")
            axes.set_xlabel(unit or "value by record")

        name = _name(one)
        pictures.append((name, drawn(f"measure-{len(pictures)}", f"Histogram: {name}.", (300, 210), draw)))
    return pictures
