"""What a request costs by its size, and how near it comes to retraining: all retained examples beside a sample of them.

    OMP_NUM_THREADS=1 python benchmarks/request_size.py                # Fashion-MNIST, 1 to 30,000 ids; resumable
    OMP_NUM_THREADS=1 python benchmarks/request_size.py --tune         # how the cheap form was chosen, on other ids
    OMP_NUM_THREADS=1 python benchmarks/request_size.py --picture benchmarks/pictures/request-size.svg

small-cnn of 12 epochs without augmentation on 60,000 images, as `erasure.py fashion-random10`. Requests of up to 1,000 ids
are drawn, disjoint, from the first half of that protocol's 6,000 (settings were chosen on the second half); many of the small
ones, so that a share of right answers means something; forms that read all retained examples get one request and one original,
as do requests of 30,000. Its three models retrained without all 6,000 stand for models retrained
without a few of them: they miss up to a tenth of the data more. Requests of 30,000 have two
retrained models of their own.

Seconds are own CPU of one thread, of the method with its preparation (adversarial examples anew each time), nothing else.
Distance is the mean of how far the accuracies on forgotten ids and on the test set (2,500 images) and 100 x the AUC of confidence
(forgotten against test) are from the retrained models' mean, in points; the AUC of a request is the mean place of its ids among
the test set's.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from erasure import trained
from measure import markdown, tell
from protocols import PROTOCOLS
from unteach.api import apply
from unteach.checkpoint import Checkpoint
from unteach.data import DataSet, forget_ids, split
from unteach.data import load as load_data
from unteach.engine import Engine
from unteach.knobs import Value, turned
from unteach.methods import METHODS
from unteach.runtime import load_optimisers, settle_allocator
from unteach.store import read_json, write_json
from unteach.types import Examples, Split

PROTOCOL = PROTOCOLS["fashion-random10"]
MANY = {1: 20, 10: 8, 100: 3, 1000: 2, 5000: 1, 6000: 1, 30_000: 1}  # requests of each size, for each original
SMALL = 100  # up to so many ids take a lower rate


@dataclass(frozen=True)
class Form:
    """A method with its settings: ``knobs`` beside its defaults."""

    method: str
    knobs: dict[str, Value] = field(default_factory=dict)

    @property
    def sampled(self) -> bool:
        return "optim.sample" in self.knobs


def shown(size: int, least: int, method: str, rate: float, epochs: int) -> Form:
    """So many of each set an epoch, but all ids of the request."""
    return Form(method, {"optim.lr": rate, "optim.epochs": epochs, "optim.sample": max(least, size)})


def rate(size: int) -> float:
    """As chosen on other ids by --tune: for requests of 10 and 100, and of 1,000."""
    return 0.003 if size <= SMALL else 0.03


FORMS: dict[str, Callable[[int], Form]] = {
    "amun-adv-only, 500 or all ids shown": lambda size: shown(size, 500, "amun-adv-only", rate(size), 1),
    "finetune, 2,000 or all ids shown": lambda size: shown(size, 2000, "finetune", 0.1, 4),
    "amun-adv-only, all retained, same rate": lambda size: Form(
        "amun-adv-only", {"optim.lr": rate(size), "optim.epochs": 1}
    ),
    "amun-adv-only, all retained": lambda size: Form("amun-adv-only", {"optim.lr": 0.05, "optim.epochs": 4}),
    "finetune, all retained": lambda size: Form("finetune", {"optim.lr": 0.2, "optim.epochs": 4}),
}


class Scene:
    """Data, originals, retrained models, and what is asked of them."""

    def __init__(self, root: Path) -> None:
        self.data: DataSet = load_data(PROTOCOL.data)
        self.engine = Engine(accelerator="cpu")
        self.root = root
        self.pool = forget_ids(PROTOCOL.ids, self.data.train, PROTOCOL.request_seed)
        order = torch.randperm(len(self.pool), generator=torch.Generator().manual_seed(7)).tolist()
        self.shuffled = [self.pool[at] for at in order]
        self.test = self.data.test.take(range(0, len(self.data.test), 4))
        self.on_test: dict[str, torch.Tensor] = {}  # of models that are asked again

    def original(self, seed: int) -> Checkpoint:
        return trained(PROTOCOL, self.data, seed, (), (), self.root, self.engine)

    def retrained(self, size: int) -> list[Checkpoint]:
        large = size > len(self.pool)
        folder = self.root / ("fashion-random50" if large else "fashion-random10")
        ids = tuple(self.requests(size, tune=False)[0]) if large else tuple(self.pool)
        return [
            trained(PROTOCOL, self.data, number, ids, (), folder, self.engine)
            for number in PROTOCOL.seeds[: 2 if large else None]
        ]

    def requests(self, size: int, *, tune: bool) -> list[list[str]]:
        """Disjoint requests of this size."""
        if size > len(self.pool):
            return [forget_ids(f"random:{size}", self.data.train, PROTOCOL.request_seed)]
        if size == len(self.pool):
            return [self.pool]
        half = len(self.shuffled) // 2
        if size > half:
            return [self.shuffled[:size]]
        ids = self.shuffled[half:] if tune else self.shuffled[:half]
        return [ids[size * number : size * (number + 1)] for number in range(min(MANY[size], len(ids) // size))]

    def read(self, model: torch.nn.Module, forget: Examples, known: str = "") -> tuple[float, float, float]:
        """Accuracy on the forgotten and on the test set, and the forgotten ids' mean place among the test set's: 0–1."""
        task, test = self.data.train.task, self.test
        on_test = self.on_test.get(known)
        if on_test is None:
            on_test = self.engine.logits(model, test.inputs)
        if known:
            self.on_test[known] = on_test
        logits = [self.engine.logits(model, forget.inputs), on_test]
        right = [float(task.correct(z, part.labels).double().mean()) for z, part in zip(logits, (forget, test))]
        sure = [task.confidence(z, part.labels).numpy() for z, part in zip(logits, (forget, test))]
        below, upto = (np.searchsorted(np.sort(sure[1]), sure[0], side=side) for side in ("left", "right"))
        return right[0], right[1], float((below + upto).mean() / 2 / len(sure[1]))


def measured(
    scene: Scene, form: Form, size: int, seeds: tuple[int, ...], *, tune: bool, most: int = 0
) -> dict[str, Any]:
    """A form on all requests of a size: per request what was read, and the seconds and passes it took."""
    rows = []
    for seed in seeds:
        original = scene.original(seed)
        for number, ids in enumerate(scene.requests(size, tune=tune)[: most or None]):
            parts: Split = split(scene.data.train, ids)
            method = turned(METHODS[form.method](), dict(form.knobs))
            before, billed = time.process_time(), scene.engine.meter.units
            new = apply(method, original.model, parts, torch.Generator().manual_seed(number), scene.engine)
            seconds = time.process_time() - before
            epochs = (scene.engine.meter.units - billed) / len(scene.data.train)
            rows.append([*scene.read(new, parts.forget), seconds, epochs])
    return {"size": size, "rows": rows}


def targets(scene: Scene, size: int, *, tune: bool, most: int = 0) -> dict[str, Any]:
    """What retrained models, and the originals, say of the same requests."""
    asked = [split(scene.data.train, ids).forget for ids in scene.requests(size, tune=tune)[: most or None]]
    found: dict[str, Any] = {}
    for name, models in (
        ("retrained", scene.retrained(size)),
        ("original", [scene.original(seed) for seed in PROTOCOL.seeds]),
    ):
        each = [
            np.mean([scene.read(model.model, forget, model.fingerprint) for forget in asked], axis=0).tolist()
            for model in models
        ]
        found[name] = each
    return found


def distance(rows: list[list[float]], target: list[list[float]]) -> float:
    """Points from the retrained models' mean, over the three readings."""
    off = np.abs(np.mean([row[:3] for row in rows], axis=0) - np.mean(target, axis=0))
    return 100 * float(off.mean())


