"""``unteach bench``: a protocol from data to tables, cell by cell."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unteach.references.executors import Local, Ray, Shard, Slurm
from unteach.store import read_json, write_json, write_text
from unteach.types import Refusal
from unteach.verbs.depth import Depth
from unteach.verbs.settings import Machine, Output

if TYPE_CHECKING:
    from unteach.bench.protocol import Protocol
    from unteach.bench.published import Published
    from unteach.bench.summary import Row
    from unteach.engine import Engine
    from unteach.verbs.cells import Bench


@dataclass(frozen=True, kw_only=True)
class BenchRun:
    """Compare methods by a protocol: unteach bench NAME; `unteach list` tells the protocols.

    Trains originals and retrained models once, makes every method forget, audits each, and writes table.md, table.csv,
    table.tex and index.html into --out, with one folder a cell. Stopped, it goes on where it was.
    """

    first = "protocol"

    protocol: str = ""
    """The protocol's name, such as cifar10-random10; it may stand right after the verb."""
    profile: str = ""
    """ci (seconds, embedded data), laptop (a small network, fewer images), gpu (one card) or paper; left out, the first there is
    of laptop, gpu."""
    methods: tuple[str, ...] = ()
    """Only these rows of it; or further methods: names of `unteach list`, file.py:NAME."""
    seeds: int = 0
    """Training seeds, from 0; 0 for the protocol's."""
    halves: int = -1
    """Reference models on random halves, for RMIA and LiRA; -1 for the protocol's."""
    retrained: int = 0
    """Retrained models, 2 or more; 0 for the protocol's."""
    count: int = -1
    """Training examples, drawn once; 0 for all, -1 for the protocol's."""
    preset: bool = True
    """Whether settings at their defaults are those measured for such requests."""
    trials: int = 0
    """Trials of tuning on a proxy request, for every method as many; 0 for none. Without validation data in the
    protocol 15 % of the training set are held out."""
    data_root: Path | None = None
    """Folder with the data set's files; also looked for in UNTEACH_DATA."""
    table: bool = False
    """Only write and print the tables of what is there."""
    cache: Path = Path("runs/cache")
    """Folder of originals, retrained and reference models, shared with audits and other protocols."""
    workers: int = 1
    """Cells at a time, each in a process of its own with so many CPU threads as are asked for, or its part of the cores, and on
    GPUs with a card of its own; 0 for one a core, or one a card."""
    executor: Local | Shard | Ray | Slurm = field(default_factory=Local)
    """Who trains retrained and reference models: this machine, a share of several machines, a Ray cluster or SLURM."""
    output: Output = field(default_factory=lambda: Output(out=Path("runs/bench")))
    machine: Machine = field(default_factory=Machine)

    def __call__(self) -> int:
        from unteach.verbs.cells import STRAW
        from unteach.verbs.cells_at_once import at_once, places_of
        from unteach.verbs.train import plain

        protocol = self.chosen()
        folder = self.output.out if self.output.out != Path("runs/bench") else self._folder()
        if self.table:
            return self._tell(protocol, folder)
        cells = [*protocol.cells([*STRAW, *protocol.rows])]
        places = places_of(self, len(cells))
        output = replace(self.output, out=folder)
        with self.machine.engine(folder, not self.output.quiet) as engine:
            output.open(self._what(protocol), engine.events)
            write_json(folder / "command.json", plain(self))
            bench = self.bench(protocol, folder, engine)
            if places > 1:
                bench.prepare(cells)
                at_once(self, folder, cells, places, engine.events)
            else:
                bench.cells(cells)
        return self._tell(protocol, folder)

    def bench(self, protocol: Protocol, folder: Path, engine: Engine) -> Bench:
        """This protocol at work in this folder, by this engine."""
        from unteach.verbs.cells import Bench

        return Bench(
            protocol=protocol,
            source=self._source(protocol),
            depth=Depth(cache=self.cache, executor=self._who()),
            folder=folder,
            engine=engine,
            presets=self.preset,
            trials=self.trials,
            precision=self.machine.precision,
        )

    def _who(self) -> Local | Shard | Ray | Slurm:
        """Trainings of a second are done sooner in this process than others could start."""
        return Local(workers=1) if self.profile == "ci" and self.executor == Local() else self.executor

    def _what(self, protocol: Protocol) -> dict[str, Any]:
        """What all cells in a folder must share; rows and seeds may be added later."""
        told = json.loads(json.dumps(protocol.as_json()))
        kept = ("data", "task", "count", "model", "recipe", "requests", "steps", "validation")
        return {name: told[name] for name in kept} | {"preset": self.preset, "trials": self.trials}

    def _folder(self) -> Path:
        return self.output.out / (f"{self.protocol}-{self.profile}" if self.profile else self.protocol)

    def chosen(self) -> Protocol:
        """The protocol with the changes that were asked for. Raises: Refusal for names that nobody knows."""
        from unteach.bench.protocols import protocol_named
        from unteach.plugins import method_named

        found = protocol_named(self.protocol, self.profile)
        changes: dict[str, Any] = {}
        if self.methods:
            known = found.rows
            changes["rows"] = {name: known[name] if name in known else method_named(name) for name in self.methods}
        changes |= {"seeds": tuple(range(self.seeds))} if self.seeds > 0 else {}
        changes |= {"halves": self.halves} if self.halves >= 0 else {}
        changes |= {"retrained": self.retrained} if self.retrained > 0 else {}
        changes |= {"count": self.count} if self.count >= 0 else {}
        found = replace(found, **changes)
        if found.retrained < 2:
            raise Refusal(f"expected 2 or more retrained models, got {found.retrained}; one of them is the control")
        if self.trials and not found.validation:
            found = replace(found, validation="random:0.15")
        return found

    def _source(self, protocol: Protocol) -> Any:
        from unteach.references.manifest import DataSpec

        root = self.data_root and self.data_root.absolute()
        return DataSpec(spec=protocol.data, root=root, task=protocol.task, count=protocol.count)

    def _tell(self, protocol: Protocol, folder: Path) -> int:
        from unteach.bench.published import PUBLISHED
        from unteach.bench.published import as_markdown as printed
        from unteach.bench.tables import as_csv, as_latex, as_markdown

        rows = rows_of(protocol, folder)
        if not any(row.cells for row in rows):
            raise Refusal(f"expected cells in {folder}, got none; run the protocol first")
        paper = PUBLISHED.get(self.protocol) if self.profile != "ci" else None
        text = as_markdown(rows) + (f"\n{printed(paper, _spelled(rows))}" if paper else "")
        told = {
            "table.md": text,
            "table.csv": as_csv(rows),
            "table.tex": as_latex(rows),
            "index.html": page_of(protocol, rows, paper),
        }
        for name, content in told.items():
            write_text(folder / name, content)
        print(text)
        print(f"page: {folder / 'index.html'}; the same as table.md, table.csv, table.tex")
        return 0


