"""Speed of training beside the usual way of doing it, and beside what the machine can do.

    OMP_NUM_THREADS=1 python benchmarks/training.py                       # the four tables, a few minutes
    OMP_NUM_THREADS=1 python benchmarks/training.py --only accuracy       # both arms over 8 seeds, five minutes more
    OMP_NUM_THREADS=1 python benchmarks/training.py --quick --only end-to-end

One process, one thread, own CPU seconds; measure.py says how rounds are taken and what the range means.

- *ours*: ``unteach.train.fit`` as it is: uint8 images resident, one gather per batch, bf16 autocast where the chip has it,
  channels_last;
- *peer*: torch's DataLoader over PIL images with RandomCrop, RandomHorizontalFlip and ToTensor, fp32, NCHW, eager. The
  transforms are those of torchvision 0.28 restated with PIL and NumPy, since torchvision is not needed here. Network,
  start, batch, optimiser, schedule and number of samples are the same; both standardise pixels in the network.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps

from measure import Roofline, Rounds, Spread, gflop, markdown, repeat, run_rounds, standard_error, tell
from unteach.data import Augment, DataSet, Resident
from unteach.data import load as load_data
from unteach.engine import Engine
from unteach.models import Blueprint, build
from unteach.runtime import settle_allocator
from unteach.schedule import rate
from unteach.train import Sgd, Source, fit
from unteach.types import Examples, Refusal

BATCH = 128
WAYS = ("plain", "settled", "peer")
SECTIONS = ("end-to-end", "augment", "roofline", "allocator", "accuracy")


@dataclass(frozen=True)
class Net:
    """A network, the data it is measured on, and the share of the roofline it is to reach (None: no target)."""

    name: str
    data: str
    share: float | None = None

    def examples(self, count: int) -> Examples:
        return loaded(self.data).train.take(range(count))

    @property
    def augment(self) -> Augment:
        return loaded(self.data).augment or Augment()

    def build(self, seed: int = 0) -> torch.nn.Module:
        x = loaded(self.data).train.inputs
        shape = tuple(int(side) for side in x.shape[1:])
        return build(Blueprint(name=self.name, classes=10, shape=shape), seed=seed, sample=x[:2000].float() / 255)


SMALL = Net("small-cnn", "fashion-mnist", 0.45)
AIRBENCH_SMALL = Net("airbench-small", "cifar10")
AIRBENCH = Net("airbench", "cifar10")
RESNET18 = Net("resnet18", "cifar10", 0.75)


@cache
def loaded(name: str) -> DataSet:
    return load_data(name)


def present(nets: list[Net], notes: list[str]) -> list[Net]:
    """The networks whose data are here; of the others a note is made."""
    found = []
    for net in nets:
        try:
            loaded(net.data)
            found.append(net)
        except Refusal as error:
            notes.append(f"{net.name} left out: {error}")
    return found


# ---------------------------------------------------------------------------------------------- the usual way


class PilImages(torch.utils.data.Dataset[tuple[torch.Tensor, int]]):
    """One PIL image at a time, cropped, mirrored and made a tensor, as torchvision's data sets and transforms do."""

    def __init__(self, examples: Examples, augment: Augment) -> None:
        images = examples.inputs.permute(0, 2, 3, 1).contiguous().numpy()
        self.images = images[..., 0] if images.shape[-1] == 1 else images
        self.labels = examples.labels.tolist()
        self.augment = augment

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        image = Image.fromarray(self.images[index])
        width, height = image.size
        if crop := self.augment.crop:
            image = ImageOps.expand(image, border=crop, fill=0)
            top = int(torch.randint(0, 2 * crop + 1, size=(1,)).item())
            left = int(torch.randint(0, 2 * crop + 1, size=(1,)).item())
            image = image.crop((left, top, left + width, top + height))
        if self.augment.flip and torch.rand(1) < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        pixels = torch.from_numpy(np.array(image, np.uint8, copy=True))
        pixels = pixels.view(height, width, -1).permute((2, 0, 1)).contiguous()
        return pixels.to(dtype=torch.get_default_dtype()).div(255), self.labels[index]


