"""What a tuning leaves behind: every trial, the summary, and settings that ``unteach forget --config`` takes."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

from unteach.knobs import Value
from unteach.methods import METHODS
from unteach.plugins import name_of
from unteach.references.unlearning import told
from unteach.store import record, write_json, write_text
from unteach.tuning.tuned import Tuned
from unteach.types import Method


def write_tuned(tuned: Tuned, given: Method, folder: Path) -> None:
    """Write trials.json, trials.csv, tuning.json and best.yaml.

    ``given``: the method as the user gave it; what it leaves open (augmentation, files) stays open in best.yaml.
    """
    write_json(folder / "trials.json", {"target": tuned.aim, "trials": [asdict(trial) for trial in tuned.trials]})
    write_text(folder / "trials.csv", _table(tuned))
    summary = {
        "target": tuned.aim,
        "method": told(tuned.method),
        "best": asdict(tuned.best),
        "sensitivity": {what: asdict(trial) for what, trial in tuned.sensitivity.items()},
        "importance": tuned.importance,
        "unchanged": {"score": tuned.unchanged[0], "reading": asdict(tuned.unchanged[1])},
        "target_reading": asdict(tuned.target) if tuned.target else None,
        "floor": tuned.floor,
        "original_lr": tuned.peak,
        "cap_epochs": tuned.cap,
        "seconds": tuned.seconds,
        "words": tuned.words(),
    }
    write_json(folder / "tuning.json", summary)
    write_text(folder / "best.yaml", _yaml(tuned, given))


def _yaml(tuned: Tuned, given: Method) -> str:
    import yaml

    open_ = {item.name: None for item in fields(given) if getattr(given, item.name) is None}  # type: ignore[arg-type]
    method = replace(tuned.method, **open_)  # type: ignore[type-var]
    name = name_of(method)
    default = METHODS[name]() if name in METHODS else type(method)()
    settings = _differences(record(method), record(default))
    for path in tuned.best.knobs:
        _put(settings, path, _at(record(method), path))
    text: str = yaml.safe_dump({"method": name, **settings}, sort_keys=False)
    return f"# tuned by unteach; target: {tuned.aim}\n{text}"


def _differences(mine: Mapping[str, Any], theirs: Mapping[str, Any]) -> dict[str, Any]:
    """What differs from the defaults, as YAML for the command line: tuples as lists, a kind in small letters."""
    found: dict[str, Any] = {}
    for name, value in mine.items():
        other = theirs.get(name)
        if isinstance(value, Mapping):
            same = isinstance(other, Mapping) and value.get("kind") == other.get("kind")
            inner = _differences(value, other if same and isinstance(other, Mapping) else {})
            if inner:
                found[name] = inner
        elif name not in theirs or value != other:
            found[name] = value.lower() if name == "kind" else json.loads(json.dumps(value, default=str))
    return found


def _at(values: Mapping[str, Any], path: str) -> Any:
    for name in path.split("."):
        values = values[name]
    return values


def _put(values: dict[str, Any], path: str, value: Value) -> None:
    *outer, last = path.split(".")
    for name in outer:
        values = values.setdefault(name, {})
    values[last] = value


def _table(tuned: Tuned) -> str:
    knobs = list(tuned.best.knobs)
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    seen = ("retain", "forget", "validation", "auc")
    writer.writerow(["target", "number", "state", "score", *knobs, *seen, "epochs", "seconds", "why"])
    for trial in tuned.trials:
        values = [getattr(trial.reading, name, None) for name in seen]
        row = [tuned.aim, trial.number, trial.state, trial.score, *(trial.knobs[name] for name in knobs), *values]
        row += [trial.epochs, trial.seconds, trial.why]
        writer.writerow(["" if value is None else value for value in row])
    return out.getvalue()