def page_of(protocol: Protocol, rows: list[Row], paper: Published | None) -> str:
    """The page of these rows."""
    from unteach.bench.published import beside, columns_of
    from unteach.bench.summary import COLUMNS
    from unteach.bench.tables import columns_of as columns_in
    from unteach.bench.tables import spelled
    from unteach.report import Comparison, bench_html

    tables = []
    for request in dict.fromkeys(row.request for row in rows):
        mine = [row for row in rows if row.request == request and row.cells]
        columns = columns_in(mine)
        measure = next((name for name in ("Avg Gap", "gap, acc. and AUC") if name in columns), "")
        spreads = {row.name: row.numbers[measure] for row in mine if measure in row.numbers}
        tables.append(
            Comparison(
                request=request,
                columns=columns,
                rows={row.name: [spelled(row.numbers.get(c), COLUMNS[c][1]) for c in columns] for row in mine},
                measure=measure,
                gaps={name: (spread.mean, spread.low, spread.high) for name, spread in spreads.items()},
                fallen=frozenset(row.name for row in mine if row.collapsed),
            )
        )
    facts = {
        "data": protocol.data + (f", {protocol.count:,} examples" if protocol.count else ""),
        "network": protocol.model,
        "training": f"{protocol.recipe.optim.epochs} epochs, lr {protocol.recipe.optim.lr:g}, {protocol.recipe.optim.schedule}",
        "training seeds": ", ".join(map(str, protocol.seeds)),
        "forget sets": str(protocol.draws),
        "unlearning runs": str(protocol.runs),
        "retrained models": str(protocol.retrained),
        "reference models": str(protocol.halves),
    }
    published = None
    if paper:
        cells = beside(paper, _spelled(rows))
        published = {"source": paper.source, "differs": paper.differs, "columns": columns_of(paper), "rows": cells}
    return bench_html(protocol.title or protocol.data, protocol.about, facts, tables, published)


def _spelled(rows: list[Row]) -> dict[str, dict[str, str]]:
    """Our numbers as text, by row and column; of the first request, where there are several."""
    from unteach.bench.summary import COLUMNS
    from unteach.bench.tables import spelled

    first = [row for row in rows if row.request == rows[0].request]
    return {
        row.name: {column: spelled(spread, COLUMNS[column][1]) for column, spread in row.numbers.items()}
        for row in first
    }


def rows_of(protocol: Protocol, folder: Path) -> list[Row]:
    """The rows of what is there, request by request."""
    from unteach.bench.summary import row_of
    from unteach.verbs.cells import STRAW

    rows = []
    for number, request in enumerate(protocol.requests):
        for name in (*STRAW, *protocol.rows):
            mine = [cell for cell in protocol.cells([name]) if cell.request == number]
            files = [(cell, folder / "cells" / cell.name / "cell.json") for cell in mine]
            told = [(cell.seed, read_json(file)) for cell, file in files if file.is_file()]
            why = [file.with_name("refused.json") for _, file in files if file.with_name("refused.json").is_file()]
            try:
                refused = "" if told else f"refused: {read_json(why[0])['why']}" if why else "not run"
                for step in range(protocol.steps):
                    after = f"{request}, after {step + 1} of {protocol.steps}" if protocol.steps > 1 else request
                    seen = [(seed, one["steps"][step] if protocol.steps > 1 else one) for seed, one in told]
                    rows.append(replace(row_of(name, after, seen), refused=refused))
            except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
                raise Refusal(
                    f"expected cells as this program writes them in {files[0][1].parent.parent}, got {type(error).__name__}: "
                    f"{error}; delete the damaged cell.json and run again"
                ) from error
    return sorted(rows, key=lambda row: list(dict.fromkeys(one.request for one in rows)).index(row.request))
