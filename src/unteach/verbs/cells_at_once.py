"""Cells of a benchmark, several at a time."""

from __future__ import annotations

import io
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from unteach.bench.protocol import Cell
from unteach.events import Events
from unteach.types import Refusal
from unteach.workers import Do, Workers, cores, refusal

if TYPE_CHECKING:
    from unteach.verbs.bench import BenchRun


def places_of(run: BenchRun, count: int) -> int:
    """How many of so many cells are worked off at a time.

    Raises: Refusal for fewer than none, and for workers of several processes each.
    """
    if run.workers < 0:
        raise Refusal(f"expected workers to be 0 or more, got {run.workers}; give 1 to do one cell after the other")
    if run.workers != 1 and run.machine.devices > 1:
        raise Refusal(
            f"expected one device a cell where several are worked off at a time, got --devices {run.machine.devices}; "
            "give --devices 1, or --workers 1"
        )
    return min(run.workers or _cards(run) or cores(), count)


def at_once(run: BenchRun, folder: Path, cells: Sequence[Cell], places: int, events: Events) -> None:
    """Work off these cells in ``places`` processes; what they share must be there, see ``Bench.prepare``.

    Which process does a cell changes nothing in it. Raises: Refusal naming the cells that failed, after the others are done.
    """
    shares, done = _dealt(cells, run.trials > 0), 0
    events.progress("cells", done, len(cells))

    def tell(number: int) -> None:
        nonlocal done
        done += len(shares[number])
        events.progress("cells", done, len(cells))

    threads = run.machine.threads or max(1, cores() // places)
    alone = replace(run, workers=1, machine=replace(run.machine, threads=threads))
    workers = Workers(places=places, threads=threads, cards=_cards(run))
    if failed := workers(partial(doing, alone, folder, shares), range(len(shares)), tell):
        raise refusal(failed, len(shares), {number: shares[number][0].name for number in failed})


def _dealt(cells: Sequence[Cell], tuned: bool) -> list[tuple[Cell, ...]]:
    """What one process does without another's help: a cell, or where settings are tuned all cells that have them in common."""
    if not tuned:
        return [(cell,) for cell in cells]
    shares: dict[tuple[int, str], list[Cell]] = {}
    for cell in cells:
        shares.setdefault((cell.request, cell.row), []).append(cell)
    return [tuple(share) for share in shares.values()]


def doing(run: BenchRun, folder: Path, shares: Sequence[Sequence[Cell]]) -> Do:
    """What works off one of these shares in the process that asks."""
    protocol = run.chosen()
    opened = run.machine.engine(None, False)
    bench = run.bench(protocol, folder, opened.__enter__())  # the process ends with its work

    def do(number: int) -> None:
        for cell in shares[number]:
            with redirect_stdout(io.StringIO()):  # the first process has said what models there are
                bench.cell(cell)

    return do


def _cards(run: BenchRun) -> int:
    return 0 if run.machine.device == "cpu" else torch.cuda.device_count()
