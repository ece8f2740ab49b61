"""Methods side by side on one request: the tables of RESULTS.md.

    python benchmarks/erasure.py fashion-random10            # all seeds and methods, resumable cell by cell
    python benchmarks/erasure.py fashion-random10 --table    # only print what is there

A cell is one method on one training seed. Models, findings and bills stay under runs/bench/PROTOCOL; a cell that is there
with the same settings is not computed again. The request is the same for every training seed, so the retrained models of
the other seeds are the target, and the audit of a cell holds one of them out as a control.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from protocols import PROTOCOLS, Protocol, some_of
from readings import readings
from unteach.api import apply
from unteach.bench.summary import Spread
from unteach.checkpoint import Checkpoint, load, save
from unteach.data import DataSet, forget_ids
from unteach.data import load as load_data
from unteach.engine import Engine
from unteach.events import Events
from unteach.models import Blueprint
from unteach.provenance import Provenance, trained_on
from unteach.references import TrainingJob
from unteach.runtime import settle_allocator
from unteach.store import digest_of, load_tensors, read_json, record, write_json
from unteach.types import Method, Split
from unteach.verbs.evaluation import Cast, evaluate
from unteach.verbs.request import request


def run(name: str, protocol: Protocol, only: list[str] | None, root: Path) -> None:
    """Compute every cell that is not there yet."""
    folder = root / name
    data = load_data(protocol.data, task=protocol.task)
    data = some_of(data, protocol.count) if protocol.count else data
    folder.mkdir(parents=True, exist_ok=True)
    engine = Engine(events=Events(folder / "events.jsonl", _tell))
    held = tuple(forget_ids(protocol.validation, data.train, 0)) if protocol.validation else ()
    ids = tuple(forget_ids(protocol.ids, data.train, protocol.request_seed, held))
    originals = {seed: trained(protocol, data, seed, (), held, folder.parent, engine) for seed in protocol.seeds}
    many = protocol.references or len(protocol.seeds)
    retrained = [trained(protocol, data, number, ids, held, folder, engine) for number in range(many)]
    for seed in protocol.seeds:
        # Each seed holds another retrained model out; that one is also judged as if it were a method.
        others = [retrained[(seed + k) % many] for k in range(1, many + 1)]
        models: dict[str, Any] = {"original": originals[seed], "retrained": others[-1]}
        targets = {"retrained": tuple(others[:-1])}
        for label, method in protocol.methods.items():
            if only and label not in only:
                continue
            parts = request(data, originals[seed], list(ids), held)
            models[label] = _unlearned(label, method, data, originals[seed], parts, seed, folder, engine)
        for label, model in models.items():
            out = folder / f"{label}-{seed}"
            key = digest_of([model.fingerprint, [other.fingerprint for other in targets.get(label, tuple(others))]])
            if (out / "key").is_file() and (out / "key").read_text() == key:
                continue
            out.mkdir(exist_ok=True)
            cast = Cast(original=originals[seed], unlearned=model, retrained=targets.get(label, tuple(others)))
            findings = evaluate(
                data,
                request(data, originals[seed], list(ids), held),
                cast,
                spec=protocol.ids,
                tolerance=_tolerance(),
                retain_sample=10_000,
                seed=0,
                folder=out,
                engine=engine,
            )
            write_json(out / "readings.json", readings(out / "signals.safetensors", data, list(ids), findings))
            (out / "signals.safetensors").unlink()
            (out / "key").write_text(key)


def _tolerance() -> Any:
    from unteach.audit import Tolerance

    return Tolerance()


def trained(
    protocol: Protocol,
    data: DataSet,
    seed: int,
    left_out: tuple[str, ...],
    held: tuple[str, ...],
    folder: Path,
    engine: Engine,
) -> Checkpoint:
    shape = tuple(data.train.inputs.shape[1:])
    job = TrainingJob(
        blueprint=Blueprint(name=protocol.model, classes=len(data.train.classes), shape=shape),
        recipe=protocol.recipe,
        # A retrained model shares the recipe, not the seed: its weights start elsewhere.
        seed=seed if not left_out else 1000 + seed,
        left_out=left_out,
        validation=held,
        label=f"{'retraining' if left_out else 'training'} seed {seed}",
    )
    # Originals are shared by protocols; one with another recipe or task is another file.
    told = [job.recipe.as_json(), protocol.task, *([protocol.validation] if held else [])]
    recipe = digest_of([*told, *([protocol.count] if protocol.count else [])])[:8]
    name = f"{protocol.data}-{protocol.model}-{recipe}".replace(":", "-").replace("/", "-")
    kind = "retrained" if left_out else name
    engine.scratch = folder
    return job(data, folder / f"{kind}-{seed}.safetensors", engine)


def _unlearned(
    label: str,
    method: Method,
    data: DataSet,
    original: Checkpoint,
    parts: Split,
    seed: int,
    folder: Path,
    engine: Engine,
) -> Checkpoint:
    path = folder / f"{label}-{seed}" / "model.safetensors"
    names = {item.name for item in dataclasses.fields(method)}  # type: ignore[arg-type]
    ids = parts.forget.ids.tolist()
    settings = json.loads(json.dumps(record(method), default=str))
    key = digest_of([original.fingerprint, type(method).__name__, settings, ids, seed])
    if "stored" in names:
        kind = type(getattr(method, "attack", method)).__name__.lower()
        method = replace(method, stored=folder / f"stored-{kind}-{seed}.safetensors")  # type: ignore[type-var]
    if not (path.is_file() and load_tensors(path)[1]["made_by"].get("key") == key):
        import time

        engine.stages.clear()
        engine.scratch = folder
        start, units = time.perf_counter(), engine.meter.units
        model = apply(method, original.model, parts, torch.Generator().manual_seed(seed), engine)
        # What this process did not do itself: sets made for another row, epochs from before a stop.
        earlier = ("reused", "before it was stopped")
        reused = [stage for stage in engine.stages if any(words in stage.what for words in earlier)]
        provenance = Provenance(
            data=data.name,
            data_fingerprint=data.fingerprint,
            trained_on=trained_on(data.train, ids, parts.validation.ids.tolist() if parts.validation else ()),
            parent=original.fingerprint,
            made_by={"method": label, "settings": settings, "key": key},
            seed=seed,
            seconds=time.perf_counter() - start + sum(stage.seconds for stage in reused),
            units=engine.meter.units - units + sum(stage.units for stage in reused),
            stages=[dataclasses.asdict(stage) for stage in engine.stages],
        )
        save(path, model, provenance)
        for state in folder.glob("*.resume"):
            state.unlink(missing_ok=True)  # two runs may share a protocol by rows
    return load(path, data=data.train)


def _tell(label: str, done: int, total: int) -> None:
    if done == total:
        print(f"  {label}: done", flush=True)


ROWS = ("forget", "retain", "test")


def ranking(name: str, protocol: Protocol, root: Path) -> str:
    """Methods by their mean distance to retraining, nearest first, with Student's 95 % interval of it over training seeds."""
    found = {}
    for label in ("original", "retrained", *protocol.methods):
        cells = _cells(name, label, protocol, root, "findings.json")
        if len(cells) > 1:
            share = statistics.mean(cell["cost"]["forget_epochs"] / cell["cost"]["retrain_epochs"] for cell in cells)
            found[label] = (Spread.of([cell["gaps"]["average"] for cell in cells]), share)
    lines = ["| method | Avg Gap | 95 % interval | of retraining's epochs |", "|---|---|---|---|"]
    for label, (gap, share) in sorted(found.items(), key=lambda item: item[1][0].mean):
        ends = f"{max(gap.low, 0):.1f}–{gap.high:.1f}"
        lines.append(f"| {label} | {gap.mean:.2f} ± {gap.sd:.2f} | {ends} | {100 * share:.0f} % |")
    return "\n".join(lines)


