"""Several models a card, rehearsed without one: who is dealt which card, and what happens when a card is full."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
import torch

from unteach import workers
from unteach.references.executors.local import Local, doing
from unteach.types import Refusal
from unteach.workers import serve, visible

Answer = tuple[int, str | None, bool]


@pytest.fixture
def cards(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    return lambda count: monkeypatch.setattr(torch.cuda, "device_count", lambda: count)


class Threads:
    """Workers as threads: each notes its card and answers every job as ``answer(card, number)`` says."""

    Pipe = staticmethod(multiprocessing.Pipe)

    def __init__(self, answer: Callable[[int | None, int], Answer]) -> None:
        self.answer, self.seen = answer, list[int | None]()

    def Process(self, *, target: object, args: tuple[Any, ...], name: str, daemon: bool) -> Any:  # noqa: N802
        pipe, _, _, card = args
        self.seen.append(card)
        mine = multiprocessing.connection.Connection(os.dup(pipe.fileno()))
        thread = threading.Thread(target=self.work, args=(mine, card), name=name)
        thread.terminate, thread.exitcode = lambda: None, 0  # type: ignore[attr-defined]
        return thread

    def work(self, pipe: Connection, card: int | None) -> None:
        try:
            while True:
                pipe.send(self.answer(card, pipe.recv()))
        except (EOFError, OSError):
            pipe.close()


@pytest.fixture
def pool(monkeypatch: pytest.MonkeyPatch) -> Callable[[Threads], None]:
    return lambda threads: monkeypatch.setattr(workers, "get_context", lambda kind: threads)


@pytest.mark.parametrize(
    ("settings", "count", "places"),
    [
        (Local(), 2, 2),
        (Local(slots=3), 2, 6),
        (Local(slots=3, workers=4), 2, 4),
        (Local(workers=2), 0, 2),
        (Local(device="cuda", slots=8), 1, 8),
    ],
    ids=["one a card", "three a card", "as told", "no card", "eight on one"],
)
def test_places(settings: Local, count: int, places: int, cards: Callable[[int], None]) -> None:
    cards(count)
    assert settings.places == places


def test_cores_count_on_a_processor_whatever_cards_there_are(cards: Callable[[int], None]) -> None:
    cards(4)
    assert Local(device="cpu").places == len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("settings", "count", "dealt"),
    [
        (Local(workers=5), 2, [0, 1, 0, 1, 0]),
        (Local(slots=2), 3, [0, 1, 2, 0, 1, 2]),
        (Local(workers=3), 1, [0, 0, 0]),
        (Local(workers=2), 0, [None, None]),
        (Local(workers=2, device="cpu"), 2, [None, None]),
    ],
    ids=["five on two", "two each on three", "three on one", "no card", "cpu"],
)
def test_cards_are_dealt_in_turn(
    settings: Local,
    count: int,
    dealt: list[int | None],
    cards: Callable[[int], None],
    pool: Callable[[Threads], None],
) -> None:
    cards(count)
    threads, told = Threads(lambda card, number: (number, None, False)), list[int]()
    pool(threads)
    settings(Path("manifest"), range(12), told.append)
    assert threads.seen == dealt
    assert sorted(told) == list(range(12))


def test_a_worker_without_room_leaves_and_its_job_is_done_by_the_others(
    cards: Callable[[int], None], pool: Callable[[Threads], None], capsys: pytest.CaptureFixture[str]
) -> None:
    cards(1)
    lock, left = threading.Lock(), [2]

    def answer(card: int | None, number: int) -> Answer:
        with lock:  # the first two to ask find the card full
            left[0] -= 1
            return (number, "no room on its card (8 GiB)", True) if left[0] >= 0 else (number, None, False)

    told: list[int] = []
    pool(Threads(answer))
    Local(workers=4)(Path("manifest"), range(9), told.append)
    assert sorted(told) == list(range(9))
    assert capsys.readouterr().err.count("leaves at job") == 2


def test_when_the_last_one_has_no_room_its_jobs_fail_with_advice(
    cards: Callable[[int], None], pool: Callable[[Threads], None]
) -> None:
    cards(2)
    pool(Threads(lambda card, number: (number, "no room on its card; give fewer executor slots", True)))
    with pytest.raises(Refusal, match=r"all 3 jobs to be done, got 3 .*fewer executor slots"):
        Local(workers=3)(Path("manifest"), range(3), lambda number: None)


def test_a_gpu_that_is_not_there_is_told_once(cards: Callable[[int], None]) -> None:
    cards(0)
    with pytest.raises(Refusal, match="expected GPUs for executor device cuda"):
        Local(device="cuda", workers=2)(Path("manifest"), range(3), lambda number: None)


@pytest.mark.parametrize(
    ("card", "told", "seen"),
    [(0, None, "0"), (3, None, "3"), (1, "4,6", "6"), (0, "GPU-8f1c, GPU-77aa", "GPU-8f1c"), (2, "", "2")],
    ids=["first", "fourth", "of two", "by name", "empty"],
)
def test_what_a_worker_sees(card: int, told: str | None, seen: str) -> None:
    assert visible(card, told) == seen


@pytest.fixture
def quiet_service(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a worker does to its own process is kept from this one."""
    monkeypatch.setattr(workers, "settle_allocator", lambda: True)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,7")
    before, threads = signal.getsignal(signal.SIGINT), torch.get_num_threads()
    yield
    signal.signal(signal.SIGINT, before)
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("quiet_service")
def test_a_worker_tells_that_its_card_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, str, int, bool]] = []

    def do(manifest: Path, number: int, *, device: str, threads: int, compiles: bool) -> None:
        asked.append((number, device, threads, compiles))
        if number == 1:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has …")
        if number == 2:
            raise Refusal("expected this, got that; do so")

    monkeypatch.setattr("unteach.references.work.do", do)
    ours, theirs = multiprocessing.Pipe()
    for number in (0, 1, 2):
        ours.send(number)
    answers: list[Answer] = []

    def listen() -> None:
        answers.extend(ours.recv() for _ in range(3))
        ours.close()

    listener = threading.Thread(target=listen)
    listener.start()
    serve(theirs, partial(doing, Path("manifest"), Local(device="cuda", compile=True)), 1, 1)
    listener.join()
    assert asked == [(number, "cuda", 1, True) for number in (0, 1, 2)]
    assert answers[0] == (0, None, False)
    assert answers[1] == (1, "no room on its card (CUDA out of memory); give fewer executor slots or workers", True)
    assert answers[2] == (2, "expected this, got that; do so", False)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "7"
