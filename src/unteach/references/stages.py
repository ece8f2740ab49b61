"""A whole manifest: stage after stage, whatever is not done."""

from __future__ import annotations

from pathlib import Path

from unteach.events import Events
from unteach.references.executors import Executor
from unteach.references.manifest import read
from unteach.types import Refusal


def run(path: Path, executor: Executor, events: Events | None = None) -> list[int]:
    """Do all jobs of a manifest that are not done, parents before children; returns the numbers of those still missing.

    None are missing unless the executor leaves some to others, as ``Shard`` does. Checkpoints that were only kept for the
    models made from them are deleted at the end. Stopped at any point and started again it ends with the same bytes.
    Raises: Refusal naming the failed jobs of a stage, after the stage's others are done.
    """
    manifest, events = read(path), events or Events()
    total = len(manifest.jobs)
    before = manifest.left()
    finished = total - len(before)
    events.emit("references", manifest=str(path), jobs=total, done=finished)

    told: list[int] = []

    def tell(number: int) -> None:
        nonlocal finished
        told.append(number)
        finished += 1
        record = manifest.cache.record(manifest.keys[number])
        events.emit("model", number=number, key=manifest.keys[number], seconds=record.seconds if record else None)
        events.progress("models", finished, total)

    for stage in manifest.stages:
        if numbers := [number for number in stage if not manifest.done(number)]:
            events.progress("models", finished, total)
            executor(path, manifest.longest_first(numbers), tell)
            if astray := [number for number in told if not manifest.done(number)]:
                raise Refusal(
                    f"expected what was told as done in {manifest.cache.folder}, got {len(astray)} models missing there; "
                    "share that folder among all machines, and run the same unteach on each"
                )
    if not manifest.keep_weights:
        for parent in sorted(set(manifest.parents) - {-1}):
            if not manifest.wants_weights(parent):
                manifest.cache.drop_weights(manifest.keys[parent])
    return manifest.left()
