"""Speed and equality of the nearest-adversarial search beside the public ways of doing it. Targets P1, P2 and P3.

    OMP_NUM_THREADS=1 python benchmarks/attack.py                                        # Fashion-MNIST, 5 minutes
    OMP_NUM_THREADS=1 python benchmarks/attack.py --data cifar10 --train-count 10000 --count 192

One process, one thread. Chunks of 64 images; each chunk goes through every method, in random order, before the next: a chunk
is a round of measure.py. Distances are compared image by image with those of AMUN's loop. The peers run the same rule (radius
from 0.04, doubling until the example flips, 50 steps of a tenth of the radius); adversaries.py has them.
"""

from __future__ import annotations

import argparse
import copy
import random
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import torch

from adversaries import Method, as_shipped, methods
from measure import Rounds, Spread, gflop, markdown, rooflines
from part import arguments, run
from unteach.data import load
from unteach.engine import Engine
from unteach.models import Blueprint, build
from unteach.precision import has_fast_bf16
from unteach.train import Sgd, Source, fit

CHUNK = 64


def memorised(asked: argparse.Namespace, name: str, x: torch.Tensor, examples: Any) -> torch.nn.Module:
    """A network trained without augmentation, so that it memorises: the case in which there is something to forget."""
    shape = tuple(int(side) for side in x.shape[1:])
    model = build(Blueprint(name=name, classes=10, shape=shape), seed=asked.seed, sample=x[:2000].float() / 255)
    if asked.checkpoint and asked.checkpoint.exists():
        model.load_state_dict(torch.load(asked.checkpoint, weights_only=True))
    else:
        optim = Sgd(epochs=asked.epochs, nesterov=True, schedule="onecycle")
        fit(model, [Source(examples)], optim, seed=asked.seed, engine=Engine(accelerator="cpu"))
        model.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        if asked.checkpoint:
            torch.save(model.state_dict(), asked.checkpoint)
    return model.eval()


def right(model: torch.nn.Module, x: torch.Tensor, y: torch.Tensor) -> float:
    with torch.no_grad():
        said = torch.cat([model(x[i : i + 250].float() / 255).argmax(1) for i in range(0, len(x), 250)])
    return float((said == y).double().mean())


def costs(model: torch.nn.Module, x: torch.Tensor) -> tuple[float, float]:
    """GFLOP of a forward pass with input gradient, and of a forward pass, for one image."""
    frozen = copy.deepcopy(model).requires_grad_(False)
    at = x[:1].clone().requires_grad_()
    with torch.no_grad():
        forward = gflop(lambda: frozen(x[:1]))
    return gflop(lambda: frozen(at).sum().backward()), forward


def measured(
    table: dict[str, Method], model: torch.nn.Module, x: torch.Tensor, y: torch.Tensor, seed: int
) -> tuple[Rounds, dict[str, dict[str, torch.Tensor]]]:
    """The rounds, whose values are (inputs, gradients, forwards); and per method, what its points are, image by image."""
    for method in table.values():  # kernels are generated and memory grows in the first call
        method(model, x[:8], y[:8])
    rounds, order, limits = Rounds(), random.Random(seed), rooflines()
    for start in range(0, len(x), CHUNK):
        chunk = x[start : start + CHUNK], y[start : start + CHUNK]
        rounds.take(
            {**{name: partial(method, model, *chunk) for name, method in table.items()}, **limits}, order, "attack"
        )
    found = {}
    for name in table:
        points = torch.cat([inputs for inputs, _, _ in rounds.values[name]])
        with torch.no_grad():
            said = torch.cat([model(points[i : i + CHUNK]).argmax(1) for i in range(0, len(points), CHUNK)])
        distance = (points - x).flatten(1).norm(dim=1)
        found[name] = {"label": said, "flipped": said != y, "distance": distance}
    return rounds, found


