"""Memory for 1.3 million images of 224 × 224 pixels by memory map: run where it can be, planned where it can't.

    OMP_NUM_THREADS=1 python benchmarks/memory_plan.py [--count 1300000] [--side 224] [--standin 50000]

Makes a folder for ``memmap:`` whose inputs.npy is a sparse file of the true size (3 × 224 × 224 bytes an image, 182 GiB in all:
holes, which cost no disk and read as black), with labels of 1,000 classes and ids as long as ImageNet's. One process then loads
it, makes a request of 1,000 ids and the split, shuffles an epoch, trains on 2,000 of the images, scores 1,000 and keeps the
digest of the trained ids; for each step: by how much RssAnon (resident memory of no file) rose at most during it, what was kept,
and seconds. What reads every pixel, the fingerprint and the search for near-duplicates, runs on ``--standin`` images of 8 × 8
pixels, first, lest it reuses the others' memory; what it takes is scaled up to
``--count``. Last come the sizes that are only arithmetic. The folder is deleted.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from scipy.fft import idctn

from data_memory import memory, peak_of
from measure import markdown, tell
from unteach.data import Where, forget_ids, split
from unteach.data.duplicates import twins
from unteach.data.memmap import memmap
from unteach.engine import Engine
from unteach.provenance import trained_on
from unteach.train import Sgd, Source, fit

CLASSES, ASKED, TRAINED, SCORED = 1000, 1000, 2000, 1000
REFERENCES = 128
MIB = 2**20


def make(folder: Path, count: int, side: int, *, sparse: bool) -> None:
    """A folder for ``memmap:`` of so many images, with holes for pixels or with random waves."""
    folder.mkdir()
    shape = (count, 3, side, side)
    with (folder / "inputs.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
        if sparse:
            file.truncate(file.tell() + int(np.prod(shape)))
        else:
            rng, falling = np.random.default_rng(0), 1 / (1 + np.add.outer(np.arange(side), np.arange(side)))
            for start in range(0, count, 10_000):
                waves = (
                    rng.normal(0, 200, (min(10_000, count - start), *shape[1:])) * falling
                )  # as photographs have them
                np.clip(128 + idctn(waves, axes=(2, 3), norm="ortho"), 0, 255).astype(np.uint8).tofile(file)
    np.save(folder / "labels.npy", np.arange(count) % CLASSES)
    lines = (f"n{1440764 + at % CLASSES:08}/n{1440764 + at % CLASSES:08}_{at:07}.JPEG\n" for at in range(count))
    with (folder / "ids.txt").open("w") as file:
        file.writelines(lines)


class Steps:
    """What each step took: peak and what stayed, in MiB of RssAnon over what was there before it, and seconds."""

    def __init__(self) -> None:
        self.rows: list[list[str]] = []

    def measured(self, name: str, call: Callable[[], object], *, scale: float = 1.0) -> object:
        before, found, start = memory("RssAnon"), list[int](), time.perf_counter()
        with peak_of("RssAnon", found):
            value = call()
        taken, kept = time.perf_counter() - start, memory("RssAnon") - before
        peak = scale * (found[0] - before) / MIB
        tell(f"{name}: {peak:,.0f} MiB, {taken:,.1f} s")
        self.rows.append([name, f"{peak:,.0f}", f"{scale * kept / MIB:,.0f}", f"{taken:,.1f}"])
        return value


def network(side: int) -> torch.nn.Module:
    pool = max(1, side // 7)
    return torch.nn.Sequential(
        torch.nn.AvgPool2d(pool), torch.nn.Flatten(), torch.nn.Linear(3 * (side // pool) ** 2, CLASSES)
    )


def run(folder: Path, steps: Steps) -> None:
    """The steps of a request on the sparse file, in the order in which a job does them."""
    data = steps.measured("load: map, labels, ids, checks, hold-out", lambda: memmap(Where(argument=str(folder))))
    train = data.train  # type: ignore[attr-defined]
    asked = steps.measured(f"request random:{ASKED}", lambda: forget_ids(f"random:{ASKED}", train, 0))
    parts = steps.measured("split into forget and retain", lambda: split(train, asked))  # type: ignore[arg-type]
    retain = parts.retain  # type: ignore[attr-defined]
    steps.measured("order of an epoch", lambda: torch.randperm(len(retain)).tensor_split(len(retain) // 128))
    engine, model = Engine(accelerator="cpu", precision="fp32"), network(train.inputs.shape[-1])
    optim, few = Sgd(lr=0.1, epochs=1, batch=128), retain.take(np.arange(TRAINED) * (len(retain) // TRAINED))
    steps.measured(f"an epoch over {TRAINED:,}", lambda: fit(model, [Source(few)], optim, seed=0, engine=engine))
    some = few.take(np.arange(SCORED))
    steps.measured(f"logits of {SCORED:,}", lambda: engine.logits(model, some.inputs))
    steps.measured("record of what was trained on", lambda: trained_on(train, tuple(asked)))  # type: ignore[arg-type]
    steps.measured(f"SHA-256 of {TRAINED:,} images of true size", few.fingerprint)


def planned(count: int, side: int) -> list[list[str]]:
    """Sizes by arithmetic, in GiB."""
    image = 3 * side**2
    sizes = {
        "inputs.npy on disk (page cache holds what fits; the kernel gives it back)": count * image,
        "a batch of 128, bytes and then floats": 128 * image * 5,
        "ids of 28 letters, as NumPy keeps them (4 bytes a letter), each copy": count * 28 * 4,
        "labels, and one order of all": 2 * count * 8,
        f"logits of all by one model, {CLASSES:,} classes, one view": count * CLASSES * 4,
        f"store of {REFERENCES} references' logits on disk": REFERENCES * count * CLASSES * 4,
        f"readings of {REFERENCES} references by a likelihood attack": REFERENCES * count * 8,
    }
    return [[name, f"{size / 2**30:,.2f}"] for name, size in sizes.items()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1_300_000)
    parser.add_argument("--side", type=int, default=224, help="pixels")
    parser.add_argument("--standin", type=int, default=50_000, help="images of 8 × 8 pixels")
    args = parser.parse_args()
    torch.optim.SGD(
        [torch.zeros(1, requires_grad=True)]
    )  # loads torch's compiler, which is no part of the data's memory
    steps = Steps()
    with tempfile.TemporaryDirectory(prefix="unteach-plan-") as name:
        large, small = Path(name, "large"), Path(name, "small")
        make(small, args.standin, 8, sparse=False)
        train, scale = memmap(Where(argument=str(small))).train, args.count / args.standin
        steps.measured("fingerprint of all (scaled)", train.fingerprint, scale=scale)
        steps.measured("search for near-duplicates (scaled)", lambda: twins(train.inputs), scale=scale)
        make(large, args.count, args.side, sparse=True)
        file = (large / "inputs.npy").stat()
        print(f"inputs.npy: {file.st_size / 2**30:,.1f} GiB, of which {file.st_blocks * 512 / MIB:,.1f} MiB on disk")
        run(large, steps)
    print(markdown(["step", "peak MiB", "kept MiB", "seconds"], steps.rows))
    print(
        f"RssAnon in all: {memory('RssAnon') / MIB:,.0f} MiB; VmHWM, mapped pages included: {memory('VmHWM') / MIB:,.0f} MiB"
    )
    print(markdown(["by arithmetic", "GiB"], planned(args.count, args.side)))


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
