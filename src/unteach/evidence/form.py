"""The form of a statement: what each of its places must hold, for readers of bytes from anywhere."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from unteach.types import Refusal


@dataclass(frozen=True)
class Each:
    """A mapping with any names, whose values all have this form."""

    form: Any


HEX = re.compile(r"[0-9a-f]{64}")
NAME = re.compile(r"(?!\.{1,2}$)[^/\\\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]{1,255}")
BASE64 = re.compile(r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?")
NUMBER = (int, float)

MODEL = {"name": NAME, "sha256": (HEX, None), "fingerprint": HEX, "read": bool, "tensors": Each(HEX)}
DIFFERENCE = {"quantity": str, **dict.fromkeys(("difference", "low", "high", "margin", "detectable"), NUMBER)}

STATEMENT = {
    "_type": re.compile(re.escape("https://in-toto.io/Statement/v1")),
    "predicateType": re.compile(re.escape("urn:unteach:evidence:v1")),
    "subject": [{"name": NAME, "digest": {"sha256": HEX}}],
    "predicate": {
        "made": {"at": str, "by": str, "clock": str},
        "request": {
            "kind": str,
            "count": int,
            "digest": HEX,
            "leaves": [HEX],
            "how": str,
            "file": {"name": NAME, "hmac_sha256": HEX},
            "salt_sha256": HEX,
        },
        "data": {"name": str, "fingerprint": str},
        "before": MODEL,
        "after": MODEL,
        "method": {"name": str, "settings": Each((str, bool, *NUMBER))},
        "settings": Each((str, bool, *NUMBER)),
        "environment": Each(str),
        "audit": {
            "verdict": str,
            "summary": str,
            "retrained": int,
            "differences": [DIFFERENCE],
            "controls": Each((bool, None)),
        },
        "cost": Each(NUMBER),
        "files": Each(HEX),
        "previous": (None, {"name": NAME, "sha256": HEX}),
        "ledger": (None, {"seq": int, "hash": HEX}),
        "signer": (None, HEX),
        "proves": [str],
        "does_not_prove": [str],
        "seal": HEX,
    },
}

ENVELOPE = {
    "payload": BASE64,
    "payloadType": re.compile(re.escape("application/vnd.in-toto+json")),
    "signatures": [{"keyid": HEX, "sig": BASE64}],
}


def refuse_unless_of_form(value: Any, form: Any, where: str) -> None:
    """Refuse a value of another form, naming the first place that differs."""
    if isinstance(form, tuple):
        if not any(_fits(value, option, where) for option in form):
            raise _wrong(value, where)
    elif isinstance(form, dict):
        if not isinstance(value, dict) or value.keys() != form.keys():
            raise _wrong(value, where)
        for name, inner in form.items():
            refuse_unless_of_form(value[name], inner, f"{where}.{name}")
    elif isinstance(form, list):
        if not isinstance(value, list):
            raise _wrong(value, where)
        for item in value:
            refuse_unless_of_form(item, form[0], f"{where}[]")
    elif isinstance(form, Each):
        if not isinstance(value, dict):
            raise _wrong(value, where)
        for inner in value.values():
            refuse_unless_of_form(inner, form.form, f"{where}.*")
    elif isinstance(form, re.Pattern):
        if not isinstance(value, str) or not form.fullmatch(value):
            raise _wrong(value, where)
    elif type(value) is not form:  # a truth value is no number here
        raise _wrong(value, where)


def _fits(value: Any, option: Any, where: str) -> bool:
    if option is None:
        return value is None
    try:
        refuse_unless_of_form(value, option, where)
    except Refusal:
        return False
    return True


def _wrong(value: Any, where: str) -> Refusal:
    shown = repr(value) if not isinstance(value, dict) else f"names {', '.join(map(repr, sorted(value)))}"
    return Refusal(
        f"expected evidence as unteach writes it, got {shown[:80]} at {where}; it was changed, or is of another kind or version"
    )
