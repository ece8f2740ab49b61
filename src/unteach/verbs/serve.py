"""``unteach serve``: a queue of requests over HTTP."""

from __future__ import annotations

import signal
import socket
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from unteach.types import Refusal
from unteach.verbs.settings import Machine

HERE = ("127.0.0.1", "::1", "localhost")
CALLS = 64  # at once; more are told to come again


@dataclass(frozen=True, kw_only=True)
class Serve:
    """Serve a queue over HTTP, to those who have its token: programs by /openapi.json, people by a page to watch it.

    Make the token first, with --new_token. Runs are done by a process of their own, which goes on when the service is stopped;
    killed, it is gone on with by the next run. Needs: pip install 'unteach[serve]'.
    """

    first = "queue"

    queue: Path = Path("runs/queue")
    """Folder of the queue, which unteach request open began; it may stand right after the verb."""
    host: str = "127.0.0.1"
    """Address to listen at. The default is reached from this machine only; for others, put a proxy with TLS in front."""
    port: int = 8000
    """Port to listen at; 0 for a free one."""
    token_file: Path | None = None
    """File with the token, which only its owner can read; left out, the token is in UNTEACH_TOKEN."""
    new_token: Path | None = None
    """Make a token and nothing else, in this file."""
    max_body: int = 1_000_000
    """Bytes that one call may bring, 1000 or more."""
    run_every: float = 0.0
    """Seconds between looks whether the queue's policy wants a run, 1 or more; 0 for runs only when asked for."""
    machine: Machine = field(default_factory=Machine)

    def __call__(self) -> int:
        from unteach.ledger import Queue
        from unteach.service import Page, Worker, make_token, read_token, running

        if self.new_token is not None:
            make_token(self.new_token)
            print(f"token, for those who may use the service: {self.new_token}")
            return 0
        if self.max_body < 1000 or not (self.run_every == 0 or 1 <= self.run_every < float("inf")):
            raise Refusal(
                f"expected --max_body of 1000 or more and --run_every of 0, or 1 or more, got {self.max_body} and "
                f"{self.run_every}; change them"
            )
        token = read_token(self.token_file)
        queue = Queue(self.queue)
        queue.state()
        uvicorn = _uvicorn()
        from unteach.report.shelf import TEMPLATES
        from unteach.service.app import application

        worker = Worker(queue, running(queue, self._flags()))
        page = Page.with_style((TEMPLATES / "style.css").read_text("utf-8"))
        app = application(queue, worker, page, token=token, most=self.max_body, every=self.run_every)
        with self._listening() as listening:
            self._tell(listening)
            config = uvicorn.Config(
                app, http="h11", ws="none", lifespan="on", proxy_headers=False, server_header=False, limit_concurrency=CALLS,
                timeout_graceful_shutdown=30,
            )  # fmt: skip
            # uvicorn, once all is answered, raises the signal again that stopped it; by then it has done its work.
            signal.signal(signal.SIGTERM, lambda *_: None)
            uvicorn.Server(config).run(sockets=[listening])
        if worker.working:
            print(f"the run at work goes on; its words are in {queue.folder / 'worker.log'}")
        return 0

    def _flags(self) -> list[str]:
        """The machine's settings, for the runs."""
        return [
            word for item in fields(self.machine) for word in (f"--{item.name}", str(getattr(self.machine, item.name)))
        ]

    def _listening(self) -> socket.socket:
        if not 0 <= self.port < 2**16:
            raise Refusal(f"expected --port from 0 to 65535, got {self.port}; choose such a one")
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        try:
            return socket.create_server((self.host, self.port), family=family, backlog=CALLS)
        except OSError as error:
            reason = error.strerror or error
            raise Refusal(
                f"expected to listen at {self.host}, port {self.port}, got: {reason}; choose another --host or --port"
            ) from error

    def _tell(self, listening: socket.socket) -> None:
        host = f"[{self.host}]" if ":" in self.host else self.host
        print(f"serving {self.queue} at http://{host}:{listening.getsockname()[1]}", flush=True)
        if self.host not in HERE:
            print(
                "others can reach it, and what is sent, the token too, can be read on its way: put a proxy with TLS in front"
            )


def _uvicorn() -> Any:
    try:
        import fastapi  # noqa: F401
        import uvicorn
    except ImportError as error:
        raise Refusal(
            f"expected FastAPI and uvicorn, got: {error}; install them by pip install 'unteach[serve]'"
        ) from error
    return uvicorn
