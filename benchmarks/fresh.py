"""Training in fresh processes, as the command line does it: with and without ``settle_allocator``, and the peer's (P4)."""

from __future__ import annotations

import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from measure import Roofline, Rounds, Spread, gflop
from nets import BATCH, SMALL, Net
from peer import peer_fit
from steps import training_step
from trainings import own_fit
from unteach.data import Augment
from unteach.engine import Engine
from unteach.models import Blueprint, build
from unteach.runtime import settle_allocator
from unteach.train import Sgd
from unteach.types import Examples

WAYS = ("plain", "settled", "peer")


def allocator(nets: list[Net], count: int, rounds: int, seed: int) -> list[dict[str, Any]]:
    """All ways in random order each round. Times are the children's own CPU milliseconds."""
    found, order = [], random.Random(seed)
    for net in nets:
        timed = Rounds()
        with tempfile.TemporaryDirectory() as folder:
            images, examples, augment = Path(folder, "images.npz"), net.examples(count), net.augment
            arrays = {"inputs": examples.inputs.numpy(), "labels": examples.labels.numpy()}
            np.savez(images, net=net.name, crop=augment.crop, flip=augment.flip, **arrays)
            for _ in range(rounds):
                timed.take({way: partial(told_by_child, images, way) for way in WAYS}, order, f"{net.name} allocator")
        told = {way: {key: [each[key] for each in timed.values[way]] for key in timed.values[way][0]} for way in WAYS}
        timed.seconds = {way: each["ms"] for way, each in told.items()}
        settled, (_, model, x) = told["settled"], training_step(net, ours=True)
        work = gflop(lambda model=model, x=x: model(x).sum().backward()) / BATCH
        found.append(
            {
                "net": net.name,
                "plain ms/sample": timed.of("plain"),
                "settled ms/sample": timed.of("settled"),
                "speed": timed.ratio("plain", "settled"),
                "peer ms/sample": timed.of("peer"),
                "plain beside peer": timed.ratio("peer", "plain"),
                "settled beside peer": timed.ratio("peer", "settled"),
                "share": Spread.of(work / (settled["ms"][i] / 1e3) / settled["limit"][i] for i in timed.kept),
                "target": 2.5 if net is SMALL else None,
                **{f"{way} faults/step": statistics.median(told[way]["faults"]) for way in ("plain", "settled")},
                **{f"{way} MiB": statistics.median(told[way]["MiB"]) for way in ("plain", "settled")},
                "quiet": timed.quiet,
                "note": f"{net.name}: fresh processes, {count} samples after a warm-up; {timed.note()}; "
                + (
                    "mallopt took all three settings"
                    if all(settled["set"])
                    else "mallopt refused: not glibc, or too old"
                ),
            }
        )
    return found


def told_by_child(images: Path, way: str) -> dict[str, Any]:
    done = subprocess.run([sys.executable, __file__, str(images), way], capture_output=True, text=True, check=True)
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def child(images: Path, way: str) -> None:
    """One process of a round: prints what a training on the images in this file took, as JSON."""
    torch.set_num_threads(1)
    was_set = settle_allocator() if way == "settled" else False
    with np.load(images) as file:
        net, inputs, labels = str(file["net"]), torch.from_numpy(file["inputs"]), torch.from_numpy(file["labels"])
        augment = Augment(crop=int(file["crop"]), flip=bool(file["flip"]))
    classes, count = tuple(str(k) for k in range(10)), len(inputs)
    examples = Examples(inputs, labels, np.arange(count).astype(str), None, classes)
    shape = tuple(int(side) for side in inputs.shape[1:])
    model = build(Blueprint(name=net, classes=10, shape=shape), seed=0, sample=inputs[:100].float() / 255)
    train, optim = peer_fit if way == "peer" else own_fit, Sgd(epochs=1, batch=BATCH, schedule="onecycle")
    train(model, examples.take(range(2 * BATCH)), augment, optim, 0)
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_minflt, time.process_time()
    train(model, examples, augment, optim, 0)
    seconds = time.process_time() - start
    faults = (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / (count / BATCH)
    held = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
    limit = Roofline(bf16=way != "peer" and Engine(accelerator="cpu").bf16).gflops()
    print(json.dumps({"set": was_set, "ms": 1e3 * seconds / count, "faults": faults, "MiB": held, "limit": limit}))


if __name__ == "__main__":
    child(Path(sys.argv[1]), sys.argv[2])
