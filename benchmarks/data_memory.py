"""Peak memory of training and forgetting on data that are larger than the memory they are allowed.

    OMP_NUM_THREADS=1 python benchmarks/data_memory.py [--size 1024] [--limit 256]

Writes random colour images of 64 × 64 pixels, ``--size`` MiB in all, into a temporary folder for ``memmap:``, and runs
``unteach train`` and ``unteach forget`` (fine-tuning; one retrained reference, the audit and the report) on them, with a network
that pools and has one linear layer, so that the data are what takes memory. Both run in one process whose data segment may not
grow by more than ``--limit`` MiB (RLIMIT_DATA: what is allocated; pages of files that are only read do not count), measured from
after the same two commands on 200 images, which load all code. It tells by how much its resident anonymous memory (RssAnon)
rose at most, read every 10 ms. The same data as npz:, in memory, must be refused under that limit. The folder is deleted.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

SHAPE = (3, 64, 64)
NETWORK = """
from torch import nn

def pooled():
    return nn.Sequential(nn.AvgPool2d(8), nn.Flatten(), nn.Linear(192, 10))
"""


def fill(folder: Path, size: int) -> None:
    """About ``size`` MiB of random images; half of the classes' patterns shows through."""
    from unteach.data import write_memmap

    rng = np.random.default_rng(0)
    patterns = rng.integers(0, 128, (10, *SHAPE), dtype=np.uint8)
    noise = rng.integers(0, 128, (4096, *SHAPE), dtype=np.uint8)
    count = size * 2**20 // int(np.prod(SHAPE))
    items = ((np.roll(noise[i % 4096], i // 4096, 2) + patterns[i % 10], i % 10, f"{i:07}") for i in range(count))
    write_memmap(folder, items)
    (folder / "network.py").write_text(NETWORK)


def memory(field: str) -> int:
    """A line of /proc/self/status in bytes: RssAnon (resident, of no file), VmData (allocated)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(field))


@contextlib.contextmanager
def peak_of(field: str, found: list[int]) -> Iterator[None]:
    """Appends the largest value of a field while the block runs."""
    over = threading.Event()

    def look() -> None:
        most = memory(field)
        while not over.wait(0.01):
            most = max(most, memory(field))
        found.append(most)

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()


def job(data: str, folder: Path, network: Path) -> None:
    """Train, and forget a hundredth."""
    from unteach.cli import main

    both = [f"--data={data}", f"--model={network}:pooled", "--optim.epochs=1", "--device=cpu", "--quiet=true"]
    request = ["--method=finetune", "--ids=random:0.01", "--references=1", f"--checkpoint={folder}/t/model.safetensors"]
    with contextlib.redirect_stdout(io.StringIO()):
        for arguments in (["train", *both, f"--out={folder}/t"], ["forget", *both, *request, f"--out={folder}/f"]):
            if code := main(arguments):
                raise SystemExit(code)


def measured(folder: Path, limit: int) -> dict[str, float]:
    """The job on a few images, then on all under the limit: growth of RssAnon in bytes, and seconds."""
    with tempfile.TemporaryDirectory() as name:
        out = Path(name)
        (out / "few").mkdir()
        for kind in ("inputs", "labels"):
            np.save(out / "few" / f"{kind}.npy", np.load(folder / f"{kind}.npy", mmap_mode="r")[:200])
        job(f"memmap:{out / 'few'}", out / "first", folder / "network.py")
        most = memory("VmData") + limit * 2**20
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))
        before, found, start = memory("RssAnon"), [], time.perf_counter()
        with peak_of("RssAnon", found):
            job(f"memmap:{folder}", out / "second", folder / "network.py")
        return {"growth": found[0] - before, "seconds": time.perf_counter() - start}


def refused(folder: Path, limit: int) -> bool:
    """Whether the limit holds: all inputs at once must not fit."""
    most = memory("VmData") + limit * 2**20
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))
    try:
        np.load(folder / "inputs.npy")
    except MemoryError:
        return True
    return False


def in_process(what: str, folder: Path, limit: int) -> dict[str, float] | bool:
    """What a fresh process finds."""
    command = [sys.executable, __file__, "--limit", str(limit), "--one", what, str(folder)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    told = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment).stdout
    answer: dict[str, float] | bool = json.loads(told)
    return answer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=1024, help="MiB of images")
    parser.add_argument("--limit", type=int, default=256, help="MiB that may be allocated")
    parser.add_argument("--one", nargs=2, metavar=("WHAT", "FOLDER"), help="for the processes that this one starts")
    args = parser.parse_args()
    if args.one:
        print(json.dumps({"job": measured, "load": refused}[args.one[0]](Path(args.one[1]), args.limit)))
        return
    with tempfile.TemporaryDirectory(prefix="unteach-data-") as name:
        folder = Path(name) / "data"
        fill(folder, args.size)
        size = (folder / "inputs.npy").stat().st_size
        print(
            f"inputs: {size / 2**20:,.0f} MiB; limit: {args.limit:,} MiB; {size / 2**20 / args.limit:.1f} times the limit"
        )
        print(f"all inputs at once: {'refused' if in_process('load', folder, args.limit) else 'fit'}")
        found = in_process("job", folder, args.limit)
        assert isinstance(found, dict)
        print(f"train and forget: {found['growth'] / 2**20:,.0f} MiB of memory, {found['seconds']:.0f} s")


if __name__ == "__main__":
    main()
