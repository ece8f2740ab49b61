"""What reference models buy: attack AUC of an original and of an unlearned model beside retrained ones, by number of references.

    UNTEACH_DATA=… OMP_NUM_THREADS=1 python benchmarks/power.py --data fashion-mnist --original O.safetensors \\
        --unlearned U.safetensors --ids forget.txt --halves 64 --retrained 5 --cache runs/cache --picture power.svg

Missing models are trained first and kept in the cache; smaller numbers use the first of the same references, which come in
complementary pairs. The distance is that from the mean of the retrained models, in their standard deviations.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np

from unteach.audit.joined import joined
from unteach.audit.likelihood import LIKELIHOOD
from unteach.audit.shadows import lack
from unteach.audit.statistics import auc
from unteach.checkpoint import Checkpoint, load
from unteach.data import DataSet, forget_ids
from unteach.data import load as load_data
from unteach.engine import Engine
from unteach.references.executors import Local
from unteach.references.manifest import DataSpec
from unteach.references.tiers import Company, Tier
from unteach.runtime import settle_allocator
from unteach.types import Signals
from unteach.verbs.company import references_of, retrained_of
from unteach.verbs.depth import Depth
from unteach.verbs.request import recipe_of, request

Row = tuple[int, str, float, float, np.ndarray]


def judged_signals(models: list[Checkpoint], data: DataSet, ids: np.ndarray, engine: Engine) -> Signals:
    """The models' logits on forgotten, then test examples."""
    parts = [data.train.take(data.train.positions(ids)), data.test]
    logits = np.stack([np.concatenate([engine.logits(one.model, p.inputs) for p in parts]) for one in models])
    members = np.zeros((len(models), logits.shape[1]), dtype=bool)
    members[0, : len(ids)] = True
    labels = np.concatenate([part.labels.numpy() for part in parts])
    names = tuple(f"model {number}" for number in range(len(models)))
    return Signals(names, logits[:, None].astype(np.float32), labels, members, np.zeros_like(members))


def curve(signals: Signals, company: Company, ids: np.ndarray, forgotten: int) -> list[Row]:
    """References, attack, AUC of the original, of the unlearned model, and of the retrained ones."""
    rows: list[Row] = []
    count = 2
    while count <= company.tier.halves:
        fewer = references_of(replace(company, tier=replace(company.tier, halves=count)), ids)
        assert fewer is not None
        whole = joined(signals, fewer)
        for name, test in LIKELIHOOD.items():
            if not lack(whole, test.least):
                found = [test(whole, at) for at in range(len(signals.models))]
                values = [auc(scores[:forgotten], scores[forgotten:]) for scores in found]
                rows.append((count, name, values[0], values[1], np.array(values[2:])))
        count *= 2
    return rows


def draw(rows: list[Row], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    for name in dict.fromkeys(row[1] for row in rows):
        mine = [row for row in rows if row[1] == name]
        axes.plot([row[0] for row in mine], [row[2] for row in mine], marker="o", label=name)
    axes.set_xscale("log", base=2)
    axes.set_xlabel("reference models")
    axes.set_ylabel("AUC on the original, forgotten against unseen")
    axes.axhline(0.5, color="grey", linewidth=1)
    axes.legend()
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("--data", "--original", "--unlearned", "--ids"):
        parser.add_argument(name, required=True)
    parser.add_argument("--task")
    parser.add_argument("--halves", type=int, default=64)
    parser.add_argument("--retrained", type=int, default=5)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--cache", type=Path, default=Path("runs/cache"))
    parser.add_argument("--picture", type=Path)
    asked = parser.parse_args()
    settle_allocator()
    data, engine = load_data(asked.data, task=asked.task), Engine()
    original, unlearned = (load(Path(path), data=data.train) for path in (asked.original, asked.unlearned))
    ids = forget_ids(asked.ids, data.train, 0)
    depth = Depth(tier="smoke", cache=asked.cache, executor=Local(workers=asked.workers))
    source, parts = DataSpec(spec=asked.data, task=asked.task), request(data, original, ids)
    planned = depth.company(data, source, original, recipe_of(original), parts, None, 0, "auto")
    company = replace(planned, tier=Tier(retrained=asked.retrained, halves=asked.halves))
    company = depth.gather(company, original, engine)
    signals = judged_signals([original, unlearned, *retrained_of(company)], data, parts.forget.ids, engine)
    rows = curve(signals, company, np.concatenate([parts.forget.ids, data.test.ids]), len(parts.forget))
    print(
        "| references | attack | original | unlearned | retrained, mean ± sd | original away, sd | unlearned away, sd |"
    )
    print("|---|---|---|---|---|---|---|")
    for count, name, first, second, others in rows:
        mean, spread = float(others.mean()), float(others.std(ddof=1))
        away = [f"{(value - mean) / spread:+.1f}" for value in (first, second)]
        print(f"| {count} | {name} | {first:.3f} | {second:.3f} | {mean:.3f} ± {spread:.3f} | {away[0]} | {away[1]} |")
    if asked.picture:
        draw(rows, asked.picture)


if __name__ == "__main__":
    main()