def aim(told: dict[str, Any], size: int, rows: list[list[float]]) -> list[list[float]]:
    """The retrained models' readings of the very requests that these rows are of: all of a size, or the first ones."""
    some = told.get("some", {}).get(f"{size}, first {len(rows)}")
    return (some or told["targets"][str(size)])["retrained"]  # type: ignore[no-any-return]


def compared(scene: Scene, told: dict[str, Any], file: Path) -> None:
    """Targets of the first requests of a size, for forms that were run on no more."""
    some = told.setdefault("some", {})
    for form in told["forms"].values():
        for size, found in form.items():
            count, key = len(found["rows"]), f"{size}, first {len(found['rows'])}"
            if count < MANY[int(size)] and key not in some:
                some[key] = targets(scene, int(size), tune=False, most=count)
                write_json(file, told)


def summary(told: dict[str, Any], sizes: list[int]) -> str:
    head = ["ids", "form", "requests", "forget", "test", "AUC", "distance", "CPU s", "epochs", "of retraining"]
    lines = []
    for size in sizes:
        aims = told["targets"].get(str(size))
        if aims is None:
            continue
        for name in ("retrained", "original"):
            lines.append(
                [
                    f"{size:,}",
                    name,
                    "",
                    *points(aims[name]),
                    f"{distance(aims[name], aims['retrained']):.2f}",
                    "",
                    "",
                    "",
                ]
            )
        for name, form in told["forms"].items():
            if (found := form.get(str(size))) is None:
                continue
            rows = found["rows"]
            seconds, epochs = (statistics.median(row[at] for row in rows) for at in (3, 4))
            price = [f"{seconds:.2f}", f"{epochs:.3f}", f"{100 * epochs / PROTOCOL.recipe.cost:.1f} %"]
            off = f"{distance(rows, aim(told, size, rows)):.2f}"
            lines.append([f"{size:,}", name, str(len(rows)), *points(rows), off, *price])
    return markdown(head, lines)


