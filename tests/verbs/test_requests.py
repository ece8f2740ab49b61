"""``unteach request``: requests come, runs do them one after the other, and a kill at any moment changes nothing."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from unteach.checkpoint import load
from unteach.data import load as load_data
from unteach.engine import Engine
from unteach.ledger import Ledger, Queue, State
from unteach.models import MODELS
from unteach.store import load_tensors
from unteach.verbs.wear import wear

FAST = ("--device", "cpu", "--precision", "fp32", "--threads", "1", "--quiet", "true")
METHOD = ("--method", "finetune", "--optim.lr", "0.01", "--optim.epochs", "2", "--optim.batch", "16")


class Asked:
    """A queue in a folder, asked through the command line."""

    def __init__(self, run: Any, case: Any, folder: Path) -> None:
        self.run, self.case, self.folder = run, case, folder

    def __call__(self, action: str, *more: object, code: int = 0) -> Any:
        ran = self.run("request", action, "--queue", self.folder, *FAST, *more)
        assert ran.code == code, ran
        return ran

    def open(self, *more: object) -> Any:
        return self("open", "--checkpoint", self.case.original, "--data", self.case.data, *METHOD, *more)

    def add(self, *ids: int, **more: str) -> Any:
        file = self.folder.with_name("ids.txt")
        file.write_text("".join(f"record {i}\n" for i in ids))
        return self("add", "--ids", file, *(part for name, value in more.items() for part in (f"--{name}", value)))

    @property
    def state(self) -> State:
        return Queue(self.folder).state()

    def weights(self, run: int) -> dict[str, torch.Tensor]:
        return load_tensors(self.folder / "runs" / f"{run:04d}" / "model.safetensors")[0]

    def left_out(self, run: int) -> list[str]:
        told = load_tensors(self.folder / "runs" / f"{run:04d}" / "model.safetensors")[1]
        found: list[str] = told["trained_on"]["left_out"]
        return found


@pytest.fixture(autouse=True)
def no_reports(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports of single runs are other tests' business, and half of the time."""
    monkeypatch.setattr("unteach.report.render", lambda *_, **__: [])


@pytest.fixture
def ask(run: Any, case: Any, tmp_path: Path) -> Asked:
    return Asked(run, case, tmp_path / "queue")


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_requests_one_after_the_other(ask: Asked) -> None:
    ask.open("--budget.cost", "0", "--budget.accuracy", "0", "--budget.exposure", "0.5")
    assert "request 1: 3 ids" in ask.add(1, 2, 3, key="a").out
    assert "recorded already" in ask.add(1, 2, 3, key="a").out
    assert "1 of them were asked for before" in ask.add(3, 4).out
    assert "waiting" in ask("list").out
    ask("run")
    state = ask.state
    assert [request.status for request in state.requests] == ["done", "done"]
    assert ask.left_out(1) == ["record 1", "record 2", "record 3"]
    assert ask.left_out(2) == ["record 1", "record 2", "record 3", "record 4"], "what was forgotten stays out"
    assert state.runs[1].parent == 1
    first, second = (run.numbers for run in state.runs)
    assert first["before"] == first["base"]
    assert second["before"] == first["test"]
    assert second["base"] == first["base"]
    assert first["earlier"] is None
    assert set(second["each"]) == {"1", "2"}
    ask.add(1, 4)
    ran = ask("run")
    assert "0.00 epochs" in ran.out, "all of it was forgotten before"
    assert same(ask.weights(3), ask.weights(2))
    assert "no request waits" in ask("run").out
    told = ask("status").out
    assert "3 requests, 3 done" in told
    page, stated = ((ask.folder / f"status.{kind}").read_text() for kind in ("html", "json"))
    assert page.count("<svg") == 3
    assert "http" not in page.replace("http-equiv", "").replace("http://www.w3.org", "")
    assert json.loads(stated)["model"].endswith("0003/model.safetensors")
    ask("status")
    assert (ask.folder / "status.html").read_text() == page, "the same state, the same bytes"
    assert not [entry for entry in Ledger(ask.folder / "ledger.sqlite").entries() if "record" in json.dumps(entry.body)]


def test_time_to_retrain(ask: Asked) -> None:
    ask.open("--budget.cost", "0.5", "--budget.accuracy", "0", "--policy.together", "9")
    for at in (0, 10, 20):
        ask.add(*range(at, at + 4))
    ran = ask("run", code=0)
    assert "time to retrain: forgetting has cost" in ran.out
    assert [run.requests for run in ask.state.runs] == [(1, 2), (3,)]
    assert "Time to retrain" in (ask("status"), (ask.folder / "status.html").read_text())[1]
    ask.add(30, 31)
    assert "training from scratch without the 4 requests so far" in ask("run", "--retrain", "true").out
    state = ask.state
    assert state.base == 3
    assert state.advised is None
    assert {request.status for request in state.requests} == {"done"}
    gone = {f"record {i}" for i in (*range(4), *range(10, 14), *range(20, 24), 30, 31)}
    assert set(ask.left_out(3)) == gone
    assert state.runs[2].numbers["agreement"] == 1.0
    ask("run", "--retrain", "true", code=2).refused("something to retrain without")
    ask.add(40)
    ask("run", "--now", "true")
    assert ask.state.runs[3].parent == 3
    assert set(ask.left_out(4)) == {*gone, "record 40"}


