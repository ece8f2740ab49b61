"""Which of many measures set a model apart from retrained ones, beyond what one more retraining would do."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from unteach.audit.finding import Finding


def chance(finding: Finding) -> float | None:
    """Chance that one more retrained model lies at least as far from the mean of the others; None with fewer than two.

    Student's t for a new observation beside K: t = (value − mean) / (s · √(1 + 1/K)) with K − 1 degrees of freedom; one-sided
    where only larger is worse. Where the retrained models all agree, no spread is known: then by ranks, 2 / (K + 1) or half.

    *Source:* the prediction interval of a normal sample, Hahn, J. American Statistical Association 64, 1969.
    """
    from scipy.special import stdtr

    known = np.array(finding.retrained)
    count = len(known)
    if count < 2:
        return None
    sides = 2 if finding.two_sided else 1
    away = finding.value - known.mean()
    spread = float(known.std(ddof=1))
    if spread <= 1e-12 * max(1.0, abs(finding.value)):
        same = math.isclose(finding.value, known[0], abs_tol=1e-12) or (sides == 1 and away < 0)
        return 1.0 if same else sides / (count + 1)
    t = away / (spread * math.sqrt(1 + 1 / count))
    return float(sides * stdtr(count - 1, -abs(t) if sides == 2 else -t))


def standing_out(findings: Iterable[Finding], level: float = 0.05) -> list[tuple[Finding, float]]:
    """The findings that stand out, with their chances, when all are looked at: at most ``level`` for any false one.

    *Source:* Holm, Scandinavian Journal of Statistics 6, 1979.
    """
    tested = [(one, p) for one in findings if (p := chance(one)) is not None]
    ordered = sorted(tested, key=lambda pair: pair[1])
    out = []
    for number, (one, p) in enumerate(ordered):
        if p > level / (len(ordered) - number):
            break
        out.append((one, p))
    return out
