"""Whether everything is what evidence says it is: one check for each thing, one sentence for each check."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from unteach.evidence.check import Check, Places, digests, fails, found, holds, short, unseen
from unteach.evidence.envelope import public_key_of, signed_by
from unteach.evidence.files import check_file, check_model
from unteach.evidence.ids import SALT, digest_of_leaves
from unteach.evidence.members import check_ids
from unteach.evidence.opened import Opened, opened
from unteach.evidence.statement import sealed
from unteach.evidence.weights import Weights, file_sha256
from unteach.store import read_json
from unteach.types import Refusal

FINDINGS = "findings.json"


def examined(evidence: Opened, places: Places) -> list[Check]:
    """Every check, in the order of a reader's questions: who signed, which files, do they belong together.

    Raises: Refusal for a file that was named and is not there, and for a public key that is none.
    """
    told, folder = evidence.predicate, evidence.path.parent
    model, request = told["after"]["name"], told["request"]
    findings = found(folder, FINDINGS, places.findings)
    weights, of_model = check_model("model", told["after"], found(folder, model, places.model))
    before, of_original = check_model("original", told["before"], found(folder, "", places.original))
    others = {one["name"]: one["digest"]["sha256"] for one in evidence.statement["subject"] if one["name"] != model}
    files = {name: found(folder, name, None) for name in others | told["files"]} | {FINDINGS: findings}
    ids = check_ids(request, found(folder, request["file"]["name"], places.ids), found(folder, SALT, places.salt))
    return [
        _signature(evidence, places.public_key),
        _seal(evidence),
        of_model,
        of_original,
        *(check_file(name, digest, files[name]) for name, digest in (others | told["files"]).items()),
        *ids,
        *_lineage(told, weights, before),
        *_audit(told, findings),
        *([_previous(told, found(folder, "", places.previous))] if told["previous"] else []),
        *([_ledger(told["ledger"], found(folder, "", places.ledger))] if told["ledger"] else []),
    ]


def _signature(evidence: Opened, public_key: Path | None) -> Check:
    signer = evidence.predicate["signer"]
    if evidence.envelope is None:
        if signer is None and public_key is None:
            return unseen("signature", "the evidence is not signed: nobody stands behind it by name")
        return fails("signature", "the evidence should be signed and is not: its envelope was taken away")
    if public_key is None:
        return fails(
            "signature", "the evidence is signed, which says nothing without the signer's key: give --public_key"
        )
    key = public_key_of(public_key)
    if key.keyid != signer:
        return fails("signature", f"the evidence was signed by key {signer}, not by {key.keyid} of {public_key}")
    if not signed_by(evidence.envelope, key):
        return fails("signature", "the signature does not fit the statement: one of the two was changed")
    return holds("signature", f"the key in {public_key} signed this statement (key {short(key.keyid)})")


def _seal(evidence: Opened) -> Check:
    told, name = evidence.predicate, evidence.path.name
    leaves, after = told["request"]["leaves"], told["after"]
    subject = {one["name"]: one["digest"]["sha256"] for one in evidence.statement["subject"]}
    if sealed(evidence.statement)["predicate"]["seal"] != told["seal"]:
        return fails("statement", f"the statement in {name} was changed: it does not give its own digest")
    if digest_of_leaves(leaves) != told["request"]["digest"] or len(set(leaves)) != told["request"]["count"]:
        return fails("statement", f"{name} contradicts itself: its leaves give another digest or count of ids")
    if subject.get(after["name"]) != after["sha256"]:
        return fails("statement", f"{name} contradicts itself: its subject is not the model that it describes")
    return holds("statement", f"the statement in {name} is whole (made {ascii(told['made']['at'])[1:-1]})")


def _lineage(told: dict[str, Any], weights: Weights | None, before: Weights | None) -> Iterator[Check]:
    """Whether the model that came out was made from the one that came in, and is another."""
    old, new = told["before"]["fingerprint"], told["after"]["fingerprint"]
    if old == new:
        yield fails("weights", "the weights that came out are those that came in: nothing was done to the model")
    else:
        yield holds(
            "weights", f"the weights that came out ({short(new)}) differ from those that came in ({short(old)})"
        )
    for model, read in (("after", weights), ("before", before)):
        name, expected = told[model]["name"], told[model]["fingerprint"]
        if read is not None and not told[model]["read"]:
            yield unseen(
                "fingerprint",
                f"{name} holds other names or types than its network, so its fingerprint is not told by it",
            )
        elif read is not None and read.fingerprint != expected:
            yield fails("fingerprint", f"{name} has another fingerprint; {digests(expected, read.fingerprint)}")
    if weights is not None:
        parent = str(weights.provenance.get("parent", ""))
        if parent == old:
            yield holds("parent", f"the model says that it was made from the one that came in ({short(old)})")
        else:
            yield fails("parent", f"the model says that it was made from another one; {digests(old, parent)}")


def _audit(told: dict[str, Any], findings: Path | None) -> Iterator[Check]:
    """Whether the findings' own words are those of the statement, about this model and as many ids."""
    if findings is None:
        return
    try:
        read = read_json(findings)
        words = {
            "verdict": (told["audit"]["verdict"], read["verdict"]),
            "count of ids": (told["request"]["count"], read["request"]["forget"]),
            "data": (told["data"]["fingerprint"], read["request"]["data_fingerprint"]),
            "model that came out": (told["after"]["fingerprint"], read["fingerprints"]["unlearned"]),
            "model that came in": (told["before"]["fingerprint"], read["fingerprints"]["original"]),
        }
    except (Refusal, RecursionError, KeyError, TypeError, AttributeError):
        yield fails("audit", f"{findings} can't be read as findings any more")
        return
    for what, (ours, theirs) in words.items():
        if ours != theirs:
            yield fails("audit", f"{findings} has another {what}; expected {ours!r}, got {str(theirs)[:80]!r}")
            return
    yield holds("audit", f"{findings} judges this model, for {told['request']['count']} ids")


def _previous(told: dict[str, Any], path: Path | None) -> Check:
    expected = told["previous"]
    if path is None:
        return unseen(
            "previous", f"earlier evidence {expected['name']} is not at hand, not checked; give it by --previous"
        )
    if (digest := file_sha256(path)) != expected["sha256"]:
        return fails("previous", f"{path} was changed, or is other evidence; {digests(expected['sha256'], digest)}")
    if opened(path).predicate["after"]["fingerprint"] != told["before"]["fingerprint"]:
        return fails("previous", f"{path} is about another model than the one that came in")
    return holds("previous", f"{path} is the evidence of how the model that came in was made")


def _ledger(head: dict[str, Any], path: Path | None) -> Check:
    if path is None:
        return unseen("ledger", f"the ledger (entry {head['seq']}) is not at hand, not checked; give it by --ledger")
    from unteach.ledger.chain import Ledger

    faults = Ledger(path).faults((head["seq"], head["hash"]))
    if faults:
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        return fails("ledger", f"{path} was changed: {faults[0]}{more}")
    return holds("ledger", f"{path} is whole and holds entry {head['seq']} as it was ({short(head['hash'])})")
