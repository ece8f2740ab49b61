"""On what, and of which code, something was measured."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path

import torch

FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")


def hardware(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Processor, its fast number formats, cores, memory, torch and its threads, in words."""
    pairs = [line.split(":", 1) for line in lines_of(cpuinfo) if ":" in line]
    told = {name.strip(): value.strip() for name, value in reversed(pairs)}  # reversed: the first core's lines win
    flags = [name for name in FLAGS if name in told.get("flags", "").split()]
    # A model name alone can be a family of processors.
    numbers = [f"{key} {told[key]}" for key in ("cpu family", "model") if key in told]
    name = told.get("model name", platform.processor() or platform.machine())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{name} ({', '.join([*numbers, *flags])}), {len(os.sched_getaffinity(0))} cores, {memory:.0f} GiB, "
        f"torch {torch.__version__}, Python {platform.python_version()}, "
        f"OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS', '1')}"
    )


def lines_of(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def commit(folder: Path = Path(__file__).parents[1]) -> str:
    """The short commit of the code that is measured, with "+ changes" when tracked files of it differ; "unknown" without git."""

    def git(*words: str) -> str:
        return subprocess.run(
            ["git", "-C", str(folder), *words], capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--", "src", "benchmarks/*.py")
        return git("rev-parse", "--short", "HEAD") + (" + changes" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
