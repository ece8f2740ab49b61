"""On a full disk and in a read-only folder every verb says so in a sentence, leaves nothing half-written, and goes on later."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from durability.conftest import Disk
from unteach.ledger import Queue
from verbs.conftest import SHORT, Case, Ran, contents

Arguments = Callable[[Case, Path, Path], tuple[object, ...]]
CPU = ("--device", "cpu", "--precision", "fp32")


def audit(case: Case, done: Path, out: Path) -> tuple[object, ...]:
    models = ("--unlearned", done / "model.safetensors", "--original", case.original)
    models += ("--retrained", done / "retrained-0.safetensors", done / "retrained-1.safetensors")
    return ("audit", *models, "--data", case.data, "--ids", done / "forget.txt", "--out", out, *CPU)


def forget(case: Case, done: Path, out: Path) -> tuple[object, ...]:
    request = ("--checkpoint", case.original, "--data", case.data, "--ids", "random:0.2")
    return ("forget", *request, "--out", out, *SHORT)


VERBS: dict[str, Arguments] = {
    "train": lambda case, _, out: ("train", "--data", case.data, "--out", out, *SHORT),
    "forget": forget,
    "audit": audit,
    "report": lambda _, done, out: ("report", "--findings", done / "findings.json", "--out", out),
    "verify": lambda _, done, out: ("verify", done / "evidence.json", "--out", out / "checks.json"),
    "check": lambda case, _, out: (
        *("check", "--checkpoint", case.original, "--data", case.data, "--ids", "random:0.2", "--out", out, *CPU),
    ),
    "spectrum": lambda case, _, out: ("spectrum", "--checkpoint", case.original, "--out", out / "x.json", *CPU),
    "clip": lambda case, _, out: ("clip", "--checkpoint", case.original, "--data", case.data, "--out", out, *CPU),
    "request": lambda case, _, out: (
        *("request", "open", "--queue", out, "--checkpoint", case.original, "--data", case.data, *CPU),
    ),
    "evidence": lambda _, __, out: ("evidence", "--new_key", out / "key"),
}


@pytest.fixture(scope="module")
def filed(done: Path, run: Callable[..., Ran], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run with evidence."""
    folder = Path(shutil.copytree(done, tmp_path_factory.mktemp("filed") / "run"))
    assert run("evidence", "--run", folder).code == 0
    return folder


LONG = ("forget", "check", "clip")


