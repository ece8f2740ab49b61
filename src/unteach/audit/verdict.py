"""The two-sided verdict: as a retrained model would be, or not, or undecidable."""

from __future__ import annotations

from dataclasses import dataclass

from unteach.audit.alarm import OVER, UNDER, alarm
from unteach.audit.comparison import ATTACK, FORGET, TEST, Comparisons
from unteach.audit.controls import Control, hard_tests, held_out_control, original_control, untrained_control
from unteach.audit.finding import Finding

INDISTINGUISHABLE = "indistinguishable from retrain within tolerance"
INCONCLUSIVE = "inconclusive"
NOTHING = "nothing measurable to forget"
VERDICTS = (INDISTINGUISHABLE, UNDER, OVER, INCONCLUSIVE, NOTHING)


@dataclass(frozen=True)
class Judgement:
    """The verdict (one of `VERDICTS`), sentences for it, and the controls {name: {passed, sentence}}."""

    verdict: str
    reasons: list[str]
    controls: dict[str, Control]


def judge(
    measured: dict[str, Comparisons],
    constant: Control | None,
    *,
    references: int,
    standing: list[tuple[Finding, float]] | None = None,
    tested: int = 0,
) -> Judgement:
    """The verdict from the comparisons of original, held-out retrained, untrained and unlearned model with retraining.

    A collapsed model needs no reference. An alarm needs a reference that no held-out retraining fails.
    Equality needs all quantities settled, the controls passed, and no measure ``standing`` out among ``tested``
    further ones; anything less is inconclusive and says what is missing.
    """
    controls: dict[str, Control] = {}
    if constant:
        controls["constant_predictor"] = constant
    nothing = False
    if measured.get("original"):
        controls["original_caught"], nothing = original_control(measured["original"])
    if measured.get("held_out_retrained"):
        controls["held_out_retrain_passes"] = held_out_control(measured["held_out_retrained"])
    if measured.get("untrained"):
        controls["untrained_rejected"] = untrained_control(measured["untrained"])
    if "unlearned" in measured:
        controls["hard_tests"] = hard_tests(standing or [], tested)
    for name, role in {
        "original_caught": "original",
        "held_out_retrain_passes": "held-out retrained",
    }.items():
        missing = {"passed": None, "sentence": f"Not tested: the {role} or the retrained model is missing."}
        controls.setdefault(name, missing)
    verdict, reasons = _decide(measured.get("unlearned", {}), controls, nothing, references, standing or [])
    return Judgement(verdict, reasons, controls)


def _decide(
    unlearned: Comparisons,
    controls: dict[str, Control],
    nothing: bool,
    references: int,
    standing: list[tuple[Finding, float]],
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
    if controls.get("untrained_rejected", {}).get("passed") is False:
        return INCONCLUSIVE, [controls["untrained_rejected"]["sentence"], "An audit that passes it sees too little."]
    found = alarm(unlearned)
    if found:
        untested = [] if held_out["passed"] else ["No held-out retrained model has tested these thresholds."]
        return found[0], found[1] + untested
    hard = controls.get("hard_tests", {}).get("sentence", "")
    if side := _side(standing):
        return side, [hard]
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


def _side(standing: list[tuple[Finding, float]]) -> str | None:
    """On which side the clearest of them lies; None where nothing stands out."""
    for one, _ in standing:
        if one.target is not None:
            return UNDER if (one.value > one.target) == (one.trace == "above") else OVER
    return None
