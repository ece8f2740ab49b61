"""The whole audit of one unlearned model: signals in, the body of findings.json out. Pure; runs no model."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np

from unteach.audit import controls, histograms, record, verdict
from unteach.audit.alarm import OVER, UNDER
from unteach.audit.battery import battery
from unteach.audit.classes import class_readings
from unteach.audit.comparison import Comparisons, Tolerance
from unteach.audit.exposure import exposure, most_exposed
from unteach.audit.finding import Finding, Measured, Skipped
from unteach.audit.games import Pools, pools
from unteach.audit.membership import predictions
from unteach.audit.resample import FEWEST_GROUPS, mostly_alone
from unteach.audit.roles import Roles, check
from unteach.audit.standing import chance, standing_out
from unteach.types import Refusal, Signals

SUMMARIES = {
    verdict.INDISTINGUISHABLE: "On the {n:,} forgotten examples the unlearned model behaves like one "
    "retrained without them, within the stated tolerance, and both controls of the audit worked.",
    UNDER: "The unlearned model still treats the {n:,} forgotten examples more like known ones than "
    "a model retrained without them does.",
    OVER: "The unlearned model does worse than one retrained without the {n:,} forgotten examples: "
    "it was damaged, or it avoids those examples so much that this shows.",
    verdict.INCONCLUSIVE: "This audit cannot decide whether the unlearned model behaves like one "
    "retrained without the {n:,} forgotten examples; the reasons say what is missing.",
    verdict.NOTHING: "The original model did not measurably remember the {n:,} forgotten examples, so this "
    "audit can neither show nor deny that unlearning worked.",
}


def audit(
    signals: Signals,
    *,
    roles: Roles,
    retain: np.ndarray,
    forget: np.ndarray,
    test: np.ndarray,
    unseen: np.ndarray | None = None,
    alike: np.ndarray | None = None,
    ids: np.ndarray,
    classes: tuple[str, ...] = (),
    tolerance: Tolerance | None = None,
    thorough: bool = False,
    measures: Measured = (),
    seed: int = 0,
) -> dict[str, Any]:
    """Compares an unlearned model with retrained ones and judges it; returns plain, JSON-able values.

    Scores every model that has a role, plays the games FT, FR and RT, measures accuracies, runs the controls,
    judges, lists the records most exposed, and reads where the images of wholly forgotten classes go (``classes``,
    which moves no verdict). ``retain``, ``forget``, ``test``: bool masks over the examples
    of the signals that share none; ``retain`` may be empty when it is no longer held. ``unseen``: a fourth one, of the
    attacks' non-members, where they are others than the test set, on which utility is measured. ``alike``: which of the
    non-members are of the forgotten kinds; the FT game takes these alone. ``ids``: one name per example. ``thorough``:
    whether to add every measure that the signals allow (seconds to minutes). ``measures``: findings that were made
    elsewhere, such as behavioural tests. ``seed`` feeds the cluster bootstrap, used only when the signals have groups.
    Accuracies and AUCs are in 0–1, gaps in points. Missing roles are told in ``skipped``. Refuses half-precision or
    non-finite logits and contradictory matrices.
    """
    margin = tolerance or Tolerance()
    if len(ids) != signals.logits.shape[2]:
        raise Refusal(f"expected one id per example ({signals.logits.shape[2]}), got {len(ids)}; pass the data's ids")
    pool = pools(signals, retain=retain, forget=forget, test=test, unseen=unseen, alike=alike)
    others = test if unseen is None else unseen
    check(signals, roles, retain, forget, test | others)
    parts = roles.indexes()
    alone = (roles.untrained,) if roles.untrained is not None else ()
    used = sorted({at for part in (*parts.values(), alone) for at in part})
    readings = record.read(signals, used, others, by_class=bool(pool.forgotten_classes))
    bounds = {
        "confidence": histograms.edges(readings.scores["confidence"][used], log=False),
        "loss": histograms.edges(-readings.scores["loss"][used], log=True),
    }
    models = {name: record.record(at, readings, pool, bounds, seed) for name, at in parts.items()}
    judged = {name: at[0] for name, at in parts.items() if name != "retrained"}
    measured, found = {}, {}
    if roles.retrained:
        phi = readings.scores["confidence"]
        if alone:
            measured["untrained"] = record.compare(alone[0], roles.retrained, readings, pool, margin, seed)
        for name, at in judged.items():
            measured[name] = record.compare(at, roles.retrained, readings, pool, margin, seed)
            if len(pool.unseen):
                found[name] = exposure(phi[at], phi[list(roles.retrained)], pool)
    constant = None
    if roles.unlearned is not None:
        answers = predictions(signals, roles.unlearned)
        # The forgotten classes' test examples too: without them two classes would look like a constant.
        constant = controls.constant_predictor(answers[test], signals.labels[test])
    measures = [*measures, *(battery(signals, roles, pool, readings.correct, seed=seed) if thorough else ())]
    taken = [one for one in measures if isinstance(one, Finding)]
    deciding = [one for one in taken if one.trace]
    result = verdict.judge(
        measured,
        constant,
        references=len(roles.retrained),
        standing=standing_out(deciding),
        tested=sum(chance(one) is not None for one in deciding),
    )
    whole = class_readings(signals, roles, pool, readings.correct, classes)
    listed = "unlearned" in found and roles.unlearned is not None
    return {
        "verdict": result.verdict,
        "summary": SUMMARIES[result.verdict].format(n=len(pool.forget)),
        "reasons": result.reasons,
        "models": models,
        "gaps": record.gaps_to_retrained(models),
        "comparisons": {name: [c.as_json() for c in one.values()] for name, one in measured.items()},
        "controls": result.controls,
        "exposed": most_exposed(signals, judged["unlearned"], found["unlearned"], pool, ids, classes) if listed else [],
        "exposed_count": {name: one.count for name, one in found.items()},
        "classes": whole,
        "measures": [one.as_json() | {"chance": chance(one)} for one in taken],
        "power": _power(measured.get("unlearned", {})),
        "skipped": _skipped(roles, models, whole, [one for one in measures if isinstance(one, Skipped)]),
        "doubts": _doubts(pool, len(roles.retrained), classes),
        "tolerance": asdict(margin),
        "sizes": _sizes(pool, len(roles.retrained), classes),
    }


def _power(unlearned: Comparisons) -> list[str]:
    """How large a difference had to be for this audit to see it, in sentences."""
    return [
        f"A difference of {100 * one.detectable:.1f} points in {name} would have raised an alarm in four of five audits "
        "like this one."
        for name, one in unlearned.items()
    ]


def _skipped(
    roles: Roles, models: dict[str, Any], whole: list[dict[str, Any]], more: list[Skipped]
) -> list[dict[str, str]]:
    """Every number that could not be had, once, with its reason."""
    out = {one.name: one.reason for one in more}
    for name in ("original", "retrained", "held_out_retrained", "unlearned"):
        if name not in roles.indexes():
            out[f"everything about the {name} model"] = "no such model was given"
    for one in models.values():
        for name in {"retain", "forget", "test"} - set(one["accuracy"]):
            out[f"{name} accuracy"] = f"there are no {name} examples to measure it on"
        for game, played in one["games"].items():
            if not played:
                out[f"{game} game"] = "one of its two sides has no examples"
                continue
            for point in played["confidence"]["tpr"]:
                if "skipped" in point:
                    out[f"{game} TPR at {point['fpr']:.1%} FPR"] = point["skipped"]
    if why := dict.fromkeys(one["why"] for one in whole if one["why"]):
        out["neighbour routing and MIA-NN"] = "; ".join(why)
    return [{"metric": metric, "reason": reason} for metric, reason in sorted(out.items())]


def _doubts(pool: Pools, references: int, classes: tuple[str, ...]) -> list[str]:
    """What qualifies the numbers, in sentences."""
    doubts = []
    what = "test" if pool.non_members is None else "unseen"
    if pool.forgotten_classes:
        names = ", ".join(classes[c] if c < len(classes) else str(c) for c in pool.forgotten_classes)
        doubts.append(
            f"Whole classes were forgotten ({names}): the FT game compares with the {len(pool.unseen):,} "
            f"{what} examples of those classes only, and test accuracy leaves them out."
        )
    if pool.matched:
        doubts.append(
            f"The FT game compares with the {len(pool.unseen):,} {what} examples of the forgotten kinds only."
        )
    if pool.non_members is not None:
        doubts.append(
            f"Accuracy is measured on the {len(pool.test):,} test examples; the non-members of every attack are "
            f"{len(pool.unseen):,} other, unseen examples."
        )
    if references == 1:
        doubts.append("One retrained reference shows no spread between trainings: intervals cover the examples only.")
    if pool.groups is not None:
        mine, unseen = set(pool.groups[pool.forget].tolist()), set(pool.groups[pool.unseen].tolist())
        if mostly_alone(pool.groups):  # near-duplicates; where they lie is told with the split
            return [*doubts, "Intervals draw near-duplicates together, not single examples."]
        doubts.append("Intervals draw whole groups, not single examples.")
        if len(mine) < FEWEST_GROUPS:
            doubts.append(
                f"The forget set has only {len(mine)} group(s): its examples count as independent, and "
                "the intervals speak about these groups, not about others."
            )
        shared = len(unseen & (mine | set(pool.groups[pool.retain].tolist())))
        if shared:
            doubts.append(f"{shared} of {len(unseen)} unseen groups have training examples: not wholly new.")
    return doubts


def _sizes(pool: Pools, references: int, classes: tuple[str, ...]) -> dict[str, Any]:
    return {
        "retain": len(pool.retain),
        "forget": len(pool.forget),
        "test": len(pool.test),
        "unseen": len(pool.unseen),
        "retrained": references,
        "forgotten_classes": [classes[c] if c < len(classes) else str(c) for c in pool.forgotten_classes],
        "forget_groups": None if pool.groups is None else len(np.unique(pool.groups[pool.forget])),
    }
