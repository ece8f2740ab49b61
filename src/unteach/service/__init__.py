"""A queue of requests over HTTP, for programs and for one page to watch it: a small face over ``ledger.Queue``.

``tokens`` are what opens it · ``gate`` turns away who has none and what is too much · ``desk`` answers, in the words of
``forms`` and ``problems`` · ``worker`` starts the process that does the runs · ``page`` is what a browser shows. FastAPI is
imported by ``desk``, ``forms`` and ``gate`` alone: import those where they are used.
"""

from __future__ import annotations

from unteach.service.page import Page
from unteach.service.tokens import make_token, read_token
from unteach.service.worker import Worker, running

__all__ = ["Page", "Worker", "make_token", "read_token", "running"]
