"""The folder of requests: nothing promised is lost, nothing is done twice, and when to run and to retrain."""

from __future__ import annotations

import hashlib
import hmac
import json
import multiprocessing
import os
import resource
import signal
import stat
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unteach.ledger import Budget, Policy, Queue, Request, Run, State
from unteach.ledger.policy import spent
from unteach.types import Refusal

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
SEEN = {"test": 0.9, "base": 0.9, "before": 0.9, "so_far": [0.5, 0.45, 0.55], "epochs": 2.0, "retrain_epochs": 10.0}
SEEN |= {"collapsed": False, "diagnosis": "", "retrain_seconds": 5.0}
UNBOUND = Budget(cost=0, accuracy=0, exposure=0.5)


@pytest.fixture
def queue(tmp_path: Path) -> Queue:
    made = Queue(tmp_path / "queue", lambda: NOON)
    made.open({"seed": 1}, "m0")
    return made


def finish(queue: Queue, numbers: list[int], budget: Budget = UNBOUND, retrain: bool = False, **seen: Any) -> State:
    run = queue.start(numbers, retrain=retrain)
    return queue.finish(run.number, f"m{run.number}", SEEN | seen, budget)


def test_the_life_of_requests(queue: Queue) -> None:
    for number in range(1, 6):
        assert queue.add([f"id {number}", "x"]).number == number
    queue.withdraw(5)
    finish(queue, [1, 2])
    run = queue.start([3])
    assert queue.state().running == run
    assert queue.state().request(3).status == "running"
    queue.fail(run.number, "no room")
    assert queue.state().request(3).status == "waiting"
    state = finish(queue, [3], before=0.99)
    assert [run.status for run in state.runs] == ["accepted", "failed", "rejected"]
    assert "lost 9.0 points" in state.runs[-1].why
    assert [request.status for request in state.requests] == ["done", "done", "rejected", "waiting", "withdrawn"]
    assert state.current is not None
    assert state.current.number == 1, "a rejected model is not taken into use"
    assert queue.start([4]).parent == 1
    with pytest.raises(Refusal, match="expected request 1 to be waiting"):
        queue.start([1])
    with pytest.raises(Refusal, match="one that is done"):
        queue.withdraw(1)
    with pytest.raises(Refusal, match="from 1 to 5"):
        queue.withdraw(6)
    assert queue.ledger.faults() == []


def test_retraining_starts_from_the_first_model_and_counts_anew(queue: Queue) -> None:
    for number in range(4):
        queue.add([f"{number}"])
    finish(queue, [1])
    finish(queue, [2])
    assert spent(queue.state()) == pytest.approx(0.4)
    state = finish(queue, [3], retrain=True, epochs=8.0, retrain_epochs=8.0)
    assert (state.runs[-1].parent, state.base, spent(state)) == (0, 3, 0.0)
    state = finish(queue, [4])
    assert state.runs[-1].parent == 3
    assert spent(state) == pytest.approx(2 / 10)


def test_the_same_key_is_the_same_request(queue: Queue) -> None:
    first = queue.add(["a", "b"], key="ticket 7")
    assert queue.add(["b", "a"], key="ticket 7") == first, "the order of ids does not matter"
    assert queue.add(["a", "b"]).number == 2, "without a key it is another"
    with pytest.raises(Refusal, match="'ticket 7', got others"):
        queue.add(["a"], key="ticket 7")
    assert len(queue.state().requests) == 2


def test_no_id_is_in_the_ledger(queue: Queue) -> None:
    queue.add(["Ada Lovelace", "Alan Turing"])
    content = b"".join(path.read_bytes() for path in queue.folder.glob("ledger.sqlite*"))
    assert b"Lovelace" not in content
    (body,) = (entry.body for entry in queue.ledger.entries() if entry.kind == "received")
    salt = queue.folder / "salt"
    listed = json.dumps(["Ada Lovelace", "Alan Turing"]).encode()
    assert body["digest"] == hmac.new(salt.read_bytes(), listed, hashlib.sha256).hexdigest()
    assert body["count"] == 2
    assert stat.S_IMODE(salt.stat().st_mode) == 0o600


def test_a_changed_list_of_ids_is_found(queue: Queue) -> None:
    request = queue.add(["a", "b"])
    assert queue.ids(request) == ["a", "b"]
    for content in ('["a"]', '["a", "c"]', '{"a": 1}', "[", '["a", ["b"]]'):
        (queue.folder / "requests" / "0001.json").write_text(content)
        with pytest.raises(Refusal, match=r"0001\.json"):
            queue.ids(request)


