"""Who may come in, and with how much: the token, the size and the kind of what is sent, before anything is read."""

from __future__ import annotations

import asyncio
import hmac
import logging
import secrets
import time
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from starlette.datastructures import Headers, MutableHeaders

from unteach.service.problems import problem

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

OPEN = ("/", "/health")  # for everybody: neither says anything of the queue
SAFE = {
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
log = logging.getLogger("uvicorn.error")


class Turned(Exception):  # noqa: N818 - it is the caller's fault
    """A request that goes no further: status, sentence, headers."""

    def __init__(self, status: int, detail: str, **headers: str) -> None:
        self.status, self.detail = status, detail
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


@dataclass
class Guesses:
    """The wrong tokens of each client within a minute, for no more than ``clients`` of them."""

    allowed: int = 10
    clients: int = 1000
    _at: OrderedDict[str, deque[float]] = field(default_factory=OrderedDict)

    def too_many(self, client: str, now: float) -> bool:
        """Count another one; whether that is more than are answered."""
        times = self._at.setdefault(client, deque(maxlen=self.allowed + 1))
        self._at.move_to_end(client)
        while len(self._at) > self.clients:
            self._at.popitem(last=False)
        while times and now - times[0] >= 60:
            times.popleft()
        times.append(now)
        return len(times) > self.allowed


class Gate:
    """An ASGI application around another: lets in who has the token, and JSON of no more than ``most`` bytes.

    The token comes first, then kind and size of what is sent; the bytes are counted as they come, whatever was announced,
    and must all be there within ``patience`` seconds. An error further in becomes a number here and a traceback in the log.
    """

    def __init__(self, app: ASGIApp, token: str, most: int, patience: float = 30.0) -> None:
        self.app, self.most, self.patience = app, most, patience
        self._token = token.encode()
        self._guesses = Guesses()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        begun = False

        async def answer(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                headers = MutableHeaders(scope=message)
                for name, value in SAFE.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            headers = Headers(scope=scope)
            self._let_in(scope, headers)
            await self.app(scope, await self._checked(scope, headers, receive), answer)
        except Turned as turned:
            told = problem(turned.status, turned.detail, {**turned.headers, "connection": "close"})
            await told(scope, receive, answer)
        except Exception:
            number = secrets.token_hex(4)
            log.exception("error %s at %s %s", number, scope["method"], scope["path"])
            if not begun:
                await problem(500, f"error {number} of the service; its log says more")(scope, receive, answer)

    def _let_in(self, scope: Scope, headers: Headers) -> None:
        given = headers.getlist("authorization")
        if scope["path"] in OPEN and scope["method"] in ("GET", "HEAD"):
            return
        kind, _, token = given[0].partition(" ") if len(given) == 1 else ("", "", "")
        if kind.lower() == "bearer" and hmac.compare_digest(token.strip().encode(), self._token):
            return
        # The right token is let in whoever asked before: it is too long to be guessed, and whoever shares an address (behind a
        # proxy all do) must not be able to shut the others out.
        client = scope["client"][0] if scope.get("client") else ""
        if given and self._guesses.too_many(client, time.monotonic()):
            raise Turned(429, "expected the service's token, got too many others; wait a minute", retry_after="60")
        got = "another" if given else "none"
        detail = f"expected the service's token, got {got}; send it as Authorization: Bearer TOKEN"
        raise Turned(401, detail, www_authenticate='Bearer realm="unteach"')

    async def _checked(self, scope: Scope, headers: Headers, receive: Receive) -> Receive:
        """What the application reads from: the whole body, found to be small enough."""
        announced = headers.get("content-length", "")
        if announced.isdecimal() and int(announced[:20]) > self.most:
            raise self._too_large()
        if announced.strip("0") or "transfer-encoding" in headers:
            kind = headers.get("content-type", "").partition(";")[0].strip().lower()
            if kind != "application/json":
                raise Turned(415, f"expected application/json, got {kind or 'no content type'}; send JSON")
        try:
            async with asyncio.timeout(self.patience):
                body = await self._read(receive)
        except TimeoutError:
            raise Turned(
                408, f"expected all of the request within {self.patience:g} s, got a part; send it faster"
            ) from None
        parts: list[Any] = [{"type": "http.request", "body": body, "more_body": False}]

        async def replayed() -> Message:
            return parts.pop() if parts else await receive()

        return replayed

    async def _read(self, receive: Receive) -> bytes:
        body = bytearray()
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise Turned(400, "expected the whole request, got a part; send it again")
            body += message.get("body", b"")
            if len(body) > self.most:
                raise self._too_large()
            if not message.get("more_body"):
                return bytes(body)

    def _too_large(self) -> Turned:
        return Turned(413, f"expected at most {self.most} bytes, got more; divide it into several requests")
