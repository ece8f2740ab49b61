"""Whether a search for the nearest adversarial example could begin where others ended: how alike the directions are.

    OMP_NUM_THREADS=1 UNTEACH_DATA=… python benchmarks/directions.py [--data cifar10]

For 1,024 memorised images: the cosine between the way to the nearest adversarial example (12 to 20 gradients) and what is at
hand before. *First gradient*: what the search begins with. *Student*: a gradient of small-cnn that learned this network's logits
on the same images for three epochs. *Neighbour*: the way found for the nearest image of another 512 images, by logits or by
pixels. *Mean of (label, rival)*: the mean way of those with the same label and adversarial label, which is told here and would
have to be guessed.
"""

from __future__ import annotations

import argparse

import torch

from measure import markdown
from unteach.attacks import Nearest
from unteach.attacks.margins import margin, soft_margin
from unteach.data import load
from unteach.engine import Engine, pixels
from unteach.feed import Batch
from unteach.models import Blueprint, build
from unteach.runtime import settle_allocator
from unteach.train import Sgd, Source, fit
from unteach.types import Examples

COUNT = 1024
SHARES = torch.tensor([0.1, 0.5, 0.9])


def network(name: str, examples: Examples, seed: int) -> torch.nn.Module:
    shape = tuple(examples.inputs.shape[1:])
    return build(Blueprint(name=name, classes=10, shape=shape), seed=seed, sample=pixels(examples.inputs[:2000]))


def unit(rows: torch.Tensor) -> torch.Tensor:
    flat = rows.flatten(1)
    return flat / flat.norm(dim=1, keepdim=True).clamp_min(1e-12)


def downhill(model: torch.nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Where the softened margin falls, at the clean images."""
    found = []
    for points, labels in zip(x.split(128), y.split(128)):
        at = points.clone().requires_grad_()
        logits = model(at)
        temperature = (0.15 * margin(logits.detach(), labels).abs()).clamp_min(1e-6)
        found.append(torch.autograd.grad(soft_margin(logits, labels, temperature).sum(), at)[0])
    return -unit(torch.cat(found))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", choices=["fashion-mnist", "cifar10"], default="fashion-mnist")
    parser.add_argument("--train-count", type=int, default=10_000)
    parser.add_argument("--epochs", type=int, default=8)
    asked = parser.parse_args()
    settle_allocator()
    torch.set_num_threads(1)
    examples = load(asked.data).train.take(range(asked.train_count))
    engine = Engine(accelerator="cpu")
    model = network("small-cnn" if asked.data == "fashion-mnist" else "airbench-small", examples, 0)
    fit(model, [Source(examples)], Sgd(epochs=asked.epochs, nesterov=True, schedule="onecycle"), seed=0, engine=engine)

    def apart(student: torch.nn.Module, batch: Batch) -> torch.Tensor:
        with torch.no_grad():
            told = model(batch.inputs).float()
        return (student(batch.inputs).float() - told).square().mean(1)

    student = network("small-cnn", examples, 5)
    short = Sgd(lr=0.02, epochs=3, nesterov=True, schedule="onecycle")
    fit(student, [Source(examples)], short, seed=0, engine=engine, loss=apart)
    x, y = pixels(examples.inputs[:COUNT]), examples.labels[:COUNT]
    found = Nearest(gradients=12, most=20).search(model, x, y)
    way, first, half = unit(found.inputs - x), downhill(model, x, y), COUNT // 2
    logits = engine.logits(model, examples.inputs[:COUNT])
    pair = y * 10 + found.labels
    means = torch.stack([way[:half][pair[:half] == each].sum(0) for each in pair[half:]])
    at_hand = {
        "first gradient": first[half:],
        "student's gradient": downhill(student, x, y)[half:],
        "neighbour's way, by logits": way[:half][torch.cdist(logits[half:], logits[:half]).argmin(1)],
        "neighbour's way, by pixels": way[:half][torch.cdist(x[half:].flatten(1), x[:half].flatten(1)).argmin(1)],
        "mean of (label, rival)": unit(means),
    }
    at_hand |= {
        f"first gradient + half of {name}": unit(first[half:] + 0.5 * at_hand[name])
        for name in ("student's gradient", "mean of (label, rival)")
    }
    ok = (found.success & (found.distances > 0))[half:]
    rows = []
    for name, directions in at_hand.items():
        cosines = (directions * way[half:]).sum(1)[ok]
        rows.append([name, *(f"{float(value):.3f}" for value in cosines.quantile(SHARES))])
    print(f"{asked.data}, {int(ok.sum())} images\n")
    print(markdown(["cosine with the way that was found", "10 %", "median", "90 %"], rows))


if __name__ == "__main__":
    main()
