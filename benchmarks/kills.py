"""Jobs killed at random instants and started again: is anything lost, half written, or other than undisturbed?

    OMP_NUM_THREADS=1 nice -n 10 python benchmarks/kills.py [--kills 200] [--folder runs/kills] [--minutes 25]

Small jobs of ``train``, ``forget`` (AMUN, two retrained references, audit, report), ``audit`` and ``request run`` (two requests
that wait, a third that is added while it is at work) on 300 digits and a small CNN of two epochs. A job's process group gets
SIGKILL once to five times, half of the times after a random share of an undisturbed job's seconds, half at a random one of the
changes that its folder goes through (a file appears, grows or is renamed). After each kill every file under a final name must be
whole and every request that was promised there with its ids. Then it is started again; when it is over, its files must be
those of an undisturbed job, and no others: the same bytes, but for what tells times (in headers, ``findings.json`` and the ledger
by the names in ``whole.TIMES``), events told twice, and reports, which must be whole. Processes are forked off with everything
imported, so that all the time that they run is their own. What was done is kept in ``kills.json``; the same command goes on.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

import unteach.verbs  # which the processes that are forked off then need not
from unteach.cli import main as unteach
from unteach.data import load
from unteach.ledger import Queue
from unteach.store import read_json, write, write_json
from whole import contents, damage, different, listing

FAST = ("--device=cpu", "--precision=fp32", "--threads=1", "--quiet=true")
ALONE = "--reuse=false"  # each begins with nothing, as the first one did
BRIEF = ("--optim.epochs=2", "--optim.batch=32")
PROMISED = {"first": ["digit 1", "digit 2", "digit 3"], "second": ["digit 4", "digit 5"]}
LATE = ["digit 20", "digit 21"]  # the request that is added meanwhile


@dataclass(frozen=True)
class Job:
    """A command whose results are in ``folder``, how the folder begins, and what happens while it is at work."""

    verb: str
    command: Callable[[Path], list[str]]
    begin: Callable[[Path], object] = lambda folder: None
    meanwhile: Callable[[Path], object] = lambda folder: None

    @property
    def name(self) -> str:
        """For folders."""
        return self.verb.replace(" ", "-")


@dataclass(frozen=True)
class Known:
    """Of an undisturbed job: its seconds, the changes seen in its folder, and what its files hold."""

    seconds: float
    changes: int
    content: dict[str, Any]


def start(arguments: list[str], log: Path) -> int:
    """The command line in a process group of its own; returns its number."""
    log.parent.mkdir(parents=True, exist_ok=True)
    child = os.fork()
    if child:
        with contextlib.suppress(PermissionError, ProcessLookupError):
            os.setpgid(child, child)
        return child
    code = 99
    try:
        os.setpgid(0, 0)
        with log.open("a") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        code = unteach(arguments)
        sys.stdout.flush()
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def over(child: int, wait: bool = False) -> int | None:
    """Its exit code, or None while it is at work."""
    done, status = os.waitpid(child, 0 if wait else os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if done else None


def struck(child: int, folder: Path, *, after: float = float("inf"), changes: float = float("inf")) -> tuple[bool, int]:
    """Kill the group after so many seconds or changes of the folder; returns whether it still lived, and the changes seen."""
    until, seen, last = time.monotonic() + after, 0, listing(folder)
    while (code := over(child)) is None and time.monotonic() < until and seen < changes:
        time.sleep(0.0005)
        if (now := listing(folder)) != last:
            seen, last = seen + 1, now
    if code is not None:
        if code:
            raise SystemExit(f"expected an undisturbed job to end with 0, got {code}; see the log beside {folder}")
        return False, seen
    os.killpg(child, signal.SIGKILL)
    over(child, wait=True)
    return True, seen


def lost(folder: Path, promised: dict[str, list[str]]) -> Iterator[str]:
    """Requests that were promised and are not there with their ids."""
    queue = Queue(folder)
    known = {request.key: request for request in queue.state().requests} if promised else {}
    for key, ids in promised.items():
        if key not in known or queue.ids(known[key]) != ids:
            yield f"request {key} is lost"


def undisturbed(job: Job, folder: Path) -> Known:
    """The job twice; all that it makes must be the same both times."""
    found: list[Known] = []
    for _ in range(2):
        made = fresh(job, folder / job.name)
        begun = time.monotonic()
        child = start(job.command(made), made.with_suffix(".log"))
        job.meanwhile(made)
        _, changes = struck(child, made)
        seconds = time.monotonic() - begun
        again(job, made)
        found.append(Known(seconds, changes, contents(made)))
    if differ := different(found[0].content, found[1].content):
        raise SystemExit(f"expected two undisturbed jobs of {job.verb} to make the same, got other {', '.join(differ)}")
    return replace(found[0], seconds=min(each.seconds for each in found))


def fresh(job: Job, folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.with_suffix(".log").unlink(missing_ok=True)
    job.begin(folder)
    return folder


def again(job: Job, folder: Path) -> None:
    """The same command, undisturbed."""
    struck(start(job.command(folder), folder.with_suffix(".log")), folder)


def life(job: Job, known: Known, folder: Path, rng: random.Random, promised: dict[str, list[str]]) -> dict[str, Any]:
    """One job from its first start to its end, killed once to five times; what was seen of it."""
    kills: list[dict[str, Any]] = []
    faults: list[str] = []
    fresh(job, folder)
    began = listing(folder)
    results = known.content.keys() - began.keys() - {"runner.lock", "requests/0003.json"}
    most, first = rng.randint(1, 5), True
    while len(kills) < most:
        clock = rng.random() < 0.5
        when = {"after": rng.uniform(0, known.seconds)} if clock else {"changes": rng.randint(1, known.changes)}
        child = start(job.command(folder), folder.with_suffix(".log"))
        if first:
            job.meanwhile(folder)
        first = False
        hit, _ = struck(child, folder, **when)
        if not hit:
            break
        there = listing(folder)
        named = {name for name in there if not Path(name).name.startswith(".")}
        at = "after" if results <= named else "between" if results & named else "before"
        kills.append({"clock": clock, "at": at, "half": len(there) > len(named)})
        faults += [*damage(folder), *lost(folder, promised)]
    for _ in range(2 if promised else 1):  # once more for the request that came meanwhile
        again(job, folder)
    left = [name for name in listing(folder) if name not in known.content]
    faults += [*damage(folder), *lost(folder, promised), *(f"{name} is left over" for name in left)]
    differ = [] if faults else different(contents(folder), known.content)
    return {"verb": job.verb, "kills": kills, "faults": faults, "differ": differ}


def jobs(folder: Path) -> list[Job]:
    """The four jobs, on what they need, which is made first."""
    data = folder / "digits.npz"
    if not data.is_file():
        make_data(data)
    made, flags = {name: folder / "made" / name for name in ("train", "forget", "queue")}, [f"--data=npz:{data}", *FAST]
    models = [made["forget"] / f"retrained-{number}.safetensors" for number in (0, 1)]
    original = f"{made['train']}/model.safetensors"

    def train(out: Path) -> list[str]:
        return ["train", *flags, *BRIEF, f"--out={out}"]

    def forget(out: Path) -> list[str]:
        method = ["--method=amun", "--preset=false", *BRIEF, "--optim.lr=0.01", "--ids=random:0.1"]
        return ["forget", *flags, ALONE, *method, f"--checkpoint={original}", f"--out={out}"]

    def audit(out: Path) -> list[str]:
        given = [f"--original={original}", "--retrained", *map(str, models), f"--ids={made['forget']}/forget.txt"]
        return ["audit", *flags, ALONE, f"--unlearned={made['forget']}/model.safetensors", *given, f"--out={out}"]

    def run(queue: Path) -> list[str]:
        return ["request", "run", f"--queue={queue}", *FAST]

    for name, command in (("train", train), ("forget", forget)):
        again(Job(name, command), made[name])
    if not (made["queue"] / "ledger.sqlite").is_file():
        method = ["--method=finetune", "--preset=false", *BRIEF, "--optim.lr=0.01", "--budget.drop=100"]
        opened = ["request", "open", f"--queue={made['queue']}", *flags, *method, f"--checkpoint={original}"]
        again(Job("open", lambda _: opened), made["queue"])
    for key, ids in PROMISED.items():
        Queue(made["queue"]).add(ids, key=key)
    return [
        Job("train", train),
        Job("forget", forget),
        Job("audit", audit),
        Job(
            "request run",
            run,
            lambda queue: shutil.copytree(made["queue"], queue),
            lambda queue: Queue(queue).add(LATE, key="late"),
        ),
    ]


def make_data(path: Path) -> None:
    """300 digits to train on and 100 to test on."""
    digits = load("digits")
    train, test = digits.train.take(np.arange(300)), digits.test.take(np.arange(100))
    arrays = {"inputs": train.inputs.numpy(), "labels": train.labels.numpy(), "ids": [f"digit {i}" for i in range(300)]}
    arrays |= {"test_inputs": test.inputs.numpy(), "test_labels": test.labels.numpy()}

    def put(made: Path) -> None:
        with made.open("wb") as file:
            np.savez(file, **arrays)

    write(path, put)


def table(lives: list[dict[str, Any]]) -> str:
    """Markdown: a line for each verb."""
    lines = [
        "| verb | jobs | kills | before the first file | between | all files there | in a write | same in the end | faults |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for verb in dict.fromkeys(each["verb"] for each in lives):
        mine = [
            each for each in lives if each["verb"] == verb and each["kills"]
        ]  # some are over before they are struck
        kills = [kill for each in mine for kill in each["kills"]]
        shares = " | ".join(str(sum(kill["at"] == at for kill in kills)) for at in ("before", "between", "after"))
        same = sum(not each["differ"] and not each["faults"] for each in mine)
        lines.append(
            f"| {verb} | {len(mine)} | {len(kills)} | {shares} | {sum(kill['half'] for kill in kills)} | {same} of {len(mine)} | "
            f"{sum(len(each['faults']) for each in mine)} |"
        )
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200, help="in all, a quarter for each verb")
    parser.add_argument("--folder", type=Path, default=Path("runs/kills"))
    parser.add_argument("--minutes", type=float, default=600, help="after which it stops; the same command goes on")
    arguments = parser.parse_args()
    folder, until = arguments.folder.absolute(), time.monotonic() + 60 * arguments.minutes
    torch.set_num_threads(1)
    done = folder / "kills.json"
    lives: list[dict[str, Any]] = read_json(done) if done.is_file() else []
    todo = {job: undisturbed(job, folder) for job in jobs(folder)}
    for job, known in todo.items():
        print(f"{job.verb}: {known.seconds:.1f} s undisturbed, {known.changes} changes of its folder seen", flush=True)
    while todo and time.monotonic() < until:
        for job, known in list(todo.items()):  # in turn, so that a run that is cut short has some of each
            mine = [each for each in lives if each["verb"] == job.verb]
            if sum(len(each["kills"]) for each in mine) >= arguments.kills / 4:
                del todo[job]
                continue
            promised = PROMISED | {"late": LATE} if job.verb == "request run" else {}
            made, name = folder / job.name, f"{job.name}-{len(mine)}"  # one folder for all, which settings name
            lives.append(life(job, known, made, random.Random(name), promised))
            write_json(done, lives)
            print(name, json.dumps(lives[-1]), flush=True)
            if lives[-1]["faults"] or lives[-1]["differ"]:
                shutil.copytree(made, folder / "faults" / name, dirs_exist_ok=True)
    print(table(lives))
    return 3 if any(each["faults"] or each["differ"] for each in lives) else 0


if __name__ == "__main__":
    sys.exit(main())
