"""Speed and equality of the nearest-adversarial search beside the public ways of doing it.

    OMP_NUM_THREADS=1 python benchmarks/attack.py --data fashion-mnist --count 256

One process, one thread. Chunks of 64 images; each chunk goes through every method, in random order, before the next:
a chunk is a round. Times are the process's own CPU seconds; ratios are medians over rounds with their range. The
peers run the same rule (radius from 0.04, doubling until the example flips, 50 steps of a tenth of the radius):

- ``amun-loop``: a literal reading of AMUN's loop, written here: eager, NCHW, fp32, one forward and gradient per step;
- ``torchattacks`` PGDL2 and ``foolbox`` L2PGD, called once per radius on the images not flipped yet.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import random
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from unteach.attacks import Nearest, Schedule
from unteach.data import load
from unteach.engine import Engine
from unteach.models import Blueprint, build
from unteach.precision import has_fast_bf16
from unteach.train import Sgd, Source, fit

CHUNK = 64
EPSILON, STEPS, STEP, DOUBLINGS = 0.04, 50, 0.1, 12
Attacked = tuple[torch.Tensor, int, int]  # adversarial inputs, gradients, forwards
Method = Callable[[torch.nn.Module, torch.Tensor, torch.Tensor], Attacked]


def right(model: torch.nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return torch.cat([model(x[i : i + 250].float() / 255).argmax(1) for i in range(0, len(x), 250)]) == y


def amun_loop(model: torch.nn.Module, x: torch.Tensor, y: torch.Tensor) -> Attacked:
    """AMUN's loop as published: test, step, drop what flipped; every radius goes on from where the last one ended."""
    points, out, live = x.clone(), x.clone(), torch.arange(len(x))
    epsilon, gradients = EPSILON, 0
    for _ in range(DOUBLINGS + 1):
        for _ in range(STEPS):
            at = points[live].clone().requires_grad_()
            logits = model(at)
            loss = torch.nn.functional.cross_entropy(logits, y[live])
            (gradient,) = torch.autograd.grad(loss, at)
            gradients += len(live)
            flipped = logits.argmax(1) != y[live]
            out[live[flipped]] = points[live[flipped]]
            live, gradient = live[~flipped], gradient[~flipped]
            if len(live) == 0:
                return out, gradients, 0
            length = gradient.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
            offset = points[live] + STEP * epsilon * gradient / length - x[live]
            size = offset.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
            points[live] = (x[live] + offset * (epsilon / size).clamp_max(1)).clamp(0, 1)
        epsilon *= 2
    out[live] = points[live]
    return out, gradients, 0


def by_radius(attack: Callable[[torch.Tensor, torch.Tensor, float], torch.Tensor]) -> Method:
    """A library's fixed-radius attack inside AMUN's loop over radii."""

    def method(model: torch.nn.Module, x: torch.Tensor, y: torch.Tensor) -> Attacked:
        out, gradients, forwards, epsilon = x.clone(), 0, len(x), EPSILON
        with torch.no_grad():
            live = (model(x).argmax(1) == y).nonzero().squeeze(1)
        while len(live) and epsilon <= EPSILON * 2**DOUBLINGS:
            points = attack(x[live], y[live], epsilon).detach()
            gradients += STEPS * len(live)
            with torch.no_grad():
                flipped = model(points).argmax(1) != y[live]
            forwards += len(live)
            out[live[flipped]] = points[flipped]
            live = live[~flipped]
            epsilon *= 2
        return out, gradients, forwards

    return method


def methods(model: torch.nn.Module, notes: list[str]) -> dict[str, Method]:
    def own(search: Schedule | Nearest) -> Method:
        def method(model: torch.nn.Module, x: torch.Tensor, y: torch.Tensor) -> Attacked:
            found = search.search(model, x, y)
            return found.inputs, found.gradients, found.forwards

        return method

    table: dict[str, Method] = {"amun-loop": amun_loop}
    try:
        import torchattacks

        peer = torchattacks.PGDL2(model, steps=STEPS, random_start=False)

        def run(x: torch.Tensor, y: torch.Tensor, epsilon: float) -> torch.Tensor:
            peer.eps, peer.alpha = epsilon, STEP * epsilon
            points: torch.Tensor = peer(x, y)
            return points

        table["torchattacks"] = by_radius(run)
    except Exception as error:  # its import pulls in whatever torchvision is there
        notes.append(f"torchattacks left out: {type(error).__name__}: {error}")
    import foolbox

    judge = foolbox.PyTorchModel(model, bounds=(0, 1), device="cpu")
    l2pgd = foolbox.attacks.L2PGD(rel_stepsize=STEP, steps=STEPS, random_start=False)
    table["foolbox"] = by_radius(lambda x, y, epsilon: l2pgd(judge, x, y, epsilons=epsilon)[1])
    table["schedule fp32"] = own(Schedule(bf16=False))
    table["schedule"] = own(Schedule())
    table["nearest fp32"] = own(Nearest(bf16=False))
    table["nearest"] = own(Nearest())
    return table


