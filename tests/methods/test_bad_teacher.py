"""Bad teacher: its update by hand, from whom it learns what, and how much."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from made import blobs
from unteach.data.augment import Augment
from unteach.distill import divergence
from unteach.engine import Engine
from unteach.methods.bad_teacher import BadTeacher
from unteach.models import Blueprint, build, fresh
from unteach.store import fingerprint
from unteach.testing import check_method
from unteach.train import Sgd, Source, draw_seed, fit
from unteach.types import Examples, MultiClass, Refusal, Split

CNN = Blueprint(name="small-cnn", classes=3, shape=(1, 8, 8))
QUICK = Sgd(lr=0.02, epochs=2, batch=32)


def exact() -> Engine:
    return Engine(accelerator="cpu", precision="fp32")


def rng() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def parts(data: Examples, every: int = 7) -> Split:
    gone = np.arange(len(data)) % every == 0
    return Split(forget=data.take(gone), retain=data.take(~gone))


@pytest.fixture(scope="module")
def trained() -> tuple[torch.nn.Module, Split]:
    data = blobs(noise=0.45)
    model = build(CNN, seed=0)
    fit(model, [Source(data)], Sgd(lr=0.1, epochs=12, batch=32), seed=0, engine=exact())
    return model, parts(data)


def test_a_step_is_the_gradient_of_the_two_divergences() -> None:
    """Of an own network without a blueprint, whose incompetent twin comes of its layers' reset_parameters."""
    split, temperature = parts(blobs()), 2.0
    assert split.retain is not None
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3))
    whole = Sgd(lr=0.5, epochs=4, batch=1000, momentum=0.0, weight_decay=0.0, schedule="constant")
    new = BadTeacher(temperature=temperature, retain_share=1.0, optim=whole)(model, split, rng(), exact())
    bad = fresh(model, seed=draw_seed(rng()))
    student = [weight.detach().clone().requires_grad_(True) for weight in model.parameters()]
    kept, gone = split.retain.inputs.float() / 255, split.forget.inputs.float() / 255
    with torch.no_grad():
        wanted = (torch.cat((model(kept), bad(gone))) / temperature).softmax(1)
    for _ in range(4):
        answer = ((torch.cat((kept, gone)).flatten(1) @ student[0].T + student[1]) / temperature).softmax(1)
        loss = temperature**2 * (wanted * (wanted.log() - answer.log())).sum(1).mean()
        for weight, gradient in zip(student, torch.autograd.grad(loss, student)):
            weight.data -= 0.5 * gradient
    for ours, theirs in zip(new.parameters(), student):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def test_it_answers_as_if_it_knew_nothing_of_the_forgotten(trained: tuple[torch.nn.Module, Split]) -> None:
    """Of a whole class; on the retained ones it stays near the original."""
    model, data = trained[0], blobs(noise=0.45)
    gone = data.labels.numpy() == 1
    split = Split(forget=data.take(gone), retain=data.take(~gone))
    new = BadTeacher(optim=Sgd(lr=0.05, epochs=8, batch=16))(model, split, rng(), exact())
    bad = fresh(model, seed=draw_seed(rng())).eval()

    def apart(one: torch.nn.Module, other: torch.nn.Module, examples: Examples) -> float:
        logits = [exact().logits(network, examples.inputs) for network in (one, other)]
        return float(divergence(MultiClass(3), *logits, 1.0).mean())

    assert apart(new, bad, split.forget) < 0.5 * apart(model, bad, split.forget)
    assert apart(new, model, data.take(~gone)) < 0.5 * apart(new, model, split.forget)


def test_no_labels_are_used(trained: tuple[torch.nn.Module, Split]) -> None:
    model, split = trained
    assert split.retain is not None
    other = Split(
        forget=split.forget.relabel((split.forget.labels + 1) % 3),
        retain=split.retain.relabel(torch.zeros_like(split.retain.labels)),
    )
    made = [BadTeacher(optim=QUICK)(model, asked, rng(), exact()) for asked in (split, other)]
    assert fingerprint(made[0]) == fingerprint(made[1])


@pytest.mark.parametrize(("share", "count"), [(0.3, 25), (1e-9, 1), (1.0, 82)])
def test_how_much_it_is_shown(share: float, count: int, trained: tuple[torch.nn.Module, Split]) -> None:
    model, split = trained
    engine = exact()
    BadTeacher(retain_share=share, optim=QUICK)(model, split, rng(), engine)
    assert engine.meter.trained == QUICK.epochs * (count + len(split.forget))
    assert engine.meter.forwards == count + len(split.forget), "unvaried images are answered once"
    engine = exact()
    BadTeacher(retain_share=share, optim=QUICK, augment=Augment(flip=True))(model, split, rng(), engine)
    assert engine.meter.forwards == engine.meter.trained, "varied ones as often as they are shown"


@pytest.mark.parametrize("bad", [{"retain_share": 0.0}, {"retain_share": 1.1}, {"temperature": 0.0}], ids=str)
def test_settings_that_make_no_sense(bad: dict[str, float]) -> None:
    with pytest.raises(Refusal, match=f"expected {next(iter(bad))}"):
        BadTeacher(**bad)  # type: ignore[arg-type]


class Scale(torch.nn.Module):
    """A layer of somebody's own that does not say how it starts."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = torch.nn.Parameter(torch.ones(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.factor


def test_a_network_that_cannot_start_anew_is_refused(trained: tuple[torch.nn.Module, Split]) -> None:
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3), Scale())
    with pytest.raises(Refusal, match="reset_parameters"):
        BadTeacher(optim=QUICK)(model, trained[1], rng(), exact())


def test_contract() -> None:
    data = blobs()
    labels = data.relabel(torch.nn.functional.one_hot(data.labels, 3).float())
    for held in (data, labels):
        check_method(BadTeacher(optim=QUICK), build(CNN, seed=0), parts(held))
    varied = replace(BadTeacher(optim=QUICK), augment=Augment(crop=1, flip=True))
    check_method(varied, build(CNN, seed=0), parts(data, every=96))
