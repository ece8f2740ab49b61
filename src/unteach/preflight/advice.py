"""What to do: a method, or retraining, by rules that are read off the measured tables of RESULTS.md."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from unteach.preflight.case import Case
from unteach.preflight.cost import Price, minutes, no_faster
from unteach.preflight.remark import Remark
from unteach.preflight.suits import LARGE, able
from unteach.presets import known_for, scenario_of

CHEAP = 300.0  # seconds: whoever can retrain in five minutes need not ask how near something else comes


@dataclass(frozen=True, kw_only=True)
class Rule:
    """The methods that came nearest to retraining on such a request, nearest first.

    ``section``: of RESULTS.md. ``gaps``: by method, its mean distance to retraining there, in points, as it stands in the row.
    ``retrained``, ``original``: the same of another retrained model and of doing nothing. ``but``: what the table can't say.
    """

    section: str
    gaps: dict[str, str]
    retrained: str
    original: str
    but: str


FIELD = "The whole field under one budget"
RULES = {
    "class": Rule(
        section=FIELD,
        gaps={
            "trw": "0.34 ± 0.23",
            "random-label": "0.38 ± 0.34",
            "convolution-transpose": "1.83 ± 0.08",
            "eu-k": "1.95 ± 0.53",
        },
        retrained="0.35 ± 0.16",
        original="25.68 ± 0.22",
        but="where the class's images go afterwards, eu-k and convolution-transpose come nearer",
    ),
    "random, many": Rule(
        section=FIELD,
        gaps={
            "eu-k": "1.77 ± 0.10",
            "convolution-transpose": "2.22 ± 0.19",
            "aru": "2.23 ± 0.11",
        },
        retrained="0.37 ± 0.11",
        original="5.03 ± 0.16",
        but="they pay with 3 to 5 points of retained accuracy",
    ),
    "random, many, varied": Rule(
        section="CIFAR-10 (JPEG), random 10 %",
        gaps={"finetune": "0.42", "amun": "0.86"},
        retrained="0.36",
        original="2.09",
        but="one network, one training seed",
    ),
    "random, few": Rule(
        section="Random forget sets beside memorised ones and images alike",
        gaps={"amun-adv-only": "1.62 ± 0.81", "eu-k": "2.16 ± 1.16", "aru": "3.41 ± 0.70"},
        retrained="1.96 ± 0.82",
        original="8.03 ± 0.98",
        but="those were the most memorised examples, on digits; of few ordinary ones nothing can be seen either way",
    ),
    "random, handful": Rule(
        section="A handful of many: presets by the size of the request",
        gaps={"finetune": "2.71"},
        retrained="0.70",
        original="4.02",
        but="one request of 100 among 60,000; others that were tried came .2 points nearer than doing nothing at most",
    ),
    "group": Rule(
        section=FIELD,
        gaps={"amun-adv-only": "5.34 ± 2.13", "amun": "5.45 ± 3.39", "eu-k": "6.00 ± 2.66"},
        retrained="5.37 ± 0.52",
        original="8.06 ± 1.49",
        but="their intervals overlap, so no ranking can be read off it",
    ),
}


def advise(case: Case, cost: Price, remarks: Sequence[Remark]) -> Remark:
    """The recommendation: mend what stops, retrain where that is cheap or the request large, else the nearest method that can.

    A method that can't is no hindrance: another one is named. The rule is told with the section of RESULTS.md that it stands on.
    """
    stops = list(dict.fromkeys(remark.name for remark in remarks if remark.level == "stop"))
    if stops and stops != ["method"]:
        said = f"Mend first what stops it: {', '.join(stops)}."
        return Remark(name="recommendation", level="stop", sentence=said)
    rule = rule_of(case)
    nearest = [name for name in rule.gaps if able(name, case)]
    why = _why_retrain(case, cost)
    told = _read(rule, nearest)
    if why:
        said = f"Retrain (--method retrain): {why}. Were it not for that: {told}"
    else:
        said = f"{told[0].upper()}{told[1:]}"
    if stops:
        said = f"Not with {case.named}. {said}"
    if any(remark.name == "memorised" and remark.level == "warn" for remark in remarks):
        said += " But first ask whether a new model is needed at all: by its answers this one may pass already."
    numbers = {
        "retraining": cost.retraining,
        "share": case.share,
        "method": "retrain" if why else nearest[0] if nearest else None,
    }
    return Remark(name="recommendation", level="note", sentence=said, numbers=numbers)


def rule_of(case: Case) -> Rule:
    """The rule for this kind of request, and for networks that were trained on varied images where these were measured."""
    scene = scenario_of(case.parts)
    kind = scene.partition(",")[0]
    varied = (
        case.recipe is not None
        and case.recipe.augment is not None
        and (case.recipe.augment.crop or case.recipe.augment.flip)
    )
    if scene == "random, many" and varied:
        return RULES["random, many, varied"]
    return RULES[known_for(scene, RULES) or kind]


def _why_retrain(case: Case, cost: Price) -> str:
    reasons = []
    if case.share > LARGE:
        reasons.append(f"{100 * case.share:.0f} % of the training data are to go")
    if cost.retraining is not None and cost.retraining < CHEAP:
        reasons.append(f"it takes {minutes(cost.retraining)} here, and nothing comes nearer")
    if no_faster(case, cost):
        reasons.append(f"{case.named} would take as long")
    return ", and ".join(reasons[:2])


def _read(rule: Rule, nearest: Sequence[str]) -> str:
    table = f'RESULTS.md, "{rule.section}"'
    if not nearest:
        return f"none of the methods that came near on such requests can work here ({table})."
    first, *others = nearest
    beside = f", then {', '.join(f'{name} ({rule.gaps[name]})' for name in others)}" if others else ""
    return (
        f"try {first} ({rule.gaps[first]} points from retraining where it was measured; another retrained model "
        f"{rule.retrained}, doing nothing {rule.original}){beside}; {rule.but} ({table}: other data and networks than yours, so "
        "audit what comes out)."
    )
