"""How the seconds grow: with the data, with the number of references, and from one worker to two. JSON and a picture each.

    OMP_NUM_THREADS=1 python benchmarks/curves.py --only data references --json curves.json
    OMP_NUM_THREADS=1 python benchmarks/curves.py --only workers --pictures benchmarks/pictures    # both cores must be idle

- *data*: one epoch of small-cnn, and scoring, on the first n images of Fashion-MNIST; own CPU seconds of one thread, all sizes
  in every round of measure.py;
- *references*: the first of a manifest of halves made one after the other, own CPU seconds summed up; and LiRA's and RMIA's
  scores of one model on 20,000 examples by so many references;
- *workers*: scaling.py with one process and with two, by the wall clock.

How the seconds grow with the size of the request is told by request_size.py.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from likelihood import halves
from measure import Rounds, Spread, markdown, run_rounds, tell
from nets import BATCH, SMALL
from part import arguments, run
from references import archive, planned
from trainings import own_fit
from unteach.audit.lira import Lira
from unteach.audit.rmia import Rmia
from unteach.engine import Engine
from unteach.references.work import do
from unteach.runtime import settle_allocator
from unteach.train import Sgd

Row = dict[str, Any]
SIZES = (1000, 3000, 10_000, 30_000, 60_000)
COUNTS = (4, 8, 16, 32, 64)


def by_data(quick: bool, rounds: int) -> list[Row]:
    sizes = (500, 1000, 2000) if quick else SIZES
    engine, network = Engine(accelerator="cpu"), SMALL.build()
    arms: dict[str, Callable[[], Any]] = {}
    for size in sizes:
        examples = SMALL.examples(size)
        optim = Sgd(epochs=1, batch=BATCH, schedule="onecycle")
        arms[f"train {size}"] = lambda examples=examples, optim=optim: own_fit(
            SMALL.build(), examples, SMALL.augment, optim, 0
        )
        arms[f"score {size}"] = partial(engine.logits, network, examples.inputs)
    timed = run_rounds(arms, rounds, label="data")
    return [
        {
            "examples": size,
            "an epoch of training": timed.of(f"train {size}"),
            "scoring": timed.of(f"score {size}"),
            "quiet": timed.quiet,
        }
        for size in sizes
    ]


def by_references(quick: bool, rounds: int) -> list[Row]:
    counts = COUNTS[:2] if quick else COUNTS
    train, test = (1000, 200) if quick else (6000, 1000)
    made, scored = made_one_by_one(counts[-1], train, test, epochs=1 if quick else 3), scoring(counts, rounds)
    return [
        {
            "references": count,
            "making them": sum(made.seconds["model"][:count]),
            **{name: scored.of(f"{name} {count}") for name in ("LiRA", "RMIA")},
            "quiet": made.quiet,
        }
        for count in counts
    ]


def made_one_by_one(count: int, train: int, test: int, epochs: int) -> Rounds:
    """Every model is a round; one more is made first and not counted."""
    with tempfile.TemporaryDirectory() as name:
        spec, optim = archive(Path(name), train, test), Sgd(lr=0.1, epochs=epochs, schedule="onecycle")
        path, numbers = planned(Path(name), spec, count + 2, optim, SMALL.augment).write(), iter(range(count + 1))
        return run_rounds({"model": lambda: do(path, next(numbers), device="cpu")}, count, label="references")


def scoring(counts: tuple[int, ...], rounds: int) -> Rounds:
    arms: dict[str, Callable[[], np.ndarray]] = {}
    for count in counts:
        mine, known = halves(count, 20_000)
        arms[f"LiRA {count}"] = partial(Lira(per_example_from=1).score, mine, known)
        likely = replace(known, readings=logistic(known.readings), unseen=np.arange(mine.shape[1]) % 2 == 0)
        arms[f"RMIA {count}"] = partial(Rmia().score, logistic(mine), likely)
    return run_rounds(arms, rounds, label="scores")


def logistic(confidences: np.ndarray) -> np.ndarray:
    return np.asarray(1 / (1 + np.exp(-confidences)))


def by_workers(quick: bool) -> list[Row]:
    """Seconds of each kind of work with one process and with two, the best of three."""
    size, references = ("512", "2") if quick else ("8192", "16")
    with tempfile.TemporaryDirectory() as name:
        path, script = Path(name) / "scaling.json", Path(__file__).with_name("scaling.py")
        options = [
            "--cpu",
            "--data",
            "fashion-mnist",
            "--examples",
            size,
            "--references",
            references,
            "--json",
            str(path),
        ]
        subprocess.run(
            [sys.executable, str(script), *options, "--repeats", "1" if quick else "3"], check=True, stdout=sys.stderr
        )
        told = json.loads(path.read_text())
    work = ("training", "adversarial search", "logits", "references")
    return [{"work": what, "1": told["1"][what], "2": told["2"][what], "load": told["load"]} for what in work]


def draw(what: str, rows: list[Row], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    if what == "workers":
        places = np.arange(len(rows))
        for number, name in enumerate(("1", "2")):
            label = f"{name} process{'es' if number else ''}"
            axes.bar(places + 0.4 * number - 0.2, [row[name] for row in rows], width=0.38, label=label)
        axes.set_xticks(places, [row["work"] for row in rows])
    else:
        along, *curves = [key for key in rows[0] if key != "quiet"]
        for name in curves:
            lines(axes, [row[along] for row in rows], [row[name] for row in rows], name)
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xticks([row[along] for row in rows], [f"{row[along]:,}" for row in rows])
        axes.minorticks_off()
        axes.set_xlabel(along)
    axes.set_ylabel("seconds" if what == "workers" else "own CPU seconds, one thread")
    axes.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})


def lines(axes: Any, along: list[float], values: list[Spread | float], name: str) -> None:
    """A curve with the range over rounds, and what it would be if it grew as the first point does."""
    spreads = [value if isinstance(value, Spread) else Spread(value, value, value) for value in values]
    medians = [each.median for each in spreads]
    (drawn,) = axes.plot(along, medians, marker="o", label=name)
    axes.fill_between(along, [e.low for e in spreads], [e.high for e in spreads], color=drawn.get_color(), alpha=0.2)
    ideal = [medians[0] * each / along[0] for each in along]
    axes.plot(along, ideal, color=drawn.get_color(), linewidth=0.8, linestyle=":")


def shown(what: str, rows: list[Row]) -> str:
    head = [key for key in rows[0] if key not in ("quiet", "load")]
    return f"### {what}, seconds\n\n{markdown(head, ([digits(row[key]) for key in head] for row in rows))}\n"


def digits(value: object) -> str:
    """Three of every number."""
    if isinstance(value, Spread):
        return f"{value.median:.3g} ({value.low:.3g}–{value.high:.3g})"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def curves(asked: argparse.Namespace) -> dict[str, Any]:
    settle_allocator()
    rounds = 2 if asked.quick else asked.rounds
    measures = {
        "data": lambda: by_data(asked.quick, rounds),
        "references": lambda: by_references(asked.quick, rounds),
        "workers": lambda: by_workers(asked.quick),
    }
    found = {}
    for what in asked.only:
        start = time.perf_counter()
        found[what] = measures[what]()
        print(shown(what, found[what]), flush=True)
        tell(f"{what}: {time.perf_counter() - start:.0f} s")
        if asked.pictures:
            draw(what, found[what], asked.pictures / f"curve-{what}.svg")
    return {**found, "torch": torch.__version__}


def main() -> None:
    parser = arguments(__doc__)
    names = ["data", "references", "workers"]
    parser.add_argument("--only", nargs="+", choices=names, default=names)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--pictures", type=Path, help="folder for a picture of each")
    run(curves, parser.parse_args())


if __name__ == "__main__":
    main()