def peer_fit(model: torch.nn.Module, examples: Examples, augment: Augment, optim: Sgd, seed: int) -> None:
    """The training loop of the tutorials."""
    torch.manual_seed(seed)
    loader = torch.utils.data.DataLoader(PilImages(examples, augment), batch_size=optim.batch, shuffle=True)
    optimizer = torch.optim.SGD(
        [weight for weight in model.parameters() if weight.requires_grad],
        lr=optim.lr,
        momentum=optim.momentum,
        weight_decay=optim.weight_decay,
        nesterov=optim.nesterov,
    )
    model.train()
    for epoch in range(optim.epochs):
        total = 0.0
        for step, (x, y) in enumerate(loader):
            for group in optimizer.param_groups:
                group["lr"] = optim.lr * rate(optim.schedule, epoch + step / len(loader), optim.epochs)
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            total += loss.item()
    model.eval()


def own_fit(
    model: torch.nn.Module, examples: Examples, augment: Augment, optim: Sgd, seed: int, *, precision: str = "auto"
) -> None:
    fit(model, [Source(examples, augment)], optim, seed=seed, engine=Engine(accelerator="cpu", precision=precision))


# ------------------------------------------------------------------------------------------------ the sections


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
                "note": f"{net.name}, {count} samples: {timed.note()}",
            }
        )
    return found