def test_a_model_that_lost_too_much_is_not_used(ask: Asked) -> None:
    ask.open(
        "--method",
        "gradient-ascent",
        "--preset",
        "false",
        "--optim.lr",
        "1.0",
        "--optim.epochs",
        "5",
        "--guard.keep",
        "0",
    )
    ask.add(1, 2, 3)
    ran = ask("run", code=3)
    assert "rejected" in ran.out
    assert "the model in use stays as it was" in ran.out
    assert ask.state.current is None
    assert "rejected and waiting for a retraining: 1" in ran.out
    ask("run", "--retrain", "true")
    assert ask.state.requests[0].status == "done"


def test_an_audit_of_every_second_run(ask: Asked) -> None:
    ask.open("--audit_every", "2", "--references", "1")
    ask.add(1, 2, 3)
    ask.add(4, 5, 6)
    ask("run")
    retrained = [(ask.folder / "runs" / name / "retrained-0.safetensors").is_file() for name in ("0001", "0002")]
    assert retrained == [False, True]
    assert [bool(run.numbers["verdict"]) for run in ask.state.runs] == [False, True]


def test_waiting_by_policy(ask: Asked) -> None:
    ask.open("--policy.wait_ids", "5", "--policy.together", "100")
    ask.add(1, 2, 3)
    assert "1 requests wait, as the policy says" in ask("run").out
    ask.add(4, 5)
    ask("run")
    assert [run.requests for run in ask.state.runs] == [(1, 2)]
    ask.add(6)
    ask("run", "--now", "true")
    assert len(ask.state.runs) == 2


def test_what_can_not_be_done_is_told_and_waits(ask: Asked) -> None:
    ask.open("--method", "trw")
    ask.add(1)
    for attempt in (1, 2):
        ask("run", code=2).refused("whole classes")
        assert [run.status for run in ask.state.runs] == ["failed"] * attempt
        assert ask.state.requests[0].status == "waiting"
    ask("withdraw", "--request", "1")
    assert "no request waits" in ask("run").out


def test_bad_input(ask: Asked, tmp_path: Path) -> None:
    ask("run", code=2).refused("expected a queue in")
    ask("fly", code=2).refused("request open, add, list")
    assert not ask.folder.exists()
    ask.open()
    ask("add", "--ids", tmp_path / "none.txt", code=2).refused("none.txt")
    ask("add", "--ids", "random:3", "--due", "soon", code=2).refused("a date such as")
    ask("run", "--seed", "3", code=2).refused("other seed")
    ask("open", "--checkpoint", ask.case.original, "--data", ask.case.data, "--method", "amun", code=2).refused(
        "other method"
    )
    ask("run", "--devices", "2", code=2).refused("one device")
    other = Asked(ask.run, ask.case, tmp_path / "other")
    other("open", "--checkpoint", ask.case.original, "--data", "digits", code=2)
    assert not other.folder.exists(), "a queue is opened only where everything fits"


def test_a_changed_ledger_or_list_or_model_stops_it(ask: Asked, tmp_path: Path) -> None:
    ask.open()
    ask.add(1, 2)
    ask("run")
    model = ask.folder / "runs" / "0001" / "model.safetensors"
    whole = model.read_bytes()
    model.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    ask.add(3)
    ask("run", code=2).refused("as recorded")
    model.write_bytes(whole)
    file = ask.folder / "requests" / "0002.json"
    file.write_text(file.read_text().replace("record 3", "record 4"))
    ask("run", code=2).refused("ids of request 2")
    ledger = ask.folder / "ledger.sqlite"
    ledger.write_bytes(ledger.read_bytes().replace(b'"count":2', b'"count":9'))
    for action in ("run", "list", "status"):
        ask(action, code=2).refused("was changed")


# The command, killed by its own hand at the so many-th sign of life: an event, a file or an entry of the ledger.
STRUCK = """
import os, signal, sys
import sqlite3
from unteach import events, store
from unteach.cli import script
from unteach.ledger import chain

left = int(sys.argv.pop(1))

def counted(call):
    def counting(*given, **named):
        global left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        result = call(*given, **named)
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return result
    return counting

events.Events.emit = counted(events.Events.emit)
os.fsync = counted(os.fsync)
chain.Turn.append = counted(chain.Turn.append)
script()
"""


def struck(folder: Path, at: int) -> int:
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    command = [sys.executable, "-c", STRUCK, str(at), "request", "run", "--queue", str(folder), *FAST]
    return subprocess.run(command, env=environment, capture_output=True, check=False).returncode