def points(each: list[list[float]]) -> list[str]:
    """Means with standard errors over models or requests; of one, the reading alone."""
    rows = np.array(each)
    mean = rows.mean(axis=0)
    told = [f"{100 * mean[0]:.2f}", f"{100 * mean[1]:.2f}", f"{mean[2]:.3f}"]
    if len(rows) == 1:
        return told
    error = rows.std(axis=0, ddof=1) / len(rows) ** 0.5
    return [
        f"{text} ± {off}"
        for text, off in zip(told, (f"{100 * error[0]:.2f}", f"{100 * error[1]:.2f}", f"{error[2]:.3f}"))
    ]


def grid() -> dict[str, Form]:
    """What the cheap form was chosen from."""
    found = {}
    for method in ("amun-adv-only", "amun"):
        for sample in (500, 2000):
            for rate in (0.003, 0.01, 0.03):
                for epochs in (1, 3):
                    knobs: dict[str, Value] = {"optim.lr": rate, "optim.epochs": epochs, "optim.sample": sample}
                    found[f"{method}, {sample} shown, lr {rate:g}, epochs {epochs}"] = Form(method, knobs)
    for sample in (500, 2000):
        for rate in (0.05, 0.1, 0.2):
            knobs = {"optim.lr": rate, "optim.epochs": 4, "optim.sample": sample}
            found[f"finetune, {sample} shown, lr {rate:g}, epochs 4"] = Form("finetune", knobs)
    return found


def tune(scene: Scene, sizes: list[int], file: Path) -> None:
    """Every form of the grid on the ids that nothing is reported of, with one original."""
    told: dict[str, Any] = read_json(file) if file.is_file() else {"targets": {}, "forms": {}}  # type: ignore[assignment]
    for size in sizes:
        most = {10: 5, 100: 2}.get(size, 1)
        told["targets"].setdefault(str(size), targets(scene, size, tune=True, most=most))
        for name, form in grid().items():
            held = told["forms"].setdefault(name, {})
            if str(size) not in held:
                held[str(size)] = measured(scene, form, size, (1,), tune=True, most=most)
                write_json(file, told)
                tell(
                    f"{size} ids, {name}: {distance(held[str(size)]['rows'], told['targets'][str(size)]['retrained']):.2f}"
                )


def report(scene: Scene, sizes: list[int], file: Path) -> None:
    """Every form of the table on the ids that it was not chosen on."""
    told: dict[str, Any] = read_json(file) if file.is_file() else {"targets": {}, "forms": {}}  # type: ignore[assignment]
    for size in sizes:
        if str(size) not in told["targets"]:
            told["targets"][str(size)] = targets(scene, size, tune=False)
        for name, made in FORMS.items():
            held, form = told["forms"].setdefault(name, {}), made(size)
            if str(size) in held:
                continue
            seeds, most = (PROTOCOL.seeds, 0) if form.sampled and size <= len(scene.pool) else ((0,), 1)
            held[str(size)] = measured(scene, form, size, seeds, tune=False, most=most)
            write_json(file, told)
            tell(f"{size} ids, {name}")
    compared(scene, told, file)


def draw(told: dict[str, Any], sizes: list[int], path: Path) -> None:
    """Seconds and distance by the size of the request."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for name, form in told["forms"].items():
        here = [size for size in sizes if str(size) in form]
        seconds = [statistics.median(row[3] for row in form[str(size)]["rows"]) for size in here]
        off = [distance(form[str(size)]["rows"], aim(told, size, form[str(size)]["rows"])) for size in here]
        line = "-" if "shown" in name else "--"
        left.plot(here, seconds, line, marker="o", label=name)
        right.plot(here, off, line, marker="o", label=name)
    nothing = [distance(told["targets"][str(s)]["original"], told["targets"][str(s)]["retrained"]) for s in sizes]
    right.plot(sizes, nothing, ":", color="grey", label="doing nothing")
    for axes, title in ((left, "own CPU seconds, one thread"), (right, "points from retraining")):
        axes.set(xscale="log", xlabel="ids in the request", title=title)
        axes.grid(alpha=0.3)
    left.set_yscale("log")
    right.set_ylim(bottom=0)
    right.legend(fontsize=7)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=Path("runs/bench"))
    parser.add_argument("--out", type=Path, default=Path("runs/request-size"))
    parser.add_argument("--sizes", type=int, nargs="*", default=list(MANY))
    parser.add_argument("--tune", action="store_true")
    parser.add_argument("--table", action="store_true", help="only print what is there")
    parser.add_argument("--picture", type=Path)
    asked = parser.parse_args()
    settle_allocator()
    torch.set_num_threads(1)
    file = asked.out / ("tuned.json" if asked.tune else "found.json")
    if not asked.table:
        load_optimisers()
        scene = Scene(asked.root)
        if asked.tune:
            tune(scene, [size for size in asked.sizes if 10 <= size <= 1000], file)
        else:
            report(scene, asked.sizes, file)
    told: Any = read_json(file)
    print(summary(told, asked.sizes))
    if asked.picture:
        draw(told, asked.sizes, asked.picture)
    return 0


if __name__ == "__main__":
    sys.exit(main())