def training_step(net: Net, *, ours: bool) -> tuple[Callable[[], None], torch.nn.Module, torch.Tensor]:
    """A step on one standing batch: in fit's precision and layout, or fp32 NCHW; also the model and the batch."""
    examples, engine = net.examples(BATCH), Engine(accelerator="cpu", precision="auto" if ours else "fp32")
    model = net.build()
    layout = torch.channels_last if ours else torch.contiguous_format
    model = model.to(memory_format=layout).train()  # type: ignore[call-overload]
    x = (examples.inputs.float() / 255).contiguous(memory_format=layout)
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.SGD(weights, lr=0.01, momentum=0.9, weight_decay=5e-4)

    def step() -> None:
        with engine.autocast():
            loss = torch.nn.functional.cross_entropy(model(x).float(), examples.labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return step, model, x


def augmentation(nets: list[Net], rounds: int, seed: int) -> list[dict[str, Any]]:
    """Gathering and varying a batch, as a part of the step and beside PIL. P9."""
    found = []
    for net in nets:
        examples = net.examples(2048)
        resident = Resident(examples.inputs, net.augment, torch.device("cpu"))
        pil = torch.utils.data.DataLoader(
            PilImages(examples.take(range(4 * BATCH)), net.augment), batch_size=BATCH, shuffle=True
        )
        step, _, _ = training_step(net, ours=True)
        rng = torch.Generator().manual_seed(seed)

        def gather(resident: Resident = resident, rng: torch.Generator = rng) -> torch.Tensor:
            return resident.batch(torch.randperm(2048, generator=rng)[:BATCH], rng)

        def read(pil: Any = pil) -> int:
            return sum(len(labels) for _, labels in pil)

        batches, steps = 40, 4
        arms = {"gather": repeat(gather, batches), "step": repeat(step, steps), "PIL": read}
        timed = run_rounds(arms, rounds, seed=seed, label=f"{net.name} augmentation")
        one = timed.seconds
        share = [
            (one["gather"][i] / batches) / (one["gather"][i] / batches + one["step"][i] / steps) for i in timed.kept
        ]
        beside = [(one["PIL"][i] / (4 * BATCH)) / (one["gather"][i] / (batches * BATCH)) for i in timed.kept]
        found.append(
            {
                "net": net.name,
                "ours µs/image": timed.of("gather").times(1e6 / (batches * BATCH)),
                "PIL µs/image": timed.of("PIL").times(1e6 / (4 * BATCH)),
                "ratio": Spread.of(beside),
                "share": Spread.of(share),
                "target share": 0.05,
                "target ratio": 10.0,
                "note": f"{net.name}: {timed.note()}",
            }
        )
    return found


def roofline(nets: list[Net], rounds: int, seed: int) -> list[dict[str, Any]]:
    """A training step's FLOPs over its time, against the machine's limit in the same round. P5."""
    found = []
    for net in nets:
        ours, model, x = training_step(net, ours=True)
        peer, _, _ = training_step(net, ours=False)
        work = gflop(lambda model=model, x=x: model(x).sum().backward())
        limits = {name: Roofline(bf16=name == "bf16") for name in ("bf16", "fp32")}
        steps = 1 if work > 50 else 4
        arms: dict[str, Callable[[], Any]] = {
            "ours": repeat(ours, steps),
            "peer": repeat(peer, steps),
            "bf16": limits["bf16"].gflops,
            "fp32": limits["fp32"].gflops,
        }
        timed = run_rounds(arms, rounds, seed=seed, label=f"{net.name} roofline")
        limit = "bf16" if Engine(accelerator="cpu").bf16 else "fp32"

        def share(arm: str, peak: str, timed: Rounds = timed, work: float = work, steps: int = steps) -> Spread:
            return Spread.of(work * steps / timed.seconds[arm][i] / timed.values[peak][i] for i in timed.kept)

        found.append(
            {
                "net": net.name,
                "GFLOP/sample": work / BATCH,
                "ours ms/step": timed.of("ours").times(1e3 / steps),
                "ours": share("ours", limit),
                "peer": share("peer", "fp32"),
                "speed": timed.ratio("peer", "ours"),
                "roofline bf16": Spread.of(timed.values["bf16"][i] for i in timed.kept),
                "roofline fp32": Spread.of(timed.values["fp32"][i] for i in timed.kept),
                "target": net.share,
                "note": f"{net.name}: {timed.note()}",
            }
        )
    return found


def allocator(nets: list[Net], count: int, rounds: int, seed: int) -> list[dict[str, Any]]:
    """Training in fresh processes with and without ``settle_allocator``, and the peer's, in random order each round."""
    found, order = [], random.Random(seed)
    for net in nets:
        pairs: list[dict[str, dict[str, Any]]] = []
        with tempfile.TemporaryDirectory() as folder:
            images, examples, augment = Path(folder, "images.npz"), net.examples(count), net.augment
            arrays = {"inputs": examples.inputs.numpy(), "labels": examples.labels.numpy()}
            np.savez(images, net=net.name, crop=augment.crop, flip=augment.flip, **arrays)
            for number in range(rounds):
                pair = {}
                for way in order.sample(WAYS, len(WAYS)):
                    command = [sys.executable, __file__, "--child", way, "--images", str(images)]
                    done = subprocess.run(command, capture_output=True, text=True, check=True)
                    pair[way] = json.loads(done.stdout)
                pairs.append(pair)
                tell(f"{net.name} allocator round {number + 1}/{rounds}")
        settled = all(pair["settled"]["set"] for pair in pairs)

        def every(way: str, key: str, pairs: list[dict[str, dict[str, Any]]] = pairs) -> list[float]:
            return [pair[way][key] for pair in pairs]

        found.append(
            {
                "net": net.name,
                "plain ms/sample": Spread.of(every("plain", "ms")),
                "settled ms/sample": Spread.of(every("settled", "ms")),
                "speed": Spread.of(a / b for a, b in zip(every("plain", "ms"), every("settled", "ms"))),
                "peer ms/sample": Spread.of(every("peer", "ms")),
                "plain beside peer": Spread.of(a / b for a, b in zip(every("peer", "ms"), every("plain", "ms"))),
                "settled beside peer": Spread.of(a / b for a, b in zip(every("peer", "ms"), every("settled", "ms"))),
                "target": 2.5 if net is SMALL else None,
                "plain faults/step": statistics.median(every("plain", "faults")),
                "settled faults/step": statistics.median(every("settled", "faults")),
                "plain MiB": statistics.median(every("plain", "MiB")),
                "settled MiB": statistics.median(every("settled", "MiB")),
                "note": f"{net.name}: {rounds} rounds of fresh processes, {count} samples after a warm-up; "
                + ("mallopt took all three settings" if settled else "mallopt refused: not glibc, or too old"),
            }
        )
    return found


def child(images: Path, way: str) -> None:
    """One process of a round: prints what a training on the images in this file took, as JSON."""
    was_set = settle_allocator() if way == "settled" else False
    with np.load(images) as file:
        net, inputs, labels = (
            known()[str(file["net"])],
            torch.from_numpy(file["inputs"]),
            torch.from_numpy(file["labels"]),
        )
        augment = Augment(crop=int(file["crop"]), flip=bool(file["flip"]))
    classes, count = tuple(str(k) for k in range(10)), len(inputs)
    examples = Examples(inputs, labels, np.arange(count).astype(str), None, classes)
    shape = tuple(int(side) for side in inputs.shape[1:])
    model = build(Blueprint(name=net.name, classes=10, shape=shape), seed=0, sample=inputs[:100].float() / 255)
    train, optim = peer_fit if way == "peer" else own_fit, Sgd(epochs=1, batch=BATCH, schedule="onecycle")
    train(model, examples.take(range(2 * BATCH)), augment, optim, 0)
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_minflt, time.process_time()
    train(model, examples, augment, optim, 0)
    seconds = time.process_time() - start
    faults = (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / (count / BATCH)
    held = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
    print(json.dumps({"set": was_set, "ms": 1e3 * seconds / count, "faults": faults, "MiB": held}))


def known() -> dict[str, Net]:
    return {net.name: net for net in (SMALL, AIRBENCH_SMALL, AIRBENCH, RESNET18)}


def accuracy(net: Net, count: int, epochs: int, seeds: int, first: int) -> list[dict[str, Any]]:
    """Both arms from the same starts over several seeds; every seed is also a round of the timing. P4."""
    data, examples = loaded(net.data), net.examples(count)
    optim = Sgd(epochs=epochs, batch=BATCH, schedule="onecycle")
    judge = Engine(accelerator="cpu", precision="fp32")
    right: dict[str, list[float]] = {"peer": [], "ours": []}
    trained: dict[str, torch.nn.Module] = {}
    timed = Rounds({"peer": [], "ours": []}, {}, [])
    for seed in range(first, first + seeds):

        def peer(seed: int = seed) -> None:
            peer_fit(trained["peer"], examples, net.augment, optim, seed)

        def ours(seed: int = seed) -> None:
            own_fit(trained["ours"], examples, net.augment, optim, seed)

        trained.update(peer=net.build(seed), ours=net.build(seed))
        one = run_rounds({"peer": peer, "ours": ours}, 1, seed=seed, warm=0, label=f"{net.name} seed {seed}")
        timed.others += one.others
        for name, model in trained.items():
            timed.seconds[name] += one.seconds[name]
            said = judge.logits(model, data.test.inputs).argmax(1)
            right[name].append(float((said == data.test.labels).double().mean()))
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
            "note": f"{net.name}, {count} samples × {epochs} epochs, seeds {first}–{first + seeds - 1}: {timed.note()}",
        }
    ]


