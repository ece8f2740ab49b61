"""The game of telling which of two worlds a model comes from: its numbers, their intervals and floors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from unteach.audit import statistics
from unteach.audit.finding import Finding, Measured, Skipped
from unteach.audit.games import FALSE_POSITIVE_RATES
from unteach.audit.statistics import Estimate
from unteach.audit.worlds import Worlds
from unteach.types import Refusal


@dataclass(frozen=True, eq=False)
class Game:
    """``log_ratio``: log Λ of every attacked pair, ``models × examples`` (others: NaN); above 0 says *positive world*."""

    worlds: Worlds
    log_ratio: np.ndarray

    @property
    def positive(self) -> np.ndarray:
        """log Λ of the attacked pairs of the positive world, in one row."""
        return np.asarray(self.log_ratio[self.worlds.pairs & self.worlds.positive])

    @property
    def negative(self) -> np.ndarray:
        """log Λ of the attacked pairs of the negative world, in one row."""
        return np.asarray(self.log_ratio[self.worlds.pairs & self.worlds.negative])

    @property
    def probability(self) -> np.ndarray:
        """p = Λ / (1 + Λ), ``models × examples``: the positive world's, were both equally likely beforehand."""
        from scipy.special import expit

        return np.asarray(expit(self.log_ratio))

    def accuracy_each(self) -> np.ndarray:
        """Share of right answers (p > ½) per example, both worlds weighing the same, ``examples``; NaN where one is empty."""
        right = self.log_ratio > 0
        sides = ((right, self.worlds.positive), (~right, self.worlds.negative))
        with np.errstate(invalid="ignore"):
            shares = [(each & at & self.worlds.pairs).sum(0) / (at & self.worlds.pairs).sum(0) for each, at in sides]
        return np.asarray(np.mean(shares, axis=0))

    def accuracy(self) -> Estimate:
        """Share of right answers over all pairs, both worlds weighing the same, with its clustered variance."""
        return self._estimate((self.positive > 0).astype(np.float64), (self.negative <= 0).astype(np.float64), halves=2)

    def auc(self) -> Estimate:
        """Mid-rank AUC over all pairs, with its clustered variance."""
        return self._estimate(*statistics.placements(self.positive, self.negative), halves=1)

    def _estimate(self, positive: np.ndarray, negative: np.ndarray, halves: int) -> Estimate:
        """Mean of the two means (``halves`` = 2), or the mean that both sides share (1).

        Pairs of one example, and pairs of one family of models, hang together, so the variance is clustered both ways; never
        below that of either way alone. *Source:* Obuchowski, Biometrics 53, 1997 (clustered DeLong); Cameron, Gelbach and
        Miller, JBES 29, 2011 (two ways).
        """
        worlds = self.worlds
        table = np.zeros_like(self.log_ratio)
        for values, mask in ((positive, worlds.positive), (negative, worlds.negative)):
            table[worlds.pairs & mask] = (values - values.mean()) / (halves * len(values))
        each = np.arange(worlds.phi.shape[1])
        units = np.unique(each if worlds.groups is None else worlds.groups, return_inverse=True)[1]
        by_family = np.zeros((worlds.family.max() + 1, len(each)))
        np.add.at(by_family, worlds.family, table)
        by_both = np.zeros((units.max() + 1, len(by_family)))
        np.add.at(by_both, units, by_family.T)
        across, along = (by_both.sum(1) ** 2).sum(), (by_both.sum(0) ** 2).sum()
        variance = max(across, along, across + along - (by_both**2).sum())
        freedom = (
            min(len(np.unique(units[worlds.pairs.any(0)])), len(np.unique(worlds.family[worlds.pairs.any(1)]))) - 1
        )
        value = (positive.mean() + negative.mean()) / 2
        if freedom < 1:
            return Estimate(float(value), np.inf, 0)
        few = min(len(positive), len(negative))
        return Estimate(float(value), max(float(variance) * (freedom + 1) / freedom, (few + 2.0) ** -2), freedom)


def indiscernibility(accuracy: float) -> float:
    """1 − |accuracy − ½| / ½: 1 where the worlds cannot be told apart. *Source:* Cadet et al., 2024, arXiv 2410.01276."""
    return 1 - abs(accuracy - 0.5) / 0.5


Attack = Callable[[Worlds], Game]


def measure(
    attack: Attack, worlds: Worlds, *, name: str, part: str, source: str, floors: int = 3, seed: int = 0
) -> Measured:
    """Accuracy at p > ½, indiscernibility, AUC and TPR at low FPR of an attack on two worlds, beside its floors.

    A floor (``retrained``) is the same number when the negative world, drawn in two, is played against itself, ``floors``
    times: ½ (indiscernibility: 1), but for what so few models and examples make of it.
    """
    rng = np.random.default_rng(seed)
    found, doubts = _numbers(attack(worlds)), []
    try:
        nulls = [_numbers(attack(worlds.null(rng))) for _ in range(floors)]
    except Refusal as too_few:
        nulls, doubts = [], [f"No floor: the negative world cannot be drawn in two ({too_few})."]
    pairs = int(worlds.pairs.sum())
    models = int((worlds.pairs & worlds.positive).any(1).sum())
    out: list[Finding | Skipped] = []
    for what, number in found.items():
        if isinstance(number, str):
            out.append(Skipped(name=f"{name} {what}", family="distribution", reason=number))
            continue
        value, interval, doubt = number
        floor = tuple(each[0] for null in nulls if not isinstance(each := null[what], str))
        out.append(
            Finding(
                name=f"{name} {what}",
                family="distribution",
                part=part,
                value=value,
                retrained=floor,
                interval=interval,
                size=pairs,
                models=models,
                doubts=(*doubts, *doubt),
                source=source,
            )
        )
    return out


Number = tuple[float, tuple[float, float], tuple[str, ...]]


def _numbers(game: Game) -> dict[str, Number | str]:
    """Every number of a game with its interval and doubts, or why it is skipped."""
    accuracy, area = game.accuracy(), game.auc()
    low, high = accuracy.interval(least=0.0)
    ends = sorted((indiscernibility(low), indiscernibility(high)))
    found: dict[str, Number | str] = {
        "accuracy": (accuracy.value, (low, high), ()),
        "indiscernibility": (indiscernibility(accuracy.value), (ends[0], 1.0 if low <= 0.5 <= high else ends[1]), ()),
        "AUC": (area.value, area.interval(least=0.0), ()),
    }
    for fpr in FALSE_POSITIVE_RATES:
        point = statistics.tpr_at_fpr(game.positive, game.negative, fpr)
        found[f"TPR at {fpr:.1%} FPR"] = point.get("skipped") or (
            point["tpr"],
            (point["low"], point["high"]),
            ("The interval takes pairs of model and example as independent.",),
        )
    return found
