"""A Ray cluster of two nodes, of which one is killed at work, makes the same bytes as one process here.

    OMP_NUM_THREADS=1 python benchmarks/cluster.py --models 8

Trains networks on halves of the embedded digits, then makes one that forgets from each: once in this process, once as tasks
of a cluster that is started here (two nodes of one core; their processes are apart as those of two machines, the network is
not). When a quarter of the trainings is done, everything on the second node is killed. Prints the seconds of both, and
compares logits and weights of every model; exits with 1 where any differ. The cluster is gone afterwards.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from unteach.methods import FineTune
from unteach.models import Blueprint
from unteach.recipe import Recipe
from unteach.references.cache import Cache
from unteach.references.executors import Executor, Local
from unteach.references.executors.ray import Ray
from unteach.references.manifest import DataSpec, Manifest, in_order, jobs_of
from unteach.references.plan import Halves, Shadows, units_of
from unteach.references.pool import size_of
from unteach.references.stages import run
from unteach.store import load_tensors
from unteach.train import Sgd


def planned(models: int, folder: Path) -> Manifest:
    """Models on halves of the digits, and one unlearned model of each."""
    source = DataSpec(spec="digits")
    data = source.load()
    count, shape = size_of(data), tuple(data.train.inputs.shape[1:])
    plan = Shadows(halves=Halves(models=models), requests=1, size=count // 20)(units_of(count))
    blueprint = Blueprint(name="small-cnn", classes=len(data.train.classes), shape=shape)
    recipe = Recipe(optim=Sgd(lr=0.1, epochs=10))
    jobs = jobs_of(plan, blueprint=blueprint, recipe=recipe, method=FineTune(optim=Sgd(lr=0.02, epochs=3)))
    return Manifest(
        source=source,
        fingerprint=data.fingerprint,
        cache=Cache(folder),
        jobs=in_order(jobs, data.fingerprint),
        precision="fp32",
    )


@contextmanager
def two_nodes() -> Iterator[Any]:
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        cluster.add_node(num_cpus=1)
        cluster.wait_for_nodes()
        yield cluster
    finally:
        cluster.shutdown()


@dataclass(frozen=True, kw_only=True)
class WithADeath:
    """A Ray executor whose second node dies after this many jobs."""

    ray: Ray
    cluster: Any
    after: int

    def __call__(self, manifest: Path, numbers: Sequence[int], tell: Callable[[int], None]) -> None:
        told: list[int] = []

        def count(number: int) -> None:
            told.append(number)
            tell(number)
            if len(told) == self.after and self.cluster.worker_nodes:
                kill(next(iter(self.cluster.worker_nodes)), self.cluster)

        self.ray(manifest, numbers, count)


def kill(node: Any, cluster: Any) -> None:
    """Everything on a node at once: the workers too, which would outlive their raylet by seconds."""
    raylet = node.all_processes["raylet"][0].process.pid
    workers = subprocess.run(["ps", "-o", "pid=", "--ppid", str(raylet)], capture_output=True, text=True, check=False)
    for worker in workers.stdout.split():
        os.kill(int(worker), signal.SIGKILL)
    cluster.remove_node(node, allow_graceful=False)
    print(f"killed a node with {len(workers.stdout.split())} processes")


def timed(manifest: Manifest, executor: Executor) -> float:
    start = time.perf_counter()
    missing = run(manifest.write(), executor)
    assert not missing, missing
    return time.perf_counter() - start


def differing(one: Manifest, other: Manifest) -> list[str]:
    """Keys of the models whose logits or weights are not the same to the bit."""
    wrong = []
    for key in one.keys:
        digests = [m.cache.record(key).logits for m in (one, other)]  # type: ignore[union-attr]
        assert all(m.cache.has_logits(key, 1, closely=True) for m in (one, other)), key
        first, second = (load_tensors(m.cache.weights(key))[0] for m in (one, other))
        same = first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)
        if not same or digests[0] != digests[1]:
            wrong.append(key)
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=int, default=8, help="networks on halves of the digits, an even number")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        here = planned(arguments.models, Path(folder) / "here")
        there = replace(here, cache=Cache(Path(folder) / "there"))
        seconds = {"one process": timed(here, Local(workers=1, device="cpu"))}
        with two_nodes() as cluster:
            executor = WithADeath(ray=Ray(address=cluster.address), cluster=cluster, after=arguments.models // 4)
            seconds["Ray, two nodes, then one"] = timed(there, executor)
        wrong = differing(here, there)
    for name, spent in seconds.items():
        print(f"{name}: {len(here.jobs)} models in {spent:.1f} s")
    print(f"differing models: {len(wrong)} of {len(here.jobs)}", *wrong)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
