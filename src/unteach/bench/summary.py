"""Cells to rows: every number with its spread over training seeds. Pure functions of findings and readings."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

PARTS = ("forget", "retain", "test")
# Title, direction (0: towards the retrained row), digits.
COLUMNS: dict[str, tuple[int, int]] = {
    "forget acc.": (0, 2),
    "retain acc.": (0, 2),
    "test acc.": (0, 2),
    "FT AUC": (0, 3),
    "earlier AUC": (0, 3),
    "AMUN's curve": (0, 3),
    "RMIA AUC": (0, 3),
    "LiRA AUC": (0, 3),
    "Avg Gap": (-1, 2),
    "gap, acc. and AUC": (-1, 2),
    "U": (0, 4),
    "F": (0, 4),
    "F from retrained": (-1, 4),
    "NoMUS": (1, 4),
    "ACC_f": (0, 2),
    "ACC_r": (0, 2),
    "routing TV": (-1, 3),
    "image TV": (-1, 3),
    "leakage": (-1, 3),
    "epochs": (-1, 2),
    "seconds": (-1, 0),
    "of retraining": (-1, 2),
}


@dataclass(frozen=True, kw_only=True)
class Spread:
    """Mean over training seeds with its standard deviation, and a 95 % interval for the mean by Student's t.

    ``sd``, ``low``, ``high`` are NaN for a single seed. Draws and unlearning seeds of one training seed are averaged first.
    """

    mean: float
    sd: float
    low: float
    high: float
    seeds: int

    @staticmethod
    def of(values: Sequence[float]) -> Spread:
        """The spread of one value a seed."""
        mean = statistics.fmean(values)
        if len(values) < 2:
            return Spread(mean=mean, sd=math.nan, low=math.nan, high=math.nan, seeds=len(values))
        from scipy.stats import t

        sd = statistics.stdev(values)
        half = float(t.ppf(0.975, len(values) - 1)) * sd / math.sqrt(len(values))
        return Spread(mean=mean, sd=sd, low=mean - half, high=mean + half, seeds=len(values))


@dataclass(frozen=True, kw_only=True)
class Row:
    """One method on one request: its numbers by column, how the audits judged it, and in how many cells it fell."""

    name: str
    request: str
    numbers: Mapping[str, Spread]
    verdicts: Mapping[str, int]
    cells: int
    collapsed: int
    interval: tuple[float, float] | None
    """Median of the cells' own 95 % intervals of FT AUC: by person or cluster where the data have some."""
    refused: str = ""
    """Why there are no cells."""

    def as_json(self) -> dict[str, Any]:
        """The row as plain values."""
        return asdict(self)


def row_of(name: str, request: str, cells: Sequence[tuple[int, Mapping[str, Any]]]) -> Row:
    """The row of cells, each with its training seed and what ``read`` found of it."""
    told = [one for _, one in cells]
    columns = [column for column in COLUMNS if any(one["numbers"].get(column) is not None for one in told)]
    numbers = {}
    for column in columns:
        seeds: dict[int, list[float]] = {}
        for seed, one in cells:
            if (value := one["numbers"].get(column)) is not None:
                seeds.setdefault(seed, []).append(value)
        numbers[column] = Spread.of([statistics.fmean(values) for values in seeds.values()])
    ends = [one["interval"] for one in told if one["interval"]]
    return Row(
        name=name,
        request=request,
        numbers=numbers,
        verdicts=dict(Counter(one["verdict"] for one in told)),
        cells=len(told),
        collapsed=sum(one["collapsed"] for one in told),
        interval=(statistics.median(e[0] for e in ends), statistics.median(e[1] for e in ends)) if ends else None,
    )


def read(findings: Mapping[str, Any], readings: Mapping[str, float | None]) -> dict[str, Any]:
    """What a table needs of one cell.

    A cell has collapsed when its retained or test accuracy fell below half of the original's, or when one answer covers nearly
    everything, which the audit's control tells.
    """
    models = findings["models"]
    mine, game = models["unlearned"]["accuracy"], models["unlearned"]["games"]["FT"]["confidence"]
    before = models.get("original", {}).get("accuracy", {})
    cost = findings["cost"]
    retraining = cost.get("retrain_epochs")
    numbers = {f"{part} acc.": 100 * mine[part] for part in PARTS if part in mine}
    numbers |= {"FT AUC": game["auc"], "epochs": cost["forget_epochs"], "seconds": cost["forget_seconds"]}
    if findings.get("gaps"):
        numbers["Avg Gap"] = findings["gaps"]["average"]
    if retraining:
        numbers["of retraining"] = cost["forget_epochs"] / retraining
    numbers |= {name: value for name, value in readings.items() if value is not None and name in COLUMNS}
    fell = any(mine[part] < before[part] / 2 for part in ("retain", "test") if part in mine and part in before)
    constant = not findings["controls"].get("constant_predictor", {}).get("passed", True)
    return {
        "numbers": numbers,
        "verdict": findings["verdict"],
        "collapsed": bool(fell or constant),
        "interval": (game["low"], game["high"]),
    }
