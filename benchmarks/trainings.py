"""Whole trainings beside the usual way, in one process: time of an epoch, and accuracy over seeds (P4)."""

from __future__ import annotations

import copy
import random
import statistics
from functools import partial
from typing import Any

import torch

from measure import Rounds, run_rounds, standard_error, tell
from nets import BATCH, SMALL, Net, loaded
from peer import peer_fit
from unteach.data import Augment
from unteach.engine import Engine
from unteach.train import Sgd, Source, fit
from unteach.types import Examples


def own_fit(
    model: torch.nn.Module, examples: Examples, augment: Augment, optim: Sgd, seed: int, *, precision: str = "auto"
) -> None:
    fit(model, [Source(examples, augment)], optim, seed=seed, engine=Engine(accelerator="cpu", precision=precision))


def end_to_end(nets: list[Net], count: int, rounds: int, seed: int) -> list[dict[str, Any]]:
    """One epoch, everything in it: reading, varying, the steps. P4."""
    found = []
    for net in nets:
        given = net.examples(count), net.augment, Sgd(epochs=1, batch=BATCH, schedule="onecycle"), seed
        start = net.build(seed)
        arms = {
            "peer": partial(lambda start, *given: peer_fit(copy.deepcopy(start), *given), start, *given),
            "ours": partial(lambda start, *given: own_fit(copy.deepcopy(start), *given), start, *given),
            "fp32": partial(
                lambda start, *given: own_fit(copy.deepcopy(start), *given, precision="fp32"), start, *given
            ),
        }
        timed = run_rounds(arms, rounds, seed=seed, label=f"{net.name} end to end")
        per = {name: timed.of(name).times(1e3 / count) for name in arms}
        found.append(
            {
                "net": net.name,
                "data": net.data,
                "peer ms/sample": per["peer"],
                "ours ms/sample": per["ours"],
                "speed": timed.ratio("peer", "ours"),
                "speed fp32": timed.ratio("peer", "fp32"),
                "target": 2.5 if net is SMALL else None,  # spec P4 sets it for the small network
                "quiet": timed.quiet,
                "note": f"{net.name}, {count} samples: {timed.note()}",
            }
        )
    return found


def accuracy(net: Net, count: int, epochs: int, seeds: int, first: int, asked: int) -> list[dict[str, Any]]:
    """Both arms from the same starts over several seeds, on ``asked`` test images; every seed is also a timed round. P4."""
    test, examples = loaded(net.data).test, net.examples(count)
    test = test.take(range(min(asked, len(test))))
    optim = Sgd(epochs=epochs, batch=BATCH, schedule="onecycle")
    judge = Engine(accelerator="cpu", precision="fp32")
    right: dict[str, list[float]] = {"peer": [], "ours": []}
    timed, order = Rounds(), random.Random(first)
    for seed in range(first, first + seeds):
        trained = {"peer": net.build(seed), "ours": net.build(seed)}
        given = examples, net.augment, optim, seed
        arms = {"peer": partial(peer_fit, trained["peer"], *given), "ours": partial(own_fit, trained["ours"], *given)}
        timed.take(arms, order, f"{net.name} seed {seed}")
        for name, model in trained.items():
            said = judge.logits(model, test.inputs).argmax(1)
            right[name].append(float((said == test.labels).double().mean()))
        tell(f"{net.name} seed {seed}: peer {right['peer'][-1]:.4f}, ours {right['ours'][-1]:.4f}")
    error = (standard_error(right["peer"]) ** 2 + standard_error(right["ours"]) ** 2) ** 0.5
    return [
        {
            "net": net.name,
            "data": net.data,
            "peer accuracy": statistics.mean(right["peer"]),
            "peer s.e.": standard_error(right["peer"]),
            "ours accuracy": statistics.mean(right["ours"]),
            "ours s.e.": standard_error(right["ours"]),
            "difference": statistics.mean(right["ours"]) - statistics.mean(right["peer"]),
            "difference s.e.": error,
            "speed": timed.ratio("peer", "ours"),
            "peer ms/sample": timed.of("peer").times(1e3 / count / epochs),
            "ours ms/sample": timed.of("ours").times(1e3 / count / epochs),
            "every": right,
            "quiet": timed.quiet,
            "note": f"{net.name}, {count} samples × {epochs} epochs, seeds {first}–{first + seeds - 1}, "
            f"{len(test)} test images; {timed.note()}",
        }
    ]
