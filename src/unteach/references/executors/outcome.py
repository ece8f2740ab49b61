"""How a job ended, in words that come back from any process."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping
from pathlib import Path

from unteach.types import Refusal


def attempt(
    do: Callable[..., None],
    manifest: Path,
    number: int,
    device: str,
    threads: int,
    *,
    through: tuple[type[Exception], ...] = (),
) -> str | None:
    """Do one job in this process; why it failed, or None.

    The reason comes back as text: not every exception can be pickled, and a machine that fails must look different.
    ``through``: exceptions that say nothing about the job and are let through.
    """
    try:
        do(manifest, number, device=device, threads=threads)
    except through:
        raise
    except Refusal as refusal:
        return str(refusal)
    except Exception as error:  # a user's own network fails in any way it likes, and the other jobs go on
        traceback.print_exc()
        return f"{type(error).__name__}: {error}"
    return None


def refusal(failed: Mapping[int, str], total: int) -> Refusal:
    """What to raise for jobs that failed, with the reason of each of the first three."""
    shown = "; ".join(f"job {number}: {reason}" for number, reason in sorted(failed.items())[:3])
    more = f"; and {len(failed) - 3} more" if len(failed) > 3 else ""
    return Refusal(
        f"expected all {total} jobs to be done, got {len(failed)} that failed ({shown}{more}); do them again"
    )
