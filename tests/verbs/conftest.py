"""A tiny erasure job on made data, run through the command line, and what tests of verbs ask of a folder."""

from __future__ import annotations

import contextlib
import hashlib
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from made import blobs
from unteach.cli import main

SHORT = ("--optim.epochs", "4", "--optim.batch", "16", "--device", "cpu", "--precision", "fp32")


@dataclass(frozen=True)
class Ran:
    """What one call of the command line left on the terminal."""

    code: int
    out: str
    err: str

    def refused(self, *words: str) -> None:
        """It must have been turned down in one sentence that names these words, and not by a traceback."""
        assert self.code == 2, self
        assert self.err.startswith("unteach: expected "), self
        assert self.err.count("\n") == 1, self
        assert self.err.endswith("\n"), self
        assert "Traceback" not in self.err + self.out
        for word in words:
            assert word in self.err, (word, self.err)


def unteach(*arguments: object) -> Ran:
    """The command line in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([str(argument) for argument in arguments])
    return Ran(code, out.getvalue(), err.getvalue())


def contents(folder: Path) -> dict[str, str]:
    """Every file under a folder (also hidden ones) with the digest of its bytes; folders with a dash."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "-"
        for path in sorted(folder.rglob("*"))
    }


@dataclass(frozen=True)
class Case:
    """Data, the model trained on them, and how to ask for forgetting a fifth of them."""

    data: str
    original: Path

    def forget(self, out: Path, *more: object) -> Ran:
        arguments = ("--checkpoint", self.original, "--data", self.data, "--ids", "random:0.2", "--out", out)
        return unteach("forget", *arguments, *SHORT, *more)


@pytest.fixture(scope="session")
def run() -> Callable[..., Ran]:
    return unteach


@pytest.fixture(scope="session")
def listing() -> Callable[[Path], dict[str, str]]:
    return contents


@pytest.fixture(scope="session")
def short() -> tuple[str, ...]:
    return SHORT


@pytest.fixture(scope="session")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    """96 noisy images in an archive, and a small CNN trained on them."""
    folder = tmp_path_factory.mktemp("case")
    train, test = blobs(96, noise=0.45), blobs(48, seed=1, noise=0.45)
    np.savez(
        folder / "data.npz",
        inputs=train.inputs.numpy(),
        labels=train.labels.numpy(),
        ids=np.array([f"record {i}" for i in range(96)]),
        test_inputs=test.inputs.numpy(),
        test_labels=test.labels.numpy(),
    )
    data = f"npz:{folder / 'data.npz'}"
    ran = unteach("train", "--data", data, "--out", folder / "original", *SHORT)
    assert ran.code == 0, ran
    return Case(data, folder / "original" / "model.safetensors")


@pytest.fixture(scope="session")
def done(case: Case, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of one undisturbed erasure job with two references."""
    folder = tmp_path_factory.mktemp("done") / "run"
    ran = case.forget(folder)
    assert ran.code == 0, ran
    return folder
