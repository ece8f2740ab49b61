"""Requests one after another: what each may see, and whose adversarial examples it uses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import unteach.methods.amun as room
from made import blobs
from unteach.api import Forgotten, forget
from unteach.engine import Engine
from unteach.methods import Amun, FineTune, GradientAscent, Retrain
from unteach.models import Blueprint, build
from unteach.recipe import Recipe
from unteach.sequence import forget_in_sequence
from unteach.store import fingerprint
from unteach.train import Sgd, Source, fit
from unteach.types import Examples, Method, Refusal

SHORT = Sgd(lr=0.02, epochs=2, batch=32, schedule="step:1")
REQUESTS = [["4", "9", "2"], ["50", "7"], ["0", "1", "60", "61"]]


def exact() -> Engine:
    return Engine(accelerator="cpu", precision="fp32")


@pytest.fixture(scope="module")
def trained() -> tuple[torch.nn.Module, Examples]:
    data = blobs(120, noise=0.4)
    model = build(Blueprint(name="small-cnn", classes=3, shape=(1, 8, 8)), seed=0)
    fit(model, [Source(data)], Sgd(lr=0.1, epochs=10, batch=32), seed=0, engine=exact())
    return model, data


METHODS: list[Method] = [
    Amun(optim=SHORT),
    Amun(optim=SHORT, neighbours="arl", use_retain=False),
    FineTune(optim=SHORT),
    GradientAscent(optim=SHORT),
    Retrain(training=Recipe(optim=SHORT)),
]


@pytest.mark.parametrize("adaptive", [False, True])
@pytest.mark.parametrize("method", METHODS, ids=lambda method: type(method).__name__)
def test_every_request_starts_from_the_last_model_and_leaves_out_the_earlier_ones(
    method: Method, adaptive: bool, trained: tuple[torch.nn.Module, Examples]
) -> None:
    model, data = trained
    before, engine = fingerprint(model), exact()
    done = list(forget_in_sequence(model, data, REQUESTS, method, adaptive=adaptive, seed=3, engine=engine))
    assert fingerprint(model) == before
    assert len({fingerprint(step.model) for step in done}) == 3
    gone: set[str] = set()
    for step, request in zip(done, REQUESTS):
        gone |= set(request)
        assert set(step.split.forget.ids) == set(request)
        assert step.split.retain is not None
        assert step.split.retain.ids.tolist() == [name for name in data.ids if name not in gone]
    assert [stage for step in done for stage in step.stages] == engine.stages, "every stage is billed once"


@pytest.mark.parametrize("method", [Amun(optim=SHORT), FineTune(optim=SHORT)], ids=["amun", "finetune"])
def test_it_is_one_forget_after_another(method: Method, trained: tuple[torch.nn.Module, Examples]) -> None:
    model, data = trained
    left = data
    for number, step in enumerate(forget_in_sequence(model, data, REQUESTS, method, adaptive=True, seed=3)):
        once = forget(model, left, REQUESTS[number], method, seed=3 + number)
        assert fingerprint(once.model) == fingerprint(step.model)
        assert once.split.retain is not None
        model, left = step.model, once.split.retain


@pytest.mark.parametrize("adaptive", [False, True])
def test_one_request_is_a_plain_forget(adaptive: bool, trained: tuple[torch.nn.Module, Examples]) -> None:
    model, data = trained
    method = Amun(optim=SHORT, neighbours="rl")
    (only,) = forget_in_sequence(model, data, REQUESTS[:1], method, adaptive=adaptive, seed=5)
    assert fingerprint(only.model) == fingerprint(forget(model, data, REQUESTS[0], method, seed=5).model)


@pytest.mark.parametrize("adaptive", [False, True])
def test_whose_adversarial_examples_are_used(
    adaptive: bool, trained: tuple[torch.nn.Module, Examples], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, data = trained
    seen: list[Examples] = []

    def note(new: torch.nn.Module, sources: list[Source], *args: object, **kw: object) -> None:
        seen.append(sources[0].examples)
        fit(new, sources, *args, **kw)  # type: ignore[arg-type]

    monkeypatch.setattr(room, "fit", note)
    engine, spent = exact(), []
    steps: list[Forgotten] = []
    strong = Amun(optim=Sgd(lr=0.1, epochs=4, batch=32))
    for step in forget_in_sequence(model, data, REQUESTS, strong, adaptive=adaptive, engine=engine):
        steps.append(step)
        spent.append(engine.meter.gradients)
    assert [set(near.ids) for near in seen] == [{f"~{name}" for name in request} for request in REQUESTS]
    if adaptive:
        assert 0 < spent[0] < spent[1] < spent[2]
        attacked = [model, steps[0].model, steps[1].model]
    else:
        assert 0 < spent[0] == spent[1] == spent[2], "all is found before the first request"
        assert [sum("adversarial" in stage.what for stage in step.stages) for step in steps] == [1, 0, 0]
        attacked = [model] * 3
    for near, network in zip(seen, attacked):
        assert torch.equal(exact().logits(network, near.inputs).argmax(1), near.labels)


def test_requests_in_words_are_drawn_from_what_is_left(
    trained: tuple[torch.nn.Module, Examples], tmp_path: Path
) -> None:
    model, data = trained
    (tmp_path / "ids.txt").write_text("8\n")
    requests = [str(tmp_path / "ids.txt"), "random:0.5", "random:0.5", "class:class 1"]
    method = GradientAscent(optim=SHORT)
    steps = [step.split for step in forget_in_sequence(model, data, requests, method)]
    assert [len(step.forget) for step in steps[:3]] == [1, round(119 / 2), 30]
    ids = np.concatenate([step.forget.ids for step in steps])
    assert len(set(ids)) == len(ids)
    last = steps[3].retain
    assert last is not None
    assert not bool((last.labels == 1).any())
    assert set(last.ids) | set(ids) == set(data.ids)


@pytest.mark.parametrize(
    ("requests", "words"),
    [
        ([["3"], ["5", "3"]], "earlier request.*request 2.*'3'"),
        ([["3"], ["FILE"]], "earlier request.*request 2.*'3'"),
        ([["3"], ["nobody"]], "unknown"),
        ([["3", "3"]], "every id once"),
        ([["3"], []], "at least one id"),
        ([["3"], [str(i) for i in range(120) if i != 3]], "keep some"),
    ],
)
def test_requests_that_can_not_be_are_refused_before_anything_is_done(
    requests: list[list[str]], words: str, trained: tuple[torch.nn.Module, Examples], tmp_path: Path
) -> None:
    model, data = trained
    (tmp_path / "ids.txt").write_text("3\n")
    asked = [str(tmp_path / "ids.txt") if request == ["FILE"] else request for request in requests]
    engine = exact()
    with pytest.raises(Refusal, match=words):
        forget_in_sequence(model, data, asked, Amun(optim=SHORT), engine=engine)
    assert not engine.stages


def test_an_unknown_method_is_refused(trained: tuple[torch.nn.Module, Examples]) -> None:
    with pytest.raises(Refusal, match="expected a method"):
        forget_in_sequence(*trained, REQUESTS, "amnesia")
