"""Where a search looks: the knobs on a method's card, in the method's own units, and the way to turn them."""

from __future__ import annotations

from typing import Any

from unteach.knobs import Value, has, is_rate
from unteach.presets import fixed
from unteach.types import Choice, Method, Range, Refusal


def space_of(method: Method, peak: float) -> dict[str, Range | Choice]:
    """What the method's card says is worth searching, learning rates times ``peak``, the highest of the original's training.

    What makes a row of the table what it is stays: ``rwft`` is TRW with β = 0, so its β is not searched.
    Raises: Refusal when the card names no knobs, or some that the method has not.
    """
    card = getattr(type(method), "card", None)
    found: dict[str, Range | Choice] = dict(card.search) if card is not None else {}
    name = type(method).__name__
    if not found:
        raise Refusal(f"expected a method with knobs to search (card.search), got {name} without; choose another")
    if odd := [path for path in found if not has(method, path)]:
        raise Refusal(f"expected card.search of {name} to name its settings, got {odd[0]!r}; mend the card")
    own = fixed(method)
    return {
        path: _scaled(values, peak) if is_rate(path) else values for path, values in found.items() if path not in own
    }


def are_epochs(path: str) -> bool:
    """Whether this knob counts passes over the data, which decide what a trial costs."""
    return path.rpartition(".")[2].endswith("epochs")


def nearest(values: Range | Choice, value: Any) -> Value:
    """A method's own value brought among those that are searched; the first choice where it is none of them."""
    if isinstance(values, Choice):
        return value if value in values.values else values.values[0]
    inside: float = min(max(float(values.low if value is None else value), values.low), values.high)
    return round(inside) if is_whole(values) else inside


def is_whole(values: Range) -> bool:
    """Whether a range is of whole numbers."""
    return isinstance(values.low, int) and isinstance(values.high, int)


def _scaled(values: Range | Choice, peak: float) -> Range | Choice:
    if isinstance(values, Choice):
        return Choice(values=tuple(peak * v if isinstance(v, float | int) else v for v in values.values))
    return Range(low=peak * values.low, high=peak * values.high, log=values.log)
