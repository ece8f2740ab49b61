"""The report's three pictures: gaps with their tolerance, confidence before and after, ROC curves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from unteach.report.compared import Gap, auc, gaps, role_name, signals
from unteach.report.numerals import area, points, rate
from unteach.report.reading import at, number, numbers
from unteach.report.svg import BAND, INK, ORIGINAL, RETRAINED, RULE, SOFT, UNLEARNED, UNSEEN, drawn

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LINES = {
    "original": (ORIGINAL, (0, (5, 2))),
    "unlearned": (UNLEARNED, "solid"),
    "retrained": (RETRAINED, (0, (1, 1.2))),
    "held_out_retrained": (SOFT, (0, (3, 1, 1, 1))),
}
HISTOGRAMS = {"original": "Before", "unlearned": "After", "retrained": "Retrained (target)"}


def gap_chart(findings: Mapping[str, Any]) -> str | None:
    """Unlearned − retrained in points, one row a part, with interval and tolerance band, if any."""
    read = [g for g in gaps(findings) if g.measured]
    if not read:
        return None
    said = ", ".join(f"{g.name} {points(g.measured.value)}" for g in read if g.measured)
    label = f"Chart of gaps to retraining in points, target 0: {said}."
    return drawn("gaps", label, (380, 56 + 42 * len(read)), lambda figure: _draw_gaps(figure, read))


def _draw_gaps(figure: Figure, read: list[Gap]) -> None:
    axes = figure.add_subplot()
    reach = 1.0
    for row, g in enumerate(read):
        assert g.measured is not None
        low, high = g.measured.ends or (g.measured.value, g.measured.value)
        reach = max(reach, abs(low), abs(high), g.tolerance or 0)
        if g.tolerance:
            axes.barh(row, 2 * g.tolerance, left=-g.tolerance, height=0.62, color=BAND, linewidth=0)
        axes.plot([low, high], [row, row], color=UNLEARNED, linewidth=2, solid_capstyle="round")
        axes.plot(g.measured.value, row, "o", color=UNLEARNED, markersize=8)
        axes.annotate(
            points(g.measured.value), (1, row), xycoords=("axes fraction", "data"), xytext=(8, 0),
            textcoords="offset points", va="center", ha="left", color=INK, annotation_clip=False,
        )  # fmt: skip
    axes.axvline(0, color=SOFT, linewidth=1)
    axes.set_xlim(-1.12 * reach, 1.12 * reach)
    axes.set_ylim(len(read) - 0.45, -0.55)
    axes.set_yticks(range(len(read)), [g.name for g in read], color=INK)
    axes.xaxis.set_major_locator(_few(7))
    axes.xaxis.set_major_formatter(
        lambda x, _: points(x) if x % 1 else f"{x:+.0f}".replace("-", "−").replace("+0", "0")
    )
    axes.grid(axis="x")
    axes.set_xlabel("points; left of 0: lower than retrained")


def histograms(findings: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Title and picture of logit-scaled confidence for each model that has one, all on the same axes."""
    read = {r: h for r in HISTOGRAMS if (h := _histogram(at(findings, "models", r, "confidence_histogram")))}
    if not read:
        return []
    top = max(max(forget + test) for _, forget, test in read.values())
    ends = min(e[0] for e, _, _ in read.values()), max(e[-1] for e, _, _ in read.values())
    pictures = []
    for role, (edges, forget, test) in read.items():
        centres = [_mean(edges, forget), _mean(edges, test)]
        said = f"mean confidence {centres[0]:.1f} on forgotten, {centres[1]:.1f} on unseen records"
        label = f"{role_name(role)} model: {said}."

        def draw(
            figure: Figure, edges: list[float] = edges, forget: list[float] = forget, test: list[float] = test
        ) -> None:
            _draw_histogram(figure.add_subplot(), edges, forget, test, (*ends, top))

        pictures.append((HISTOGRAMS[role], drawn(f"histogram-{role}", label, (300, 210), draw)))
    return pictures


def _histogram(held: Any) -> tuple[list[float], list[float], list[float]] | None:
    """Edges and shares per bin of forgotten and unseen records."""
    edges, forget, test = (numbers(at(held, key)) for key in ("edges", "forget", "test"))
    if edges is None or forget is None or test is None or not len(forget) == len(test) == len(edges) - 1:
        return None
    if min(forget + test) < 0 or sum(forget) <= 0 or sum(test) <= 0 or edges != sorted(set(edges)):
        return None
    return edges, [v / sum(forget) for v in forget], [v / sum(test) for v in test]


def _mean(edges: list[float], shares: list[float]) -> float:
    return sum(s * (a + b) / 2 for s, a, b in zip(shares, edges, edges[1:]))


