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

    A remaining trace outweighs an overshoot elsewhere. Damage to the test accuracy is forgetting too much, and comes before what
    attacks see, for it moves the unseen examples that they compare with; but not where forgotten examples are still answered
    better than retraining would: a worse model may remember all the same. A forget set that stands out by shape alone (on both
    sides of the unseen ones) is put on the side where its mean lies.
    """
    test, attack, shape = (model.get(name) for name in (TEST, ATTACK, SHAPE))
    damage = [f"The utility is damaged: {test.text}."] if test and test.below else []
    above = [c for c in sides(model) if c.above]
    below = [c for c in sides(model) if c.below]
    reasons = [f"Forgotten examples are still treated as known ones: {c.text}." for c in above]
    reasons += [f"Forgotten examples are treated worse than never seen ones: {c.text}." for c in below]
    if shape and shape.above:
        reasons.append(f"Confidences on forgotten examples are spread unlike those on unseen ones: {shape.text}.")
    if damage and not any(c is model.get(FORGET) for c in above):
        return OVER, damage
    if above or below:
        return (UNDER if above else OVER), reasons + damage
    if shape and shape.above:
        return (OVER if attack and attack.difference.value < 0 else UNDER), reasons
    return None