def rows(
    rounds: Rounds, found: dict[str, dict[str, torch.Tensor]], flops: tuple[float, float], sizes: list[int]
) -> list[dict[str, Any]]:
    """One row of the table per method, beside ``amun-loop``."""
    base, out, fast = found["amun-loop"], [], has_fast_bf16(torch.device("cpu"))
    for name, points in found.items():
        n, asked = len(points["label"]), [(g, f) for _, g, f in rounds.values[name]]
        live = (base["distance"] > 0) & base["flipped"] & points["flipped"]
        ratio = (points["distance"] / base["distance"])[live].double()
        gradients, forwards = (sum(each) / n for each in zip(*asked))
        limit = rounds.values["limit bf16" if fast and name.endswith("bf16") else "limit fp32"]
        work = [g * flops[0] + f * flops[1] for g, f in asked]
        seconds = rounds.seconds[name]
        out.append(
            {
                "method": name,
                "shipped": name in as_shipped(),
                "ms/sample": Spread.of(1e3 * seconds[i] / sizes[i] for i in rounds.kept),
                "speed": rounds.ratio("amun-loop", name),
                "beside": {peer: rounds.ratio(peer, name) for peer in ("torchattacks", "foolbox") if peer in found},
                "success": float(points["flipped"].double().mean()),
                "median L2": float(points["distance"].median()),
                "ratio median": float(ratio.median()),
                "ratio mean": float(ratio.mean()),
                "ratio p95": float(ratio.quantile(0.95)),
                "farther 5 %": float((ratio > 1.05).double().mean()),
                "same label": float((points["label"] == base["label"]).double().mean()),
                "gradients": gradients,
                "forwards": forwards,
                "epochs for 10 %": 0.1 * (2 * gradients + forwards) / 3,
                "roofline": Spread.of(work[i] / seconds[i] / limit[i] for i in rounds.kept),
            }
        )
    return out


def table_of(found: list[dict[str, Any]]) -> str:
    head = [
        "method",
        "ms/sample",
        "speed",
        "success",
        "median L2",
        "distance ratio median / mean / p95",
        "> 5 % farther",
    ]
    head += ["same label", "gradients", "forwards", "epochs for 10 %", "of roofline"]
    return markdown(head, map(cells, found))


def cells(row: dict[str, Any]) -> list[object]:
    name = f"**{row['method']}**" if row["shipped"] else row["method"]
    distance = " / ".join(f"{row[f'ratio {what}']:.3f}" for what in ("median", "mean", "p95"))
    equal = [
        f"{row['success']:.4f}",
        f"{row['median L2']:.4f}",
        distance,
        f"{row['farther 5 %']:.1%}",
        f"{row['same label']:.1%}",
    ]
    cost = [
        f"{row['gradients']:.1f}",
        f"{row['forwards']:.1f}",
        f"{row['epochs for 10 %']:.2f}",
        row["roofline"].percent(),
    ]
    return [name, f"{row['ms/sample'].median:.2f}", row["speed"], *equal, *cost]


def compare(asked: argparse.Namespace) -> dict[str, Any]:
    warnings.filterwarnings("ignore")
    if asked.quick:
        asked.train_count, asked.epochs, asked.count = min(asked.train_count, 3000), 6, min(asked.count, 3 * CHUNK)
        asked.without = ["foolbox", "ddn"]
    grey = asked.data == "fashion-mnist"
    examples = load(asked.data, root=asked.root).train
    examples = examples.take(range(min(asked.train_count, len(examples))))
    x, y = examples.inputs, examples.labels
    name = asked.model or ("small-cnn" if grey else "airbench-small")
    model = memorised(asked, name, x, examples)
    drawn = torch.randperm(len(x), generator=torch.Generator().manual_seed(asked.seed))[: asked.count]
    pixels, notes = x[drawn].float() / 255, list[str]()
    table = {k: v for k, v in methods(model, notes).items() if k not in asked.without or k == "amun-loop"}
    rounds, found = measured(table, model, pixels, y[drawn], asked.seed)
    sizes = [len(chunk) for chunk in pixels.split(CHUNK)]
    result = rows(rounds, found, costs(model, pixels), sizes)
    limits = {kind: rounds.value(f"limit {kind}") for kind in ("fp32", "bf16")}
    notes += [
        f"{asked.data}{'' if grey else ' (JPEG)'}, {name} on {len(x)} images, train accuracy {right(model, x, y):.4f}",
        f"{len(drawn)} images from seed {asked.seed}; {rounds.note()}",
        "what users get without settings is in bold; ratios are medians over rounds with their range",
        f"roofline of the same rounds: fp32 {limits['fp32'].median:.0f}, bf16 {limits['bf16'].median:.0f} GFLOP/s, one thread",
    ]
    print("\n".join([*(f"- {note}" for note in notes), "", table_of(result)]))
    return {"notes": notes, "rows": result, "roofline": limits, "quiet": rounds.quiet}


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--data", choices=["fashion-mnist", "cifar10"], default="fashion-mnist")
    parser.add_argument("--root", type=Path, help="folder to look for the data in")
    parser.add_argument("--model", help="a name that unteach.models knows; default: small-cnn or airbench-small")
    parser.add_argument("--checkpoint", type=Path, help="state dict; made by a short training when absent")
    parser.add_argument("--train-count", type=int, default=20_000, help="first images, which the model memorises")
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--count", type=int, default=384, help="attacked images, drawn from the training images")
    parser.add_argument("--without", nargs="*", default=[], help="methods to leave out")
    parser.add_argument("--seed", type=int, default=0)
    run(compare, parser.parse_args())


if __name__ == "__main__":
    main()