def _draw_histogram(
    axes: Axes, edges: list[float], forget: list[float], test: list[float], limits: tuple[float, float, float]
) -> None:
    axes.stairs(test, edges, fill=True, color=UNSEEN, linewidth=0)
    axes.stairs(forget, edges, color=UNLEARNED, linewidth=2)
    axes.axvline(0, color=RULE, linewidth=1)
    axes.set_xlim(limits[0], limits[1])
    axes.set_ylim(0, 1.05 * limits[2])
    axes.xaxis.set_major_locator(_few(5))
    axes.yaxis.set_major_locator(_few(4))
    axes.yaxis.set_major_formatter(lambda y, _: rate(y))
    axes.xaxis.set_major_formatter(lambda x, _: f"{x:g}".replace("-", "−"))
    axes.grid(axis="y")
    axes.set_xlabel("logit-scaled confidence")


def _few(bins: int) -> Any:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(bins, steps=[1, 2, 5, 10])


def roc_chart(findings: Mapping[str, Any]) -> str | None:
    """Log-log ROC of the FT game from 1 / number of unseen records to 1, with the diagonal, if any."""
    signal = next(iter(signals(findings, "FT")), "")
    held = {role: at(findings, "models", role, "games", "FT", signal) for role in LINES}
    curves = {role: curve for role, game in held.items() if (curve := _curve(at(game, "roc")))}
    if not curves:
        return None
    negatives = [n for role in curves if (n := number(at(held[role], "n_negative"))) and n > 1]
    floor = 1 / max(negatives) if negatives else min(x for curve in curves.values() for x, _ in curve if x > 0)
    areas = {role: auc(findings, role, "FT", signal) for role in curves}
    said = ", ".join(f"{role_name(r)} AUC {area(a.value)}" for r, a in areas.items() if a)
    band = _band(at(held["retrained"], "roc"), at(held["retrained"], "roc_range"))
    label = f"ROC curves on logarithmic axes. {said}."
    return drawn("roc", label, (380, 350), lambda f: _draw_roc(f, curves, floor, band))


def _band(roc: Any, ends: Any) -> tuple[list[float], list[float], list[float]] | None:
    """False-positive rates, and the lowest and highest true-positive rates of the retrained models there."""
    curve = _curve(roc)
    pairs = [_corner(pair) for pair in ends] if isinstance(ends, (list, tuple)) else []
    if not curve or len(pairs) != len(curve):
        return None
    kept = [(x, *pair) for (x, _), pair in zip(curve, pairs) if pair and pair[0] <= pair[1]]
    if len(kept) != len(curve):
        return None
    xs, low, high = (list(column) for column in zip(*kept))
    return xs, low, high


def _curve(held: Any) -> list[tuple[float, float]] | None:
    if not isinstance(held, (list, tuple)):
        return None
    read = [pair for pair in map(_corner, held) if pair]
    return read if any(x > 0 and y > 0 for x, y in read) else None


def _corner(pair: Any) -> tuple[float, float] | None:
    """``[fpr, tpr]``, both in 0–1."""
    read = numbers(pair)
    return (read[0], read[1]) if read and len(read) == 2 and 0 <= min(read) <= max(read) <= 1 else None


def _draw_roc(
    figure: Figure,
    curves: Mapping[str, list[tuple[float, float]]],
    floor: float,
    band: tuple[list[float], list[float], list[float]] | None,
) -> None:
    axes = figure.add_subplot()
    if band:
        across, low, high = ([max(v, floor / 10) for v in column] for column in band)
        axes.fill_between(across, low, high, step="post", color=BAND, linewidth=0, label="Range of retrained")
    axes.plot([floor, 1], [floor, 1], color=SOFT, linewidth=1, label="Guessing")
    for role, curve in curves.items():
        colour, dashes = LINES[role]
        # A ROC is a staircase: an attack can reach a corner, never the slope between two.
        xs, ys = zip(*((max(x, floor / 10), max(y, floor / 10)) for x, y in curve))
        width = 1.2 if role == "held_out_retrained" else 2
        axes.plot(
            xs, ys, color=colour, linestyle=dashes, linewidth=width, drawstyle="steps-post", label=role_name(role)
        )
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(floor, 1)
    axes.set_ylim(floor, 1)
    ticks = [t for t in (10.0**-k for k in range(12)) if t >= floor]
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_ticks(ticks, [rate(t) for t in ticks])
        axis.set_minor_formatter(lambda *_: "")
    axes.grid()
    axes.set_xlabel("false positives: unseen records accused")
    axes.set_ylabel("true positives: forgotten records caught")
    handles, labels = axes.get_legend_handles_labels()
    axes.legend(handles[1:] + handles[:1], labels[1:] + labels[:1], loc="lower right", handlelength=2.6)
