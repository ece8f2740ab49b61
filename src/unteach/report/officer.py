"""A statement of evidence → two printed pages for who answers for privacy: plain words, no other file, no network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from unteach.report.numerals import count, duration, fixed, percent, points
from unteach.report.pictures import as_data_uri
from unteach.report.reading import text
from unteach.report.shelf import shelf, style
from unteach.report.words import LIMITS, NO_VERDICT, VERDICTS

if TYPE_CHECKING:
    import numpy as np

NAMED = 800  # characters of ids that fit

KINDS = {
    "file": "a list of records",
    "class": "all records of one or more classes",
    "group": "all records of one or more people or groups",
    "groups": "whole groups, drawn at random as a trial",
    "random": "records drawn at random, as a trial",
    "benchmark": "the request of a published benchmark, as a trial",
}
QUESTIONS = {
    "forget accuracy": "Right answers on the forgotten records",
    "retain accuracy": "Right answers on the records that stay",
    "test accuracy": "Right answers on records it never saw",
    "FT AUC by confidence": "An attacker telling forgotten from never-seen records by how sure the model is",
    "FT AUC by two-sided confidence": "The same, by the model being oddly sure or oddly unsure",
}
CONTROLS = {
    "original_caught": "It recognises the original model, which still knows the records",
    "held_out_retrain_passes": "It finds nothing wrong with a model that never saw the records",
    "untrained_rejected": "It turns down a model that learned nothing at all",
    "constant_predictor": "The model still answers by what it is shown",
    "hard_tests": "Further tests, harder to pass, find no trace",
}
FOR_OFFICERS = ("An average can hide a person.", "Near-duplicates stay.", "Influence is not ability.")


def as_officer_page(
    statement: Mapping[str, Any], names: Sequence[str] = (), pictures: Sequence[np.ndarray] = ()
) -> str:
    """The whole page, the same bytes for the same statement.

    ``names``: ids to name, as far as they fit on two pages; none unless somebody asked for it. ``pictures``: uint8 pixels,
    ``h × w`` or ``h × w × 3``, likewise.
    """
    told, shown = statement["predicate"], _that_fit(names)
    return (
        shelf()
        .get_template("officer.html")
        .render(
            style=style(),
            told=told,
            when=_when(told["made"]["at"]),
            kind=KINDS.get(told["request"]["kind"].partition(":")[0], "a list of records"),
            records=f"{count(told['request']['count'])} record{'s' if told['request']['count'] != 1 else ''}",
            verdict=VERDICTS.get(told["audit"]["verdict"], NO_VERDICT),
            differences=[_difference(one) for one in told["audit"]["differences"]],
            controls=[(CONTROLS[name], told["audit"]["controls"].get(name)) for name in CONTROLS],
            cost=_cost(told["cost"]),
            limits={title: LIMITS[title] for title in FOR_OFFICERS},
            digests=_digests(statement),
            names=shown,
            unnamed=len(names) - len(shown),
            pictures=[as_data_uri("of a record", pixels) for pixels in pictures],
        )
    )


def _that_fit(names: Sequence[str]) -> list[str]:
    shown, room = [], NAMED
    for name in map(text, names):
        room -= len(name) + 2
        if room < 0:
            break
        shown.append(name)
    return shown


def _when(moment: str) -> str:
    at = datetime.fromisoformat(moment).astimezone(UTC)
    return f"{at.day} {at:%B %Y, %H:%M} UTC"


def _difference(one: Mapping[str, Any]) -> tuple[str, str, str, str, str]:
    """Question, distance from retraining, its interval, what was allowed, and what would have been seen: points."""
    low, high = (points(100 * one[end]) for end in ("low", "high"))
    return (
        QUESTIONS.get(one["quantity"], one["quantity"]),
        points(100 * one["difference"]),
        f"{low} to {high}",
        f"±{points(100 * one['margin']).lstrip('+')}",
        points(100 * one["detectable"]).lstrip("+"),
    )


def _cost(cost: Mapping[str, float]) -> str:
    new, old = cost.get("forget_seconds"), cost.get("retrain_seconds")
    if new is None:
        return "The cost was not measured."
    if not old:
        return f"Forgetting took {duration(new)} of computing; training anew was not timed."
    share = f"{percent(new / old)} of that" if new < old else f"{fixed(new / old, 1)} times as long"
    return (
        f"Training anew without the records takes {duration(old)} of computing; forgetting took {duration(new)}, {share}. "
        "What the audit took comes on top."
    )


def _digests(statement: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What tells each thing from any other, as name and digest."""
    told = statement["predicate"]
    ledger, previous = told["ledger"], told["previous"]
    return [
        ("Model that came in: weights", told["before"]["fingerprint"]),
        (f"Model that came in: {text(told['before']['name'])}", told["before"]["sha256"] or "not at hand"),
        ("Model that came out: weights", told["after"]["fingerprint"]),
        *((f"Model that came out: {text(one['name'])}", one["digest"]["sha256"]) for one in statement["subject"]),
        ("List of ids (salted)", told["request"]["digest"]),
        ("Data", told["data"]["fingerprint"] or "not told"),
        *((f"Audit: {name}", digest) for name, digest in told["files"].items() if name == "findings.json"),
        *([(f"Ledger of requests: entry {ledger['seq']}", ledger["hash"])] if ledger else []),
        *([(f"Earlier evidence: {text(previous['name'])}", previous["sha256"])] if previous else []),
        *([("Signing key", told["signer"])] if told["signer"] else []),
    ]
