"""Learning rates over time, written as short specs such as ``step:5`` or ``onecycle:0.2``."""

from __future__ import annotations

import math

from unteach.types import Refusal

FORMS = "constant, step:EPOCHS[,FACTOR], multistep:E1,E2,…, cosine, onecycle[:SHARE]"


def rate(spec: str, epoch: float, epochs: int) -> float:
    """The factor on the learning rate after ``epoch`` epochs (with a fraction) of ``epochs``.

    ``constant``: 1. ``step:5``: × 0.1 every 5 epochs; ``step:5,0.5``: × 0.5. ``multistep:30,60``: × 0.1 at each.
    ``cosine``: half a cosine from 1 to 0. ``onecycle:0.2``: up in a straight line over the first fifth (default 0.2),
    then down to 0. Raises: Refusal for anything else.
    """
    kind, _, rest = spec.partition(":")
    try:
        numbers = [float(part) for part in rest.split(",")] if rest else []
    except ValueError:
        numbers = [math.nan]
    if any(not number > 0 for number in numbers):
        raise _unknown(spec)
    match kind, len(numbers):
        case "constant", 0:
            return 1.0
        case "step", 1 | 2:
            factor = numbers[1] if len(numbers) == 2 else 0.1
            return float(factor ** (int(epoch) // max(1, round(numbers[0]))))
        case "multistep", count if count > 0:
            return float(0.1 ** sum(int(epoch) >= milestone for milestone in numbers))
        case "cosine", 0:
            return 0.5 * (1 + math.cos(math.pi * epoch / epochs))
        case "onecycle", 0 | 1:
            share = numbers[0] if numbers else 0.2
            if share < 1:
                done = epoch / epochs
                # Never exactly zero, so that the first and the last step count.
                return max(done / share if done < share else (1 - done) / (1 - share), 0.01)
    raise _unknown(spec)


def _unknown(spec: str) -> Refusal:
    return Refusal(f"expected a schedule ({FORMS}), got {spec!r}; write it like one of these, with positive numbers")