def roofline(bf16: bool) -> float:
    """GFLOP/s of one 128 → 128 convolution, 16 × 16, batch 128, channels_last, in this minute; best of 6."""
    kind = torch.bfloat16 if bf16 else torch.float32
    conv = torch.nn.Conv2d(128, 128, 3, padding=1).to(kind).to(memory_format=torch.channels_last)
    x = torch.randn(128, 128, 16, 16).to(kind).contiguous(memory_format=torch.channels_last)
    best = float("inf")
    with torch.no_grad():
        for _ in range(6):
            start = time.process_time()
            conv(x)
            best = min(best, time.process_time() - start)
    return 2 * 128 * 128 * 128 * 9 * 256 / best / 1e9


def gflop(model: torch.nn.Module, x: torch.Tensor) -> tuple[float, float]:
    """GFLOP of a forward pass with input gradient, and of a forward pass, for one image."""
    from torch.utils.flop_counter import FlopCounterMode

    frozen = copy.deepcopy(model).requires_grad_(False)
    at = x[:1].clone().requires_grad_()
    with FlopCounterMode(display=False) as both:
        frozen(at).sum().backward()
    with FlopCounterMode(display=False) as one, torch.no_grad():
        frozen(x[:1])
    return both.get_total_flops() / 1e9, one.get_total_flops() / 1e9


