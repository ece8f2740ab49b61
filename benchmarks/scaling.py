"""How much quicker two workers are than one, and what a step costs in arithmetic and in talk: the numbers of SCALING.md.

    OMP_NUM_THREADS=1 python benchmarks/scaling.py --data fashion-mnist --examples 4096 --repeats 3

Times, each with one process and with --workers of them: a training (DDP), the search for adversarial examples, logits, and
references by local workers. Two numbers from inside a group: the seconds that adding up the gradients takes when nothing else
is done, and those that a step's arithmetic takes. Wall-clock times mean something only on a machine that does nothing else;
the best of the repeats is told, and the load average, by which a busy machine can be seen. With --json it is in a file too.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from unteach.adversarial import search
from unteach.attacks import Nearest
from unteach.data import load
from unteach.engine import Engine
from unteach.models import Blueprint, build
from unteach.recipe import Recipe
from unteach.references.cache import Cache
from unteach.references.executors import Local
from unteach.references.manifest import DataSpec, Manifest, in_order, jobs_of
from unteach.references.plan import Halves, units_of
from unteach.references.stages import run
from unteach.train import Sgd, Source, fit


def seconds_of(work: Callable[[], Any], engine: Engine) -> float:
    """Wall-clock seconds from when all processes are here until all are done."""
    engine.wait()
    start = time.perf_counter()
    work()
    engine.wait()
    return time.perf_counter() - start


def member(told: argparse.Namespace) -> None:
    """One process of a group of ``told.member``: the first prints what was measured as JSON."""
    engine = Engine(accelerator="cpu" if told.cpu else "auto", devices=told.member)
    data = load(told.data, root=told.root, download=False, task=None)
    train = data.train.take(range(min(told.examples, len(data.train))))
    blueprint = Blueprint(name=told.model, classes=len(train.classes), shape=tuple(train.inputs.shape[1:]))
    optim = Sgd(lr=0.05, epochs=1, batch=told.batch)
    network = build(blueprint, seed=0)
    fit(
        network, [Source(train.take(range(2 * told.batch)))], optim, seed=0, engine=engine
    )  # caches are warm after this
    weights = sum(weight.numel() for weight in network.parameters())
    gradients = torch.zeros(weights, device=engine.device)
    some = train.take(range(min(len(train), told.examples // 16)))
    best: dict[str, float] = {}
    for _ in range(told.repeats):
        found = {
            "training": seconds_of(lambda: fit(network, [Source(train)], optim, seed=1, engine=engine), engine),
            "adversarial search": seconds_of(
                lambda: search(network, some, Nearest(), rng=torch.Generator(), engine=engine), engine
            ),
            "logits": seconds_of(lambda: engine.logits(network, train.inputs), engine),
            "sum of gradients": seconds_of(lambda: [engine.total(gradients) for _ in range(10)], engine) / 10,
        }
        best = {what: min(seconds, best.get(what, seconds)) for what, seconds in found.items()}
    if engine.rank == 0:
        steps = -(-len(train) // told.batch)
        print(json.dumps({**best, "step": best["training"] / steps, "weights": weights, "examples": len(train)}))
    engine.close()


def group(workers: int) -> dict[str, float]:
    """What a fresh group of this many processes measured."""
    command = [sys.executable, __file__, *sys.argv[1:], "--member", str(workers)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    if ran.returncode:
        sys.exit(ran.stderr)
    line = next(line for line in ran.stdout.splitlines() if line.startswith("{"))
    measured: dict[str, float] = json.loads(line)
    return measured


def references(told: argparse.Namespace, workers: int) -> float:
    """Seconds for models on halves of the digits by local workers, their start included."""
    source = DataSpec(spec="digits")
    data = source.load()
    count, shape = len(data.train) + len(data.test), tuple(data.train.inputs.shape[1:])
    plan = Halves(models=told.references)(units_of(count))
    blueprint = Blueprint(name="small-cnn", classes=len(data.train.classes), shape=shape)
    jobs = jobs_of(plan, blueprint=blueprint, recipe=Recipe(optim=Sgd(lr=0.1, epochs=10)))
    with tempfile.TemporaryDirectory() as folder:
        ordered = in_order(jobs, data.fingerprint)
        manifest = Manifest(
            source=source, fingerprint=data.fingerprint, cache=Cache(Path(folder)), jobs=ordered, precision="fp32"
        )
        start = time.perf_counter()
        missing = run(manifest.write(), Local(workers=workers, device="cpu"))
        assert not missing, missing
        return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="digits", help="data set")
    parser.add_argument("--root", type=Path, default=None, help="its folder")
    parser.add_argument("--model", default="small-cnn", help="network")
    parser.add_argument("--examples", type=int, default=1024, help="training examples")
    parser.add_argument("--batch", type=int, default=128, help="examples in a step, of all processes together")
    parser.add_argument("--workers", type=int, default=2, help="processes to compare with one")
    parser.add_argument(
        "--references", type=int, default=8, help="models for the fan-out, an even number; 0 leaves it out"
    )
    parser.add_argument("--repeats", type=int, default=3, help="how often; the best counts")
    parser.add_argument("--cpu", action="store_true", help="no GPU even if there is one")
    parser.add_argument("--json", type=Path, default=None, help="file for the numbers")
    parser.add_argument("--member", type=int, default=0, help=argparse.SUPPRESS)
    told = parser.parse_args()
    if told.member:
        member(told)
        return
    one, many = group(1), group(told.workers)
    if told.references:
        one["references"], many["references"] = references(told, 1), references(told, told.workers)
    load_average = os.getloadavg()[0]
    print(f"{'':20} {'1':>10} {told.workers:>10}   times   share of {told.workers} (load {load_average:.1f})")
    for what in ("training", "adversarial search", "logits", "references"):
        if what in one:
            times = one[what] / many[what]
            print(f"{what:20} {one[what]:9.2f}s {many[what]:9.2f}s   {times:5.2f}   {times / told.workers:5.0%}")
    talk = many["sum of gradients"]
    print(
        f"a step: {one['step']:.4f} s of arithmetic in one process; {talk:.4f} s to add up {one['weights']:.3g} gradients"
    )
    if told.json:
        told.json.write_text(json.dumps({"1": one, str(told.workers): many, "load": load_average}, indent=1))


if __name__ == "__main__":
    main()
