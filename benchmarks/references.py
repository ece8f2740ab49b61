"""What a reference model costs, beside one conventional training of the model that is to be audited. Target P6.

    OMP_NUM_THREADS=1 python benchmarks/references.py                     # small: 6,000 + 1,000 images, two minutes
    OMP_NUM_THREADS=1 python benchmarks/references.py --train 60000 --test 10000 --epochs 10 --rounds 3
    OMP_NUM_THREADS=1 python benchmarks/references.py --workers 2         # also the wall clock of two workers

- *peer*: torch's DataLoader over PIL images, fp32, on the training set, as in training.py: one conventional training;
- *model*: one job of a manifest of halves, whole: half of training and test set, trained, scored on all of both, and kept.

Same network, epochs, batch and augmentation; own CPU seconds of one thread, interleaved rounds (measure.py). A reference model
sees (train + test) / 2 examples an epoch where the peer's sees the training set: that is what LiRA and RMIA ask for.
"""

from __future__ import annotations

import argparse
import copy
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from measure import Neighbours, Spread, gflop, markdown, rooflines, run_rounds, tell
from nets import SMALL, loaded
from part import arguments, run
from peer import peer_fit
from unteach.data import Augment
from unteach.engine import Engine
from unteach.models import Blueprint
from unteach.recipe import Recipe
from unteach.references.cache import Cache
from unteach.references.executors import Local
from unteach.references.manifest import DataSpec, Manifest, jobs_of
from unteach.references.plan import Halves, units_of
from unteach.references.pool import size_of
from unteach.references.stages import run as run_jobs
from unteach.references.work import do
from unteach.runtime import settle_allocator
from unteach.train import Sgd
from unteach.types import Examples

MODELS = 64
TARGETS = {1: 26.0, 2: 14.0}  # conventional trainings that 64 models may cost, by workers


def archive(folder: Path, train: int, test: int) -> DataSpec:
    """The first images of Fashion-MNIST as a file that workers can load."""
    whole = loaded("fashion-mnist")
    parts = {"": whole.train.take(range(train)), "test_": whole.test.take(range(test))}
    arrays = {f"{name}inputs": part.inputs.numpy() for name, part in parts.items()}
    arrays |= {f"{name}labels": part.labels.numpy() for name, part in parts.items()}
    np.savez(folder / "fashion.npz", **arrays)
    return DataSpec(spec=f"npz:{folder / 'fashion.npz'}")


def planned(folder: Path, spec: DataSpec, models: int, optim: Sgd, augment: Augment) -> Manifest:
    data = spec.load()
    plan = Halves(models=models)(units_of(size_of(data)))
    blueprint = Blueprint(name=SMALL.name, classes=10, shape=(1, 28, 28))
    jobs = jobs_of(plan, blueprint=blueprint, recipe=Recipe(optim=optim, augment=augment))
    return Manifest(source=spec, fingerprint=data.fingerprint, cache=Cache(folder), jobs=jobs)


def work_of(examples: Examples, scored: int, epochs: int) -> float:
    """GFLOP of a reference model: its training on half of what it scores, and the scoring."""
    model, x = SMALL.build(), examples.inputs[:8].float() / 255
    step = gflop(lambda: model(x).sum().backward()) / 8
    frozen = copy.deepcopy(model).eval().requires_grad_(False)
    return step * epochs * scored / 2 + gflop(lambda: frozen(x)) / 8 * scored


def costs(asked: argparse.Namespace) -> dict[str, Any]:
    settle_allocator()
    if asked.quick:
        asked.train, asked.test, asked.epochs, asked.models = 2000, 400, 2, 8
    optim, augment = Sgd(lr=0.1, epochs=asked.epochs, schedule="onecycle"), SMALL.augment
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        spec = archive(folder, asked.train, asked.test)
        manifest = planned(folder / "one", spec, 2 * ((asked.rounds + 2) // 2), optim, augment)
        path, examples = manifest.write(), spec.load().train
        numbers = iter(range(len(manifest.jobs)))
        arms: dict[str, Callable[[], object]] = {
            "peer": lambda: peer_fit(SMALL.build(), examples, augment, optim, 0),
            "model": lambda: do(path, next(numbers), device="cpu"),
            **rooflines(),
        }
        timed = run_rounds(arms, asked.rounds, label="references")
        records = manifest.cache.records()[1:]  # the first round warms up
        limit = "limit bf16" if Engine(accelerator="cpu").bf16 else "limit fp32"
        share = timed.ratio("model", "peer")
        found: dict[str, Any] = {
            "peer s": timed.of("peer"),
            "model s": timed.of("model"),
            "training wall s": Spread.of(record.seconds for record in records),
            "scoring wall s": Spread.of(record.scoring for record in records),
            "model / peer": share,
            "models": MODELS,
            "in trainings": share.times(MODELS),
            "roofline": timed.rate("model", work_of(examples, asked.train + asked.test, asked.epochs), limit),
            "quiet": timed.quiet,
            "notes": [f"{SMALL.name}, {asked.train} + {asked.test} images, {asked.epochs} epochs; {timed.note()}"],
        }
        if asked.workers:
            found |= pooled(folder / "many", spec, optim, augment, asked.workers, timed.of("peer"), asked.models)
    print("\n".join([*found["notes"], "", markdown(["", "median (range)"], rows(found))]))
    return found


def pooled(
    folder: Path, spec: DataSpec, optim: Sgd, augment: Augment, workers: int, peer: Spread, models: int
) -> dict[str, Any]:
    """Wall clock of a pool, start of the workers included, in conventional trainings of ``peer`` seconds; once."""
    path = planned(folder, spec, models, optim, augment).write()
    tell(f"{models} models by {workers} workers")
    neighbours, start = Neighbours(), time.perf_counter()
    run_jobs(path, Local(workers=workers, device="cpu"))
    wall = time.perf_counter() - start
    return {
        "pool": {
            "workers": workers,
            "models": models,
            "wall s": wall,
            "in trainings": Spread(*(wall / peer_s * MODELS / models for peer_s in (peer.median, peer.high, peer.low))),
            "others": neighbours.share(),
        }
    }


def rows(found: dict[str, Any]) -> list[list[object]]:
    table = [
        ["one conventional training, CPU s", found["peer s"]],
        ["one reference model, CPU s", found["model s"]],
        ["of it training, wall s", found["training wall s"]],
        ["of it scoring all examples, wall s", found["scoring wall s"]],
        ["reference model / conventional training", found["model / peer"]],
        ["of the roofline", found["roofline"].percent()],
        [f"{MODELS} models, in conventional trainings (target {TARGETS[1]:g})", found["in trainings"]],
    ]
    if pool := found.get("pool"):
        what = f"{pool['models']} models by {pool['workers']} workers"
        others = f"others {pool['others']:.0%} of a core"
        table += [
            [f"{what}, wall s, start included ({others})", f"{pool['wall s']:.1f}"],
            [f"{MODELS} models so, in conventional trainings (target {TARGETS[2]:g})", pool["in trainings"]],
        ]
    return table


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--train", type=int, default=6000)
    parser.add_argument("--test", type=int, default=1000)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=0, help="also the wall clock of so many workers")
    parser.add_argument("--models", type=int, default=MODELS, help="models that these make; fewer are multiplied")
    run(costs, parser.parse_args())


if __name__ == "__main__":
    main()
