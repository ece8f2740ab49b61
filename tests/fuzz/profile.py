"""How many hostile inputs a test tries: few and always the same ones, or with UNTEACH_FUZZ=N so many times ten new ones."""

from __future__ import annotations

import os
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from fuzz.hostile import Target, attempt

TIMES = int(os.environ.get("UNTEACH_FUZZ", "0"))
PROFILE = settings(
    max_examples=10 * max(1, TIMES), deadline=None, derandomize=not TIMES, suppress_health_check=list(HealthCheck)
)


def read_or_refused(target: Target, data: st.DataObject, folder: Path) -> None:
    """One input of hypothesis's choosing."""
    files = target.input(lambda n: data.draw(st.integers(0, n - 1)))
    assert attempt(target, files, folder) in ("result", "refusal")
