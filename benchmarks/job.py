"""Where the seconds of an erasure job go, from the command to the report, by the size of the request.

    OMP_NUM_THREADS=1 python benchmarks/job.py --checkpoint runs/original/model.safetensors [--ids 10 1000 10000]

Runs ``unteach forget`` (Fashion-MNIST, AMUN, two retrained models) in a process of its own for every request and way, and adds up
wall-clock seconds by stage; what a stage calls of another stage counts there. Ways: *first*, as it comes, with an empty cache;
*second*, another method for the same request, which finds retrained models, logits and adversarial examples; *sampled*, the
second method with epochs of so many examples. One thread, the process's start included. The checkpoint is trained when absent.
"""

from __future__ import annotations

import argparse
import functools
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from measure import Neighbours, markdown, tell
from unteach.store import read_json, write_json

STAGES = (
    "start, imports",
    "reading data and models",
    "splitting",
    "adversarial examples",
    "fine-tuning",
    "retrained models",
    "logits",
    "judging",
    "report",
    "rest",
)


class Clock:
    """Seconds by stage; a stage that begins within another stops its clock meanwhile."""

    def __init__(self, start: float) -> None:
        self.seconds = dict.fromkeys(STAGES, 0.0)
        self.stack = ["start, imports"]
        self.at = start

    def turn(self) -> None:
        now = time.time()
        self.seconds[self.stack[-1]] += now - self.at
        self.at = now

    def around(self, holder: Any, name: str, stage: str) -> None:
        """Let this function of a module or class belong to a stage."""
        inner: Callable[..., Any] = getattr(holder, name)

        @functools.wraps(inner)
        def timed(*arguments: Any, **named: Any) -> Any:
            self.turn()
            self.stack.append(stage)
            try:
                return inner(*arguments, **named)
            finally:
                self.turn()
                self.stack.pop()

        setattr(holder, name, timed)


def child(file: Path, start: float, arguments: list[str]) -> None:
    """One job, with a clock in it."""
    import unteach.report
    import unteach.train
    from unteach import adversarial, cli, engine, runtime
    from unteach.references import job
    from unteach.verbs import evaluation, forget, settings

    clock = Clock(start)
    clock.turn()
    for holder, name, stage in (
        (forget.Forget, "__call__", "rest"),
        (settings.DataChoice, "load", "reading data and models"),
        (forget, "checkpoint_at", "reading data and models"),
        (forget, "check_data", "reading data and models"),
        (forget, "request", "splitting"),
        (forget, "load_optimisers", "start, imports"),
        (forget, "unlearn", "fine-tuning"),
        (adversarial, "search", "adversarial examples"),
        (job.TrainingJob, "__call__", "retrained models"),
        (engine.Engine, "logits", "logits"),
        (evaluation, "audit", "judging"),
        (unteach.report, "render", "report"),
    ):
        clock.around(holder, name, stage)
    runtime.settle_allocator()
    code = cli.main(arguments)
    clock.turn()
    write_json(file, clock.seconds)
    sys.exit(code)


def job(checkpoint: Path, ids: int, out: Path, *more: str) -> dict[str, float]:
    raw = out.parent / f"{out.name}.json"
    command = ["forget", "--checkpoint", str(checkpoint), "--data", "fashion-mnist", "--ids", f"random:{ids}"]
    command += ["--out", str(out), "--threads", "1", "--quiet", "true", *more]
    asked = json.dumps([str(raw), time.time(), command])
    with (out.parent / "log.txt").open("a") as log:
        subprocess.run([sys.executable, __file__, "--child", asked], check=True, stdout=log, stderr=log)
    return read_json(raw)  # type: ignore[return-value]


def measured(checkpoint: Path, ids: int, folder: Path, sample: int) -> dict[str, dict[str, float]]:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    found = {"first": job(checkpoint, ids, folder / "first")}
    tell(f"{ids} ids, first: {sum(found['first'].values()):.1f} s")
    found["second"] = job(checkpoint, ids, folder / "second", "--method", "amun-adv-only")
    tell(f"{ids} ids, second: {sum(found['second'].values()):.1f} s")
    cheap = ("--method", "amun-adv-only", "--optim.sample", str(sample))
    found["sampled"] = job(checkpoint, ids, folder / "sampled", *cheap)
    tell(f"{ids} ids, sampled: {sum(found['sampled'].values()):.1f} s")
    return found


def original(path: Path) -> Path:
    """small-cnn after 12 epochs without augmentation, trained here if it is not there."""
    if not path.is_file():
        command = ["train", "--data", "fashion-mnist", "--model", "small-cnn", "--optim.epochs", "12"]
        command += ["--augment.crop", "0", "--augment.flip", "false", "--threads", "1", "--out", str(path.parent)]
        subprocess.run([sys.executable, "-m", "unteach.cli", *command], check=True)
    return path


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        file, start, arguments = json.loads(sys.argv[2])
        child(Path(file), start, arguments)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, default=Path("runs/job/original/model.safetensors"))
    parser.add_argument("--ids", type=int, nargs="*", default=[10, 1000, 10_000])
    parser.add_argument("--sample", type=int, default=2000)
    parser.add_argument("--folder", type=Path, default=Path("runs/job/runs"), help="deleted first")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    checkpoint, others = original(asked.checkpoint), Neighbours()
    found = {ids: measured(checkpoint, ids, asked.folder / str(ids), asked.sample) for ids in asked.ids}
    columns = [(ids, way) for ids in asked.ids for way in found[ids]]
    rows = [[stage, *(f"{found[ids][way][stage]:.1f}" for ids, way in columns)] for stage in STAGES]
    rows.append(["all", *(f"{sum(found[ids][way].values()):.1f}" for ids, way in columns)])
    print(markdown(["seconds", *(f"{ids:,}, {way}" for ids, way in columns)], rows))
    print(f"\nothers {others.share():.0%} of a core")
    if asked.json:
        write_json(asked.json, found)


if __name__ == "__main__":
    main()
