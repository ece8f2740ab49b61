"""All speed targets in one command: P1 to P10, what is measured now, and its share of the machine's limit.

    OMP_NUM_THREADS=1 python benchmarks/speed.py                # all; the table goes into BENCHMARKS.md
    OMP_NUM_THREADS=1 python benchmarks/speed.py --only P1,P2   # these rows anew
    OMP_NUM_THREADS=1 python benchmarks/speed.py --quick        # to see that it runs; prints only
    OMP_NUM_THREADS=1 python benchmarks/speed.py --gate         # exit code 1 and a sentence when a ratio has fallen

The parts run one after the other, each in a fresh process: ``python PART --json FILE [--quick]``. A part writes one JSON object,
see part.py, or ``{"absent": "a sentence"}`` where the data are not here; of the story (P10) it is ``{"seconds": …, "stages":
{…}, "note": "…"}``. The folder keeps each part's JSON with command, commit and date, its tables (.md) and its progress (.log). A
part that is there, by the same command, is not run again; ``--only`` does. targets.py knows what is read from them.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bounds import AbsentError, Reading, Target, UnmeasuredError, falls, faults
from machine import commit, hardware
from measure import markdown, tell
from targets import FLOORS, TARGETS
from unteach.store import read_json, write_json, write_text
from unteach.types import Refusal

HERE = Path(__file__).parent
PAGE = HERE.parent / "BENCHMARKS.md"
BEGIN, END = "<!-- speed.py writes from here -->", "<!-- to here -->"
KEYS = list(dict.fromkeys(target.key for target in TARGETS))


@dataclass(frozen=True)
class Part:
    """A script and its options; those of the gate leave out what it does not read."""

    script: str
    options: tuple[str, ...] = ()
    gate: tuple[str, ...] = ()

    def command(self, *, quick: bool, gate: bool) -> list[str]:
        return [self.script, *self.options, *(self.gate if gate else ()), *(["--quick"] if quick else [])]


LEFT_OUT = ("--without", "foolbox", "ddn")
PARTS = {
    "attack-fashion": Part("attack.py", ("--data", "fashion-mnist", "--count", "384"), LEFT_OUT),
    "attack-cifar": Part("attack.py", ("--data", "cifar10", "--train-count", "10000", "--count", "192"), LEFT_OUT),
    "training": Part("training.py", ("--only", "allocator", "accuracy")),
    "steps": Part("training.py", ("--only", "roofline", "--resnet18", "--settled")),
    "augmentation": Part("training.py", ("--only", "augment")),
    "references": Part("references.py", ("--epochs", "3", "--workers", "2")),
    "likelihood": Part("likelihood.py"),
    "spectral": Part("spectral.py", (), ("--only-calls",)),
    "story": Part("story.py"),
}


def kept(folder: Path, name: str, command: Sequence[str]) -> bool:
    """Whether a part has been measured by this command."""
    path = folder / f"{name}.json"
    told = read_json(path) if path.exists() else {}
    return "found" in told and told["made"]["command"] == list(command)


def measure(folder: Path, name: str, command: Sequence[str]) -> None:
    """Run a part and keep what it found, or why it found nothing."""
    folder.mkdir(parents=True, exist_ok=True)
    raw, start = folder / f"{name}.raw.json", time.perf_counter()
    raw.unlink(missing_ok=True)
    date = datetime.now(UTC).isoformat(timespec="minutes")
    made: dict[str, Any] = {"command": list(command), "commit": commit(), "date": date, "hardware": hardware()}
    tell(f"{name}: {' '.join(command)}")
    script, *options = command
    with (folder / f"{name}.log").open("w") as log, (folder / f"{name}.md").open("w") as tables:
        ran = subprocess.run(
            [sys.executable, str(HERE / script), *options, "--json", str(raw)],
            stdout=tables,
            stderr=log,
            env={"OMP_NUM_THREADS": "1", **os.environ},
            check=False,
        )
    made["seconds"] = round(time.perf_counter() - start)
    found = read_json(raw) if raw.exists() else {}
    if "absent" in found:
        told = {"absent": found["absent"]}
    elif ran.returncode or not found:
        last = (folder / f"{name}.log").read_text().strip().splitlines()[-1:]
        told = {"failed": f"failed with exit code {ran.returncode}: {' '.join(last)}; see {folder / name}.log"}
    else:
        told = {"found": found}
    write_json(folder / f"{name}.json", {"made": made, **told})
    raw.unlink(missing_ok=True)
    tell(f"{name}: {made['seconds']} s{''.join(f', {why}' for key, why in told.items() if key != 'found')}")


def reading_of(folder: Path, target: Target) -> Reading:
    """Raises UnmeasuredError with a sentence where there is none."""
    path = folder / f"{target.part}.json"
    told = read_json(path) if path.exists() else {}
    if "absent" in told:
        raise AbsentError(f"not measured: {told['absent']}")
    if "found" not in told:
        raise UnmeasuredError(told.get("failed", "not measured yet"))
    return target.read(told["found"])


def row(folder: Path, target: Target) -> list[object]:
    bound, stretch = target.bound, "–" if target.stretch is None else target.show(target.stretch)
    start = [target.key, target.what, f"{bound.sign()} {target.show(bound.value)}", stretch]
    try:
        found = reading_of(folder, target)
    except UnmeasuredError as error:
        return [*start, str(error), "–", "–", "–", "–"]
    now = target.show(found.now.median)
    if found.now.low < found.now.high:
        now += f" ({target.show(found.now.low)} – {target.show(found.now.high)})"
    wrong = faults(target, found)
    verdict = "**missed**" if wrong else "met"
    if not wrong and target.stretch is not None and type(bound)(target.stretch).holds(found.now.median):
        verdict = "met, stretch too"
    return [
        *start,
        f"{now}{f'; {found.case}' if found.case else ''}",
        found.share.percent() if found.share else "–",
        "; ".join(map(str, found.checks)) or "–",
        verdict,
        f"{found.quiet[0]} of {found.quiet[1]}" if found.quiet else "–",
    ]


def table(folder: Path, targets: Sequence[Target]) -> str:
    head = [
        "",
        "what",
        "target",
        "stretch",
        "now: median (range over rounds)",
        "of the limit",
        "equal",
        "",
        "quiet rounds",
    ]
    parts = [folder / f"{name}.json" for name in dict.fromkeys(target.part for target in targets)]
    made = {path.stem: read_json(path)["made"] for path in parts if path.exists()}
    origins = [
        f"- {name}: `{' '.join(each['command'])}`, {each['date']}, commit {each['commit']}, {each['seconds']} s"
        for name, each in made.items()
    ]
    machines = dict.fromkeys(each["hardware"] for each in made.values())
    lines = [
        f"Measured on {'; and on '.join(machines)}.",
        "",
        markdown(head, (row(folder, target) for target in targets)),
    ]
    return "\n".join([*lines, "", "Where the rows come from:", "", *origins])


def placed(page: str, made: str) -> str:
    """The page with the table between its markers; what persons wrote around them stays."""
    if page.count(BEGIN) != 1 or page.count(END) != 1 or page.index(BEGIN) > page.index(END):
        raise Refusal(
            f"expected one line {BEGIN!r} and after it one {END!r} in {PAGE.name}; put them back, or give --print"
        )
    before, rest = page.split(BEGIN)
    return f"{before}{BEGIN}\n\n{made}\n\n{END}{rest.split(END)[1]}"


def gate(folder: Path, targets: Sequence[Target]) -> list[str]:
    """A sentence for every ratio that has fallen, and for every one that failed to be measured."""
    sentences = []
    for target in targets:
        try:
            wrong = falls(target, reading_of(folder, target), FLOORS)
        except AbsentError as error:
            tell(f"{target.name}: {error}")
            continue
        except UnmeasuredError as error:
            wrong = [str(error)]
        sentences += [f"{target.name}: {each}" for each in wrong]
    return sentences


def chosen(only: str, *, gated: bool) -> list[Target]:
    """The targets of these keys, all without any; for the gate those it judges."""
    keys = only.split(",") if only else KEYS
    if unknown := sorted(set(keys) - set(KEYS)):
        raise Refusal(
            f"expected --only to name some of {', '.join(KEYS)}, got {', '.join(unknown)}; separate them by commas"
        )
    return [target for target in TARGETS if target.key in keys and (target.gated or not gated)]


def work(asked: argparse.Namespace) -> int:
    kind = "-gate" if asked.gate else "-quick" if asked.quick else ""
    folder = asked.out or Path(f"runs/speed{kind}")
    targets = chosen(asked.only, gated=asked.gate)
    if not asked.kept:
        for name in dict.fromkeys(target.part for target in targets):
            command = PARTS[name].command(quick=asked.quick, gate=asked.gate)
            # A gate judges the code as it is now.
            if asked.only or asked.gate or not kept(folder, name, command):
                measure(folder, name, command)
    if asked.gate:
        print(table(folder, targets))
        fallen = gate(folder, targets)
        print("\n".join(["", *fallen, f"{len(fallen)} fallen" if fallen else "nothing has fallen"]))
        return 1 if fallen else 0
    made = table(folder, TARGETS)
    print(f"Little data, few rounds: no target is judged by this.\n\n{made}" if asked.quick else made)
    if not (asked.print or asked.quick):
        write_text(PAGE, placed(PAGE.read_text(), made))
    return int(any("failed" in read_json(path) for path in folder.glob("*.json")))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="rows to measure anew, as P1,P2")
    parser.add_argument("--out", type=Path, help="folder that keeps what the parts found; default runs/speed")
    parser.add_argument("--kept", action="store_true", help="measure nothing: the table of what the folder keeps")
    parser.add_argument("--print", action="store_true", help="leave BENCHMARKS.md as it is")
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--quick", action="store_true", help="little data, few rounds; no target is judged by that")
    group.add_argument("--gate", action="store_true", help="only the ratios that noise does not move, with slack")
    try:
        sys.exit(work(parser.parse_args()))
    except Refusal as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
