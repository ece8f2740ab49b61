"""What a caller is told when it can't be done: RFC 9457, a sentence each, never a traceback."""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from starlette.responses import Response

KIND = "application/problem+json"
SCHEMA = {
    "type": "object",
    "properties": {name: {"type": "string"} for name in ("type", "title", "detail")} | {"status": {"type": "integer"}},
    "required": ["type", "title", "status", "detail"],
}


def problem(status: int, detail: str, headers: Mapping[str, str] | None = None) -> Response:
    """The answer with this status and sentence.

    *Source:* Nottingham, Wilde and Dalal, Problem Details for HTTP APIs, 2023, RFC 9457, section 3.
    """
    told = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail}
    return Response(json.dumps(told), status, headers, media_type=KIND)  # ASCII, whatever was sent to us


def misfits(errors: list[Any]) -> str:
    """What pydantic found wrong with a request, as one sentence."""
    found = [f"{'.'.join(str(part) for part in error['loc'])}: {error['msg']}" for error in errors[:3]]
    return f"expected a request as /openapi.json describes it, got {'; '.join(found)}; mend it"
