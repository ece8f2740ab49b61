"""One byte changed in what a queue's run left is found by ``unteach verify``, in a sentence that names the file."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from unteach.ledger import Ledger, Queue
from verbs.conftest import Case, Ran

FAST = ("--device", "cpu", "--precision", "fp32", "--threads", "1")
RUN = "queue/runs/0001"
FILES = {
    "model": f"{RUN}/model.safetensors",
    "manifest": f"{RUN}/evidence.json",
    "ledger": "queue/ledger.sqlite",
    "id list": f"{RUN}/forget.txt",
    "salt": f"{RUN}/ids.salt",
    "findings": f"{RUN}/findings.json",
    "report": f"{RUN}/officer.html",
}


@pytest.fixture(scope="module")
def whole(case: Case, run: Callable[..., Ran], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A queue after a run, which has evidence, not signed."""
    folder = tmp_path_factory.mktemp("whole")
    queue = Queue(folder / "queue")
    method = ("--method", "finetune", "--optim.epochs", "1", "--optim.batch", "16", "--budget.drop", "100")
    opened = ("--checkpoint", case.original, "--data", case.data, *FAST, *method)
    assert run("request", "open", "--queue", queue.folder, *opened).code == 0
    queue.add(["record 1", "record 2", "record 3"])
    assert run("request", "run", "--queue", queue.folder, *FAST).code == 0
    assert run("evidence", "--run", folder / RUN, "--ledger", queue.ledger.path).code == 0
    queue.add(["record 4"])  # that the ledger has grown since is no fault
    return folder


def verified(folder: Path, case: Case, run: Callable[..., Ran]) -> Ran:
    places = ("--original", case.original, "--ledger", folder / "queue" / "ledger.sqlite")
    ran = run("verify", folder / RUN / "evidence.json", *places)
    assert ran.code in (0, 2, 3), ran
    return ran


def test_untouched(whole: Path, case: Case, run: Callable[..., Ran]) -> None:
    ran = verified(whole, case, run)
    assert ran.code == 0, ran
    for name in FILES.values():
        assert Path(name).name in ran.out


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("kind", FILES)
def test_one_byte(kind: str, seed: int, whole: Path, case: Case, run: Callable[..., Ran], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(whole, tmp_path / "whole"))
    path, rng = folder / FILES[kind], random.Random(f"{kind} {seed}")
    content = bytearray(path.read_bytes())
    at = rng.choice(written(content) if kind == "ledger" else range(len(content)))
    content[at] ^= rng.randint(1, 255)
    path.write_bytes(content)
    ran = verified(folder, case, run)
    if ran.code == 2:
        assert kind == "manifest", "what can't be read ends the check only where all depends on it"
        ran.refused(path.name)
    else:
        assert ran.code == 3, (at, ran)
        assert [line for line in ran.out.splitlines() if line.startswith("FAILS") and path.name in line], (at, ran.out)


def written(content: bytearray) -> list[int]:
    """Where in the ledger's file entries stand; between them SQLite has free space that says nothing."""
    places = []
    for word in (b'"count":3', b'"model":"', b'"numbers":{', b'"settings":{', b"+00:00received", b"+00:00finished"):
        at = content.find(word)
        assert at >= 0, word
        places += range(at, at + len(word))
    return places


def test_one_byte_anywhere_in_the_ledger(whole: Path, case: Case, run: Callable[..., Ran], tmp_path: Path) -> None:
    """It is found, or what the ledger says is what it said."""
    folder = Path(shutil.copytree(whole, tmp_path / "whole"))
    ledger, rng = Ledger(folder / "queue" / "ledger.sqlite"), random.Random(5)
    known, content = ledger.entries(), ledger.path.read_bytes()
    for _ in range(40):
        at = rng.randrange(len(content))
        changed = bytearray(content)
        changed[at] ^= rng.randint(1, 255)
        ledger.path.write_bytes(changed)
        if (ran := verified(folder, case, run)).code == 3:
            assert "ledger.sqlite was changed: " in ran.out
        else:
            assert (ran.code, ledger.entries()) == (0, known), at


def test_a_request_whose_ids_were_changed_is_not_run(whole: Path, run: Callable[..., Ran], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(whole, tmp_path / "whole"))
    path = folder / "queue" / "requests" / "0002.json"
    path.write_text(path.read_text().replace("record 4", "record 5"))
    run("request", "run", "--queue", folder / "queue", *FAST).refused("ids of request 2", "0002.json")
