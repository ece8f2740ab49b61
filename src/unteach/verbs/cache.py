"""``unteach cache``: what the cache of models holds, what it cost, and how to make room."""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unteach.references.cache import Cache, Record
from unteach.types import Refusal

DAY = 86_400


@dataclass(frozen=True, kw_only=True)
class CacheRun:
    """Show what the cache of models holds; with --drop say what could go, and with --delete delete it.

    Whatever is deleted is made again when it is next asked for, with the same bytes.
    """

    folder: Path = Path("runs/cache")
    """The cache."""
    drop: str = ""
    """What could go: models (with their logits), weights (logits stay), answers (logits and adversarial examples that runs have
    in common, also of forgotten examples), or leftovers (of stopped jobs, and damaged models)."""
    kind: str = ""
    """Only models of this kind: training or unlearning."""
    only_data: str = ""
    """Only models of these data: a name, or the first digits of a fingerprint."""
    older_than: float = 0.0
    """Only what nobody wrote in so many days, 0 or more; leave 0.1 for leftovers where others are at work."""
    verify: bool = False
    """Whether damage is looked for in every byte, not in sizes only."""
    delete: bool = False
    """Whether what could go is deleted; otherwise it is only said."""

    def __call__(self) -> int:
        self._check()
        cache = Cache(self.folder)
        records = cache.records()
        damaged = [record for record in records if not cache.whole(record, closely=self.verify)]
        _show(records, damaged)
        if self.drop == "leftovers":
            self._drop_leftovers(cache, damaged)
        elif self.drop == "answers":
            answers = list(cache.answers(self.older_than * DAY))
            self._drop_files(answers, f"{len(answers)} files of answers")
        elif self.drop:
            self._drop_models(cache, [record for record in records if self._meant(record)])
        return 0

    def _check(self) -> None:
        for name, known in (
            ("drop", ("models", "weights", "answers", "leftovers")),
            ("kind", ("training", "unlearning")),
        ):
            value = getattr(self, name)
            if value and value not in known:
                raise Refusal(f"expected --{name} {', '.join(known)}, got {value!r}; choose one or leave it out")
        if not self.folder.is_dir():
            raise Refusal(f"expected a cache in {self.folder}, got no such folder; give --folder")

    def _meant(self, record: Record) -> bool:
        data = record.data == self.only_data or record.data_fingerprint.startswith(self.only_data)
        old = time.time() - record.made >= self.older_than * DAY
        return data and old and self.kind in ("", record.kind)

    def _drop_models(self, cache: Cache, chosen: list[Record]) -> None:
        if self.drop == "weights":
            chosen = [record for record in chosen if record.weights]
            self._say(f"{len(chosen)} checkpoints", sum(record.weights["bytes"] for record in chosen))
        else:
            self._say(f"{len(chosen)} models", sum(record.bytes for record in chosen))
        for record in chosen if self.delete else ():
            if self.drop == "weights":
                cache.drop_weights(record.key)
            else:
                cache.remove(record)

    def _drop_leftovers(self, cache: Cache, damaged: list[Record]) -> None:
        files = list(cache.leftovers(self.older_than * DAY))
        self._drop_files(files, f"{len(damaged)} damaged models and {len(files)} files")
        for record in damaged if self.delete else ():
            cache.remove(record)

    def _drop_files(self, files: list[Path], what: str) -> None:
        self._say(what, sum(path.stat().st_size for path in files))
        for path in files if self.delete else ():
            path.unlink(missing_ok=True)

    def _say(self, what: str, size: int) -> None:
        print(f"{what}, {size / 1e6:.1f} MB: {'deleted' if self.delete else 'would be deleted with --delete true'}")


def _show(records: list[Record], damaged: list[Record]) -> None:
    """One line for each kind of model, and the sum."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    rows: dict[tuple[str, ...], list[Record]] = defaultdict(list)
    for record in records:
        kind = record.method or "training"
        data = record.data.rpartition("/")[2]
        rows[kind, data, record.data_fingerprint[:8], record.network, record.recipe[:8]].append(record)
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for title in ("made by", "data", "network"):
        table.add_column(title, overflow="fold", min_width=9)
    for title in ("models", "weights\nMB", "logits\nMB", "minutes", "damaged"):
        table.add_column(title, justify="right", no_wrap=True)
    for (kind, data, print_, network, recipe), group in sorted(rows.items()):
        table.add_row(kind, f"{data}\n{print_}", f"{network}\n{recipe}", *_sums(group, damaged))
    table.add_section()
    table.add_row("all", "", "", *_sums(records, damaged))
    Console().print(table)


def _sums(records: list[Record], damaged: list[Record]) -> list[Any]:
    weights = sum(record.weights.get("bytes", 0) for record in records)
    minutes = sum(record.seconds + record.scoring for record in records) / 60
    bad = sum(record in damaged for record in records)
    numbers = (weights / 1e6, (sum(record.bytes for record in records) - weights) / 1e6, minutes)
    return [str(len(records)), *(f"{number:.1f}" for number in numbers), str(bad)]
