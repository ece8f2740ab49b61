"""One measured number beside what retraining makes of it: the form in which every measure reports."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from unteach.types import Refusal

FAMILIES = ("utility", "membership", "distribution", "distance", "class", "behaviour")


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A number of the model that is judged, and the same number of retrained models: the target, and its floor.

    A measure without ``retrained`` has no floor: it is shown, and nothing is concluded from it.
    """

    name: str
    """What was measured, as in the glossary of the report: "KL divergence", "RMIA AUC"."""
    family: str
    """One of FAMILIES; the report has one table a family."""
    part: str
    """Which examples or game: forget, retain, test, FT, FR, RT, or a class."""
    value: float
    """The number of the judged model."""
    retrained: tuple[float, ...] = ()
    """The same number of each retrained model, itself judged by the others, never by itself."""
    interval: tuple[float, float] | None = None
    """95 % interval of ``value`` over examples (and models, where there are several); None where there is none."""
    two_sided: bool = True
    """Whether a value below all retrained ones is as bad as one above; False for distances, where less is never worse."""
    trace: str = ""
    """On which side of the retrained models a trace of the forgotten examples shows: "above" or "below". Such a finding decides
    on the verdict when it stands out; empty where the number only describes."""
    unit: str = ""
    """Such as nats, % or steps; empty for plain numbers."""
    size: int = 0
    """Examples (or pairs) that the number rests on."""
    models: int = 1
    """Unlearned models that the number rests on."""
    doubts: tuple[str, ...] = ()
    """Sentences that qualify the number."""
    histogram: dict[str, list[float]] | None = None
    """Where the number sums up values by example: ``edges``, and the shares in each bin by ``judged`` and by ``retrained``."""
    source: str = ""
    """Where the measure comes from: authors, year, arXiv id."""

    def __post_init__(self) -> None:
        if self.family not in FAMILIES:
            raise Refusal(f"expected a family of findings ({', '.join(FAMILIES)}), got {self.family!r}; choose one")
        if self.trace not in ("", "above", "below"):
            raise Refusal(f"expected trace to be above, below or empty, got {self.trace!r}; choose one of these")
        numbers = (self.value, *self.retrained, *(self.interval or ()))
        if not all(map(math.isfinite, numbers)):
            raise Refusal(
                f"expected finite numbers for {self.name} ({self.part}), got {numbers}; skip it with a reason"
            )

    @property
    def target(self) -> float | None:
        """Mean of the retrained models."""
        return sum(self.retrained) / len(self.retrained) if self.retrained else None

    @property
    def inside(self) -> bool | None:
        """Whether the value lies in the range that retrained models span; None with fewer than two of them.

        A description, not a test: with K retrained models one more retrained model falls outside with chance 2 / (K + 1)
        (1 / (K + 1) where only larger is worse).
        """
        if len(self.retrained) < 2:
            return None
        return bool(self.value <= max(self.retrained) and (not self.two_sided or self.value >= min(self.retrained)))

    def as_json(self) -> dict[str, Any]:
        """Plain values, with ``target`` and ``inside``."""
        numbers = {"value": float(self.value), "retrained": tuple(map(float, self.retrained))}
        ends = None if self.interval is None else tuple(map(float, self.interval))
        target = None if self.target is None else float(self.target)
        return asdict(self) | numbers | {"interval": ends, "target": target, "inside": self.inside}


@dataclass(frozen=True, kw_only=True)
class Skipped:
    """A measure that could not be taken, and why: a blank in a table says nothing."""

    name: str
    family: str
    reason: str

    def as_json(self) -> dict[str, str]:
        return asdict(self)


Measured = Sequence[Finding | Skipped]
