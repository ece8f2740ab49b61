"""What the parts of ``speed.py`` have in common: a script that measures something and keeps it as JSON.

A part takes ``--json FILE`` and ``--quick``, prints its tables, and writes one JSON object, whole or not at all. A spread over
rounds is ``[median, lowest, highest]`` there; ``quiet`` is how many rounds were quiet, and of how many. What can't be measured
here, for want of data, writes ``{"absent": "a sentence"}``.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from measure import Spread
from unteach.store import write_json
from unteach.types import Refusal


def arguments(doc: str | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="little data, few rounds: to see that it runs")
    parser.add_argument("--json", type=Path, help="file for the numbers")
    return parser


def run(measure: Callable[[argparse.Namespace], Mapping[str, Any]], asked: argparse.Namespace) -> None:
    """Measure on one thread and keep what was found; a refusal is kept as a sentence."""
    torch.set_num_threads(1)
    try:
        keep(asked.json, measure(asked))
    except Refusal as error:
        keep(asked.json, {"absent": str(error)})
        sys.exit(f"not measured: {error}")


def keep(path: Path | None, found: Mapping[str, Any]) -> None:
    if path:
        write_json(path, plain(found))


def plain(value: Any) -> Any:
    """For JSON: a spread is median, low, high."""
    if isinstance(value, Spread):
        return [value.median, value.low, value.high]
    if isinstance(value, Mapping):
        return {key: plain(each) for key, each in value.items()}
    return [plain(each) for each in value] if isinstance(value, list | tuple) else value
