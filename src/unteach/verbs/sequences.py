"""Cells of requests that come one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from unteach.api import Forgotten
from unteach.audit.finding import Finding
from unteach.audit.sequence import RETAINED, UNSEEN, History, sequence_curves
from unteach.bench.protocol import Cell
from unteach.checkpoint import Checkpoint
from unteach.data import forget_ids
from unteach.references.unlearning import told
from unteach.sequence import forget_in_sequence
from unteach.store import digest_of, made_for, write_json
from unteach.types import Examples
from unteach.verbs.company import retrained_of
from unteach.verbs.request import request

if TYPE_CHECKING:
    from unteach.verbs.cells import Bench

# What the curves call a number, and its column; the part says after which request.
CURVES = {
    "FT AUC of the current request": "FT AUC",
    "FT AUC of earlier requests": "earlier AUC",
    "AUC(R vs F) − AUC(F vs T)": "AMUN's curve",
    "test accuracy": "test acc.",
}


class Requests:
    """The requests of one draw, the models retrained after each, and the examples that all are judged by."""

    def __init__(self, bench: Bench, cell: Cell, original: Checkpoint) -> None:
        self.bench = bench
        spec, gone = bench.protocol.requests[cell.request], set(bench.held)
        self.lists: list[list[str]] = []
        for step in range(bench.protocol.steps):
            self.lists.append(forget_ids(spec, bench.data.train, 50 + 100 * cell.draw + step, gone))
            gone |= set(self.lists[-1])
        so_far: list[str] = []
        self.retrained: list[tuple[Checkpoint, ...]] = []
        for names in self.lists:
            so_far += names
            parts = request(bench.data, original, so_far, bench.held)
            self.retrained.append(retrained_of(bench.company(original, parts)))
        self.known = bench.data.train.take(~np.isin(bench.data.train.ids, np.asarray(bench.held, dtype=str)))
        self.judged, self.request = self._pool()
        self.logits = [[self._logits(one.model) for one in models] for models in self.retrained]

    def _pool(self) -> tuple[list[Examples], np.ndarray]:
        """What is scored, and which request names each: a sample of the retained, all forgotten, the unseen."""
        number = {name: step for step, names in enumerate(self.lists) for name in names}
        asked = np.array([number.get(name, RETAINED) for name in self.known.ids.tolist()])
        kept = np.random.default_rng(0).permutation(np.flatnonzero(asked == RETAINED))
        rows = np.sort(np.concatenate((kept[: self.bench.protocol.retain_sample], np.flatnonzero(asked != RETAINED))))
        unseen = self.bench.data.non_members
        return [self.known.take(rows), unseen], np.concatenate((asked[rows], np.full(len(unseen), UNSEEN)))

    def _logits(self, model: torch.nn.Module) -> torch.Tensor:
        engine = self.bench.engine
        return torch.cat([engine.logits(model, part.inputs) for part in self.judged])

    def cell(self, cell: Cell, original: Checkpoint) -> None:
        """Do the cell, or find it done."""
        bench, folder = self.bench, self.bench.folder / "cells" / cell.name
        straw = cell.row in ("original", "retrained")
        method = None if straw else bench.settled(cell, request(bench.data, original, self.lists[0], bench.held))
        prints = [one.fingerprint for models in self.retrained for one in models]
        about = told(method) if method is not None else {"row": cell.row}
        key = digest_of([original.fingerprint, about, self.lists, cell.seed, cell.run, prints])
        if made_for(folder / "cell.json", key):
            return
        others = [self._turned(models, cell.seed) for models in self.logits]
        costs = [(0.0, 0.0)] * len(self.lists)
        if method is None:
            nothing = self._logits(original.model) if cell.row == "original" else None
            mine = [nothing if nothing is not None else models[-1] for models in others]
            others = [models if nothing is not None else models[:-1] for models in others]
        else:
            bench.engine.scratch = folder
            seed = 1000 * cell.seed + cell.run
            mine = []
            each = forget_in_sequence(original.model, self.known, self.lists, method, seed=seed, engine=bench.engine)
            for step, forgotten in enumerate(each):
                mine.append(self._logits(forgotten.model))
                costs[step] = _cost(forgotten, len(self.known))
        found = sequence_curves(self._history(mine, others))
        write_json(folder / "cell.json", {"key": key, "steps": self._steps(found, mine, original, costs)})
        for state in folder.glob("*.resume"):
            state.unlink(missing_ok=True)

    def _turned(self, models: Sequence[torch.Tensor], seed: int) -> list[torch.Tensor]:
        """The retrained models' logits in another order for each seed: the last is the control."""
        turn = self.bench.protocol.seeds.index(seed) % len(models)
        return [*models[turn + 1 :], *models[: turn + 1]]

    def _history(self, mine: list[torch.Tensor], others: list[list[torch.Tensor]]) -> History:
        task, labels = self.known.task, torch.cat([part.labels for part in self.judged])
        groups = None
        if all(part.groups is not None for part in self.judged):
            groups = np.concatenate([np.asarray(part.groups) for part in self.judged])
        return History(
            request=self.request,
            scores=np.stack([task.confidence(one, labels).numpy() for one in mine]),
            correct=np.stack([task.correct(one, labels).numpy() for one in mine]),
            retrained_scores=np.stack([[task.confidence(one, labels).numpy() for one in models] for models in others]),
            retrained_correct=np.stack([[task.correct(one, labels).numpy() for one in models] for models in others]),
            groups=groups,
        )

    def _steps(
        self, found: Any, mine: list[torch.Tensor], original: Checkpoint, costs: list[tuple[float, float]]
    ) -> list[dict[str, Any]]:
        """What a table needs of the model after each request."""
        labels = torch.cat([part.labels for part in self.judged])
        right = np.stack([self.known.task.correct(one, labels).numpy() for one in mine])
        before = self.known.task.correct(self._logits(original.model), labels).numpy()
        kept = self.request == RETAINED
        steps = []
        for at in range(len(mine)):
            so_far = (self.request >= 0) & (self.request <= at)
            here = [one for one in found if isinstance(one, Finding) and one.part == f"after request {at + 1}"]
            numbers: dict[str, float] = {}
            gaps = []
            for one in here:
                scale = 100.0 if one.name == "test accuracy" else 1.0
                numbers[CURVES[one.name]] = scale * one.value
                if one.retrained and one.name in ("test accuracy", "FT AUC of the current request"):
                    gaps.append(100 * abs(one.value - float(np.mean(one.retrained))))
            numbers |= {
                "forget acc.": 100 * float(right[at, so_far].mean()),
                "retain acc.": 100 * float(right[at, kept].mean()),
                "seconds": costs[at][0],
                "epochs": costs[at][1],
            }
            if gaps:
                numbers["gap, acc. and AUC"] = float(np.mean(gaps))
            current = next((one for one in here if one.name == "FT AUC of the current request"), None)
            steps.append(
                {
                    "numbers": numbers,
                    "verdict": "",
                    "collapsed": bool(right[at, kept].mean() < before[kept].mean() / 2),
                    "interval": current.interval if current else None,
                }
            )
        return steps


def _cost(forgotten: Forgotten, size: int) -> tuple[float, float]:
    """Seconds, and passes over the training data."""
    return sum(stage.seconds for stage in forgotten.stages), sum(stage.units for stage in forgotten.stages) / size