def table(name: str, protocol: Protocol, root: Path) -> str:
    """What is there, as Markdown: mean ± sd over training seeds; gaps are per seed, then averaged.

    A row is marked as collapsed by the seeds in which retained accuracy fell below half of the original's.
    """
    lines = [
        "| method | forget acc. | retain acc. | test acc. | FT AUC | Avg Gap | verdicts | seconds | epochs |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for label in ("original", "retrained", *protocol.methods):
        cells = _cells(name, label, protocol, root, "findings.json")
        if not cells:
            continue
        row = [[100 * cell["models"]["unlearned"]["accuracy"][part] for cell in cells] for part in ROWS]
        auc = [cell["models"]["unlearned"]["games"]["FT"]["confidence"]["auc"] for cell in cells]
        gap = [cell["gaps"]["average"] for cell in cells]
        verdicts = [cell["verdict"] for cell in cells]
        counted = ", ".join(f"{verdicts.count(v)} × {v}" for v in sorted(set(verdicts)))
        cost = [cell["cost"] for cell in cells]
        fallen = sum(
            cell["models"]["unlearned"]["accuracy"]["retain"] < cell["models"]["original"]["accuracy"]["retain"] / 2
            for cell in cells
        )
        mark = f" (collapsed, {fallen} of {len(cells)})" if fallen else ""
        lines.append(
            f"| {label}{mark} | {' | '.join(_spread(v, 2) for v in row)} | {_spread(auc, 3)} | {_spread(gap, 2)} | {counted} "
            f"| {_spread([c['forget_seconds'] for c in cost], 0)} | {_spread([c['forget_epochs'] for c in cost], 1)} |"
        )
    return "\n".join(lines)


def readings_table(name: str, protocol: Protocol, root: Path) -> str:
    """What ``readings`` found, as Markdown: mean ± sd over training seeds."""
    rows = {label: _cells(name, label, protocol, root, "readings.json") for label in ("original", *protocol.methods)}
    titles = list(dict.fromkeys(title for cells in rows.values() for cell in cells for title in cell))
    if not titles:
        return ""
    lines = [f"| method | {' | '.join(titles)} |", f"|---|{'---|' * len(titles)}"]
    for label, cells in rows.items():
        if cells:
            found = [[cell[title] for cell in cells if cell.get(title) is not None] for title in titles]
            lines.append(f"| {label} | {' | '.join(_spread(values, 3) for values in found)} |")
    return "\n".join(lines)


def _cells(name: str, label: str, protocol: Protocol, root: Path, file: str) -> list[Any]:
    paths = [root / name / f"{label}-{seed}" / file for seed in protocol.seeds]
    return [read_json(path) for path in paths if path.is_file()]


def _spread(values: list[float], digits: int) -> str:
    if not values:
        return "-"
    middle = f"{statistics.mean(values):.{digits}f}"
    return f"{middle} ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else middle


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("protocol", choices=PROTOCOLS)
    parser.add_argument("--methods", nargs="*", help="only these rows")
    parser.add_argument("--seeds", nargs="*", type=int, help="only these training seeds")
    parser.add_argument("--root", type=Path, default=Path("runs/bench"))
    parser.add_argument("--table", action="store_true", help="print what is there and stop")
    arguments = parser.parse_args()
    protocol = PROTOCOLS[arguments.protocol]
    if arguments.seeds:
        protocol = replace(protocol, seeds=tuple(arguments.seeds))
    if not arguments.table:
        settle_allocator()
        run(arguments.protocol, protocol, arguments.methods, arguments.root)
    for show in (table, readings_table, *([ranking] if arguments.protocol.startswith("field") else [])):
        print(show(arguments.protocol, protocol, arguments.root), end="\n\n")


if __name__ == "__main__":
    main()
