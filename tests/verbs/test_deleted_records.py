"""Records that were forgotten are then deleted from the data, as they should be: what comes after still works."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unteach.ledger import Queue
from unteach.store import load_tensors

METHOD = ("--method", "finetune", "--optim.lr", "0.01", "--optim.epochs", "1", "--optim.batch", "16")
FAST = ("--device", "cpu", "--precision", "fp32", "--threads", "1", "--quiet", "true")


@pytest.fixture
def data(case: Any, tmp_path: Path) -> Path:
    """The archive of the case, to be changed."""
    return Path(shutil.copy(case.data.removeprefix("npz:"), tmp_path / "data.npz"))


def delete(data: Path, *records: int) -> None:
    """The archive without these records."""
    with np.load(data) as archive:
        arrays = {name: archive[name] for name in archive.files}
    kept = ~np.isin(arrays["ids"], [f"record {i}" for i in records])
    np.savez(data, **{name: value[kept] if len(value) == len(kept) else value for name, value in arrays.items()})


def ids(folder: Path, *records: int) -> Path:
    file = folder / "ids.txt"
    file.write_text("".join(f"record {i}\n" for i in records))
    return file


def story(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = load_tensors(path)[1]["trained_on"]
    return found


@pytest.fixture
def forgotten(case: Any, data: Path, tmp_path: Path, run: Callable[..., Any]) -> Path:
    """A model that has forgotten records 1 and 2."""
    asked = ("--checkpoint", case.original, "--data", f"npz:{data}", "--ids", ids(tmp_path, 1, 2))
    ran = run("forget", *asked, *METHOD, *FAST, "--references", "0", "--out", tmp_path / "first")
    assert ran.code == 0, ran
    return tmp_path / "first" / "model.safetensors"


@pytest.mark.parametrize("deleted", [(1, 2), (2,)], ids=["all", "some"])
def test_the_next_request_runs_on_what_is_left(
    deleted: tuple[int, ...], forgotten: Path, data: Path, tmp_path: Path, run: Callable[..., Any]
) -> None:
    delete(data, *deleted)
    asked = ("--checkpoint", forgotten, "--data", f"npz:{data}", "--ids", ids(tmp_path, 3))
    ran = run("forget", *asked, *METHOD, *FAST, "--references", "1", "--out", tmp_path / "second")
    assert ran.code == 0, ran
    left = {f"record {i}" for i in (1, 2, 3) if i not in deleted}
    for name in ("model.safetensors", "retrained-0.safetensors"):
        told = story(tmp_path / "second" / name)
        assert set(told["left_out"]) == left, name
        assert told["count"] == 93, name


def test_data_that_lack_what_the_model_still_knows_are_refused(
    forgotten: Path, data: Path, tmp_path: Path, run: Callable[..., Any]
) -> None:
    delete(data, 1, 2, 5)
    asked = ("--checkpoint", forgotten, "--data", f"npz:{data}", "--ids", ids(tmp_path, 3))
    ran = run("forget", *asked, *METHOD, *FAST, "--references", "0", "--out", tmp_path / "second")
    ran.refused("fingerprint", "only what it has forgotten may be missing")


def test_the_original_knows_them_still(case: Any, data: Path, tmp_path: Path, run: Callable[..., Any]) -> None:
    delete(data, 1)
    asked = ("--checkpoint", case.original, "--data", f"npz:{data}", "--ids", ids(tmp_path, 3))
    run("forget", *asked, *METHOD, *FAST, "--references", "0", "--out", tmp_path / "second").refused("fingerprint")


def test_a_queue_goes_on_and_does_not_train_anew(
    case: Any, data: Path, tmp_path: Path, run: Callable[..., Any]
) -> None:
    queue = tmp_path / "queue"

    def ask(action: str, *more: object) -> Any:
        return run("request", action, "--queue", queue, *FAST, *more)

    assert ask("open", "--checkpoint", case.original, "--data", f"npz:{data}", *METHOD).code == 0
    assert ask("add", "--ids", ids(tmp_path, 1, 2)).code == 0
    assert ask("run").code == 0
    delete(data, 1, 2)
    assert ask("add", "--ids", ids(tmp_path, 3)).code == 0
    assert ask("run").code == 0
    done = Queue(queue).state().accepted
    assert [run.requests for run in done] == [(1,), (2,)]
    assert "1" not in done[-1].numbers["each"]  # its records are no longer there to be attacked
    assert story(queue / "runs" / "0002" / "model.safetensors")["left_out"] == ["record 3"]
    ask("run", "--retrain", "true").refused("hold all that was asked for", "without 2")
