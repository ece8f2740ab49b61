"""What the service answers."""

from __future__ import annotations

import json
import logging
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.conftest import finish
from unteach.ledger import Queue


def told(answer: Any, status: int, *words: str) -> None:
    """It must be this failure, as a problem whose sentence has these words."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem.keys() == {"type", "title", "status", "detail"}
    assert problem["status"] == status
    assert "Traceback" not in answer.text
    for word in words:
        assert word in problem["detail"], problem


def test_the_life_of_a_request(client: Any, queue: Queue) -> None:
    made = client.post("/requests", json={"ids": ["b", "a"], "due": "2026-05-01", "note": "letter 5", "key": "k"})
    assert made.status_code == 201
    assert made.headers["location"] == "/requests/1"
    one = made.json()
    assert client.get("/requests/1").json() == one == client.get("/requests").json()[0]
    assert (one["count"], one["status"], one["due"], one["overdue"]) == (
        2,
        "waiting",
        "2026-05-01T23:59:59+00:00",
        True,
    )
    assert queue.ids(queue.state().request(1)) == ["b", "a"]
    assert client.post("/requests", json={"ids": ["c"]}).json()["number"] == 2
    assert client.delete("/requests/2").json()["status"] == "withdrawn"
    told(client.delete("/requests/2"), 409, "withdrawn")
    finish(queue, [1])
    assert client.get("/requests/1").json()["status"] == "done"
    told(client.delete("/requests/1"), 409, "one that is done")
    told(client.get("/requests/3"), 404, "got 3 of 2")
    told(client.delete("/requests/3"), 404)
    assert [one["number"] for one in client.get("/requests?after=1").json()] == [2]
    assert [one["number"] for one in client.get("/requests?limit=1").json()] == [1]


def test_the_same_key_is_the_same_request(client: Any, queue: Queue) -> None:
    asked = {"ids": ["a", "b"], "key": "ticket 7"}
    first, again = client.post("/requests", json=asked), client.post("/requests", json=asked)
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json() == again.json()
    told(client.post("/requests", json={"ids": ["a"], "key": "ticket 7"}), 409, "'ticket 7', got others")
    assert len(queue.state().requests) == 1


def test_twenty_calls_at_once_with_one_key_are_one_request(client: Any, queue: Queue) -> None:
    asked = {"ids": ["a", "b"], "key": "ticket 7"}
    with ThreadPoolExecutor(20) as threads:
        answers = list(threads.map(lambda _: client.post("/requests", json=asked), range(20)))
    assert sorted(answer.status_code for answer in answers) == [200] * 19 + [201]
    assert {answer.json()["number"] for answer in answers} == {1}
    assert len(queue.state().requests) == 1


def test_calls_at_once_without_a_key_are_requests_of_their_own(client: Any, queue: Queue) -> None:
    with ThreadPoolExecutor(10) as threads:
        answers = list(threads.map(lambda i: client.post("/requests", json={"ids": [f"{i}"]}), range(10)))
    assert sorted(answer.json()["number"] for answer in answers) == list(range(1, 11))
    for answer, i in zip(answers, range(10)):
        assert queue.ids(queue.state().request(answer.json()["number"])) == [f"{i}"]


NAMES = [
    "random:0.5",
    "class:1",
    "group:a",
    "benchmark",
    "../../etc/passwd",
    "/etc/passwd",
    "file:///etc/passwd",
    "a.json",
]
NAMES += [
    "requests/0001.json",
    "%2e%2e/salt",
    "~root",
    "$(id)",
    "'; DROP TABLE entries; --",
    "é 😀",
    "{{ 1 }}",
    "x" * 200,
]


def test_an_id_is_a_name_and_nothing_else(client: Any, queue: Queue, tmp_path: Path) -> None:
    before = {path.relative_to(tmp_path) for path in tmp_path.rglob("*")}
    assert client.post("/requests", json={"ids": NAMES}).json()["count"] == len(NAMES)
    assert queue.ids(queue.state().request(1)) == NAMES
    new = {path.relative_to(tmp_path) for path in tmp_path.rglob("*")} - before
    assert {path for path in new if "ledger" not in path.name} == {
        Path("queue/requests"),
        Path("queue/requests/0001.json"),
    }


BODIES: dict[str, Any] = {
    "no JSON": b'{"ids": ["a',
    "not UTF-8": b'{"ids": ["\xff"]}',
    "deep": b"[" * 5000,
    "a long number": b'{"ids": [' + b"1" * 5000 + b"]}",
    "a list": ["a"],
    "null": None,
    "no ids": {"note": "x"},
    "none": {"ids": []},
    "text": {"ids": "abc"},
    "numbers": {"ids": [1, 2]},
    "nested": {"ids": [["a"]]},
    "twice": {"ids": ["a", "a"]},
    "blank": {"ids": [" "]},
    "empty": {"ids": [""]},
    "outer space": {"ids": ["a "]},
    "comment": {"ids": ["# a"]},
    "two lines": {"ids": ["a\nb"]},
    "half a letter": b'{"ids": ["\\ud800"]}',
    "long": {"ids": ["x" * 201]},
    "no day": {"ids": ["a"], "due": "2026-02-30"},
    "a time": {"ids": ["a"], "due": "2026-02-03T10:00"},
    "other digits": {"ids": ["a"], "due": "٢٠٢٦-٠٢-٠٣"},
    "a number as date": {"ids": ["a"], "due": 20260203},
    "terminal escapes": {"ids": ["a"], "note": "\x1b[31m"},
    "a key of two lines": {"ids": ["a"], "key": "a\nb"},
    "a long note": {"ids": ["a"], "note": "x" * 501},
    "unknown names": {"ids": ["a"], "method": "retrain"},
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
def test_what_is_no_request_is_told_so(client: Any, queue: Queue, body: Any) -> None:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = client.post("/requests", content=content, headers={"content-type": "application/json"})
    told(answer, 400 if answer.status_code == 400 else 422, "expected" if answer.status_code == 422 else "")
    assert queue.state().requests == ()
    assert not (queue.folder / "requests").exists()


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=st.one_of(st.binary(max_size=300), st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(), lambda part: st.lists(part) | st.dictionaries(
        st.sampled_from(["ids", "due", "note", "key", "x"]), part), max_leaves=8).map(lambda value: json.dumps(value).encode()),
))  # fmt: skip
def test_no_body_breaks_the_service(client: Any, body: bytes) -> None:
    for path in ("/requests", "/runs"):
        answer = client.post(path, content=body or b" ", headers={"content-type": "application/json; charset=utf-8"})
        assert answer.status_code in (200, 201, 202, 400, 409, 422), answer.text


def test_how_the_queue_stands(client: Any, queue: Queue) -> None:
    first = client.get("/status").json()
    assert first["model"] == {"run": 0, "sha256": "sha256 of the first model"}
    assert (first["counts"], first["running"], first["advice"], first["spent"]) == ({}, None, None, None)
    for name in "abc":
        queue.add([name])
    finish(queue, [1], epochs=12.0)
    finish(queue, [2], before=0.99)
    run = queue.start([3])
    then = client.get("/status").json()
    assert then["model"] == {"run": 1, "sha256": "sha256 of model 1"}
    assert then["counts"] == {"done": 1, "rejected": 1, "running": 1}
    assert then["spent"] == pytest.approx(1.2)
    assert any("cost 120 %" in reason for reason in then["advice"]["reasons"])
    assert then["head"] == list(queue.ledger.head())
    assert [each["number"] for each in then["curves"]] == [1]
    assert then["curves"][0]["numbers"]["so_far"] == [0.6, 0.55, 0.65]
    assert not then["worker"]["working"], "the run was started and is not at work"
    assert then["running"]["number"] == run.number
    with queue.runner():
        assert client.get("/status").json()["worker"]["working"], "by another process"
    queue.fail(run.number, "no room")
    assert client.get("/requests/3").json()["why"] == "no room"
    assert client.get("/requests/2").json()["why"].startswith("it lost 9.0 points")
    assert [each["status"] for each in client.get("/runs").json()] == ["accepted", "rejected", "failed"]


def test_a_run_at_work_tells_how_far_it_is(client: Any, queue: Queue) -> None:
    queue.add(["a"])
    folder = queue.run_folder(queue.start([1]).number)
    assert client.get("/runs/1").json()["progress"] is None
    folder.mkdir(parents=True)
    lines = [json.dumps({"event": "epoch", "at": 5.0, "stage": "amun", "epoch": epoch}) for epoch in (1, 2)]
    (folder / "events.jsonl").write_text("\n".join([*lines, '{"event": "epoch", "at": 6.0, "st']))
    assert client.get("/runs/1").json()["progress"] == {"at": 5.0, "event": "epoch", "stage": "amun", "epoch": 2}
    (folder / "events.jsonl").write_bytes(b'\xff\n[1]\n{"event": "x"}\nnull\n')
    assert client.get("/runs/1").json()["progress"] is None
    (folder / "events.jsonl").unlink()
    (folder / "events.jsonl").write_text(lines[0])
    queue.fail(1, "no room")
    assert client.get("/runs/1").json()["progress"] is None, "it is over"


def test_two_files_of_a_run_are_given_and_no_other(client: Any, queue: Queue) -> None:
    queue.add(["a"])
    finish(queue, [1])
    folder = queue.run_folder(1)
    folder.mkdir(parents=True)
    for name in ("report", "evidence"):
        told(client.get(f"/runs/1/{name}"), 404, "none so far")
    (folder / "report.html").write_text("<p>report</p>")
    (folder / "evidence.json").write_text('{"a": 1}')
    run = client.get("/runs/1").json()
    assert (run["report"], run["evidence"]) == (True, True)
    report, evidence = client.get("/runs/1/report"), client.get("/runs/1/evidence")
    assert report.text == "<p>report</p>"
    assert report.headers["content-type"].startswith("text/html")
    assert report.headers["content-security-policy"].startswith("sandbox; default-src 'none';"), "nothing in it may run"
    assert evidence.json() == {"a": 1}
    secret = (queue.folder / "salt").read_text()
    for path in (
        *(
            "0/report",
            "2/report",
            "-1/report",
            "1e0/report",
            "1.5/report",
            "01x/report",
            "9" * 5000 + "/report",
            "1/report.html",
        ),
        *(
            "1/model.safetensors",
            "../salt",
            "1/../../salt",
            "..%2f..%2fsalt",
            "1%2f..%2f..%2fsalt",
            "1/%2e%2e/%2e%2e/salt",
        ),
        *("%00", "1%00/report", "١/report", "1/report/", "1//report", "//etc/passwd", "/etc/passwd"),
    ):
        answer = client.get(f"/runs/{path}", follow_redirects=False)
        assert answer.status_code in (307, 404, 422), path
        assert secret not in answer.text
        assert "report</p>" not in answer.text


def test_a_fault_is_a_number_here_and_the_rest_in_the_log(
    client: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError("a secret of the machine")

    monkeypatch.setattr(Queue, "add", broken)
    with caplog.at_level(logging.ERROR):
        answer = client.post("/requests", json={"ids": ["a"]})
    told(answer, 500, "error ")
    assert "secret" not in answer.text
    number = answer.json()["detail"].split()[1]
    assert number in caplog.text
    assert "a secret of the machine" in caplog.text


def test_a_ledger_that_was_changed_is_told(client: Any, queue: Queue) -> None:
    assert client.get("/status").status_code == 200
    with sqlite3.connect(queue.ledger.path) as connection:
        connection.execute("DROP TRIGGER no_change")
    connection.close()
    told(client.get("/status"), 503, "'no_change'", "was removed")
    told(client.post("/requests", json={"ids": ["a"]}), 503)


def test_the_description_says_what_there_is(client: Any) -> None:
    about = client.get("/openapi.json").json()
    assert about["openapi"].startswith("3.1")
    for path, calls in about["paths"].items():
        for method, call in calls.items():
            assert call["summary"], (method, path)
            assert call["description"].endswith("."), (method, path)
            if path != "/health":
                assert call["security"] == [{"HTTPBearer": []}], (method, path)
                assert {"401", "413", "415", "429", "500", "503"} <= call["responses"].keys()
                assert "application/problem+json" in call["responses"]["401"]["content"]
    for name, form in about["components"]["schemas"].items():
        assert form["description"], name


@pytest.mark.parametrize("path", ["/docs", "/redoc"])
def test_no_page_that_loads_from_elsewhere(client: Any, path: str) -> None:
    told(client.get(path), 404)
