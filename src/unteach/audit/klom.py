"""KLoM and its binning-free kin: how far apart each example's margins lie under unlearned and under retrained models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np

from unteach.audit import populations, statistics
from unteach.audit.finding import Finding, Skipped
from unteach.types import Refusal

RATE = 0.05
_SOURCE = "Rinberg et al., 2025, arXiv 2410.23232, and RoyRin/data-unlearning-bench"
_OWN = "our own, on the inputs of KLoM"


@dataclass(frozen=True, kw_only=True)
class Klom:
    """Divergence between the histograms of an example's margins under N unlearned and M retrained models.

    Margins φ = f_y − logsumexp of the others are clipped, counted in equal bins over the pooled range of that example, and
    ``added`` is put on every share before they are normalised again.
    Two samples of one law already give 0.36 nats at 100 models, 0.93 at 50 and 5.7 at 10 (20 bins), so fewer than 50 a side
    are not read.
    *Source:* data-unlearning-bench (Rin et al.), ``eval.py``: KL(unlearned ‖ retrained). *Departs:* nowhere known; the
    opposite direction, which secondary sources give for the paper, is computed beside it.
    """

    bins: int = 20
    """Equal bins over the pooled range of an example's margins, 2 or more."""
    added: float = 1e-5
    """Share put on every bin so that empty ones don't make the divergence infinite, above 0."""
    clip: float = 100.0
    """Margins beyond plus or minus this many nats count as this, above 0."""
    fewest: int = 50
    """Fewest models a side, 2 or more; below 50 the floor hides every signal, and a doubt says so."""

    def __post_init__(self) -> None:
        if self.bins < 2 or self.fewest < 2 or not (self.added > 0 and self.clip > 0):
            raise Refusal(f"expected 2 or more bins and models, added and clip above 0, got {self}; see the defaults")

    def __call__(self, unlearned: np.ndarray, retrained: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """KL(unlearned ‖ retrained) and KL(retrained ‖ unlearned) in nats, shape ``n``, of ``N × n`` and ``M × n`` margins."""
        populations.check(unlearned, retrained)
        if min(len(unlearned), len(retrained)) < self.fewest:
            raise Refusal(
                f"expected {self.fewest} models or more a side, got {len(unlearned)} unlearned and {len(retrained)} "
                "retrained; train more, or lower 'fewest' and read the floor"
            )
        both = [np.clip(np.asarray(m, dtype=np.float64), -self.clip, self.clip) for m in (unlearned, retrained)]
        low = np.minimum(*(m.min(0) for m in both))
        width = np.maximum(*(m.max(0) for m in both)) - low
        p, q = (self._shares((m - low) / np.where(width > 0, width, 1.0)) for m in both)
        odds = np.log(p / q)
        return (p * odds).sum(1), -(q * odds).sum(1)

    def _shares(self, places: np.ndarray) -> np.ndarray:
        """``models × n`` places in 0–1 → ``n × bins`` shares."""
        models, n = places.shape
        at = np.minimum((places * self.bins).astype(np.int64), self.bins - 1) + self.bins * np.arange(n)
        shares = np.bincount(at.ravel(), minlength=n * self.bins).reshape(n, self.bins) / models + self.added
        normal: np.ndarray = shares / shares.sum(1, keepdims=True)
        return normal


def transport(unlearned: np.ndarray, retrained: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Wasserstein-1 and energy distance of each example's margins, in standard deviations of the retrained ones.

    ``N × n`` and ``M × n`` margins → two arrays of shape ``n``; NaN where the retrained margins do not vary.
    With F and G the two distribution functions: ∫|F − G| and √(2 ∫(F − G)²).
    *Source:* Székely & Rizzo, J. Statistical Planning and Inference 143, 2013. *Departs:* the unit.
    """
    populations.check(unlearned, retrained)
    both = np.concatenate([unlearned, retrained]).astype(np.float64)
    order = np.argsort(both, axis=0)
    steps = np.where(order < len(unlearned), 1 / len(unlearned), -1 / len(retrained))
    apart = np.cumsum(steps, axis=0)[:-1]
    gaps = np.diff(np.take_along_axis(both, order, axis=0), axis=0)
    spread = np.std(retrained, axis=0, ddof=1, dtype=np.float64)
    spread[np.ptp(retrained, axis=0) == 0] = np.nan
    return (np.abs(apart) * gaps).sum(0) / spread, np.sqrt(2 * (apart**2 * gaps).sum(0) / spread)


def told_apart(unlearned: np.ndarray, retrained: np.ndarray) -> float:
    """Share of examples whose margins differ by the two-sample Kolmogorov–Smirnov test, Benjamini–Hochberg at 5 %.

    *Source:* Benjamini and Hochberg, JRSS B 57, 1995. *Departs:* nowhere known.
    """
    from scipy.stats import ks_2samp

    populations.check(unlearned, retrained)
    return float(statistics.rejected(ks_2samp(unlearned, retrained, axis=0).pvalue, RATE).mean())


def margin_distances(
    unlearned: np.ndarray,
    retrained: np.ndarray,
    parts: Mapping[str, np.ndarray],
    *,
    measure: Klom | None = None,
    seed: int = 0,
) -> list[Finding | Skipped]:
    """KLoM (both directions; mean and 95th percentile) and its binning-free kin by part, with split-oracle floors.

    ``parts``: names (forget, retain, validation) to columns. The floor compares disjoint retrained halves, so the value is
    taken from ensembles of that size; "all models" is the published number, which has no floor.
    """
    populations.check(unlearned, retrained)
    measure = measure or Klom()
    n, m = len(unlearned), len(retrained)
    found: list[Finding | Skipped] = []
    if min(n, m) < measure.fewest:
        reason = f"it takes {measure.fewest} unlearned and as many retrained models, got {n} and {m}"
        found.append(Skipped(name="KLoM, all models", family="distribution", reason=reason))
    else:
        forward = measure(unlearned, retrained)[0]
        for part, rows in parts.items():
            finding = partial(Finding, family="distribution", part=part, unit="nats", size=len(rows), models=n)
            for how, value in _summaries(forward[rows]).items():
                found.append(finding(name=f"KLoM, all models, {how}", value=value, source=_SOURCE))
    size = populations.matched(n, m)
    if size < measure.fewest:
        reason = f"it takes {measure.fewest} unlearned and {2 * measure.fewest} retrained models, got {n} and {m}"
        return [*found, *(Skipped(name=name, family="distribution", reason=reason) for name in _NAMES)]
    pairs = [
        (_readings(a, b, parts, measure), _readings(c, b, parts, measure))
        for a, b, c in populations.halved(unlearned, retrained, seed)
    ]
    doubts = (f"Value and retrained values come from {size} models a side.",)
    if size < Klom.fewest:
        doubts += (f"Below {Klom.fewest} models a side KLoM's floor hides every signal.",)
    for (name, part), first in pairs[0][0].items():
        made = Skipped(name=name, family="distribution", reason=f"{part}: the retrained margins do not vary")
        values = np.array([[one[name, part] for one in pair] for pair in pairs])
        if first is None or not np.isfinite(values).all():
            found.append(made)
            continue
    return found
