"""Evidence as an in-toto statement: made from a run's files, written as canonical JSON, read back with suspicion.

*Source:* in-toto Attestation Framework, Statement v1. The predicate is our own.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import unteach
from unteach.evidence.form import ENVELOPE, STATEMENT, refuse_unless_of_form
from unteach.evidence.ids import HOW, digest_of_leaves, leaves_of, seal_of_file
from unteach.evidence.run_folder import FILES, IDS, MODEL, Run
from unteach.evidence.weights import file_sha256
from unteach.evidence.words import CLOCK, DOES_NOT_PROVE, PROVES, UNSIGNED
from unteach.tracking.figures import flattened, shortened
from unteach.types import Refusal

Statement = dict[str, Any]


def statement_of(
    run: Run,
    salt: bytes,
    *,
    signer: str | None = None,
    previous: Path | None = None,
    ledger: Mapping[str, Any] | None = None,
) -> Statement:
    """The statement about a run, without ids, names of classes or groups, and folders.

    ``signer``: the key's id, if it is to be signed. ``previous``: the evidence of the model that came in. ``ledger``: its head.
    """
    try:
        predicate = _predicate(run, salt, previous, ledger) | {"signer": signer}
    except (KeyError, TypeError, AttributeError) as error:
        raise Refusal(
            f"expected a run as unteach writes it in {run.folder}, got something else at {error}; it was changed"
        ) from error
    if not signer:
        predicate["does_not_prove"].append(UNSIGNED)
    subject = {MODEL: run.weights.sha256, **run.exports}
    return {
        "_type": "https://in-toto.io/Statement/v1",
        "predicateType": "urn:unteach:evidence:v1",
        "subject": [{"name": name, "digest": {"sha256": digest}} for name, digest in subject.items()],
        "predicate": predicate,
    }


def _predicate(run: Run, salt: bytes, previous: Path | None, ledger: Mapping[str, Any] | None) -> dict[str, Any]:
    told, found = run.weights.provenance, run.findings
    leaves = leaves_of(run.names, salt)
    files = {name: file_sha256(run.folder / name) for name in FILES if (run.folder / name).is_file()}
    made_by = told.get("made_by", {})
    return {
        "made": {
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "by": f"unteach {unteach.__version__}",
            "clock": CLOCK,
        },
        "request": {
            "kind": shortened(str(run.settings.get("ids", ""))),
            "count": len(run.names),
            "digest": digest_of_leaves(leaves),
            "leaves": leaves,
            "how": HOW,
            "file": {"name": IDS, "hmac_sha256": seal_of_file(run.ids, salt)},
            "salt_sha256": hashlib.sha256(salt).hexdigest(),
        },
        "data": {
            "name": str(flattened({"data": told.get("data", "")})["data"]),
            "fingerprint": told.get("data_fingerprint", ""),
        },
        **_models(run),
        "method": {
            "name": str(made_by.get("method", "")),
            "settings": flattened(made_by.get("settings", {})),
        },
        "settings": flattened(run.settings),
        "environment": told.get("environment", {}),
        "audit": _audit(found),
        "cost": {name: value for name, value in found.get("cost", {}).items() if name != "parts"},
        "files": files,
        "previous": None if previous is None else {"name": previous.name, "sha256": file_sha256(previous)},
        "ledger": None if ledger is None else dict(ledger),
        "proves": list(PROVES),
        "does_not_prove": list(DOES_NOT_PROVE),
        "seal": "",
    }


def _models(run: Run) -> dict[str, Any]:
    """Both models, each with the fingerprint that the run told.

    It is read from the file instead, unless the file holds the weights in other types or under other names than the network.
    """
    parent, judged = run.weights.provenance["parent"], run.findings["fingerprints"]["unlearned"]
    old, new = run.original_weights, run.weights
    before = {"name": "original", "sha256": None, "fingerprint": parent, "read": False, "tensors": {}}
    after = {"name": MODEL, "sha256": new.sha256, "fingerprint": judged, "read": False, "tensors": new.tensors}
    if run.original is not None:
        before |= {"name": run.original.name, "sha256": file_sha256(run.original)}
    if old is not None:
        before |= {"tensors": old.tensors}
    of_network = [
        weights for weights, told in ((old, parent), (new, judged)) if weights and weights.fingerprint == told
    ]
    if Path(str(run.settings.get("checkpoint", ""))).suffix != ".safetensors":
        of_network.append(new)  # only from safetensors files are names and types taken over
    for told, weights in ((before, old), (after, new)):
        if weights is not None and any(weights.kinds == sure.kinds for sure in of_network):
            told |= {"fingerprint": weights.fingerprint, "read": True}
    return {"before": before, "after": after}


def _audit(found: Mapping[str, Any]) -> dict[str, Any]:
    """The verdict, how far the model is from retraining and how far it could have been seen to be, and the controls."""
    wanted = ("quantity", "difference", "low", "high", "margin", "detectable")
    differences = found.get("comparisons", {}).get("unlearned", [])
    return {
        "verdict": found.get("verdict", ""),
        "summary": found.get("summary", ""),
        "retrained": found.get("sizes", {}).get("retrained", 0),
        "differences": [{name: one[name] for name in wanted} for one in differences],
        "controls": {name: control["passed"] for name, control in found.get("controls", {}).items()},
    }


def canonical(value: object) -> str:
    """The one way in which a statement or an envelope is written."""
    return json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n"


def sealed(statement: Statement) -> Statement:
    """The statement with the digest of all else it says: shows damage where there is no signature, but no forgery."""
    made = copy.deepcopy(statement)
    made["predicate"]["seal"] = ""
    made["predicate"]["seal"] = hashlib.sha256(canonical(made).encode()).hexdigest()
    refuse_unless_of_form(made, STATEMENT, "evidence")
    return made


def parsed(data: bytes, form: Mapping[str, Any] | None, where: str) -> dict[str, Any]:
    """Bytes as a statement or an envelope (whichever it is, without ``form``).

    Raises: Refusal unless they are written exactly as ``canonical`` writes, in the right form.
    """
    try:
        value = json.loads(data)
        form = form or (ENVELOPE if isinstance(value, dict) and "payload" in value else STATEMENT)
        refuse_unless_of_form(value, form, where)
        same = canonical(value).encode() == data
    except (ValueError, RecursionError) as error:
        raise Refusal(f"expected evidence in JSON in {where}, got: {error}; it was changed or cut short") from error
    if not same:
        raise Refusal(
            f"expected {where} to be written as unteach writes it, got other spacing, order or spelling; it was changed"
        )
    assert isinstance(value, dict)
    return value
