"""A small disk of its own to fill up or make read-only, and the erasure job of the verbs' tests."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest

from verbs.conftest import case, done, run, short  # noqa: F401 - fixtures

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
SIZE = 12 * 2**20


@dataclass(frozen=True)
class Disk:
    """A file system in memory."""

    folder: Path

    def fill(self, leave: int) -> None:
        """Leave so many bytes free."""
        room = os.statvfs(self.folder)
        with (self.folder / "ballast").open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, room.f_bavail * room.f_frsize - leave)

    def free(self) -> None:
        """Room again."""
        (self.folder / "ballast").unlink()

    def read_only(self, yes: bool) -> None:
        subprocess.run(["mount", "-o", "remount,ro" if yes else "remount,rw", self.folder], check=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", folder], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("only root may mount a file system, and not everywhere")
    yield Disk(folder)
    subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.fixture(scope="session")
def whole() -> Iterator[ModuleType]:
    """What the benchmark that kills knows of whole files."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        import whole

        yield whole
