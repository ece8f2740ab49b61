"""Hostile files for every reader of outside bytes, and a table of what came of them.

    OMP_NUM_THREADS=1 python benchmarks/fuzz.py [--seconds 10] [--inputs 0] [--seed 0] [--only WORD ...]

The targets, their sound files and what must not happen are those of ``tests/fuzz``: each input is a folder of sound files, one
or two of which were changed; a reader has to return or to refuse it in a sentence. Every target has a process of its own, so that
one that is taken down is told too. With ``atheris`` installed (in a virtual environment of your own) the inputs are guided by the
coverage of unteach's code; without it they are drawn blindly. Prints a Markdown table, and every fault with the input that shows
it again. Exits with 1 where there was a fault.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from importlib.util import find_spec
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).parents[1] / "tests")  # ``fuzz`` there is a folder; here it is this file
ROOMS = ("data_readers", "model_readers", "run_readers")


def targets() -> dict[str, Any]:
    """All targets by name."""
    from importlib import import_module

    return {target.name: target for room in ROOMS for target in import_module(f"fuzz.{room}").TARGETS}


def work(name: str, folder: Path, seconds: float, inputs: int, seed: int) -> None:
    """Try one target until its time or its inputs are over; what came of it goes to ``folder/tally.json``."""
    guided = find_spec("atheris") is not None
    if guided:
        import atheris
    with atheris.instrument_imports(include=["unteach"]) if guided else nullcontext():
        from fuzz.hostile import Fault, attempt, warm

        target = targets()[name]
    warm(target, folder)
    tally: Counter[str] = Counter()
    faults: dict[str, str] = {}
    start = time.process_time()

    def one(pick: Callable[[int], int]) -> None:
        files = target.input(pick)
        (folder / "tried.json").write_text(json.dumps({path: content.hex() for path, content in files.items()}))
        try:
            tally[attempt(target, files, folder)] += 1
        except Fault as fault:
            tally["fault"] += 1
            if fault.key not in faults:
                faults[fault.key] = str(fault)
                (folder / "tried.json").rename(folder / f"fault-{len(faults)}.json")
        spent = time.process_time() - start
        over = spent > seconds or (inputs and tally.total() >= inputs)
        if over or tally.total() % 20 == 0:
            (folder / "tally.json").write_text(json.dumps({"tally": tally, "faults": faults, "seconds": spent}))
        if over:
            os._exit(0)  # libFuzzer would go on

    if not guided:
        generator = random.Random(seed)
        while True:
            one(generator.randrange)

    def from_bytes(data: bytes) -> None:
        provider = atheris.FuzzedDataProvider(data)
        one(lambda n: provider.ConsumeIntInRange(0, n - 1))

    options = [f"-seed={seed + 1}", "-len_control=0", "-max_len=2048", "-timeout=60", "-rss_limit_mb=0", "-verbosity=0"]
    atheris.Setup([sys.argv[0], *options], from_bytes)
    atheris.Fuzz()


def outcome(name: str, folder: Path, given: argparse.Namespace) -> dict[str, Any]:
    """What came of one target in a process of its own."""
    told = [
        "--target",
        name,
        "--folder",
        folder,
        "--seconds",
        given.seconds,
        "--inputs",
        given.inputs,
        "--seed",
        given.seed,
    ]
    limit = 60 + 10 * given.seconds
    try:
        ran = subprocess.run(
            [sys.executable, __file__, *map(str, told)], timeout=limit, capture_output=True, text=True, check=False
        )
        ended, words = ran.returncode, ran.stderr
    except subprocess.TimeoutExpired:
        ended, words = -9, f"nothing came of it in {limit:.0f} s"
    file = folder / "tally.json"
    found: dict[str, Any] = (
        json.loads(file.read_text()) if file.is_file() else {"tally": {}, "faults": {}, "seconds": 0}
    )
    if ended:
        found["tally"]["fault"] = found["tally"].get("fault", 0) + 1
        found["faults"][f"{name}: the process ended with {ended}"] = words[-3000:]
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10.0, help="processor time for each target")
    parser.add_argument("--inputs", type=int, default=0, help="inputs for each target at most; 0 for no such limit")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", default=[""], help="targets with one of these in their names")
    parser.add_argument("--keep", type=Path, default=None, help="folder for what was tried last and for faulty inputs")
    parser.add_argument("--target", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.target:
        work(given.target, given.folder, given.seconds, given.inputs, given.seed)
    kept = given.keep or Path(tempfile.mkdtemp(prefix="unteach-fuzz-"))
    print(f"Inputs {'guided by coverage (atheris)' if find_spec('atheris') else 'drawn blindly'}, seed {given.seed}.\n")
    print("| target | inputs tried | refusals | results | faults | processor time, s |\n|---|---|---|---|---|---|")
    total: Counter[str] = Counter()
    stories = []
    for number, name in enumerate(name for name in targets() if any(word in name for word in given.only)):
        folder = kept / str(number)
        folder.mkdir(parents=True, exist_ok=True)
        found = outcome(name, folder, given)
        tally = Counter(found["tally"])
        total += tally
        stories += [f"{key} ({folder})\n{story}" for key, story in found["faults"].items()]
        counts = " | ".join(f"{tally[what]:,}" for what in ("refusal", "result", "fault"))
        print(f"| {name} | {tally.total():,} | {counts} | {found['seconds']:.0f} |", flush=True)
    print(f"| all | {total.total():,} | {total['refusal']:,} | {total['result']:,} | {total['fault']:,} | |\n")
    print("\n\n".join(stories))
    return 1 if stories else 0


if __name__ == "__main__":
    sys.exit(main())