def machine_seconds() -> float:
    """Busy and stolen CPU seconds of the whole machine since it started."""
    values = [int(v) for v in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    return (sum(values) - values[3] - values[4]) / os.sysconf("SC_CLK_TCK")


def measure(
    table: dict[str, Method], model: torch.nn.Module, x: torch.Tensor, y: torch.Tensor, seed: int
) -> tuple[dict[str, list[dict[str, Any]]], list[float]]:
    """Per method and round: CPU seconds, distances, labels, counts; and per round the CPU share of everybody else."""
    for method in table.values():  # kernels are generated and memory grows in the first call
        method(model, x[:8].float() / 255, y[:8])
    rounds: dict[str, list[dict[str, Any]]] = {name: [] for name in table}
    others: list[float] = []
    order = random.Random(seed)
    for start in range(0, len(x), CHUNK):
        pixels, labels = x[start : start + CHUNK].float() / 255, y[start : start + CHUNK]
        busy, own, wall = machine_seconds(), time.process_time(), time.perf_counter()
        for name in order.sample(list(table), len(table)):
            before = time.process_time()
            points, gradients, forwards = table[name](model, pixels, labels)
            seconds = time.process_time() - before
            with torch.no_grad():
                said = model(points).argmax(1)
            record = {"seconds": seconds, "gradients": gradients, "forwards": forwards, "label": said}
            distance = (points - pixels).flatten(1).norm(dim=1)
            rounds[name].append({**record, "success": said != labels, "distance": distance})
        rest = (machine_seconds() - busy) - (time.process_time() - own)
        others.append(max(0.0, rest) / (time.perf_counter() - wall))
        print(f"round {start // CHUNK + 1}: others {others[-1]:.0%}", file=sys.stderr, flush=True)
    return rounds, others


def rows(
    rounds: dict[str, list[dict[str, Any]]], flops: tuple[float, float], peaks: dict[bool, float], kept: list[int]
) -> list[dict[str, Any]]:
    """One row of the table per method, beside ``amun-loop``."""
    gather = {name: {key: torch.cat([r[key] for r in every]) for key in ("distance", "label", "success")}
              for name, every in rounds.items()}  # fmt: skip
    base, out = rounds["amun-loop"], []
    for name, every in rounds.items():
        n = len(gather[name]["label"])
        speed = [base[i]["seconds"] / every[i]["seconds"] for i in kept]
        live = (gather["amun-loop"]["distance"] > 0) & gather["amun-loop"]["success"] & gather[name]["success"]
        ratio = (gather[name]["distance"] / gather["amun-loop"]["distance"])[live].double()
        gradients, forwards = (sum(r[key] for r in every) / n for key in ("gradients", "forwards"))
        seconds = sum(r["seconds"] for r in every)
        fast = name in ("schedule", "nearest") and has_fast_bf16(torch.device("cpu"))
        work = (gradients * flops[0] + forwards * flops[1]) * n / seconds
        out.append(
            {
                "method": name,
                "ms/sample": 1e3 * statistics.median(every[i]["seconds"] for i in kept) * len(every) / n,
                "speed": statistics.median(speed),
                "speed range": [min(speed), max(speed)],
                "success": float(gather[name]["success"].double().mean()),
                "median L2": float(gather[name]["distance"].median()),
                "ratio median": float(ratio.median()),
                "ratio mean": float(ratio.mean()),
                "ratio p95": float(ratio.quantile(0.95)),
                "farther 5 %": float((ratio > 1.05).double().mean()),
                "same label": float((gather[name]["label"] == gather["amun-loop"]["label"]).double().mean()),
                "gradients": gradients,
                "forwards": forwards,
                "epochs for 10 %": 0.1 * (2 * gradients + forwards) / 3,
                "roofline": work / peaks[fast],
            }
        )
    return out


def markdown(table: list[dict[str, Any]]) -> str:
    shown = [
        f"{r['method']} | {r['ms/sample']:.2f} | {r['speed']:.2f} ({r['speed range'][0]:.2f}–{r['speed range'][1]:.2f}) "
        f"| {r['success']:.4f} | {r['median L2']:.4f} | {r['ratio median']:.3f} / {r['ratio mean']:.3f} / "
        f"{r['ratio p95']:.3f} | {r['farther 5 %']:.1%} | {r['same label']:.1%} | {r['gradients']:.1f} | "
        f"{r['forwards']:.1f} | {r['epochs for 10 %']:.2f} | {r['roofline']:.0%}"
        for r in table
    ]
    head = (
        "method | ms/sample | speed (range over rounds) | success | median L2 | distance ratio median / mean / p95 "
        "| > 5 % farther | same label | gradients | forwards | epochs for 10 % | of roofline"
    )
    rule = "|".join(["---"] * (head.count("|") + 1))
    return "\n".join(f"| {line} |" for line in [head, rule, *shown])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", choices=["fashion-mnist", "cifar10"], default="fashion-mnist")
    parser.add_argument("--root", type=Path, help="folder to look for the data in")
    parser.add_argument("--model", help="a name that unteach.models knows; default: small-cnn or airbench-small")
    parser.add_argument("--checkpoint", type=Path, help="state dict; made by a short training when absent")
    parser.add_argument("--train-count", type=int, default=20_000, help="first images, which the model memorises")
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--count", type=int, default=256, help="attacked images, drawn from the training images")
    parser.add_argument("--without", nargs="*", default=[], help="methods to leave out")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    grey = args.data == "fashion-mnist"
    examples = load(args.data, root=args.root).train
    examples = examples.take(range(min(args.train_count, len(examples))))
    x, y = examples.inputs, examples.labels
    name = args.model or ("small-cnn" if grey else "airbench-small")
    model = build(
        Blueprint(name=name, classes=10, shape=tuple(x.shape[1:])), seed=args.seed, sample=x[:2000].float() / 255
    )
    if args.checkpoint and args.checkpoint.exists():
        model.load_state_dict(torch.load(args.checkpoint, weights_only=True))
    else:
        # No augmentation, so that the model memorises: the case in which there is something to forget.
        optim = Sgd(epochs=args.epochs, nesterov=True, schedule="onecycle")
        fit(model, [Source(examples)], optim, seed=args.seed, engine=Engine(accelerator="cpu"))
        model.to(memory_format=torch.contiguous_format)
        if args.checkpoint:
            torch.save(model.state_dict(), args.checkpoint)
    model.eval()
    notes = [
        f"{args.data}{'' if grey else ' (JPEG)'}, {name}, train accuracy {float(right(model, x, y).double().mean()):.4f}"
    ]
    drawn = torch.randperm(len(x), generator=torch.Generator().manual_seed(args.seed))[: args.count]
    table = {k: v for k, v in methods(model, notes).items() if k not in args.without or k == "amun-loop"}
    before = {fast: roofline(fast) for fast in (False, True)}
    rounds, others = measure(table, model, x[drawn], y[drawn], args.seed)
    after = {fast: roofline(fast) for fast in (False, True)}
    peaks = {fast: max(before[fast], after[fast]) for fast in before}
    kept = [i for i, share in enumerate(others) if share < 0.15]
    notes.append(
        f"{len(drawn)} images, {len(others)} rounds, {len(kept)} of them with others below 15 % of a core"
        + ("" if kept else ": none, so all rounds are used; compare ratios only")
    )
    notes.append(f"roofline of the same minutes: fp32 {peaks[False]:.0f}, bf16 {peaks[True]:.0f} GFLOP/s on one thread")
    result = rows(rounds, gflop(model, x[:1].float() / 255), peaks, kept or list(range(len(others))))
    print("\n".join([*(f"- {note}" for note in notes), "", markdown(result)]))
    if args.json:
        args.json.write_text(json.dumps({"notes": notes, "others": others, "rows": result}, indent=1) + "\n")


if __name__ == "__main__":
    main()
