"""When one model's comparisons with retraining show, beyond doubt, that too little or too much was forgotten."""

from __future__ import annotations

from unteach.audit.comparison import ATTACK, FORGET, SHAPE, TEST, Comparison, Comparisons

UNDER = "under-forgotten"
OVER = "over-forgotten"


def sides(model: Comparisons) -> list[Comparison]:
    """The quantities that are high where forgotten examples are still known, and low where they are avoided."""
    return [model[name] for name in (ATTACK, FORGET) if name in model]


def alarm(model: Comparisons) -> tuple[str, list[str]] | None:
    """Under- or over-forgotten beyond doubt, with the reasons; None when nothing is.

    Damage to the test accuracy comes first; then a remaining trace outweighs an overshoot elsewhere. A forget
    set that stands out by shape alone (on both sides of the unseen ones) is put on the side where its mean
    lies.
    """
    test, attack, shape = (model.get(name) for name in (TEST, ATTACK, SHAPE))
    if test and test.below:
        return OVER, [f"The utility is damaged: {test.text}."]
    above = [c for c in sides(model) if c.above]
    below = [c for c in sides(model) if c.below]
    reasons = [f"Forgotten examples are still treated as known ones: {c.text}." for c in above]
    reasons += [f"Forgotten examples are treated worse than never seen ones: {c.text}." for c in below]
    if shape and shape.above:
        reasons.append(f"Confidences on forgotten examples are spread unlike those on unseen ones: {shape.text}.")
    if above or below:
        return (UNDER if above else OVER), reasons
    if shape and shape.above:
        return (OVER if attack and attack.difference.value < 0 else UNDER), reasons
    return None
