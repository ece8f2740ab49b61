"""Pieces of ``gpu.py``: the machine's limit, training steps and epochs, several trainings on one card."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from multiprocessing.connection import Connection

import torch

from gpu_notebook import CLASSES, SHAPE, Notebook, Rig, Row
from measure import gflop
from unteach import compiled as compiling
from unteach.data import Augment
from unteach.precision import autocast, whole_fp32
from unteach.train import Sgd, Source, fit

NETS = ("small-cnn", "airbench-small", "airbench", "resnet18")
BATCHES = (128, 1024)
COUNTS = (1, 2, 4, 8)
MODES = {"compile": None, "reduce-overhead": "reduce-overhead"}
AUGMENT = Augment(crop=2, flip=True, reflect=True)


def limits(rig: Rig, book: Notebook) -> None:
    """TFLOP/s of one convolution (forward and backward) and one matrix product, in bf16, TF32 and fp32."""
    batch, side, width = rig.size(512, 2), rig.size(32, 8), rig.size(256, 8)
    conv = torch.nn.Conv2d(width, width, 3, padding=1, bias=False, device=rig.device)
    conv = conv.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    x = torch.randn(batch, width, side, side, device=rig.device).contiguous(memory_format=torch.channels_last)
    a = torch.randn(rig.size(8192, 64), rig.size(8192, 64), device=rig.device)

    def convolve() -> None:
        conv(x.requires_grad_()).float().sum().backward()

    calls = {"convolution": convolve, "matrix product": lambda: a @ a}
    for name, call in calls.items():
        for kind in ("bf16", "tf32", "fp32"):
            book.tried("limits", f"{name} {kind}", partial(_limit, rig, call, kind))


def _limit(rig: Rig, call: Callable[[], object], kind: str) -> Row:
    work, before = gflop(call), torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = kind == "tf32"
    try:
        with autocast(rig.device, kind == "bf16"), whole_fp32(rig.device) if kind == "fp32" else nullcontext():
            return {"tflops": work / rig.seconds(call) / 1000}
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


def steps(rig: Rig, book: Notebook) -> None:
    """A step on one standing batch: as PyTorch has it (NCHW, convolutions in TF32 on a GPU), and in bf16 and channels_last."""
    for batch in (8,) if rig.small else BATCHES:
        for net in NETS[: rig.size(4, 2)]:
            for arm in ("eager", "bf16"):
                book.tried("steps", f"{net} batch {batch} {arm}", partial(_step, rig, book, net, batch, arm))


def compiled(rig: Rig, book: Notebook) -> None:
    """The same step compiled in two ways, in bf16 and channels_last; then epochs through ``fit`` with --compile."""
    batch, about = rig.size(BATCHES[0], 8), rig.size(60, 3)
    for arm in reversed(MODES):
        for net in NETS[: rig.size(4, 1)]:
            book.tried("compiled", f"{net} batch {batch} {arm}", partial(_step, rig, book, net, batch, arm), about)
    for net in () if rig.small else ("airbench-small", "airbench"):
        book.tried("compiled", f"{net} batch {batch} epoch", partial(_epoch, rig, net, batch, compiles=True), 2 * about)


def _step(rig: Rig, book: Notebook, net: str, batch: int, arm: str) -> Row:
    layout = torch.contiguous_format if arm == "eager" else torch.channels_last
    network = rig.network(net).to(memory_format=layout).train()  # type: ignore[call-overload]
    x = torch.rand(batch, *SHAPE, device=rig.device).contiguous(memory_format=layout)
    y = torch.arange(batch, device=rig.device) % CLASSES
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, nesterov=True)
    running = _compiled(rig, network, batch, MODES[arm]) if arm in MODES else network

    def step() -> None:
        with autocast(rig.device, arm != "eager"):
            loss = torch.nn.functional.cross_entropy(running(x).float(), y)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    start = time.perf_counter()
    for _ in range(3):  # CUDA graphs are recorded in the second call
        step()
    rig.wait()
    row = {"cold s": time.perf_counter() - start, "ms": 1000 * rig.seconds(step)}
    known = book.rows("steps")
    if arm in MODES:
        row["graphs skipped"] = float(torch._dynamo.utils.counters["inductor"]["cudagraph_skips"])
        work = known.get(f"{net} batch {batch} bf16", {}).get("gflop", 0.0)
    else:
        work = row["gflop"] = gflop(step)
    limit = book.rows("limits").get(f"convolution {'tf32' if arm == 'eager' else 'bf16'}", {}).get("tflops")
    if work and limit:
        row["of the limit"] = work / row["ms"] / limit
    if first := known.get(f"{net} batch {batch} eager"):
        row["times eager"] = first["ms"] / row["ms"]
    return row


def _compiled(rig: Rig, network: torch.nn.Module, batch: int, mode: str | None) -> torch.nn.Module:
    """Compiled from nothing, so that what it costs is seen; a rehearsal only traces."""
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    if rig.small:
        return compiling.compiled(network, {batch}, backend="eager")
    compiling.refuse_without_compiler(rig.device)
    return compiling.compiled(network, {batch}, mode)


def epochs(rig: Rig, book: Notebook) -> None:
    """Seconds of an epoch through ``fit``, images varied, as users have it."""
    for batch in (32,) if rig.small else BATCHES:
        for net in ("small-cnn",) if rig.small else reversed(NETS):
            book.tried("epochs", f"{net} batch {batch}", partial(_epoch, rig, net, batch, compiles=False))


def _epoch(rig: Rig, net: str, batch: int, *, compiles: bool) -> Row:
    """The second of two epochs; the first has what is cold in it."""
    count = rig.size(12_800 if net == "resnet18" else 50_000, 64)
    first, second = fit(
        rig.network(net),
        [Source(rig.examples(count), AUGMENT)],
        Sgd(lr=0.05, epochs=2, batch=batch, nesterov=True),
        seed=0,
        engine=rig.engine(compiles=compiles),
    )
    cold = first["seconds"] - second["seconds"]
    return {"seconds for 50,000": second["seconds"] * 50_000 / count, "cold s": cold}


def workers(rig: Rig, book: Notebook) -> None:
    """How many models a minute N processes on one card train, each as a worker of the local executor does."""
    counts = COUNTS[: rig.size(len(COUNTS), 2)]
    net = "small-cnn" if rig.small else "airbench-small"
    if all(f"{net}, {count} processes" in book.rows("workers") for count in counts):
        return
    context = get_context("spawn")
    pipes, processes = [], []
    for _ in range(counts[-1]):
        ours, theirs = context.Pipe()
        process = context.Process(
            target=_trainings, args=(theirs, replace(rig), net), daemon=True
        )  # without the images
        process.start()
        theirs.close()
        pipes.append(ours)
        processes.append(process)
    try:
        for pipe in pipes:
            _answer(pipe, max(1.0, book.left()))  # ready
        for count in counts:
            name = f"{net}, {count} processes"
            if book.tried("workers", name, partial(_together, rig, book, net, pipes[:count])) is None:
                break  # such as no room on the card: a worker is gone
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.join()


def _together(rig: Rig, book: Notebook, net: str, pipes: list[Connection]) -> Row:
    start = time.perf_counter()
    for pipe in pipes:
        pipe.send("train")
    for pipe in pipes:
        _answer(pipe, max(1.0, book.left()) + 30)
    minute = 60 * len(pipes) / (time.perf_counter() - start)
    row = {"models/min": minute}
    if rig.device.type == "cuda":
        free, total = torch.cuda.mem_get_info()
        row["GiB"] = (total - free) / 2**30
    one = book.rows("workers").get(f"{net}, 1 processes", row)
    return row | {"times one": minute / one["models/min"]}


def _answer(pipe: Connection, seconds: float) -> str:
    if not pipe.poll(seconds):
        raise TimeoutError(f"a worker did not answer within {seconds:.0f} s")
    told: str = pipe.recv()
    return told


def _trainings(pipe: Connection, rig: Rig, net: str) -> None:
    """A worker: warms up, then trains a model whenever it is told to."""
    torch.set_num_threads(1)
    data, engine = Source(rig.examples(rig.size(25_000, 64)), AUGMENT), rig.engine()

    def train(epochs: int) -> None:
        fit(rig.network(net), [data], Sgd(lr=0.05, epochs=epochs, batch=rig.size(512, 32)), seed=0, engine=engine)
        rig.wait()

    train(1)
    pipe.send("ready")
    while pipe.recv():
        train(rig.size(3, 1))
        pipe.send("done")