@pytest.mark.parametrize("verb", [pytest.param(n, marks=[pytest.mark.slow] if n in LONG else []) for n in VERBS])
def test_no_room_and_no_right_to_write(
    verb: str, case: Case, filed: Path, disk: Disk, run: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    if verb != "report":
        monkeypatch.setattr("unteach.report.render", lambda *_, **__: [])  # half of the time of the others
    asked = VERBS[verb](case, filed, disk.folder / "out")
    disk.fill(leave=0)
    run(*asked).refused("out")
    left = [path for path in (disk.folder / "out").rglob("*") if path.is_file()]
    assert all(path.stat().st_size == 0 and path.name == "events.jsonl" for path in left), left
    disk.free()
    shutil.rmtree(disk.folder / "out", ignore_errors=True)
    disk.read_only(True)
    run(*asked).refused("out", "ead-only file system")
    assert not (disk.folder / "out").exists()
    disk.read_only(False)
    assert run(*asked).code == 0
    assert not [path for path in disk.folder.rglob(".*") if path.is_file()]


def sound(folder: Path, whole: ModuleType) -> None:
    assert not list(whole.damage(folder))
    assert not list(folder.rglob(".*")), "temporary files are taken away"


# A checkpoint takes 0.4 MB, a resumable state 0.8, all files of the job 1.7.
@pytest.mark.parametrize(
    "leave",
    [
        pytest.param(200_000, marks=pytest.mark.slow, id="no room for the model"),
        pytest.param(900_000, id="none for a resumable state"),
        pytest.param(1_400_000, marks=pytest.mark.slow, id="none for a reference"),
    ],
)
def test_a_disk_that_fills_up_under_forget(
    leave: int, case: Case, done: Path, disk: Disk, run: Callable[..., Ran], whole: ModuleType
) -> None:
    earlier = Path(shutil.copytree(case.original.parent, disk.folder / "earlier"))
    before, out = contents(earlier), disk.folder / "out"
    disk.fill(leave)
    run(*forget(case, done, out)).refused(str(disk.folder))
    sound(out, whole)
    assert not (out / "findings.json").exists()
    assert contents(earlier) == before
    disk.free()
    assert run(*forget(case, done, out)).code == 0
    sound(out, whole)
    assert not whole.different(whole.contents(out), whole.contents(done))


@pytest.fixture
def queue(case: Case, disk: Disk, run: Callable[..., Ran]) -> Queue:
    """A queue on the small disk with two requests."""
    made = Queue(disk.folder / "queue")
    method = ("--method", "finetune", "--optim.epochs", "1", "--optim.batch", "16", "--budget.drop", "100")
    opened = ("--queue", made.folder, "--checkpoint", case.original, "--data", case.data, *CPU, *method)
    assert run("request", "open", *opened).code == 0
    made.add(["record 1", "record 2"])
    made.add(["record 3"])
    return made


@pytest.mark.parametrize(
    "leave",
    [
        pytest.param(0, marks=pytest.mark.slow, id="none at all"),
        pytest.param(150_000, id="none for a model"),
        pytest.param(1_500_000, marks=pytest.mark.slow, id="none for the second run"),
    ],
)
def test_a_disk_that_fills_up_under_a_queue(
    leave: int, queue: Queue, disk: Disk, run: Callable[..., Ran], whole: ModuleType
) -> None:
    disk.fill(leave)
    run("request", "run", "--queue", queue.folder, *CPU).refused(str(queue.folder))
    disk.free()  # without any, SQLite can't even read
    assert {request.status for request in queue.state().requests} <= {"waiting", "running", "done"}
    assert not list(whole.damage(queue.folder))
    assert [queue.ids(request) for request in queue.state().requests] == [["record 1", "record 2"], ["record 3"]]
    assert run("request", "run", "--queue", queue.folder, *CPU).code == 0
    assert {request.status for request in queue.state().requests} == {"done"}
    assert {run.status for run in queue.state().runs} <= {"accepted", "failed"}
    sound(queue.folder, whole)


def test_a_read_only_queue_can_be_read(queue: Queue, disk: Disk, run: Callable[..., Ran]) -> None:
    before = contents(queue.folder)
    disk.read_only(True)
    assert run("request", "list", "--queue", queue.folder).code == 0
    run("request", "run", "--queue", queue.folder, *CPU).refused("queue")
    run("request", "add", "--queue", queue.folder, "--ids", "random:2", *CPU).refused("queue")
    run("request", "status", "--queue", queue.folder).refused("status.json")
    assert contents(queue.folder) == before


def test_evidence_on_a_full_disk(done: Path, disk: Disk, run: Callable[..., Ran]) -> None:
    folder = Path(shutil.copytree(done, disk.folder / "run"))
    before = contents(folder)
    disk.fill(leave=8192)
    run("evidence", "--run", folder).refused("officer.html")
    assert contents(folder).keys() - before.keys() <= {"ids.salt"}
    disk.free()
    assert run("evidence", "--run", folder).code == 0
    assert contents(folder).items() >= before.items()
    disk.read_only(True)
    assert run("verify", folder / "evidence.json").code == 0, "whoever checks need not write"


def test_events_are_whole_lines_after_a_full_disk(disk: Disk) -> None:
    from unteach.events import Events

    events = Events(disk.folder / "events.jsonl")
    disk.fill(leave=3 * 4096)

    def fill() -> None:
        for number in range(10_000):
            events.emit("epoch", number=number, long="x" * 700)

    with pytest.raises(OSError):
        fill()
    disk.free()
    events.emit("last")
    told = [json.loads(line) for line in (disk.folder / "events.jsonl").read_text().splitlines()]
    assert [each["number"] for each in told[:-1]] == list(range(len(told) - 1))
    assert told[-1]["event"] == "last"
