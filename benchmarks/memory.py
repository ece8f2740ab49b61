"""Peak memory of attacks on a logit store that is larger than the memory they are allowed.

    OMP_NUM_THREADS=1 python benchmarks/memory.py [--models 128] [--views 8] [--limit 1.5]

Makes a store of random logits (models × views × 60,000 examples × 10 classes, float32) in a temporary folder. Every attack runs
in a process of its own whose data segment may not grow by more than ``--limit`` GiB (RLIMIT_DATA: what is allocated, and private
maps that may be written, as safetensors' are; a store read at once would be refused), and tells its peak of resident memory:
with the pages of the store that are mapped at that moment, less what Python, torch and the store's examples hold before.
One row an attack, on one model; likelihood attacks take all others as references. The folder is deleted afterwards.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from measure import markdown
from unteach.audit import MEMBERSHIP
from unteach.audit.lira import Lira, OfflineLira
from unteach.audit.membership import MembershipTest
from unteach.audit.rmia import OfflineRmia, Rmia
from unteach.logit_store import LogitStore

EXAMPLES, CLASSES = 60_000, 10
ATTACKS: dict[str, type[MembershipTest]] = MEMBERSHIP | {
    "LiRA online": Lira,
    "LiRA offline": OfflineLira,
    "RMIA online": Rmia,
    "RMIA offline": OfflineRmia,
}


def fill(folder: Path, models: int, views: int) -> int:
    """A target that trained on the first half of the examples, and references on random halves; the size in bytes."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, CLASSES, EXAMPLES)
    store = LogitStore.open(folder, ids=np.arange(EXAMPLES).astype(str), labels=labels)
    # Float32 normals are the slowest part: one table, rolled, does for all models.
    noise = rng.standard_normal((views, EXAMPLES, CLASSES), dtype=np.float32)
    for at in range(models):
        members = rng.random(EXAMPLES) < 0.5 if at else np.arange(EXAMPLES) < EXAMPLES // 2
        logits = np.roll(noise, 997 * at, axis=1)
        logits[:, np.arange(EXAMPLES), labels] += 2 + 2 * members
        store.put(f"m{at:03}", logits, members=members)
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def allocated() -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmData"))
    return int(line.split()[1]) * 1024


def attack(folder: Path, name: str, limit: float) -> dict[str, float]:
    """One attack on the first model; its own peak in bytes, and its seconds."""
    keys = LogitStore.existing(folder).keys()
    signals = LogitStore.existing(folder).signals(keys[:1], references=keys[1:])
    before, most = peak(), allocated() + int(limit * 2**30)
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))
    start = time.perf_counter()
    scores = ATTACKS[name]()(signals, 0)
    seconds = time.perf_counter() - start
    low, high = scores[EXAMPLES // 2 :].mean(), scores[: EXAMPLES // 2].mean()
    assert np.isfinite(scores).all(), name
    assert high > low or name == "two-sided", name
    return {"peak": peak() - before, "seconds": seconds}


def refused(folder: Path, limit: float) -> bool:
    """Whether the limit holds: all logits in one array must not fit."""
    keys = LogitStore.existing(folder).keys()
    stack = LogitStore.existing(folder).signals(keys).logits
    most = allocated() + int(limit * 2**30)
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))
    try:
        np.stack([stack[at] for at in range(len(stack))])
    except MemoryError:
        return True
    return False


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=int, default=128)
    parser.add_argument("--views", type=int, default=8)
    parser.add_argument("--limit", type=float, default=1.5, help="GiB that an attack may allocate")
    parser.add_argument("--one", nargs=2, metavar=("FOLDER", "ATTACK"), help="for the processes that this one starts")
    args = parser.parse_args()
    if args.one:
        folder = Path(args.one[0])
        known = args.one[1] in ATTACKS
        print(json.dumps(attack(folder, args.one[1], args.limit) if known else refused(folder, args.limit)))
        return
    with tempfile.TemporaryDirectory(prefix="unteach-memory-") as name:
        size = fill(Path(name), args.models, args.views)

        def one(what: str) -> dict[str, float]:
            command = [sys.executable, __file__, "--limit", str(args.limit), "--one", name, what]
            told: dict[str, float] = json.loads(
                subprocess.run(command, check=True, capture_output=True, text=True).stdout
            )
            return told

        print(f"store: {args.models} × {args.views} × {EXAMPLES:,} × {CLASSES}, {size / 2**20:,.0f} MiB")
        print(f"limit: {args.limit * 1024:,.0f} MiB; all logits at once: {'refused' if one('all') else 'fit'}")
        rows = []
        for what in ATTACKS:
            found = one(what)
            share = f"{found['peak'] / size:.0%}"
            rows.append([what, f"{found['peak'] / 2**20:,.0f}", share, f"{found['seconds']:.1f}"])
        print(markdown(["attack", "peak (MiB)", "of the store", "seconds"], rows))


if __name__ == "__main__":
    main()
