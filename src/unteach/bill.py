"""What work costs: examples counted where they are worked on, and lines of the bill."""

from __future__ import annotations

from dataclasses import astuple, dataclass


@dataclass
class Meter:
    """What the work cost, counted where it is done.

    ``trained``, ``gradients``, ``forwards``: examples that went through a training step, an input gradient, a forward
    pass. One training step costs one unit, an input gradient 2/3, a forward pass 1/3 (the usual arithmetic of
    multiply-adds), so ``units / len(data)`` is the cost in full-data epochs. Each of several processes counts what it does
    itself; ``Engine.settle`` makes sums of it, at the end of every training and every stage.
    """

    trained: int = 0
    gradients: int = 0
    forwards: int = 0

    @property
    def units(self) -> float:
        return (3 * self.trained + 2 * self.gradients + self.forwards) / 3

    def units_since(self, before: Meter) -> float:
        """Units of what was counted after ``before``, a copy of this meter; the same whatever had been counted until then."""
        counts = zip(astuple(self), astuple(before))
        return Meter(*(now - then for now, then in counts)).units


@dataclass(frozen=True)
class Stage:
    """One line of the bill: what was done, in seconds and in training steps of one example (``Meter.units``)."""

    what: str
    seconds: float
    units: float
