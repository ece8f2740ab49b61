"""A training step: its share of the machine's limit (P5), and what gathering and varying a batch is of it (P9)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from measure import Spread, gflop, repeat, rooflines, run_rounds
from nets import BATCH, Net
from peer import PilImages
from unteach.data import Augment, Resident
from unteach.engine import Engine
from unteach.types import Examples

ROUND = 200.0  # GFLOP in a round, about a second: few steps would tell how cold the other arms left the caches


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
    """Gathering and varying a batch, as a part of the step, beside PIL, and beside gathering alone. P9."""
    found, batches, steps, read = [], 40, 4, 4
    for net in nets:
        examples = net.examples(2048)
        pil = torch.utils.data.DataLoader(
            PilImages(examples.take(range(read * BATCH)), net.augment), batch_size=BATCH, shuffle=True
        )
        step, _, _ = training_step(net, ours=True)
        arms: dict[str, Callable[[], Any]] = {
            "gather": repeat(gathering(examples, net.augment, seed), batches),
            "alone": repeat(gathering(examples, None, seed), batches),
            "step": repeat(step, steps),
            "PIL": lambda pil=pil: sum(len(labels) for _, labels in pil),
        }
        timed = run_rounds(arms, rounds, seed=seed, label=f"{net.name} augmentation")
        gather, whole, slow = ([taken / count for taken in timed.seconds[name]]
                               for name, count in (("gather", batches), ("step", steps), ("PIL", read)))  # fmt: skip
        found.append(
            {
                "net": net.name,
                "ours µs/image": timed.of("gather").times(1e6 / (batches * BATCH)),
                "PIL µs/image": timed.of("PIL").times(1e6 / (read * BATCH)),
                "ratio": Spread.of(slow[i] / gather[i] for i in timed.kept),
                "share": Spread.of(gather[i] / (gather[i] + whole[i]) for i in timed.kept),
                "limit": timed.ratio("alone", "gather"),
                "target share": 0.05,
                "target ratio": 10.0,
                "quiet": timed.quiet,
                "note": f"{net.name}: {timed.note()}",
            }
        )
    return found


def gathering(examples: Examples, augment: Augment | None, seed: int) -> Callable[[], torch.Tensor]:
    resident, rng = Resident(examples.inputs, augment, torch.device("cpu")), torch.Generator().manual_seed(seed)
    return lambda: resident.batch(torch.randperm(len(examples), generator=rng)[:BATCH], rng)


def roofline(nets: list[Net], rounds: int, seed: int) -> list[dict[str, Any]]:
    """A training step's FLOPs over its time, against the machine's limit in the same round. P5."""
    found = []
    for net in nets:
        ours, model, x = training_step(net, ours=True)
        peer, _, _ = training_step(net, ours=False)
        work = gflop(lambda model=model, x=x: model(x).sum().backward())
        steps = max(1, round(ROUND / work))
        arms = {"ours": repeat(ours, steps), "peer": repeat(peer, steps), **rooflines()}
        timed = run_rounds(arms, rounds, seed=seed, label=f"{net.name} roofline")
        limit = "limit bf16" if Engine(accelerator="cpu").bf16 else "limit fp32"
        found.append(
            {
                "net": net.name,
                "GFLOP/sample": work / BATCH,
                "ours ms/step": timed.of("ours").times(1e3 / steps),
                "ours": timed.rate("ours", work * steps, limit),
                "peer": timed.rate("peer", work * steps, "limit fp32"),
                "speed": timed.ratio("peer", "ours"),
                "roofline bf16": timed.value("limit bf16"),
                "roofline fp32": timed.value("limit fp32"),
                "target": net.share,
                "quiet": timed.quiet,
                "note": f"{net.name}: {timed.note()}",
            }
        )
    return found