# -------------------------------------------------------------------------------------------------- the tables


def yes(value: bool) -> str:
    return "yes" if value else "no"


def ms(spread: Spread) -> str:
    return f"{spread.median:.3f}"


def table(section: str, rows: list[dict[str, Any]]) -> str:
    """A section's Markdown, targets beside what was found."""
    match section:
        case "end-to-end":
            head = ["net", "peer ms/sample", "ours ms/sample", "ours is faster by", "ours in fp32", "target"]
            body = [
                [
                    r["net"],
                    ms(r["peer ms/sample"]),
                    ms(r["ours ms/sample"]),
                    r["speed"],
                    r["speed fp32"],
                    f"≥ {r['target']}" if r["target"] else "–",
                ]
                for r in rows
            ]
            title = "Training end to end beside DataLoader + PIL + fp32 NCHW (P4)"
        case "augment":
            head = ["net", "share of the step", "target", "PIL µs/image", "ours µs/image", "ratio", "target"]
            body = [
                [
                    r["net"], r["share"].percent(1), f"≤ {r['target share']:.0%}",
                    f"{r['PIL µs/image'].median:.1f}", f"{r['ours µs/image'].median:.2f}", r["ratio"],
                    f"≥ {r['target ratio']:.0f}",
                ]
                for r in rows
            ]  # fmt: skip
            title = "Augmentation (P9)"
        case "roofline":
            head = ["net", "GFLOP/sample", "ms/step", "of roofline", "target", "peer's step, of fp32 roofline",
                    "step is faster by", "roofline bf16 / fp32, GFLOP/s"]  # fmt: skip
            body = [
                [
                    r["net"], f"{r['GFLOP/sample']:.3f}", f"{r['ours ms/step'].median:.1f}", r["ours"].percent(),
                    f"≥ {r['target']:.0%}" if r["target"] else "–", r["peer"].percent(), r["speed"],
                    f"{r['roofline bf16'].median:.0f} / {r['roofline fp32'].median:.0f}",
                ]
                for r in rows
            ]  # fmt: skip
            title = f"One training step of {BATCH}, share of the machine's limit (P5)"
        case "allocator":
            head = ["net", "peer ms/sample", "plain ms/sample", "settled ms/sample", "settling gains", "plain beside the peer",
                    "settled beside the peer", "target", "page faults/step", "MiB held at the end"]  # fmt: skip
            body = [
                [
                    r["net"], ms(r["peer ms/sample"]), ms(r["plain ms/sample"]), ms(r["settled ms/sample"]), r["speed"],
                    r["plain beside peer"], r["settled beside peer"], f"≥ {r['target']}" if r["target"] else "–",
                    f"{r['plain faults/step']:.0f} → {r['settled faults/step']:.0f}",
                    f"{r['plain MiB']:.0f} → {r['settled MiB']:.0f}",
                ]
                for r in rows
            ]  # fmt: skip
            title = "Fresh processes, ours with and without settle_allocator, and the peer (P4)"
        case _:
            head = ["net", "peer accuracy", "ours accuracy", "difference", "target", "ours is faster by", "target"]
            body = [
                [
                    r["net"], f"{r['peer accuracy']:.4f} ± {r['peer s.e.']:.4f}",
                    f"{r['ours accuracy']:.4f} ± {r['ours s.e.']:.4f}",
                    f"{r['difference']:+.4f} ± {r['difference s.e.']:.4f}", "within 1 s.e., or better", r["speed"], "≥ 2.5",
                ]
                for r in rows
            ]  # fmt: skip
            title = "Accuracy on the whole test set, ± standard error over seeds (P4)"
    return "\n".join([f"### {title}", "", markdown(head, body), "", *(f"- {r['note']}" for r in rows), ""])


