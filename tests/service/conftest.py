"""A queue without a model, a worker that does what a test wants, and a client that has the token."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from unteach.ledger import Budget, Policy, Queue
from unteach.service import Page, Worker
from unteach.store import record

TOKEN = "t0ken-" * 8
SEEN = {
    "test": 0.9,
    "base": 0.92,
    "before": 0.92,
    "agreement": 0.95,
    "epochs": 2.0,
    "retrain_epochs": 10.0,
    "seconds": 1.5,
}
SEEN |= {
    "so_far": [0.6, 0.55, 0.65],
    "current": [0.6, 0.55, 0.65],
    "earlier": None,
    "collapsed": False,
    "diagnosis": "",
}


def finish(queue: Queue, numbers: list[int], **seen: Any) -> None:
    """A run of these requests, as if it had been done."""
    run = queue.start(numbers)
    queue.finish(run.number, f"sha256 of model {run.number}", SEEN | seen, Budget())


@pytest.fixture
def queue(tmp_path: Path) -> Queue:
    made = Queue(tmp_path / "queue", lambda: datetime(2026, 6, 1, 12, tzinfo=UTC))
    made.open({"policy": record(Policy())}, "sha256 of the first model")
    return made


@pytest.fixture
def worker(queue: Queue) -> Iterator[Callable[[str], Worker]]:
    """Makes workers that run some Python; none of their processes is left behind."""
    made: list[Worker] = []

    def make(code: str = "") -> Worker:
        made.append(Worker(queue, [sys.executable, "-S", "-c", code]))
        return made[-1]

    yield make
    for each in made:
        if each._child is not None:
            each._child.kill()
            each._child.wait()


@pytest.fixture
def client(queue: Queue, worker: Callable[[str], Worker]) -> Iterator[Any]:
    """Calls the service as who has its token; errors in the service are answers, as for a real client."""
    pytest.importorskip("fastapi")
    pytest.importorskip("httpx2")
    from starlette.testclient import TestClient

    from unteach.service.app import application

    app = application(queue, worker(""), Page.with_style(":root { --ink: black; }"), token=TOKEN, most=20_000)
    headers = {"authorization": f"Bearer {TOKEN}"}
    with TestClient(app, headers=headers, raise_server_exceptions=False) as made:
        yield made
