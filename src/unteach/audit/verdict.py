"""Controls and the two-sided verdict: as a retrained model would be, or not, or undecidable."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from unteach.audit.comparison import ATTACK, FORGET, SHAPE, TEST, Comparisons

INDISTINGUISHABLE = "indistinguishable from retrain within tolerance"
UNDER = "under-forgotten"
OVER = "over-forgotten"
INCONCLUSIVE = "inconclusive"
NOTHING = "nothing measurable to forget"
VERDICTS = (INDISTINGUISHABLE, UNDER, OVER, INCONCLUSIVE, NOTHING)

Control = dict[str, Any]


def alarm(model: Comparisons) -> tuple[str, list[str]] | None:
    """Under- or over-forgotten beyond doubt, with the reasons; None when nothing is.

    Damage to the test accuracy comes first; then a remaining trace outweighs an overshoot elsewhere. A forget
    set that stands out by shape alone (on both sides of the unseen ones) is put on the side where its mean
    lies.
    """
    test, attack, shape, forget = (model.get(name) for name in (TEST, ATTACK, SHAPE, FORGET))
    if test and test.below:
        return OVER, [f"The utility is damaged: {test.text}."]
    above = [c for c in (attack, forget) if c and c.above]
    below = [c for c in (attack, forget) if c and c.below]
    reasons = [f"Forgotten examples are still treated as known ones: {c.text}." for c in above]
    reasons += [f"Forgotten examples are treated worse than never seen ones: {c.text}." for c in below]
    if shape and shape.above:
        reasons.append(f"Confidences on forgotten examples are spread unlike those on unseen ones: {shape.text}.")
    if above or below:
        return (UNDER if above else OVER), reasons
    if shape and shape.above:
        return (OVER if attack and attack.difference.value < 0 else UNDER), reasons
    return None


def _original_control(original: Comparisons) -> tuple[Control, bool]:
    """Whether the original is caught, and whether it is instead *shown* to equal retraining."""
    checked = [original[name] for name in (ATTACK, FORGET) if name in original]
    caught = [c for c in checked if c.difference.interval()[0] > 0 and c.difference.value > c.margin]
    texts = "; ".join(c.text for c in caught or checked)
    if caught:
        return {"passed": True, "sentence": f"The original model is caught: {texts}."}, False
    if len(checked) == 2 and all(c.difference.interval()[1] < c.margin for c in checked):
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


def _held_out_control(held_out: Comparisons) -> Control:
    found = alarm(held_out)
    if found:
        return {
            "passed": False,
            "sentence": "A held-out retrained model fails this audit: " + " ".join(found[1]),
        }
    unsettled = [c.name for c in held_out.values() if not c.within]
    doubt = f" ({', '.join(unsettled)}: not beyond the tolerance, not shown to be inside)" if unsettled else ""
    return {"passed": True, "sentence": f"A held-out retrained model raises no alarm{doubt}."}


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


@dataclass(frozen=True)
class Judgement:
    """The verdict (one of `VERDICTS`), sentences for it, and the controls {name: {passed, sentence}}."""

    verdict: str
    reasons: list[str]
    controls: dict[str, Control]


def judge(measured: dict[str, Comparisons], constant: Control | None, *, references: int) -> Judgement:
    """The verdict from the comparisons of original, held-out retrained and unlearned model with retraining.

    A collapsed model needs no reference. An alarm needs a reference that no held-out retraining fails.
    Equality needs all quantities settled and both controls passed; anything less is inconclusive and says
    what is missing.
    """
    controls: dict[str, Control] = {}
    if constant:
        controls["constant_predictor"] = constant
    nothing = False
    if measured.get("original"):
        controls["original_caught"], nothing = _original_control(measured["original"])
    if measured.get("held_out_retrained"):
        controls["held_out_retrain_passes"] = _held_out_control(measured["held_out_retrained"])
    for name, role in {
        "original_caught": "original",
        "held_out_retrain_passes": "held-out retrained",
    }.items():
        missing = {"passed": None, "sentence": f"Not tested: the {role} or the retrained model is missing."}
        controls.setdefault(name, missing)
    verdict, reasons = _decide(measured.get("unlearned", {}), controls, nothing, references)
    return Judgement(verdict, reasons, controls)


def _decide(
    unlearned: Comparisons, controls: dict[str, Control], nothing: bool, references: int
) -> tuple[str, list[str]]:
    original, held_out = controls["original_caught"], controls["held_out_retrain_passes"]
    if "constant_predictor" not in controls:
        return INCONCLUSIVE, ["No unlearned model was given: there is nothing to judge."]
    if not controls["constant_predictor"]["passed"]:
        return OVER, [controls["constant_predictor"]["sentence"]]
    if not references:
        return INCONCLUSIVE, [
            "No retrained model was given, so the target is unknown: train one without the forget set."
        ]
    if held_out["passed"] is False:
        return INCONCLUSIVE, [
            held_out["sentence"],
            "A threshold that retraining itself fails cannot judge anything.",
        ]
    found = alarm(unlearned)
    if found:
        untested = [] if held_out["passed"] else ["No held-out retrained model has tested these thresholds."]
        return found[0], found[1] + untested
    if nothing:
        return NOTHING, [
            original["sentence"],
            "Nothing can be shown about forgetting where nothing was memorised.",
        ]
    reasons = [f"Not measured: {name}." for name in (ATTACK, FORGET, TEST) if name not in unlearned]
    reasons += [f"Not settled: {c.text}; it would take {c.needed()}." for c in unlearned.values() if not c.within]
    reasons += [control["sentence"] for control in (original, held_out) if not control["passed"]]
    if reasons:
        return INCONCLUSIVE, reasons
    settled = [f"Equal within tolerance: {c.text}." for c in unlearned.values()]
    return INDISTINGUISHABLE, [*settled, original["sentence"], held_out["sentence"]]