def test_a_request_for_what_is_not_there_is_refused_and_spoils_no_other(ask: Asked) -> None:
    ask.open("--policy.together", "10")
    ask.add(1, 2)
    Queue(ask.folder).add(["record 3", "nobody", "random:0.5"])  # as a service adds, which does not read the data
    ask.add(4)
    ran = ask("run")
    assert "request 2: refused, 2 of its 3 ids are not in the training data" in ran.out
    assert [request.status for request in ask.state.requests] == ["done", "refused", "done"]
    assert ask.left_out(1) == ["record 1", "record 2", "record 4"]
    told = json.dumps([entry.body for entry in Ledger(ask.folder / "ledger.sqlite").entries()])
    assert "nobody" not in told
    assert "nobody" not in ask("list").out
    assert "2 of its 3 ids" in ask("list").out


def test_a_failure_is_told_without_names(ask: Asked) -> None:
    ask.open()
    ask.add(1)
    queue = Queue(ask.folder)
    run = queue.start([1])
    queue.fail(run.number, "expected ids, got 'record 1' and \"o'clock\"; mend it")
    assert ask.state.runs[0].why == "expected ids, got … and …; mend it"


def test_notes_are_no_markup(ask: Asked) -> None:
    ask.open()
    ask.add(1, note="[/x] [red]")
    assert "[/x]" in ask("list").out


@pytest.fixture(scope="module")
def undisturbed(run: Any, case: Any, tmp_path_factory: pytest.TempPathFactory) -> Asked:
    made = Asked(run, case, tmp_path_factory.mktemp("undisturbed") / "queue")
    two_requests(made)
    made("run")
    return made


def two_requests(ask: Asked) -> None:
    ask.open("--budget.drop", "100")
    ask.add(1, 2, 3)
    ask.add(4, 5)


def the_same_in_the_end(ask: Asked, other: Asked) -> None:
    """However often it was killed: every request done once, the bytes of an undisturbed run, a sound ledger."""
    ask("run")
    assert [request.status for request in ask.state.requests] == ["done", "done"]
    assert [(run.requests, run.status) for run in ask.state.runs] == [((1,), "accepted"), ((2,), "accepted")]
    for number in (1, 2):
        assert same(ask.weights(number), other.weights(number))
        mine, theirs = (each.state.runs[number - 1].numbers for each in (ask, other))
        assert {**mine, "seconds": 0} == {**theirs, "seconds": 0}
    assert Ledger(ask.folder / "ledger.sqlite").faults() == []
    assert not list(ask.folder.rglob("*.resume"))


def test_killed_at_a_sign_of_life(ask: Asked, undisturbed: Asked) -> None:
    two_requests(ask)
    assert struck(ask.folder, 9) == -signal.SIGKILL
    the_same_in_the_end(ask, undisturbed)


@pytest.mark.slow
def test_killed_at_every_sign_of_life(ask: Asked, undisturbed: Asked) -> None:
    """Each attempt gets one step further than the last was let."""
    two_requests(ask)
    at = 1
    while struck(ask.folder, at) == -signal.SIGKILL:
        at += 1
    the_same_in_the_end(ask, undisturbed)


@pytest.mark.slow
def test_killed_at_random_moments(ask: Asked, undisturbed: Asked) -> None:
    two_requests(ask)
    rng = random.Random(3)
    command = [sys.executable, "-m", "unteach.cli", "request", "run", "--queue", str(ask.folder), *FAST]
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    for _ in range(20):
        child = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(rng.uniform(1.0, 5.0))
        child.kill()
        child.wait()
    the_same_in_the_end(ask, undisturbed)


def test_what_is_seen_of_a_model(case: Any) -> None:
    """A model against itself has not drifted; members are above chance, and the AUC is the share of pairs."""
    data = load_data(case.data)
    model = load(case.original, data=data.train)
    ids = {1: ["record 1", "record 2"], 2: ["record 7"], 3: []}
    told = wear(data, model, model, ids, (2, 3), retain_sample=20, seed=0, engine=Engine())
    assert (told["agreement"], told["divergence"]) == (1.0, 0.0)
    assert told["test"] == told["base"]
    assert set(told["each"]) == {"1", "2"}
    part = data.train.take(data.train.positions(ids[1]))
    with torch.no_grad():
        plus, minus = (
            each.task.confidence(Engine().logits(model.model, each.inputs), each.labels).numpy()
            for each in (part, data.test)
        )
    minus = minus[np.isin(data.test.labels.numpy(), part.labels.numpy())]
    pairs = (plus[:, None] > minus).mean() + (plus[:, None] == minus).mean() / 2
    assert told["earlier"][0] == pytest.approx(pairs)
    assert told["each"]["1"] == told["earlier"]
    assert told["current"] == told["each"]["2"] == told["at_first"]
    assert told["retain"] is not None
    assert "small-cnn" in MODELS
