"""What the command line settles about its process, and that nobody's own choice is overruled."""

from __future__ import annotations

import subprocess
import sys

import pytest

from unteach import runtime

WAITS = """
import os, sys
from unteach.runtime import settle_waiting
{before}
told = settle_waiting({load})
print(told, os.environ.get("OMP_WAIT_POLICY", "-"), "torch._C" in sys.modules)
"""


def said(before: str, load: float) -> list[str]:
    """In a process of its own, since torch reads the environment once."""
    code = WAITS.format(before=before, load=load)
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={"PATH": "/usr/bin"})
    return done.stdout.split()


@pytest.mark.parametrize(
    ("before", "load", "expected"),
    [
        ("", 1.2, ["True", "PASSIVE", "False"]),
        ("", 0.1, ["False", "-", "False"]),
        ('os.environ["OMP_WAIT_POLICY"] = "ACTIVE"', 9.0, ["False", "ACTIVE", "False"]),
        ('os.environ["GOMP_SPINCOUNT"] = "10"', 9.0, ["False", "-", "False"]),
        ("import torch", 9.0, ["False", "-", "True"]),
    ],
    ids=["shared", "alone", "told", "told otherwise", "too late"],
)
def test_threads_sleep_where_others_work(before: str, load: float, expected: list[str]) -> None:
    assert said(before, load) == expected


def test_others_are_told_from_ourselves(monkeypatch: pytest.MonkeyPatch) -> None:
    told = iter([(100.0, 7.0, 50.0), (103.0, 8.5, 51.0), (104.0, 9.5, 52.0)])
    monkeypatch.setattr(runtime, "_spent", lambda: next(told))
    others = runtime.Others()
    assert others.cores() == pytest.approx((3.0 - 1.5) / 1.0)
    assert others.cores() == pytest.approx((4.0 - 2.5) / 2.0)


def test_the_command_looks_before_torch_is_loaded() -> None:
    code = (
        "import sys; from unteach.cli import main; seen = []; "
        "main(['list', '--method', 'amun'], before_torch=lambda: seen.append('torch._C' in sys.modules)); "
        "import torch; torch.zeros(1); print(seen)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("[False]\n")


def test_importing_settles_nothing() -> None:
    code = "import os; before = dict(os.environ); import unteach, unteach.runtime; print(dict(os.environ) == before)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "True\n"
