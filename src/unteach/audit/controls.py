"""The audit's checks of itself on models whose answer is known, and of the judged model beyond games and accuracies."""

from __future__ import annotations

from typing import Any

import numpy as np

from unteach.audit.alarm import alarm, sides
from unteach.audit.comparison import Comparisons
from unteach.audit.finding import Finding

Control = dict[str, Any]


def original_control(original: Comparisons) -> tuple[Control, bool]:
    """Whether the original is caught, and whether it is instead *shown* to equal retraining."""
    checked = sides(original)
    caught = [c for c in checked if c.difference.interval()[0] > 0 and c.difference.value > c.margin]
    texts = "; ".join(c.text for c in caught or checked)
    if caught:
        return {"passed": True, "sentence": f"The original model is caught: {texts}."}, False
    if len(checked) > 1 and all(c.difference.interval()[1] < c.margin for c in checked):
        return {
            "passed": False,
            "sentence": f"The original model cannot be told from a retrained one: {texts}.",
        }, True
    takes = [
        f"{c.name}: {c.needed(c.difference.value if c.difference.value > c.margin else None)}"
        for c in checked
        if c.difference.interval()[1] >= c.margin
    ]
    return {
        "passed": False,
        "sentence": f"The original model is not caught for sure: {texts}. It would take " + "; ".join(takes) + ".",
    }, False


def held_out_control(held_out: Comparisons) -> Control:
    found = alarm(held_out)
    if found:
        return {
            "passed": False,
            "sentence": "A held-out retrained model fails this audit: " + " ".join(found[1]),
        }
    unsettled = [c.name for c in held_out.values() if not c.within]
    doubt = f" ({', '.join(unsettled)}: not beyond the tolerance, not shown to be inside)" if unsettled else ""
    return {"passed": True, "sentence": f"A held-out retrained model raises no alarm{doubt}."}


def untrained_control(untrained: Comparisons) -> Control:
    """A network with fresh weights has forgotten everything, and is of no use: an audit that lets it pass sees nothing."""
    found = alarm(untrained)
    said = " ".join(found[1]) if found else "; ".join(c.text for c in untrained.values())
    return {
        "passed": found is not None,
        "sentence": f"An untrained network is {'rejected' if found else 'let pass'}: {said}",
    }


def hard_tests(standing: list[tuple[Finding, float]], tested: int) -> Control:
    """Whether any further measure shows a trace of the forgotten examples, or an avoidance of them; not tried without any."""
    if not tested:
        return {"passed": None, "sentence": "Not tested: it takes a tier of two or more retrained models."}
    if not standing:
        return {
            "passed": True,
            "sentence": f"None of {tested} further tests for a trace sets it apart from retrained models.",
        }
    named = "; ".join(
        f"{one.name} ({one.part}) {one.value:.4g}, retrained {one.target:.4g} (p {p:.1g})" for one, p in standing[:5]
    )
    more = f" and {len(standing) - 5} more" if len(standing) > 5 else ""
    return {"passed": False, "sentence": f"{len(standing)} of {tested} further tests set it apart: {named}{more}."}


def constant_predictor(predicted: np.ndarray, labels: np.ndarray) -> Control:
    """Whether test examples get different answers; fails when ≥ 99 % get one answer though labels differ."""

    def commonest(rows: np.ndarray) -> float:
        return float(np.unique(rows, axis=0, return_counts=True)[1].max() / len(rows))

    share = commonest(predicted)
    if share >= 0.99 and share > commonest(labels) + 0.01:
        text = "The utility has collapsed: the unlearned model gives the same answer to"
        sentence = f"{text} {share:.1%} of the test set."
        return {"passed": False, "sentence": sentence}
    return {
        "passed": True,
        "sentence": f"The unlearned model's commonest answer covers {share:.1%} of the test set.",
    }
