"""The state of a queue of requests → one HTML page that needs no network, no script and no other file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from unteach.report.numerals import area, areas, duration, fixed, percent
from unteach.report.shelf import shelf, style
from unteach.report.svg import BAND, ORIGINAL, RETRAINED, SOFT, UNLEARNED, drawn

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def queue_html(told: Mapping[str, Any]) -> str:
    """The whole page, the same bytes for the same state (``ledger.Queue.as_json``, with ``spent`` and ``notes``)."""
    from markupsafe import Markup

    runs = [run for run in told["runs"] if run["status"] == "accepted"]
    statuses = [request["status"] for request in told["requests"]]
    return (
        shelf()
        .get_template("queue.html")
        .render(
            style=style(),
            facts={
                "requests": str(len(statuses)),
                **{
                    name: str(statuses.count(name))
                    for name in ("done", "waiting", "running", "rejected", "refused")
                    if name in statuses
                },
                "past their due date": str(sum(request["overdue"] for request in told["requests"])),
                "method": told["settings"]["method"]["method"],
                "data": told["settings"]["source"]["data"],
                "cost since last retraining": "not known"
                if told["spent"] is None
                else f"{percent(told['spent'])} of one",
            },
            charts=[(title, Markup(chart), caption) for title, chart, caption in _charts(runs)],
            runs=[_run_row(run) for run in told["runs"]],
            requests=told["requests"],
            advice=told["advice"],
            notes=told["notes"],
            model=told["model"],
            head=told["head"],
        )
    )


def _run_row(run: Mapping[str, Any]) -> dict[str, Any]:
    numbers = run["numbers"]
    cells = ["–"] * 6
    if numbers:
        cells = [
            duration(numbers["seconds"]),
            fixed(numbers["epochs"], 2),
            percent(numbers["test"]),
            percent(numbers["agreement"]),
            *(f"{area(held[0])} ({areas((held[1], held[2]))})" if held else "–" for held in _exposed(numbers)),
        ]
    return {**run, "cells": cells, "asked": ", ".join(map(str, run["requests"])) or "none new"}


def _exposed(numbers: Mapping[str, Any]) -> tuple[Any, Any]:
    return numbers["current"], numbers["earlier"]


def _charts(runs: Sequence[Mapping[str, Any]]) -> list[tuple[str, str, str]]:
    """Title, picture and caption of the three curves; none before there is a run."""
    if not runs:
        return []
    numbers = [run["numbers"] for run in runs]
    epochs = list(accumulate(each["epochs"] for each in numbers))
    last = numbers[-1]
    said = [
        f"{fixed(epochs[-1], 1)} epochs in all after run {runs[-1]['number']}",
        f"test accuracy {percent(last['test'])}, {percent(numbers[0]['base'])} before the first request",
        f"AUC on earlier requests {area(last['earlier'][0])}" if last["earlier"] else "no earlier requests",
    ]
    drawings: list[tuple[str, Callable[[Axes], None], str]] = [
        (
            "Cost so far",
            lambda axes: _draw_cost(axes, runs, epochs),
            "Full-data epochs of all runs together. Dashed: retraining once. Rings mark retrainings.",
        ),
        (
            "Drift",
            lambda axes: _draw_drift(axes, runs),
            "Accuracy on test examples, and the share of them answered as by the model last trained from scratch.",
        ),
        (
            "What comes back",
            lambda axes: _draw_exposure(axes, runs),
            "How well an attack tells forgotten from unseen examples of their classes: AUC with 95 % intervals, 0.5 is chance.",
        ),
    ]
    found = []
    for number, ((title, draw, caption), words) in enumerate(zip(drawings, said)):

        def figure(canvas: Figure, draw: Callable[[Axes], None] = draw) -> None:
            axes = canvas.add_subplot()
            draw(axes)
            axes.set_xlabel("run")
            axes.grid(axis="y")
            _whole(axes)

        found.append((title, drawn(f"queue{number}", f"{title}: {words}.", (380, 280), figure), caption))
    return found


def _whole(axes: Axes) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))


def _draw_cost(axes: Axes, runs: Sequence[Mapping[str, Any]], epochs: Sequence[float]) -> None:
    at = [run["number"] for run in runs]
    axes.plot(at, epochs, color=UNLEARNED, linewidth=2, drawstyle="steps-post", marker="o", markersize=4)
    again = [(run["number"], cost) for run, cost in zip(runs, epochs) if run["retrain"]]
    if again:
        axes.plot(*zip(*again), "o", markersize=10, markerfacecolor="none", markeredgecolor=RETRAINED)
    price = next((run["numbers"]["retrain_epochs"] for run in runs if run["numbers"]["retrain_epochs"]), None)
    if price:
        axes.axhline(price, color=RETRAINED, linewidth=1.2, linestyle=(0, (5, 2)))
    axes.set_ylim(bottom=0)
    axes.set_ylabel("epochs")


def _draw_drift(axes: Axes, runs: Sequence[Mapping[str, Any]]) -> None:
    at = [0, *(run["number"] for run in runs)]
    first = 100 * runs[0]["numbers"]["base"]
    right = [first, *(100 * run["numbers"]["test"] for run in runs)]
    same = [100.0, *(100 * run["numbers"]["agreement"] for run in runs)]
    axes.plot(at, right, color=UNLEARNED, linewidth=2, marker="o", markersize=4, label="right on test")
    axes.plot(at, same, color=ORIGINAL, linewidth=1.5, linestyle=(0, (5, 2)), label="answers as before")
    axes.axhline(first, color=SOFT, linewidth=1)
    axes.set_ylabel("%")
    axes.legend(loc="best")


def _draw_exposure(axes: Axes, runs: Sequence[Mapping[str, Any]]) -> None:
    axes.axhline(0.5, color=SOFT, linewidth=1)
    later = [(run["number"], *run["numbers"]["earlier"]) for run in runs if run["numbers"]["earlier"]]
    now = [(run["number"], run["numbers"]["current"][0]) for run in runs if run["numbers"]["current"]]
    if later:
        at, value, low, high = zip(*later)
        axes.fill_between(at, low, high, color=BAND, linewidth=0)
        axes.plot(at, value, color=UNLEARNED, linewidth=2, label="earlier requests")
    if now:
        axes.plot(*zip(*now), "o", color=ORIGINAL, markersize=5, label="the run's own")
    if later or now:
        axes.legend(loc="best")
    axes.set_ylabel("AUC")
