"""Twenty requests on one model: what they cost, what the model loses, when retraining is advised, and whether that was right.

    python benchmarks/twenty.py                              # Fashion-MNIST, 5,000 images; resumable; minutes a method
    python benchmarks/twenty.py --methods finetune amun
    python benchmarks/twenty.py --table                      # Markdown of what is there

Requests of 50 random images come one after the other into ``unteach request``; its advice is heard and not followed. After each
fifth, models are retrained without all that was asked for: only they show what advice that knows no retrained model is worth.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import re
import statistics
from pathlib import Path
from typing import Any

import numpy as np
import torch

from unteach.checkpoint import load
from unteach.data import DataSet, write_ids
from unteach.data import load as load_data
from unteach.data.subset import few
from unteach.engine import Engine
from unteach.ledger import Budget, Queue
from unteach.models import Blueprint
from unteach.plugins import method_named
from unteach.recipe import Recipe
from unteach.references import TrainingJob
from unteach.runtime import settle_allocator
from unteach.store import read_json, write_json
from unteach.train import Sgd
from unteach.verbs import Requests
from unteach.verbs.settings import DataChoice, Machine
from unteach.verbs.wear import Scorer

REQUESTS, SIZE, EVERY, RETRAINED = 20, 50, 5, 3
RECIPE = Recipe(optim=Sgd(lr=0.1, epochs=12, batch=128, schedule="onecycle"))
METHODS = ("finetune", "amun", "gradient-ascent")
BUDGET = Budget()


def prepared(root: Path) -> DataChoice:
    """The images in an archive, the lists of ids, and the original."""
    archive = root / "data.npz"
    if not archive.is_file():
        data = few(load_data("fashion-mnist"), 5000)
        arrays = {"inputs": data.train.inputs, "labels": data.train.labels}
        arrays |= {"test_inputs": data.test.inputs, "test_labels": data.test.labels}
        root.mkdir(parents=True, exist_ok=True)
        np.savez(archive, **{name: each.numpy() for name, each in arrays.items()})
    choice = DataChoice(data=f"npz:{archive.absolute()}")
    data = choice.load()
    order = np.random.default_rng(20).permutation(data.train.ids)
    for number in range(REQUESTS):
        write_ids(root / f"request-{number + 1}.txt", order[SIZE * number : SIZE * (number + 1)])
    trained(root / "original.safetensors", data, 0, ())
    return choice


def trained(path: Path, data: DataSet, seed: int, left_out: tuple[str, ...]) -> Any:
    """A model of the recipe without these ids; found where it was trained before."""
    shape = tuple(data.train.inputs.shape[1:])
    blueprint = Blueprint(name="small-cnn", classes=len(data.train.classes), shape=shape, arguments={})
    return TrainingJob(blueprint=blueprint, recipe=RECIPE, seed=seed, left_out=left_out)(data, path, Engine())


def worked_off(method: str, root: Path, choice: DataChoice) -> Queue:
    """The queue of this method after all requests; a stopped one goes on."""
    folder = root / method
    machine = Machine(threads=1, precision="fp32", device="cpu")
    opening = Requests(
        queue=folder, checkpoint=root / "original.safetensors", source=choice, method=method_named(method), budget=BUDGET,
        machine=machine, quiet=True, action="open",
    )  # fmt: skip
    opening()
    for number in range(1, REQUESTS + 1):
        Requests(
            action="add",
            queue=folder,
            ids=str(root / f"request-{number}.txt"),
            key=f"request {number}",
            machine=machine,
        )()
        with contextlib.redirect_stdout(io.StringIO()) as said:
            Requests(action="run", queue=folder, quiet=True, machine=machine)()
        if "nothing to run" not in said.getvalue():
            print(said.getvalue(), end="", flush=True)
    return Queue(folder)


def judged(method: str, root: Path, choice: DataChoice) -> dict[str, Any]:
    """After each fifth request: the queue's model beside models retrained without all that was asked for."""
    queue, data, rows = worked_off(method, root, choice), choice.load(), []
    state = queue.state()
    for after in range(EVERY, REQUESTS + 1, EVERY):
        asked = [(root / f"request-{number}.txt").read_text().split() for number in range(1, after + 1)]
        gone = tuple(name for names in asked for name in names)
        others = [
            trained(root / f"retrained-{after}-{seed}.safetensors", data, 1000 + seed, gone)
            for seed in range(RETRAINED)
        ]
        run = next((run for run in reversed(state.accepted) if run.number <= after), None)
        path = root / "original.safetensors" if run is None else queue.model_of(run.number, state)
        judges = [Scorer(one, Engine()) for one in (load(path, data=data.train), *others)]
        test = [float(one.answers(data.test)[1].mean()) for one in judges]
        forgotten = data.train.take(data.train.positions(gone))
        exposed = [(one.exposure(data, [forgotten], 0) or [0.5])[0] for one in judges]
        rows.append({"after": after, "test": test, "auc": exposed})
    return {
        "rows": rows,
        "runs": [{"number": run.number, "status": run.status, "numbers": run.numbers} for run in state.runs],
        "advice": [{"run": one.run, "reasons": list(one.reasons)} for one in state.advice],
    }


def table(root: Path) -> None:
    """Markdown: where each queue stood after each fifth request, and what was advised when."""
    print("| method | after | test acc. | retrained | AUC of all forgotten | retrained | cost, retrainings | agrees |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|")
    for method, told in _told(root).items():
        accepted = [run for run in told["runs"] if run["status"] == "accepted"]
        for row in told["rows"]:
            until = [run["numbers"] for run in accepted if run["number"] <= row["after"]]
            cost = sum(each["epochs"] for each in until) / RECIPE.cost
            agrees = f"{100 * until[-1]['agreement']:.1f}" if until else "100.0"
            test, auc = (_beside(row[name], scale) for name, scale in (("test", 100.0), ("auc", 1.0)))
            print(f"| {method} | {row['after']} | {test} | {auc} | {cost:.2f} | {agrees} |")
    print()
    for method, told in _told(root).items():
        rejected = [run["number"] for run in told["runs"] if run["status"] == "rejected"]
        first: dict[str, tuple[int, str]] = {}
        for one in told["advice"]:
            for reason in one["reasons"]:
                first.setdefault(re.split(r"\d", reason)[0], (one["run"], reason))
        said = [f"after run {run}: {reason}" for run, reason in first.values()]
        print(f"- {method}: {'; '.join(said) or 'nothing was advised'}")
        if rejected:
            print(f"  - runs rejected: {', '.join(map(str, rejected))}")


def _beside(values: list[float], scale: float) -> str:
    digits = 2 if scale > 1 else 3
    others = [scale * value for value in values[1:]]
    spread = f"{statistics.fmean(others):.{digits}f} ± {statistics.stdev(others):.{digits}f}"
    return f"{scale * values[0]:.{digits}f} | {spread}"


def _told(root: Path) -> dict[str, Any]:
    found = {path.stem.removeprefix("told-"): read_json(path) for path in sorted(root.glob("told-*.json"))}
    return dict(sorted(found.items()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/twenty"))
    parser.add_argument("--methods", nargs="+", default=METHODS)
    parser.add_argument("--table", action="store_true")
    asked = parser.parse_args()
    if not asked.table:
        settle_allocator()
        torch.set_num_threads(1)
        choice = prepared(asked.out)
        for method in asked.methods:
            write_json(asked.out / f"told-{method}.json", judged(method, asked.out, choice))
    table(asked.out)


if __name__ == "__main__":
    main()
