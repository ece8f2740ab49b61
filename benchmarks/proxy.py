"""What tuning without the retrained model loses: proxy and chance beside the oracle, method by method.

    python benchmarks/proxy.py                       # digits with wrong labels; resumable; three searches of other seeds each
    python benchmarks/proxy.py --table

Each target gets as many trials. Its best settings are then run on the real request, and judged by their distance to models
retrained without it (evaluation notes 7.1) on validation data.
"""

from __future__ import annotations

import argparse
import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from sweep import SCENES, case_of
from unteach.methods import METHODS
from unteach.references.unlearning import settled
from unteach.runtime import settle_allocator
from unteach.store import read_json, write_json
from unteach.tuning import Chance, Oracle, Proxy, tune
from unteach.tuning.budget import attempt
from unteach.types import Refusal

TRIALS = 10
TARGETS = {"proxy": Proxy(), "chance": Chance(), "oracle": Oracle()}


def run(scene: str, root: Path, file: Path, methods: list[str]) -> None:
    told: dict[str, Any] = read_json(file) if file.is_file() else {}  # type: ignore[assignment]
    for seed in (0, 1, 2):
        case = case_of(SCENES[scene], seed, root / scene)
        for name in methods:
            key = f"{name}-{seed}"
            if key not in told:
                told[key] = _row(name, case, seed, root / scene / f"proxy-{seed}")
                write_json(file, told)
                print(key, told[key], flush=True)


def _row(name: str, case: Any, seed: int, folder: Path) -> dict[str, Any]:
    own = settled(METHODS[name](), case.recipe)
    case = replace(case, method=own)
    found: dict[str, Any] = {}
    try:
        aim = Oracle()(case)
        before = aim.judge(case.model, case.engine)
        assert before is not None
        found["unchanged"], found["floor"] = aim.score(before), aim.floor
        for number, (kind, target) in enumerate(TARGETS.items()):
            tuned = tune(
                name,
                case.model,
                case.split,
                target=target,
                retrained=case.retrained if kind == "oracle" else (),
                recipe=case.recipe,
                trials=TRIALS,
                max_epochs=4.0,
                seed=100 * seed + number,  # or the three would draw the same settings
                engine=case.engine,
                folder=folder / kind,
            )
            made = attempt(case, aim, tuned.method)
            found[kind] = None if made.reading is None or made.why else aim.score(made.reading)
    except Refusal as refusal:
        found["refused"] = str(refusal)
    return found


def table(file: Path) -> str:
    """Markdown: score of each target's settings, mean ± sd over the seeds, and what proxy and chance lose to the oracle."""
    told: Any = read_json(file)
    lines = [
        "| method | unchanged | oracle | proxy | chance | lost by proxy | by chance |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in METHODS:
        rows = [row for key, row in told.items() if key.rpartition("-")[0] == name and "refused" not in row]
        if not rows:
            continue
        columns = [[row[kind] for row in rows if row[kind] is not None] for kind in ("unchanged", *reversed(TARGETS))]
        lost = [
            [row[kind] - row["oracle"] for row in rows if row[kind] is not None and row["oracle"] is not None]
            for kind in ("proxy", "chance")
        ]
        unchanged, oracle, chance, proxy = map(_spread, columns)
        lines.append(
            f"| {name} | {unchanged} | {oracle} | {proxy} | {chance} | {_spread(lost[0])} | {_spread(lost[1])} |"
        )
    return "\n".join(lines)


def _spread(values: list[float]) -> str:
    if not values:
        return "-"
    return f"{statistics.fmean(values):.3f}" + (f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scene", default="digits-random-many", choices=SCENES)
    parser.add_argument("--methods", default="", help="names, with commas; all that have knobs")
    parser.add_argument("--root", type=Path, default=Path("runs/sweeps"))
    parser.add_argument("--table", action="store_true")
    asked = parser.parse_args()
    searched = [name for name, made in METHODS.items() if getattr(type(made()), "card").search]  # noqa: B009
    file = asked.root / f"proxy-{asked.scene}.json"
    if not asked.table:
        run(asked.scene, asked.root, file, asked.methods.split(",") if asked.methods else searched)
    print(table(file))


if __name__ == "__main__":
    settle_allocator()
    torch.set_num_threads(1)
    main()
