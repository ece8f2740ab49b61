"""Every method as a new user has it, by name and untuned, on data and a network that no preset was measured on.

    python benchmarks/defaults.py                      # CIFAR-10 (JPEG), 5,000 images, airbench-small; resumable row by row
    python benchmarks/defaults.py --table

Prints forget and test accuracy beside retrained models, and what the guard and the diagnosis said. A row is whole when its test
accuracy lies within 3 points of the mean retrained model's; collapse is silent when it does not, and nothing was said.
"""

from __future__ import annotations

import argparse
import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from sweep import BEYOND, SCENES, case_of
from unteach.api import forget
from unteach.data import load as load_data
from unteach.engine import Engine
from unteach.methods import METHODS
from unteach.recipe import Recipe
from unteach.references.unlearning import settled
from unteach.runtime import settle_allocator
from unteach.store import read_json, write_json
from unteach.types import Examples, Refusal

WITHIN = 3.0  # points of test accuracy


def run(scene: str, root: Path, file: Path) -> None:
    told: dict[str, Any] = read_json(file) if file.is_file() else {"rows": {}}  # type: ignore[assignment]
    setting = SCENES[scene]
    test = load_data(setting.data, task=setting.task).test
    for seed in (0, 1, 2):
        case = case_of(replace(setting, seeds=(seed,)), seed, root / scene)
        told.setdefault("retrained", {})[str(seed)] = [_right(model, test) for model in case.retrained]
        told.setdefault("original", {})[str(seed)] = _right(case.model, test)
        assert case.split.retain is not None
        ids = case.split.forget.ids.tolist()
        whole = _joined(case.split.forget, case.split.retain)
        for name in METHODS:
            key = f"{name}-{seed}"
            if key in told["rows"] or name in ("retrain", "sisa", *BEYOND):
                continue
            told["rows"][key] = _row(name, case, whole, ids, test, setting.recipe)
            write_json(file, told)
            print(key, told["rows"][key], flush=True)


def _row(name: str, case: Any, whole: Examples, ids: list[str], test: Examples, recipe: Recipe) -> dict[str, Any]:
    method = settled(METHODS[name](), recipe)
    given: Any = name if method == METHODS[name]() else method
    try:
        made = forget(
            case.model,
            whole,
            ids,
            given,
            validation=case.split.validation,
            recipe=recipe,
            engine=Engine(accelerator="cpu"),
        )
    except Refusal as refusal:
        return {"refused": str(refusal)}
    return {
        "test": _right(made.model, test),
        "forget": _right(made.model, made.split.forget),
        "kind": made.diagnosis.kind,
        "sentence": made.diagnosis.sentence,
        "epochs": round(sum(stage.units for stage in made.stages) / len(whole), 2),
    }


def _joined(forgotten: Examples, retained: Examples) -> Examples:
    import numpy as np

    return replace(
        forgotten,
        inputs=torch.cat((forgotten.inputs, retained.inputs)),
        labels=torch.cat((forgotten.labels, retained.labels)),
        ids=np.concatenate((forgotten.ids, retained.ids)),
        groups=None,
    )


def _right(model: torch.nn.Module, examples: Examples) -> float:
    logits = Engine(accelerator="cpu").logits(model, examples.inputs)
    return float(examples.task.correct(logits, examples.labels).mean())


def table(file: Path) -> str:
    """Markdown: one row a method, mean over seeds."""
    told: Any = read_json(file)
    lines = [
        "| method | test acc. − retrained | forget acc. | within 3 points | said | epochs |",
        "|---|---|---|---|---|---|",
    ]
    for name in METHODS:
        rows = {seed: told["rows"].get(f"{name}-{seed}") for seed in told["retrained"]}
        there = {seed: row for seed, row in rows.items() if row and "refused" not in row}
        if not there:
            if any(rows.values()):
                lines.append(f"| {name} | refused | | | {next(r['refused'] for r in rows.values() if r)} | |")
            continue
        gaps = [100 * (row["test"] - statistics.fmean(told["retrained"][seed])) for seed, row in there.items()]
        whole = sum(abs(gap) <= WITHIN for gap in gaps)
        said = ", ".join(dict.fromkeys(row["kind"] for row in there.values()))
        forgotten = statistics.fmean(100 * row["forget"] for row in there.values())
        cost = statistics.fmean(row["epochs"] for row in there.values())
        spread = f" ± {statistics.stdev(gaps):.1f}" if len(gaps) > 1 else ""
        lines.append(
            f"| {name} | {statistics.fmean(gaps):+.1f}{spread} | {forgotten:.1f} | {whole} of {len(gaps)} | {said} | {cost:.1f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scene", default="cifar-random-many", choices=SCENES)
    parser.add_argument("--root", type=Path, default=Path("runs/sweeps"))
    parser.add_argument("--table", action="store_true")
    asked = parser.parse_args()
    file = asked.root / f"defaults-{asked.scene}.json"
    if not asked.table:
        run(asked.scene, asked.root, file)
    print(table(file))


if __name__ == "__main__":
    settle_allocator()
    torch.set_num_threads(1)
    main()
