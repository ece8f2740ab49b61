"""The service as an ASGI application: which call is answered by what, and how errors are told."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from http import HTTPStatus
from typing import Any, NamedTuple

from fastapi import FastAPI, Security
from fastapi.exceptions import RequestValidationError
from fastapi.security import HTTPBearer
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from unteach import __version__
from unteach.ledger import Queue
from unteach.service.desk import Desk
from unteach.service.forms import RequestForm
from unteach.service.gate import Gate
from unteach.service.page import Page
from unteach.service.problems import KIND, SCHEMA, misfits, problem
from unteach.service.worker import Worker
from unteach.types import Refusal

ABOUT = """Requests to forget training examples, brought to one queue and worked off on one model after the other.

Every call but `GET /health` needs the service's token. Errors are problem details (RFC 9457) whose `detail` is a sentence."""
ALWAYS = (401, 408, 413, 415, 429, 500, 503)  # what the gate and a queue out of order answer, whatever is asked
TOLD = Security(HTTPBearer(auto_error=False, description="The service's token."))  # told here, checked by the gate
log = logging.getLogger("uvicorn.error")


class Route(NamedTuple):
    """A call: how it is made, what it is called, the method of the desk that answers it, and with which status."""

    method: str
    path: str
    answer: str
    title: str
    status: int = 200
    failures: tuple[int, ...] = ()
    kind: str = ""


ROUTES = (
    Route("POST", "/requests", "add", "Bring a request", 201, (400, 409, 422)),
    Route("GET", "/requests", "requests", "List the requests", 200, (422,)),
    Route("GET", "/requests/{number}", "request", "Look at a request", 200, (404, 422)),
    Route("DELETE", "/requests/{number}", "withdraw", "Take a request back", 200, (404, 409, 422)),
    Route("GET", "/status", "status", "See how the queue stands"),
    Route("POST", "/runs", "start", "Work the queue off", 202, (400, 409, 422)),
    Route("GET", "/runs", "runs", "List the runs", 200, (422,)),
    Route("GET", "/runs/{number}", "run", "Look at a run", 200, (404, 422)),
    Route("GET", "/runs/{number}/report", "report", "Get a run's report", 200, (404, 422), "text/html"),
    Route("GET", "/runs/{number}/evidence", "evidence", "Get a run's evidence", 200, (404, 422), "application/json"),
)


def application(queue: Queue, worker: Worker, page: Page, *, token: str, most: int, every: float = 0.0) -> FastAPI:
    """The service for one queue.

    ``most``: bytes that one call may bring. ``every``: seconds between looks whether a run is due; 0 for none. When it stops,
    no run is begun any more, and the one at work goes on.
    """

    @contextlib.asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        looking = asyncio.create_task(_look(worker, every)) if every else None
        yield
        worker.close()
        if looking:
            looking.cancel()

    desk = Desk(queue, worker)
    app = FastAPI(title="unteach", version=__version__, description=ABOUT, docs_url=None, redoc_url=None, lifespan=life)
    for route in ROUTES:
        _add(app, desk, route)
    app.add_api_route("/health", desk.health, methods=["GET"], summary="See whether the service answers")
    app.add_route("/", _shower(page), methods=["GET"], include_in_schema=False)
    app.add_exception_handler(RequestValidationError, _misfit)
    app.add_exception_handler(HTTPException, _failure)
    app.add_exception_handler(Refusal, _refusal)
    app.add_middleware(Gate, token=token, most=most)
    return app


def _add(app: FastAPI, desk: Desk, route: Route) -> None:
    failures: dict[int | str, dict[str, Any]] = {
        status: {"description": HTTPStatus(status).phrase, "content": {KIND: {"schema": SCHEMA}}}
        for status in (*route.failures, *ALWAYS)
    }
    if route.answer == "add":
        failures[200] = {"description": "It was recorded before, under the same key.", "model": RequestForm}
    more: dict[str, Any] = {}
    if route.kind:
        failures[200] = {"description": "The file.", "content": {route.kind: {}}}
        more = {"response_model": None, "response_class": Response}
    app.add_api_route(
        route.path,
        getattr(desk, route.answer),
        methods=[route.method],
        summary=route.title,
        operation_id=route.answer,
        status_code=route.status,
        responses=failures,
        dependencies=[TOLD],
        **more,
    )


def _shower(page: Page) -> Any:
    answer = HTMLResponse(page.html, headers={"content-security-policy": page.policy})

    async def show(_: Request) -> Response:
        return answer

    return show


async def _look(worker: Worker, every: float) -> None:
    """Begin what is due, now and again."""
    while True:
        try:
            await run_in_threadpool(worker.start_if_due, every)
        except Exception as error:  # a full disk, a ledger that is being restored: by the next look it may be mended
            log.warning("whether a run is due can't be seen: %s", error)
        await asyncio.sleep(every)


async def _misfit(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return problem(422, misfits(list(error.errors())))


async def _failure(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    known = error.detail != HTTPStatus(error.status_code).phrase
    asked = f"{request.method} {request.url.path}"
    detail = (
        error.detail if known else f"expected a call that /openapi.json describes, got {asked}; choose one of these"
    )
    return problem(error.status_code, detail, error.headers)


async def _refusal(_: Request, error: Exception) -> Response:
    """What the queue itself refuses, once the caller's part was found right: the ledger or the disk are out of order."""
    log.error("%s", error)
    return problem(503, str(error))
