"""Rows as Markdown, CSV and LaTeX. Every number stands with its spread; the row *retrained* is the target."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence

from unteach.bench.summary import COLUMNS, Row, Spread


def columns_of(rows: Iterable[Row]) -> list[str]:
    """The columns that any row has, in the usual order."""
    there = {column for row in rows for column in row.numbers}
    return [column for column in COLUMNS if column in there]


def as_markdown(rows: Sequence[Row]) -> str:
    """One table for each request: mean ± sd over training seeds."""
    told = []
    for request in dict.fromkeys(row.request for row in rows):
        mine = [row for row in rows if row.request == request]
        columns = columns_of(mine)
        head = ["method", *columns, "FT AUC in one cell", "verdicts"]
        lines = [f"**{request}**", "", f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
        for row in mine:
            cells = [spelled(row.numbers.get(column), COLUMNS[column][1]) for column in columns]
            lines.append(f"| {title(row)} | {' | '.join([*cells, _interval(row), _verdicts(row)])} |")
        told.append("\n".join(lines))
    return "\n\n".join(told) + "\n"


def as_csv(rows: Sequence[Row]) -> str:
    """One line a row and column: mean, sd, 95 % interval of the mean, seeds; unrounded."""
    written = io.StringIO()
    table = csv.writer(written, lineterminator="\n")
    table.writerow(["request", "method", "column", "mean", "sd", "low", "high", "seeds", "cells", "collapsed"])
    for row in rows:
        for column, spread in row.numbers.items():
            numbers = [_plain(value) for value in (spread.mean, spread.sd, spread.low, spread.high)]
            table.writerow([row.request, row.name, column, *numbers, spread.seeds, row.cells, row.collapsed])
    return written.getvalue()


def as_latex(rows: Sequence[Row]) -> str:
    """One ``tabular`` for each request, for the package booktabs; standard deviations as subscripts."""
    told = []
    for request in dict.fromkeys(row.request for row in rows):
        mine = [row for row in rows if row.request == request]
        columns = columns_of(mine)
        lines = [
            f"% {request}",
            rf"\begin{{tabular}}{{l{'r' * len(columns)}}}",
            r"\toprule",
            " & ".join(["Method", *map(_tex, columns)]) + r" \\",
            r"\midrule",
        ]
        for row in mine:
            cells = [_tex_number(row.numbers.get(column), COLUMNS[column][1]) for column in columns]
            mark = r"$^{\dagger}$" if row.collapsed else ""
            lines.append(" & ".join([_tex(row.name) + mark, *cells]) + r" \\")
        lines += [r"\bottomrule", r"\end{tabular}"]
        if any(row.collapsed for row in mine):
            lines.append(r"% $^{\dagger}$ collapsed in at least one cell")
        told.append("\n".join(lines))
    return "\n\n".join(told) + "\n"


def title(row: Row) -> str:
    """The row's name, marked where networks collapsed."""
    if row.refused:
        return f"{row.name} ({row.refused})"
    return f"{row.name} (collapsed, {row.collapsed} of {row.cells})" if row.collapsed else row.name


def spelled(spread: Spread | None, digits: int) -> str:
    """Mean ± sd; the mean alone for one seed."""
    if spread is None:
        return "-"
    middle = f"{spread.mean:.{digits}f}"
    return middle if math.isnan(spread.sd) else f"{middle} ± {spread.sd:.{digits}f}"


def _interval(row: Row) -> str:
    return "-" if row.interval is None else f"{row.interval[0]:.3f}–{row.interval[1]:.3f}"


def _verdicts(row: Row) -> str:
    return ", ".join(f"{count} × {verdict}" for verdict, count in sorted(row.verdicts.items()) if verdict) or "-"


def _plain(value: float) -> str:
    return "" if math.isnan(value) else repr(float(value))


def _tex(text: str) -> str:
    for plain, escaped in (
        ("\\", r"\textbackslash{}"),
        ("&", r"\&"),
        ("%", r"\%"),
        ("_", r"\_"),
        ("#", r"\#"),
        ("−", "$-$"),
    ):
        text = text.replace(plain, escaped)
    return text


def _tex_number(spread: Spread | None, digits: int) -> str:
    if spread is None:
        return "--"
    middle = f"{spread.mean:.{digits}f}"
    return f"${middle}$" if math.isnan(spread.sd) else rf"${middle}_{{\pm {spread.sd:.{digits}f}}}$"
