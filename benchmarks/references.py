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
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from measure import Spread, markdown, run_rounds, tell
from training import SMALL, loaded, peer_fit
from unteach.data import Augment
from unteach.models import Blueprint
from unteach.recipe import Recipe
from unteach.references.cache import Cache
from unteach.references.executors import Local
from unteach.references.manifest import DataSpec, Manifest, jobs_of
from unteach.references.plan import Halves, units_of
from unteach.references.pool import size_of
from unteach.references.stages import run
from unteach.references.work import do
from unteach.runtime import settle_allocator
from unteach.train import Sgd

MODELS = 64
TARGETS = {1: 26.0, 2: 13.0}  # conventional trainings that 64 models may cost, by workers


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=int, default=6000)
    parser.add_argument("--test", type=int, default=1000)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=0, help="also the wall clock of so many workers")
    arguments = parser.parse_args()
    settle_allocator()
    optim, augment = Sgd(lr=0.1, epochs=arguments.epochs, schedule="onecycle"), SMALL.augment
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        spec = archive(folder, arguments.train, arguments.test)
        manifest = planned(folder / "one", spec, 2 * ((arguments.rounds + 2) // 2), optim, augment)
        path, examples = manifest.write(), spec.load().train
        numbers = iter(range(len(manifest.jobs)))
        arms: dict[str, Callable[[], object]] = {
            "peer": lambda: peer_fit(SMALL.build(), examples, augment, optim, 0),
            "model": lambda: do(path, next(numbers), device="cpu"),
        }
        timed = run_rounds(arms, arguments.rounds, label="references")
        records = manifest.cache.records()[1:]  # the first round warms up
        print(f"{SMALL.name}, {arguments.train} + {arguments.test} images, {arguments.epochs} epochs; {timed.note()}\n")
        made, scored = (Spread.of(getattr(r, what) for r in records) for what in ("seconds", "scoring"))
        share = timed.ratio("model", "peer")
        rows = [
            ["one conventional training, CPU s", timed.of("peer")],
            ["one reference model, CPU s", timed.of("model")],
            ["of it training, wall s", made],
            ["of it scoring all examples, wall s", scored],
            ["reference model / conventional training", share],
            [f"{MODELS} models, in conventional trainings (target {TARGETS[1]:g})", share.times(MODELS)],
            [f"the same with two workers on quiet cores, arithmetic (target {TARGETS[2]:g})", share.times(MODELS / 2)],
        ]
        if arguments.workers:
            rows += pooled(folder / "many", spec, optim, augment, arguments.workers, timed.of("peer").median)
        print(markdown(["", "median (range)"], rows))


def pooled(folder: Path, spec: DataSpec, optim: Sgd, augment: Augment, workers: int, peer: float) -> list[list[object]]:
    """Wall clock of a pool, start of the workers included."""
    path = planned(folder, spec, MODELS, optim, augment).write()
    tell(f"{MODELS} models by {workers} workers")
    start = time.perf_counter()
    run(path, Local(workers=workers, device="cpu"))
    wall = time.perf_counter() - start
    return [
        [f"{MODELS} models by {workers} workers, wall s, start included", f"{wall:.1f}"],
        [f"the same, in conventional trainings (target {TARGETS[2]:g})", f"{wall / peer:.1f}"],
    ]


if __name__ == "__main__":
    main()
