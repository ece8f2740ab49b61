"""Who may come in and with how much."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("fastapi")

from unteach.service.gate import Gate, Guesses

TOKEN = "t0ken-" * 8
OTHERS = {
    "none": None,
    "empty": "",
    "no token": "Bearer",
    "no scheme": TOKEN,
    "basic": f"Basic {TOKEN}",
    "shorter": f"Bearer {TOKEN[:-1]}",
    "longer": f"Bearer {TOKEN}x",
    "other case": f"Bearer {TOKEN.upper()}",
    "not ASCII": b"Bearer \xff\xfe",
}


@pytest.mark.parametrize("given", OTHERS.values(), ids=OTHERS.keys())
def test_nothing_but_health_and_the_empty_page_is_open(client: Any, given: str | bytes | None) -> None:
    routes = [(method, path) for path, about in client.app.openapi()["paths"].items() for method in about]
    assert len(routes) == 11
    del client.headers["authorization"]
    headers = {} if given is None else {"authorization": given}
    turned = [("get", "/openapi.json"), ("get", "/nothing"), ("post", "/"), ("post", "/health"), ("options", "/status")]
    for method, path in [*routes, *turned]:
        if (method, path) == ("get", "/health"):
            assert client.request(method, path).json() == {"ok": True}
            continue
        answer = client.request(method, path.replace("{number}", "1"), headers=headers)
        assert answer.status_code in (401, 429), (method, path)
        assert answer.headers["content-type"] == "application/problem+json"
        assert "expected the service's token" in answer.json()["detail"]
        if answer.status_code == 401:
            assert answer.headers["www-authenticate"].startswith("Bearer")


def test_the_scheme_may_be_written_in_any_case(client: Any) -> None:
    assert client.get("/status", headers={"authorization": f"bEARER  {TOKEN}"}).status_code == 200


def test_who_guesses_is_told_to_wait_and_shuts_nobody_out(client: Any) -> None:
    wrong = {"authorization": "Bearer guess"}
    assert [client.get("/status", headers=wrong).status_code for _ in range(12)] == [401] * 10 + [429] * 2
    assert client.get("/status", headers=wrong).headers["retry-after"] == "60"
    assert client.get("/status").status_code == 200


def test_guesses_are_counted_for_each_client_and_for_a_minute() -> None:
    guesses = Guesses(allowed=3, clients=2)
    assert [guesses.too_many("a", now) for now in (0, 1, 2, 3, 4)] == [False, False, False, True, True]
    assert not guesses.too_many("b", 4)
    assert guesses.too_many("a", 60)
    assert not guesses.too_many("a", 130)
    assert not guesses.too_many("c", 130)
    assert set(guesses._at) == {"a", "c"}, "the memory for clients is bounded"


def chunks(total: int) -> Iterator[bytes]:
    for _ in range(total // 1000):
        yield b" " * 1000


@pytest.mark.parametrize("chunked", [False, True], ids=["announced", "chunked"])
def test_what_is_too_large_is_turned_away(client: Any, chunked: bool) -> None:
    headers = {"content-type": "application/json"}
    for total, status in ((20_000, 422), (21_000, 413)):  # that many blanks are no JSON, but may come in
        content: Any = chunks(total) if chunked else b" " * total
        assert client.post("/requests", content=content, headers=headers).status_code == status


def sent(gate: Gate, parts: list[bytes], *headers: tuple[str, str], pause: float = 0.0) -> list[dict[str, Any]]:
    """What the gate answers to a call whose body comes in these parts; after them it waits for more."""
    told: list[dict[str, Any]] = []
    waiting = iter(parts)

    async def receive() -> dict[str, Any]:
        part = next(waiting, None)
        await asyncio.sleep(60 if part is None else pause)
        return {"type": "http.request", "body": part, "more_body": True}

    async def send(message: Any) -> None:
        told.append(message)

    known = [("authorization", f"Bearer {TOKEN}"), ("content-type", "application/json"), *headers]
    scope = {"type": "http", "method": "POST", "path": "/requests", "client": ("192.0.2.1", 1)}
    scope["headers"] = [(name.encode(), value.encode()) for name, value in known]
    asyncio.run(gate(scope, receive, send))  # type: ignore[arg-type]
    return told


async def reached(*_: Any) -> None:
    raise AssertionError("the call came through")


def test_bytes_are_counted_whatever_was_announced() -> None:
    gate = Gate(reached, TOKEN, most=1000)
    for announced in (("content-length", "10"), ("transfer-encoding", "chunked")):
        told = sent(gate, [b"x" * 600, b"x" * 600], announced)
        assert told[0]["status"] == 413
    assert sent(gate, [], ("content-length", "9" * 5000))[0]["status"] == 413


def test_who_sends_nothing_more_is_not_waited_for() -> None:
    told = sent(Gate(reached, TOKEN, most=1000, patience=0.05), [b"{"], ("transfer-encoding", "chunked"))
    assert told[0]["status"] == 408
    assert (b"connection", b"close") in told[0]["headers"]


KINDS = {
    "form": "application/x-www-form-urlencoded",
    "multipart": "multipart/form-data; boundary=x",
    "pickle": "application/python-pickle",
    "text": "text/plain",
    "like JSON": "application/jsonp",
    "problem": "application/problem+json",
    "none": "",
}


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS.keys())
@pytest.mark.parametrize("path", ["/requests", "/runs"])
def test_nothing_but_json_is_read(client: Any, path: str, kind: str) -> None:
    answer = client.post(path, content=b'{"ids": ["1"]}', headers={"content-type": kind} if kind else {})
    assert answer.status_code == 415
    assert "expected application/json" in answer.json()["detail"]


def test_every_answer_is_safe_to_open(client: Any) -> None:
    for path in ("/", "/health", "/status", "/nothing", "/requests/9", "/openapi.json"):
        headers = client.get(path).headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"
        assert headers["referrer-policy"] == "no-referrer"
        assert "access-control-allow-origin" not in headers
