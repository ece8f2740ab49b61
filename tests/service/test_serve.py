"""``unteach serve``: a real server on a free port."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from service.conftest import TOKEN
from unteach.cli import main
from unteach.ledger import Queue

Started = Callable[..., tuple[subprocess.Popen[str], int]]
HEADERS = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}


@pytest.fixture
def start(queue: Queue) -> Iterator[Started]:
    """Starts the verb; returns the process and its port."""
    pytest.importorskip("uvicorn")
    made: list[subprocess.Popen[str]] = []

    def begin(*more: str) -> tuple[subprocess.Popen[str], int]:
        command = [
            sys.executable,
            "-m",
            "unteach.cli",
            "serve",
            str(queue.folder),
            "--port",
            "0",
            "--device",
            "cpu",
            *more,
        ]
        environment = {**os.environ, "UNTEACH_TOKEN": TOKEN, "OMP_NUM_THREADS": "1"}
        log = (queue.folder / "serve.log").open("w")
        made.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, env=environment))
        log.close()
        assert made[-1].stdout is not None
        line = made[-1].stdout.readline()
        assert line.startswith(f"serving {queue.folder} at http://127.0.0.1:"), (queue.folder / "serve.log").read_text()
        return made[-1], int(line.rpartition(":")[2])

    yield begin
    for each in made:
        each.kill()
        each.communicate()


def call(port: int, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request(method, path, None if body is None else json.dumps(body), HEADERS)
        answer = connection.getresponse()
        text = answer.read().decode()
        return answer.status, json.loads(text) if "json" in answer.headers["content-type"] else text
    finally:
        connection.close()


def raw(port: int, text: bytes) -> bytes:
    """What comes back for these bytes, until the other side is done."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall(text)
        found = b""
        while part := connection.recv(65_536):
            found += part
        return found


def test_a_real_server(start: Started, queue: Queue) -> None:
    process, port = start("--max_body", "2000")
    assert call(port, "GET", "/health") == (200, {"ok": True})
    assert call(port, "POST", "/requests", {"ids": ["a"]})[0] == 201
    head = f"POST /requests HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\nContent-Type: application/json\r\n".encode()
    chunk = b"400\r\n" + b" " * 1024 + b"\r\n"
    assert raw(port, head + b"Transfer-Encoding: chunked\r\n\r\n" + 3 * chunk).startswith(b"HTTP/1.1 413")
    assert raw(port, head + b"Content-Length: 9999999\r\n\r\n").startswith(b"HTTP/1.1 413")
    lying = raw(port, head + b'Content-Length: 14\r\n\r\n{"ids": ["b"]}' + b"x" * 50 + b"\r\n\r\n")
    assert lying.startswith(b"HTTP/1.1 201"), "what is more than was announced is no part of it"
    assert b"HTTP/1.1 400" in lying
    assert raw(port, b"POST /requests HTTP/1.1\r\nHost: x\r\nContent-Length: 9999999\r\n\r\n").startswith(
        b"HTTP/1.1 401"
    )
    assert [queue.ids(one) for one in queue.state().requests] == [["a"], ["b"]]
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0
    log = (queue.folder / "serve.log").read_text()
    assert "Traceback" not in log
    assert TOKEN not in log


def test_what_can_not_be_served(tmp_path: Path, queue: Queue, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNTEACH_TOKEN", TOKEN)
    folder = str(queue.folder)
    assert main(["serve", str(tmp_path / "none")]) == 2
    assert "expected a queue in" in capsys.readouterr().err
    assert main(["serve", folder, "--max_body", "10"]) == main(["serve", folder, "--run_every", "0.5"]) == 2
    assert "--max_body of 1000 or more" in capsys.readouterr().err
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "uvicorn", None)
        assert main(["serve", folder]) == 2
    assert "pip install 'unteach[serve]'" in capsys.readouterr().err
    pytest.importorskip("uvicorn")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert main(["serve", folder, "--port", str(taken.getsockname()[1])]) == 2
    assert "choose another --host or --port" in capsys.readouterr().err
    assert main(["serve", folder, "--port", "99999"]) == main(["serve", folder, "--host", "no.such.host.invalid"]) == 2


@pytest.mark.slow
def test_from_a_request_to_its_report(start: Started, queue: Queue, tmp_path: Path) -> None:
    """A queue with a model: requests come, a run is asked for, another comes by the clock; the last can't be done."""
    fast = ["--device", "cpu", "--precision", "fp32", "--threads", "1", "--quiet", "true"]
    original = str(tmp_path / "original" / "model.safetensors")
    assert main(["train", "--data", "digits", "--optim.epochs", "2", "--out", str(tmp_path / "original"), *fast]) == 0
    queue.ledger.path.unlink()  # in the place of the one without a model
    method = ["--method", "finetune", "--optim.epochs", "1", "--preset", "false"]
    assert main(["request", "open", "--queue", str(queue.folder), "--checkpoint", original, *method, *fast]) == 0
    process, port = start("--threads", "1")
    assert call(port, "POST", "/requests", {"ids": ["1", "2", "3"], "key": "a"})[0] == 201
    assert call(port, "POST", "/runs")[0] == 202
    assert call(port, "POST", "/runs")[0] == 409
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0, "the run goes on"
    process, port = start("--threads", "1", "--run_every", "1")
    until(lambda: call(port, "GET", "/requests/1")[1]["status"] == "done")
    run = call(port, "GET", "/runs/1")[1]
    assert (run["status"], run["report"], run["evidence"]) == ("accepted", True, False)
    status, report = call(port, "GET", "/runs/1/report")
    assert (status, report[:15].lower()) == (200, "<!doctype html>")
    assert call(port, "POST", "/requests", {"ids": ["random:0.5"]})[0] == 201
    until(lambda: call(port, "GET", "/requests/2")[1]["why"] != "")
    assert "not in the training data" in call(port, "GET", "/requests/2")[1]["why"]
    until(lambda: not call(port, "GET", "/status")[1]["worker"]["working"])
    assert call(port, "GET", "/requests/2")[1]["status"] == "refused"
    assert call(port, "DELETE", "/requests/2")[0] == 409, "it is closed already"
    assert call(port, "GET", "/status")[1]["model"]["run"] == 1
    assert main(["evidence", "--run", str(queue.run_folder(1))]) == 0
    assert call(port, "GET", "/runs/1/evidence")[0] == 200


def until(true: Callable[[], bool], seconds: float = 180.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.5)
