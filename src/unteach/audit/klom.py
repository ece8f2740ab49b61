"""KLoM and its binning-free kin: how far apart each example's margins lie under unlearned and under retrained models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from unteach.audit import populations, statistics
from unteach.audit.finding import Finding, Skipped
from unteach.types import Refusal

RATE = 0.05
_DIRECTIONS = "KLoM(unlearned ‖ retrained)", "KLoM(retrained ‖ unlearned)"
_MOVES = "Wasserstein-1 distance of margins", "energy distance of margins"
_TOLD = "share of examples told apart (KS, BH)"
_SOURCE = "Georgiev et al., 2025, arXiv 2410.23232; Rinberg et al., 2026, arXiv 2602.16400"
_OWN = "our own, on the inputs of KLoM"


@dataclass(frozen=True, kw_only=True)
class Klom:
    """Divergence between the histograms of an example's margins under N unlearned and M retrained models.

    Margins φ = f_y − logsumexp of the others are clipped, counted in equal bins over the pooled range of that example, and
    ``added`` is put on every share before they are normalised again.
    Two samples of one law already give 0.36 nats at 100 models, 0.93 at 50 and 5.7 at 10 (20 bins), so fewer than 50 a side
    are not read.
    *Source:* Georgiev et al., Attribute-to-Delete, 2025, arXiv 2410.23232; direction, bins and ``added`` as in the code of
    Rinberg et al., 2026, arXiv 2602.16400: KL(unlearned ‖ retrained). *Departs:* nowhere known; the opposite direction, which
    secondary sources give for the paper, is computed beside it.
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
    apart, gaps = _staircases(unlearned, retrained)
    spread = np.std(retrained, axis=0, ddof=1, dtype=np.float64)
    spread[np.ptp(retrained, axis=0) == 0] = np.nan
    return (np.abs(apart) * gaps).sum(0) / spread, np.sqrt(2 * (apart**2 * gaps).sum(0) / spread)


def told_apart(unlearned: np.ndarray, retrained: np.ndarray) -> float:
    """Share of examples whose margins differ by the two-sample Kolmogorov–Smirnov test, Benjamini–Hochberg at 5 %.

    *Source:* Benjamini and Hochberg, JRSS B 57, 1995. *Departs:* nowhere known.
    """
    from scipy.stats import ks_2samp

    populations.check(unlearned, retrained)
    apart, gaps = _staircases(unlearned, retrained)
    statistic = np.where(gaps > 0, np.abs(apart), 0.0).max(0)
    # The p-value depends on the statistic alone, which takes few values: one call for each.
    _, first, which = np.unique(statistic.round(12), return_index=True, return_inverse=True)
    p_values = np.array([ks_2samp(unlearned[:, i], retrained[:, i]).pvalue for i in first])
    return float(statistics.rejected(p_values[which], RATE).mean())


def _staircases(unlearned: np.ndarray, retrained: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Difference of the two distribution functions between neighbouring values, and their distance: ``(N + M − 1) × n``."""
    both = np.concatenate([unlearned, retrained]).astype(np.float64)
    order = np.argsort(both, axis=0)
    steps = np.where(order < len(unlearned), 1 / len(unlearned), -1 / len(retrained))
    return np.cumsum(steps, axis=0)[:-1], np.diff(np.take_along_axis(both, order, axis=0), axis=0)


def margin_distances(
    unlearned: np.ndarray,
    retrained: np.ndarray,
    parts: Mapping[str, np.ndarray],
    *,
    measure: Klom | None = None,
    seed: int = 0,
) -> list[Finding | Skipped]:
    """KLoM (both directions; mean and 95th percentile) and its binning-free kin by part, with split-oracle floors.

    ``parts``: names (forget, retain, validation) to columns. The floor compares disjoint halves of the retrained models, so
    the value, too, is taken from ensembles of that size. "All models" is KLoM as published, which has no floor.
    """
    populations.check(unlearned, retrained)
    measure = measure or Klom()
    n, m = len(unlearned), len(retrained)
    size = populations.matched(n, m)
    held = {part: rows for part, rows in parts.items() if len(rows)}
    found = [_skipped("margin distances", f"{part} has no examples") for part in parts if part not in held]
    if min(n, m) < measure.fewest:
        found.append(_skipped("KLoM, all models", f"it takes {measure.fewest} models a side, got {n} and {m}"))
    else:
        found += _published(measure(unlearned, retrained)[0], held, n)
    if size < measure.fewest:
        need = f"it takes {measure.fewest} unlearned and {2 * measure.fewest} retrained models, got {n} and {m}"
        found.append(_skipped("KLoM beside its floor", need))
    if size < 3:
        need = f"it takes 3 unlearned and 6 retrained models, got {n} and {m}"
        return [*found, _skipped("margin distances", need)]
    pairs = [
        (_readings(a, b, held, measure), _readings(c, b, held, measure))
        for a, b, c in populations.halved(unlearned, retrained, seed)
    ]
    return found + [
        _beside(key, np.array([[one[key] for one in pair] for pair in pairs]), held, n, size) for key in pairs[0][0]
    ]


def _skipped(name: str, reason: str) -> Finding | Skipped:
    return Skipped(name=name, family="distribution", reason=reason)


def _published(divergence: np.ndarray, parts: Mapping[str, np.ndarray], models: int) -> list[Finding | Skipped]:
    return [
        Finding(
            name=f"KLoM, all models, {how}",
            family="distribution",
            part=part,
            value=value,
            unit="nats",
            size=len(rows),
            models=models,
            source=_SOURCE,
        )
        for part, rows in parts.items()
        for how, value in _summaries(divergence[rows]).items()
    ]


def _summaries(values: np.ndarray) -> dict[str, float]:
    return {"mean": float(values.mean()), "95th percentile": float(np.quantile(values, 0.95))}


def _readings(
    a: np.ndarray, b: np.ndarray, parts: Mapping[str, np.ndarray], measure: Klom
) -> dict[tuple[str, str], float]:
    """Every number of `margin_distances` by name and part; NaN where the margins of ``b`` vary for no example."""
    found: dict[tuple[str, str], float] = {}
    for part, rows in parts.items():
        x, y = a[:, rows], b[:, rows]
        if len(x) >= measure.fewest:
            for name, values in zip(_DIRECTIONS, measure(x, y)):
                found |= {(f"{name}, {how}", part): value for how, value in _summaries(values).items()}
        for name, values in zip(_MOVES, transport(x, y)):
            varying = values[~np.isnan(values)]
            found[name, part] = float(varying.mean()) if len(varying) else np.nan
        found[_TOLD, part] = told_apart(x, y)
    return found


def _beside(
    key: tuple[str, str], values: np.ndarray, parts: Mapping[str, np.ndarray], models: int, size: int
) -> Finding | Skipped:
    """``values``: one row a halving; the unlearned models', then the other retrained models'."""
    name, part = key
    if np.isnan(values).any():
        return _skipped(name, f"the retrained margins of {part} examples do not vary")
    low = f"Below {Klom.fewest} models a side KLoM's floor hides most signals."
    return Finding(
        name=name,
        family="distribution",
        part=part,
        value=float(values[:, 0].mean()),
        retrained=tuple(values[:, 1].tolist()),
        two_sided=False,
        unit="nats" if name.startswith("KLoM") else "" if name == _TOLD else "retrained sd",
        size=len(parts[part]),
        models=models,
        doubts=(
            f"{size} models a side; the halves overlap.",
            *([low] if name.startswith("KLoM") and size < Klom.fewest else []),
        ),
        source=_SOURCE if name.startswith("KLoM") else _OWN,
    )