@pytest.mark.parametrize(
    ("ids", "more", "words"),
    [
        ([], {}, "at least one id"),
        (["a", "a"], {}, "every id once"),
        (["a\nb"], {}, "lines of text"),
        ([" "], {}, "lines of text"),
        (["a"], {"due": "soon"}, "a date such as"),
        (["a"], {"due": "2026-13-01"}, "a date such as"),
    ],
    ids=["none", "twice", "two lines", "blank", "no date", "no month"],
)
def test_what_is_no_request_is_refused(queue: Queue, ids: list[str], more: dict[str, str], words: str) -> None:
    with pytest.raises(Refusal, match=words):
        queue.add(ids, **more)
    assert queue.state().requests == ()


def test_a_queue_is_of_one_model_and_one_kind_of_settings(queue: Queue, tmp_path: Path) -> None:
    queue.open({"seed": 1}, "m0")
    assert queue.ledger.head().seq == 1, "the same again changes nothing"
    with pytest.raises(Refusal, match="other seed"):
        queue.open({"seed": 2}, "m0")
    with pytest.raises(Refusal, match="other weights"):
        queue.open({"seed": 1}, "m1")
    for ask in (lambda q: q.state(), lambda q: q.withdraw(1), lambda q: q.start([1])):
        with pytest.raises(Refusal, match="expected a queue"):
            ask(Queue(tmp_path / "none"))
    assert not (tmp_path / "none").exists()


def test_a_model_that_was_changed_is_found(queue: Queue, tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"weights")
    other = Queue(tmp_path / "other")
    other.open({"checkpoint": str(file)}, hashlib.sha256(b"weights").hexdigest())
    assert other.model_of(0, other.state()) == file
    file.write_bytes(b"weighty")
    with pytest.raises(Refusal, match="as recorded"):
        other.model_of(0, other.state())


