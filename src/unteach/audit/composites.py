"""Single numbers made of several gaps: ToW, AUS, averaging gap. For comparison with papers, always beside their parts.

Accuracies and attack rates are in 0–1 here; findings of gaps are in points.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from unteach.audit.finding import Finding, Skipped
from unteach.types import Refusal

PARTS = ("forget", "retain", "test")
_RUM = "Zhao et al., RUM, 2024, arXiv 2406.01257"
_SALUN = "Fan et al., SalUn, 2024, arXiv 2310.12508"
_AUS = "Cotogni et al., DUCK, 2023, arXiv 2312.02052"
Values = Mapping[str, float]


def tow(judged: Values, retrained: Values, names: Sequence[str] = PARTS) -> float:
    """Tug of war: Π (1 − |judged − retrained|) over the named values, 0–1, 1 best.

    ToW-MIA takes the share of forget examples that the SVC calls non-members in the place of the forget accuracy.
    *Source:* Zhao et al., RUM, 2024, arXiv 2406.01257. *Departs:* nowhere known.
    """
    return math.prod(1 - abs(judged[name] - retrained[name]) for name in names)


def aus(test_before: float, test: float, forget: float, *, whole_class: bool = False) -> float:
    """Adaptive unlearning score (1 − (A_t(original) − A_t)) / (1 + Δ), higher is better by its authors.

    Δ = |A_t − A_f| when single examples were forgotten, and A_f when ``whole_class`` (then A_t is without that class).
    *Source:* Cotogni et al., DUCK, 2023, arXiv 2312.02052. *Departs:* nowhere known; the second form is from memory.
    """
    return (1 - (test_before - test)) / (1 + (forget if whole_class else abs(test - forget)))


def averaging_gap(judged: Values, retrained: Values) -> float:
    """Mean absolute difference over the values of ``retrained``: of means over trials, not the mean of trials' gaps.

    With UA, RA, TA and MIA-efficacy it is the gap of the l1-sparse and SalUn papers; AMUN's is `accuracy.average_gap`.
    *Source:* Fan et al., SalUn, 2024, arXiv 2310.12508. *Departs:* nowhere known.
    """
    return float(np.mean([abs(judged[name] - value) for name, value in retrained.items()]))


def composites(
    judged: Values, retrained: Sequence[Values], *, original_test: float | None = None, whole_class: bool = False
) -> list[Finding | Skipped]:
    """1 − ToW, 1 − ToW-MIA and the averaging gap, with each retrained model among the others as floor; and AUS.

    Each mapping holds accuracies ``forget``, ``retain``, ``test``, and ``mia`` where the SVC was run (share of forget
    examples called non-members); ``original_test``: test accuracy before unlearning, for AUS.
    """
    for one in (judged, *retrained):
        if not set(PARTS) <= set(one) <= {*PARTS, "mia"} or not all(0 <= value <= 1 for value in one.values()):
            raise Refusal(
                f"expected accuracies in 0–1 named {', '.join(PARTS)} and perhaps mia, got {dict(one)}; rename"
            )
    found: list[Finding | Skipped] = []
    for composite in _COMPOSITES:
        if len(retrained) < 2:
            reason = f"it takes 2 retrained models, one to be judged by the other, got {len(retrained)}"
        elif not all(set(composite.names) <= set(one) for one in (judged, *retrained)):
            reason = "the SVC attack was not run on all models"
        else:
            found.append(_beside_retrained(composite, judged, retrained))
            continue
        found.append(Skipped(name=composite.name, family="utility", reason=reason))
    if original_test is None:
        return [*found, Skipped(name="AUS", family="utility", reason="the original's test accuracy is missing")]
    value, *target = (
        aus(original_test, one["test"], one["forget"], whole_class=whole_class) for one in (judged, *retrained)
    )
    parts = f"Test {judged['test']:.4f} (before {original_test:.4f}), forget {judged['forget']:.4f}."
    aus_finding = Finding(
        name="AUS", family="utility", part="forget", value=value, retrained=tuple(target), doubts=(parts,), source=_AUS
    )
    return [*found, aus_finding]


@dataclass(frozen=True)
class _Composite:
    name: str
    names: tuple[str, ...]
    measure: Callable[[Values, Values], float]
    unit: str
    source: str


_WITH_MIA = ("mia", "retain", "test")
_COMPOSITES = (
    _Composite("1 − ToW", PARTS, lambda a, b: 1 - tow(a, b), "", _RUM),
    _Composite("1 − ToW-MIA", _WITH_MIA, lambda a, b: 1 - tow(a, b, _WITH_MIA), "", _RUM),
    _Composite("averaging gap", (*PARTS, "mia"), lambda a, b: 100 * averaging_gap(a, b), "points", _SALUN),
)


def _beside_retrained(composite: _Composite, judged: Values, retrained: Sequence[Values]) -> Finding:
    whole = _mean(retrained, composite.names)
    floor = (
        composite.measure(one, _mean([*retrained[:i], *retrained[i + 1 :]], composite.names))
        for i, one in enumerate(retrained)
    )
    parts = ", ".join(f"{name} {100 * (judged[name] - value):+.2f}" for name, value in whole.items())
    return Finding(
        name=composite.name,
        family="utility",
        part="all",
        value=composite.measure(judged, whole),
        retrained=tuple(floor),
        two_sided=False,
        unit=composite.unit,
        doubts=(f"Made of these gaps, in points: {parts}.",),
        source=composite.source,
    )


def _mean(models: Sequence[Values], names: Sequence[str]) -> dict[str, float]:
    return {name: float(np.mean([one[name] for one in models])) for name in names}
