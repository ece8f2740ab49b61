"""The whole story on Fashion-MNIST by the command line, from nothing to five reports. Target P10.

    python benchmarks/story.py                    # about ten minutes on two quiet cores
    python benchmarks/story.py --quick            # the same on digits, with four models

Trains small-cnn on 60,000 images for five epochs without augmentation, trains 16 models on random halves and 3 without the
request (two workers), makes five methods forget 10 %, audits each by all of them (RMIA and LiRA among the measures), and writes
five reports. Every command is a process of its own, its start included; nothing is there beforehand. The models of the audit have
the recipe of the model that is audited: the arithmetic of the target gave that one ten epochs and them five.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from measure import Neighbours, markdown, tell
from part import arguments, run
from unteach.store import read_json
from unteach.types import Refusal

METHODS = ("finetune", "random-label", "neggrad-plus", "salun", "amun")
CORES = 2
ALONE = ["--threads", "1"]


def commands(folder: Path, *, quick: bool) -> tuple[dict[str, list[str]], ...]:
    """Stage to command, in order; those of one dictionary need nothing of each other."""
    data = ["--data", "digits" if quick else "fashion-mnist"]
    model, cache = ["--checkpoint", str(folder / "original" / "model.safetensors")], str(folder / "cache")
    halves, ids = "4" if quick else "16", ["--ids", "random:0.1"]
    network = {"model": "small-cnn"}
    recipe = {"optim.epochs": "5", "optim.schedule": "onecycle", "augment.crop": "0", "augment.flip": "false"}
    workers = ["--executor.workers", str(CORES), "--quiet", "true"]
    train = [*flags(network | recipe), *ALONE, "--out", str(folder / "original"), "--quiet", "true"]
    plan = ["--halves", halves, "--retrains", "3", "--folder", cache]
    plan += flags(network | {f"recipe.{name}": value for name, value in recipe.items()})
    models = {
        "train": ["train", *data, *train],
        "models of the audit": ["references", *data, *ids, *plan, *workers],
    }
    depth = ["--tier", "quick", "--halves", halves, "--cache", cache, *ALONE, *workers]
    forget = {
        name: ["forget", *model, *data, *ids, "--method", name, *depth, "--out", str(folder / name)] for name in METHODS
    }
    return models, forget


def flags(settings: dict[str, str]) -> list[str]:
    return [part for name, value in settings.items() for part in (f"--{name}", value)]


def story(asked: argparse.Namespace) -> dict[str, Any]:
    folder: Path = asked.folder
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    told: dict[str, Any] = {"stages": {}, "methods": {}}
    start, others = time.perf_counter(), Neighbours()

    def stage(name: str, command: list[str]) -> None:
        before = time.perf_counter()
        run_command(command, folder / f"{name}.log")
        told["stages"][name] = time.perf_counter() - before
        tell(f"{name}: {told['stages'][name]:.1f} s")

    for beside in commands(folder, quick=asked.quick):
        with ThreadPoolExecutor(CORES) as pool:
            for done in [pool.submit(stage, name, command) for name, command in beside.items()]:
                done.result()
    told["seconds"], busy = time.perf_counter() - start, others.share()
    told["methods"] = {name: seen(folder / name) for name in METHODS}
    told["note"] = (
        f"others {busy:.0%} of a core; {len(METHODS)} methods, {CORES} at a time; longest: {longest(told['stages'])}"
    )
    rows = [[stage, f"{seconds:.1f}"] for stage, seconds in told["stages"].items()]
    print(markdown(["stage", "seconds"], [*rows, ["all", f"{told['seconds']:.1f}"]]))
    print("\n" + markdown(["method", "verdict", "forget", "test", "RMIA's AUC"], told["methods"].values()))
    return told


def run_command(command: list[str], log: Path) -> None:
    """One command line of unteach in a process of its own.

    Raises: Refusal with its last line where it refuses; CalledProcessError where it fails.
    """
    # Each command takes its threads from its flags: the harness's single one is not meant for it.
    settings = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    with log.open("w") as file:
        done = subprocess.run([sys.executable, "-m", "unteach.cli", *command], env=settings, stdout=file, stderr=file)
    if done.returncode == 2:
        raise Refusal(log.read_text().splitlines()[-1].removeprefix("unteach: "))
    done.check_returncode()


def longest(stages: dict[str, float]) -> str:
    name = max(stages, key=lambda each: stages[each])
    return f"{name}, {stages[name]:.0f} s"


def seen(folder: Path) -> list[str]:
    """What a method's report says of it, beside the retrained models."""
    found: Any = read_json(folder / "findings.json")
    sides = [found["models"][who]["accuracy"] for who in ("unlearned", "retrained")]
    accuracies = [f"{100 * sides[0][part]:.2f} / {100 * sides[1][part]:.2f}" for part in ("forget", "test")]
    rmia = [one for one in found["measures"] if one["name"].startswith("RMIA") and one.get("value") is not None]
    attack = f"{rmia[0]['value']:.3f} / {rmia[0].get('target', float('nan')):.3f}" if rmia else "-"
    return [folder.name, found["verdict"], *accuracies, attack]


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--folder", type=Path, default=Path("runs/story"), help="deleted first")
    run(story, parser.parse_args())


if __name__ == "__main__":
    main()
