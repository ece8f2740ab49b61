"""Histograms of confidence and loss, with edges shared by all models so that they can be overlaid."""

from __future__ import annotations

from typing import Any

import numpy as np

BINS = 40


def edges(values: np.ndarray, *, log: bool) -> np.ndarray:
    """BINS + 1 increasing edges over the middle 99.8 % of all values; ``log``: evenly spaced on a log axis.

    Losses need the log axis: most of a trained model's lie orders of magnitude below the few large ones.
    """
    values = np.maximum(values, 1e-12) if log else values
    low, high = (float(q) for q in np.quantile(values, [0.001, 0.999]))
    if log:
        return np.geomspace(low, max(high, low * 1.01), BINS + 1)
    return np.linspace(low, max(high, low + 1e-3), BINS + 1)


def histogram(values: np.ndarray, bounds: np.ndarray, rows: dict[str, np.ndarray], *, log: bool) -> dict[str, Any]:
    """Share of each set's examples per bin, ``values``: ``models × examples`` (averaged over models).

    Values outside the edges are counted in the first or last bin, so every non-empty set sums to 1.
    """
    inside = np.clip(values, bounds[0], bounds[-1])
    out: dict[str, Any] = {"edges": bounds.tolist(), "scale": "log" if log else "linear"}
    for name, at in rows.items():
        counts = np.histogram(inside[:, at], bounds)[0]
        out[name] = (counts / max(1, counts.sum())).tolist()
    return out
