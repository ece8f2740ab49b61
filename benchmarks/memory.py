"""Peak memory of attacks on a logit store that is larger than the memory they are allowed.

    OMP_NUM_THREADS=1 python benchmarks/memory.py [--references 128] [--views 8] [--limit 1.5]

Makes a store of random logits in a temporary folder: a target and references × views × 60,000 examples × 10 classes, float32.
Every attack runs in a process of its own whose data segment may not grow by more than ``--limit`` GiB (RLIMIT_DATA: what is
allocated, and private maps that may be written, as safetensors' are; the store read at once is refused), and tells by how much
its resident memory rose at most, mapped pages of the store included. Population attacks score 16 models, one after the other;
likelihood attacks score the target with all references; the last row is an audit's part of them, all five attacks on the
target with their games. The folder is deleted afterwards.

CIFAR-10 as an audit keeps it: ``--views 1`` and ``--views 2``.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from measure import markdown
from unteach.audit import MEMBERSHIP
from unteach.audit.finding import Finding
from unteach.audit.games import pools
from unteach.audit.likelihood import likelihood_games
from unteach.audit.lira import Lira, OfflineLira
from unteach.audit.membership import MembershipTest
from unteach.audit.rmia import OfflineRmia, Rmia
from unteach.logit_store import LogitStore

EXAMPLES, CLASSES, JUDGED = 60_000, 10, 16
LIKELIHOOD: dict[str, type[MembershipTest]] = {
    "LiRA online": Lira,
    "LiRA offline": OfflineLira,
    "RMIA online": Rmia,
    "RMIA offline": OfflineRmia,
}
TOGETHER = "all likelihood attacks"


def fill(folder: Path, references: int, views: int) -> int:
    """A target that trained on the first half of the examples, and pairs of references on complementary random halves."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, CLASSES, EXAMPLES)
    store = LogitStore.open(folder, ids=np.arange(EXAMPLES).astype(str), labels=labels)
    # Float32 normals are the slowest part: one table, rolled, does for all models.
    noise = rng.standard_normal((views, EXAMPLES, CLASSES), dtype=np.float32)
    members = np.arange(EXAMPLES) < EXAMPLES // 2
    for at in range(references + 1):
        if at:
            members = rng.random(EXAMPLES) < 0.5 if at % 2 else ~members
        logits = np.roll(noise, 997 * at, axis=1)
        logits[:, np.arange(EXAMPLES), labels] += 2 + 2 * members
        store.put(f"m{at:03}", logits, members=members)
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def memory(field: str) -> int:
    """A line of /proc/self/status in bytes: VmRSS (resident), VmHWM (its peak), VmData (allocated)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(field))


def bound(limit: float) -> None:
    """From here on no more than ``limit`` GiB on top may be allocated, and the peak counts anew."""
    most = memory("VmData") + int(limit * 2**30)
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))
    Path("/proc/self/clear_refs").write_text("5")


def attack(folder: Path, name: str, limit: float) -> dict[str, float]:
    """One attack's own peak in bytes, and its seconds."""
    store = LogitStore.existing(folder)
    if name == TOGETHER:
        return audited(store, limit)
    keys, alone = store.keys(), name in MEMBERSHIP
    signals = store.signals(keys) if alone else store.signals(keys[:1], references=keys[1:])
    if alone:  # what a population attack calls unseen is what no model of an audit was trained on, its references aside
        signals = replace(signals, members=np.broadcast_to(signals.members[0], signals.members.shape))
    test = (MEMBERSHIP | LIKELIHOOD)[name]()
    bound(limit)
    before = memory("VmRSS")
    start = time.perf_counter()
    for at in reversed(range(JUDGED if alone else 1)):
        scores = test(signals, at)  # in the end those of the target
    seconds = time.perf_counter() - start
    low, high = scores[EXAMPLES // 2 :].mean(), scores[: EXAMPLES // 2].mean()
    assert np.isfinite(scores).all(), name
    assert high > low or name == "two-sided", name
    return {"peak": memory("VmHWM") - before, "seconds": seconds}


def audited(store: LogitStore, limit: float) -> dict[str, float]:
    """All likelihood attacks and their games, 1,000 examples forgotten, as an audit plays them."""
    keys, members = store.keys(), np.arange(EXAMPLES) < EXAMPLES // 2
    signals = store.signals(keys[:1], references=keys[1:])
    forget = members & (np.arange(EXAMPLES) < 1000)
    pool = pools(signals, retain=members & ~forget, forget=forget, test=~members)
    bound(limit)
    before, start = memory("VmRSS"), time.perf_counter()
    found = likelihood_games(signals, 0, (), pool)
    assert len({item.name.split(" AUC")[0] for item in found if isinstance(item, Finding)}) >= 5
    return {"peak": memory("VmHWM") - before, "seconds": time.perf_counter() - start}


def refused(folder: Path, limit: float) -> bool:
    """Whether the limit holds: all logits in one array must not fit."""
    keys = LogitStore.existing(folder).keys()
    stack = LogitStore.existing(folder).signals(keys).logits
    bound(limit)
    try:
        np.stack([stack[at] for at in range(len(stack))])
    except (MemoryError, RuntimeError):  # NumPy, and the map of a file
        return True
    return False


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--references", type=int, default=128)
    parser.add_argument("--views", type=int, default=8)
    parser.add_argument("--limit", type=float, default=1.5, help="GiB that an attack may allocate")
    parser.add_argument("--only", nargs="*", help="these attacks alone")
    parser.add_argument("--one", nargs=2, metavar=("FOLDER", "ATTACK"), help="for the processes that this one starts")
    args = parser.parse_args()
    if args.one:
        folder = Path(args.one[0])
        known = args.one[1] in {*MEMBERSHIP, *LIKELIHOOD, TOGETHER}
        print(json.dumps(attack(folder, args.one[1], args.limit) if known else refused(folder, args.limit)))
        return
    with tempfile.TemporaryDirectory(prefix="unteach-memory-") as name:
        size = fill(Path(name), args.references, args.views)

        def one(what: str) -> dict[str, float]:
            command = [sys.executable, __file__, "--limit", str(args.limit), "--one", name, what]
            told: dict[str, float] = json.loads(
                subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
            )
            return told

        print(f"store: {args.references + 1} × {args.views} × {EXAMPLES:,} × {CLASSES}, {size / 2**20:,.0f} MiB")
        print(f"limit: {args.limit * 1024:,.0f} MiB; all logits at once: {'refused' if one('all') else 'fit'}")
        rows = []
        for what in args.only or (*MEMBERSHIP, *LIKELIHOOD, TOGETHER):
            found = one(what)
            share = f"{found['peak'] / size:.0%}"
            rows.append([what, f"{found['peak'] / 2**20:,.0f}", share, f"{found['seconds']:.1f}"])
        print(markdown(["attack", "peak (MiB)", "of the store", "seconds"], rows))


if __name__ == "__main__":
    main()