def test_killed_between_the_ids_and_the_entry(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("unteach.ledger.chain.Turn.append", killed)
        with pytest.raises(KeyboardInterrupt):
            queue.add(["a"])
    assert queue.state().requests == ()
    request = queue.add(["b"])
    assert queue.ids(request) == ["b"], "the list left lying is written over"


def test_entries_no_queue_would_write(queue: Queue) -> None:
    queue.ledger.append("evidence", {"of": 1})
    assert queue.state().requests == (), "others may write entries of their own"
    for kind, body in (
        ("withdrawn", {"request": 9}),
        ("finished", {"run": 1}),
        ("received", {}),
        ("started", {"number": 2}),
    ):
        other = Queue(queue.folder.with_name(kind))
        other.open({}, "m0")
        other.ledger.append(kind, body)
        with pytest.raises(Refusal, match="expected"):
            other.state()


def add_many(folder: Path, who: int) -> None:
    for number in range(20):
        Queue(folder).add([f"{who} {number}"], key=f"{who} {number}")


def test_two_processes_add(queue: Queue) -> None:
    fork = multiprocessing.get_context("fork")
    both = [fork.Process(target=add_many, args=(queue.folder, who)) for who in (0, 1)]
    for one in both:
        one.start()
    for one in both:
        one.join()
        assert one.exitcode == 0
    requests = queue.state().requests
    assert [request.number for request in requests] == list(range(1, 41))
    assert {queue.ids(request)[0] for request in requests} == {request.key for request in requests}


def test_one_runs_and_its_lock_dies_with_it(queue: Queue) -> None:
    there, here = os.pipe()
    child = os.fork()
    if not child:
        with queue.runner():
            os.write(here, b"x")
            signal.pause()
    os.read(there, 1)

    def run() -> None:
        with queue.runner():
            pass

    with pytest.raises(Refusal, match="nobody else to run"):
        run()
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    run()
    for end in (there, here):
        os.close(end)


def waiting(*counts: int, received: datetime = NOON, due: str = "") -> list[Request]:
    return [
        Request(number=n, received=received.isoformat(), count=count, digest="", due=due)
        for n, count in enumerate(counts, 1)
    ]


def test_policies() -> None:
    alone = Policy()
    assert alone([], NOON) == ()
    assert alone(waiting(5, 5), NOON) == ((1,), (2,))
    assert Policy(together=10)(waiting(4, 6, 1, 20, 3), NOON) == ((1, 2), (3,), (4,), (5,))
    ids = Policy(wait_ids=10, together=100)
    assert ids(waiting(4, 5), NOON) == ()
    assert ids(waiting(4, 5, 1), NOON) == ((1, 2, 3),)
    days = Policy(wait_days=2.0)
    assert days(waiting(9), NOON + timedelta(days=1.9)) == ()
    assert days(waiting(9), NOON + timedelta(days=2)) == ((1,),)
    assert days(waiting(9), NOON - timedelta(days=9)) == (), "a clock that went back"
    due = waiting(9, due=(NOON + timedelta(days=10)).isoformat())
    assert days(due, NOON) == ()
    assert Policy(wait_ids=99, due_days=3)(due, NOON + timedelta(days=7)) == ((1,),)
    with pytest.raises(Refusal, match="together to be 0 or more"):
        Policy(together=-1)


@given(st.lists(st.integers(1, 30), max_size=12), st.integers(0, 40))
def test_batches_keep_order_and_bounds(counts: list[int], most: int) -> None:
    requests = waiting(*counts)
    runs = Policy(together=most)(requests, NOON)
    assert [number for run in runs for number in run] == [request.number for request in requests]
    sizes = [sum(counts[number - 1] for number in run) for run in runs]
    assert all(size <= most or len(run) == 1 for size, run in zip(sizes, runs))
    assert all(size + counts[after[0] - 1] > most for size, after in zip(sizes, runs[1:])), (
        "none could have been fuller"
    )


def state_of(*seen: dict[str, Any], retrain: int = 0) -> State:
    runs = tuple(
        Run(
            number=n,
            started="",
            requests=(n,),
            parent=n - 1,
            status="accepted",
            retrain=n == retrain,
            numbers=SEEN | each,
        )
        for n, each in enumerate(seen, 1)
    )
    return State(settings={}, model="", runs=runs)


def test_when_to_retrain() -> None:
    budget = Budget(cost=0.5, accuracy=1.0, exposure=0.02)
    assert budget.reasons(state_of()) == ()
    assert budget.reasons(state_of({})) == ()
    (cost,) = budget.reasons(state_of({}, {}, {}))
    assert "cost 60 % of one retraining" in cost
    (lost,) = budget.reasons(state_of({"base": 0.912}))
    assert "fallen by 1.2 points" in lost
    (seen,) = budget.reasons(state_of({"so_far": [0.6, 0.521, 0.7]}))
    assert "AUC 0.600 (0.521 to 0.700)" in seen
    (worse,) = budget.reasons(state_of({"so_far": [0.4, 0.3, 0.479]}))
    assert "answered worse than unseen examples, with AUC 0.400" in worse
    for unsure in ([0.6, 0.519, 0.7], [0.4, 0.3, 0.481]):
        assert budget.reasons(state_of({"so_far": unsure})) == ()
    assert budget.reasons(state_of({"so_far": None, "epochs": 1.0})) == ()
    assert budget.reasons(state_of({}, {}, {"base": 0.99}, retrain=3)) == (), "right after a retraining"
    assert budget.reasons(state_of({}, {}, {}, {}, retrain=3)) == ()
    assert budget.reasons(state_of({"retrain_epochs": None}, {"epochs": 99.0, "retrain_epochs": None})) == ()
    off = Budget(cost=0, accuracy=0, exposure=0.5)
    assert off.reasons(state_of({"base": 0.99, "epochs": 99.0, "so_far": [0.9, 0.9, 0.9]})) == ()


def test_advice_is_recorded_until_it_is_followed(queue: Queue) -> None:
    for number in range(4):
        queue.add([f"{number}"])
    budget = Budget(cost=0.3)
    assert finish(queue, [1], budget).advised is None
    state = finish(queue, [2], budget)
    assert state.advised is not None
    assert state.advised.run == 2
    assert "cost 40 %" in state.advised.reasons[0]
    assert finish(queue, [3], budget, retrain=True).advised is None
    assert finish(queue, [4], budget).advised is None


def test_what_collapsed_is_not_taken_into_use(queue: Queue) -> None:
    queue.add(["a"])
    state = finish(queue, [1], collapsed=True, diagnosis="the network collapsed")
    assert state.current is None
    assert state.runs[0].why == "the network collapsed"
    assert state.requests[0].status == "rejected"
    assert state.advised is not None
    assert "rejected and waiting for a retraining: 1" in state.advised.reasons[0]
    assert finish(queue, [1], retrain=True).advised is None


def test_a_full_disk_loses_nothing(queue: Queue) -> None:
    """A limit on the size of files stands for it; what was promised before is there, and nothing else."""
    old = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    queue.add(["a"])
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, hard))
        with pytest.raises(Refusal, match="expected to be able to write"):
            queue.add([f"{i}" for i in range(9000)])
        with pytest.raises(Refusal, match="expected to write the ledger"):
            queue.add(["b"], note="x" * 90_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, old)
    assert [request.number for request in queue.state().requests] == [1]
    assert queue.add(["c"]).number == 2
    assert queue.ledger.faults() == []


def test_overdue(queue: Queue) -> None:
    request = queue.add(["a"], due="2026-06-01")
    assert request.due == "2026-06-01T23:59:59+00:00", "a date is its end"
    assert not request.overdue(NOON)
    assert request.overdue(NOON + timedelta(days=1))
    assert not replace(request, status="done").overdue(NOON + timedelta(days=1))
    assert queue.add(["b"], due="2026-06-01T10:00:00+02:00").due == "2026-06-01T08:00:00+00:00"
