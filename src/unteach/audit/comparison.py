"""One quantity of a model beside the retrained model's: within tolerance, beyond it, or unsettled."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from unteach.audit.statistics import Estimate

ATTACK, SHAPE = "FT AUC by confidence", "FT AUC by two-sided confidence"
FORGET, TEST = "forget accuracy", "test accuracy"
# Four quantities each get a chance to raise a false alarm.
_ALARM_LEVEL = 1 - 0.05 / 4


@dataclass(frozen=True, kw_only=True)
class Tolerance:
    """How far from the retrained model still counts as the same; fixed before looking."""

    auc: float = 0.02
    """Largest difference in membership-attack AUC (0–1) from the retrained model that counts as equal."""
    accuracy: float = 0.02
    """Largest difference in accuracy (0–1) from the retrained model that counts as equal."""


@dataclass(frozen=True)
class Comparison:
    """One quantity of a model minus the retrained model's, with the margin inside which it counts as equal.

    ``n``: the forget examples (for the test accuracy: the test examples). Equivalence asks for the whole 95 %
    interval inside the margin; it must hold for every quantity at once and so needs no correction for their
    number. Alarms need the whole interval beyond the margin at 1 − 5 %/4.

    *Source:* two one-sided tests, Schuirmann, J. Pharmacokinetics and Biopharmaceutics 15, 1987. *Departs:*
    the 95 % interval, not the 90 % one, so each side is tested at 2.5 %.
    """

    name: str
    difference: Estimate
    margin: float
    n: int

    @property
    def within(self) -> bool:
        """The whole interval lies inside ±margin; a better test accuracy and a less telling shape also do."""
        low, high = self.difference.interval()
        return (self.name == SHAPE or -self.margin < low) and (self.name == TEST or high < self.margin)

    @property
    def above(self) -> bool:
        """The whole interval lies above +margin."""
        return self.difference.interval(_ALARM_LEVEL)[0] > self.margin

    @property
    def below(self) -> bool:
        """The whole interval lies below −margin."""
        return self.difference.interval(_ALARM_LEVEL)[1] < -self.margin

    @property
    def detectable(self) -> float:
        """The smallest true difference that raises an alarm in four of five audits like this one."""
        return min(2.0, self.margin + self.difference.halfwidth(_ALARM_LEVEL) + self.difference.halfwidth(0.6))

    @property
    def text(self) -> str:
        """The difference in points with its interval, for a sentence."""
        value, low, high = (f"{100 * x:+.1f}" for x in (self.difference.value, *self.difference.interval()))
        return (
            f"{self.name} {value} points from retrained (95 % interval {low} to {high}, "
            f"tolerance ±{100 * self.margin:.1f})"
        )

    @property
    def room(self) -> float:
        """Distance from the value to the nearest edge of the margin that matters."""
        value = self.difference.value
        below, above = abs(self.margin + value), abs(self.margin - value)
        return below if self.name == TEST else above if self.name == SHAPE else min(below, above)

    def needed(self, room: float | None = None) -> str:
        """What it would take to halve the interval down to ``room``, as a clause.

        Half the length falls as 1/√n, hence n · (half / room)² examples; the spread between retrainings does
        not fall with n.
        """
        left = self.room if room is None else room
        d = self.difference
        if d.model_variance and Estimate(d.value, d.model_variance, d.model_freedom).halfwidth() >= left:
            return "more retrained references, since their own spread is too wide for the tolerance"
        count = self.n * (d.halfwidth() / left) ** 2 if left > 0 else math.inf
        if count > 1e7:
            return "practically no number of examples, since the difference lies on the edge of the tolerance"
        if self.name == TEST:
            return f"about {math.ceil(count):,} test examples (now {self.n:,})"
        return f"about {math.ceil(count):,} forget examples (now {self.n:,}) with unseen ones in proportion"

    def as_json(self) -> dict[str, Any]:
        """Plain values; ``state`` is within, above, below or unsettled."""
        low, high = self.difference.interval()
        state = "within" if self.within else "above" if self.above else "below" if self.below else "unsettled"
        return {
            "quantity": self.name,
            "difference": self.difference.value,
            "low": low,
            "high": high,
            "margin": self.margin,
            "detectable": self.detectable,
            "state": state,
        }


Comparisons = dict[str, Comparison]
