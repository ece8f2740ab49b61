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


def outcome_of(target: Target, data: st.DataObject, folder: Path) -> str:
    """What came of one input of hypothesis's choosing. Raises: Fault for anything but a result or a refusal."""
    files = target.input(lambda n: data.draw(st.integers(0, n - 1)))
    return attempt(target, files, folder)
