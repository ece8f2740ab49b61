"""Programs run by one process and by a group of them, and what each process of it saved."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

TESTS = Path(__file__).parent


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """This one's, without what a scheduler or pytest put there; warnings are errors."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM", "PYTEST"))}
    path = os.pathsep.join([str(TESTS), str(TESTS / "methods")])
    return {**clean, "OMP_NUM_THREADS": "1", "PYTHONPATH": path, "PYTHONWARNINGS": "error", **(extra or {})}


def run(command: Sequence[str], extra: Mapping[str, str] | None = None) -> None:
    """Run Python with these arguments to a good end."""
    told = [sys.executable, *command]
    ran = subprocess.run(told, env=environment(extra), capture_output=True, text=True, timeout=280, check=False)
    assert ran.returncode == 0, ran.stderr[-4000:]


def run_tasks(command: Sequence[str], extras: Sequence[Mapping[str, str]]) -> None:
    """Run Python with these arguments as several tasks at once, each in an environment of its own, to a good end."""
    told = [sys.executable, *command]
    tasks = [
        subprocess.Popen(told, env=environment(extra), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for extra in extras
    ]
    try:
        outputs = [task.communicate(timeout=240)[0] for task in tasks]
    finally:
        for task in tasks:
            task.kill()
    assert all(task.returncode == 0 for task in tasks), "\n".join(output[-3000:] for output in outputs)