def plain(value: Any) -> Any:
    """For JSON: a spread is median, low, high."""
    if isinstance(value, Spread):
        return [value.median, value.low, value.high]
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    return [plain(each) for each in value] if isinstance(value, list) else value


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=SECTIONS, help="default: all but accuracy")
    parser.add_argument("--accuracy", action="store_true", help="the accuracy section too: 8 seeds, minutes")
    parser.add_argument("--quick", action="store_true", help="few samples and rounds: to see that it runs")
    parser.add_argument("--resnet18", action="store_true", help="ResNet-18 in the roofline too: seconds per step")
    parser.add_argument("--settled", action="store_true", help="call settle_allocator first, as the command line does")
    parser.add_argument("--rounds", type=int, help="default 7, of fresh processes 5; fewer with --quick")
    parser.add_argument("--seeds", type=int, default=8, help="of the accuracy section")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--child", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--images", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.child:
        child(args.images, args.child)
        return
    settled = settle_allocator() if args.settled else False
    chosen = args.only or [name for name in SECTIONS if name != "accuracy" or args.accuracy]
    rounds = args.rounds or (3 if args.quick else 7)
    count = 512 if args.quick else 2048
    quick, notes = args.quick, []
    nets = present(
        [SMALL, AIRBENCH_SMALL, *([] if quick else [AIRBENCH]), *([RESNET18] if args.resnet18 else [])], notes
    )
    shipped, small = ([net for net in nets if net not in out] for out in ([RESNET18], [AIRBENCH, RESNET18]))
    run: dict[str, Callable[[], list[dict[str, Any]]]] = {
        "end-to-end": lambda: end_to_end(small, count, rounds, args.seed),
        "augment": lambda: augmentation(shipped, rounds, args.seed),
        "roofline": lambda: roofline(nets, rounds, args.seed),
        "allocator": lambda: allocator(small, count, args.rounds or (2 if quick else 5), args.seed),
        "accuracy": lambda: accuracy(SMALL, 1000 if quick else 6000, 1 if quick else 3, args.seeds, args.seed),
    }
    notes += [
        f"torch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}, one thread, own CPU time",
        f"bf16 autocast: {yes(Engine(accelerator='cpu').bf16)}; allocator settled: {yes(settled)}",
        "median of the ratios within each round, and their range in brackets",
    ]
    print("\n".join([*(f"- {note}" for note in notes), ""]), flush=True)
    rows = {}
    for section in chosen:
        start = time.process_time()
        rows[section] = run[section]()
        print(table(section, rows[section]), flush=True)
        tell(f"{section}: {time.process_time() - start:.0f} s of own CPU time")
    if args.json:
        args.json.write_text(json.dumps({"notes": notes, **plain(rows)}, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
