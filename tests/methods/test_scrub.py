"""SCRUB: its alternation by hand, what it pushes where, rewinding, and going on after a stop."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from made import blobs
from unteach.api import apply
from unteach.data.augment import Augment
from unteach.distill import divergence
from unteach.engine import Engine
from unteach.events import Events
from unteach.methods.scrub import Scrub, alike, nearest
from unteach.models import Blueprint, build
from unteach.store import fingerprint
from unteach.testing import check_method
from unteach.train import Sgd, Source, fit
from unteach.types import Examples, Refusal, Split

CNN = Blueprint(name="small-cnn", classes=3, shape=(1, 8, 8))
QUICK = Sgd(lr=0.02, epochs=3, batch=32)


def exact() -> Engine:
    return Engine(accelerator="cpu", precision="fp32")


def rng() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def linear() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3))


def parts(data: Examples, every: int = 7) -> Split:
    gone = np.arange(len(data)) % every == 0
    return Split(forget=data.take(gone), retain=data.take(~gone), validation=blobs(30, noise=0.45, seed=5))


@pytest.fixture(scope="module")
def trained() -> tuple[torch.nn.Module, Split]:
    data = blobs(120, noise=0.45)
    model = build(CNN, seed=0)
    fit(model, [Source(data)], Sgd(lr=0.1, epochs=10, batch=32), seed=0, engine=exact())
    return model, parts(data)


@pytest.mark.parametrize("carried", [False, True])
def test_the_passes_by_hand(carried: bool) -> None:
    """Full batches: an epoch is one step up, of the first two epochs only, and one step down; with momentum or not."""
    split, model = parts(blobs()), linear()
    assert split.retain is not None
    optim = Sgd(lr=0.5, epochs=3, batch=1000, momentum=0.9, weight_decay=0.01, schedule="step:2")
    method = Scrub(
        alpha=0.3, gamma=0.7, temperature=2.0, msteps=2, forget_batch=1000, carry_momentum=carried, optim=optim
    )
    new = method(model, split, rng(), exact())
    student = [weight.detach().clone().requires_grad_(True) for weight in model.parameters()]

    def apart(examples: Examples) -> tuple[torch.Tensor, torch.Tensor]:
        inputs = examples.inputs.float() / 255
        logits = inputs.flatten(1) @ student[0].T + student[1]
        p, q = ((z / 2).softmax(1) for z in (model(inputs).detach(), logits))
        return 4 * (p * (p.log() - q.log())).sum(1).mean(), logits

    speeds = [torch.zeros_like(weight) for weight in student]

    def down(loss: torch.Tensor, lr: float) -> None:
        for weight, speed, gradient in zip(student, speeds, torch.autograd.grad(loss, student)):
            speed *= 0.9 if carried else 0.0
            speed += gradient + 0.01 * weight.data
            weight.data -= lr * speed

    for epoch in range(3):
        lr = 0.5 if epoch < 2 else 0.05
        if epoch < 2:
            down(-apart(split.forget)[0], lr)
        near, logits = apart(split.retain)
        down(0.3 * near + 0.7 * torch.nn.functional.cross_entropy(logits, split.retain.labels), lr)
    for ours, theirs in zip(new.parameters(), student):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def test_it_moves_away_on_forget_and_stays_near_on_retain(trained: tuple[torch.nn.Module, Split]) -> None:
    model, split = trained
    assert split.retain is not None

    def apart(new: torch.nn.Module, examples: Examples) -> float:
        logits = [exact().logits(network, examples.inputs) for network in (new, model)]
        return float(divergence(examples.task, *logits, 4.0).mean())

    still, pushed = (
        Scrub(msteps=steps, forget_batch=8, alpha=0.5, optim=QUICK)(model, split, rng(), exact()) for steps in (0, 2)
    )
    assert apart(pushed, split.forget) > 2 * apart(still, split.forget)
    assert apart(pushed, split.forget) > 2 * apart(pushed, split.retain)


def test_where_student_and_teacher_agree_there_is_no_way_up() -> None:
    """Without batch norm the first max pass is idle, as the docstring says."""
    split, model = parts(blobs()), linear()
    once = Sgd(lr=0.1, epochs=1, batch=1000, weight_decay=0.0)
    idle, none = (Scrub(msteps=steps, forget_batch=8, optim=once)(model, split, rng(), exact()) for steps in (1, 0))
    for ours, theirs in zip(idle.parameters(), none.parameters()):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-7)


def shorter(method: Scrub, epochs: int) -> Scrub:
    return replace(method, optim=replace(method.optim, epochs=epochs))


def test_rewinding_returns_the_epoch_nearest_to_the_reference(trained: tuple[torch.nn.Module, Split]) -> None:
    model, split = trained
    assert split.validation is not None
    harsh = Sgd(lr=0.05, epochs=4, batch=32, schedule="constant")
    method = Scrub(msteps=3, forget_batch=4, optim=harsh)
    # At a constant rate a shorter run is the beginning of a longer one.
    ends = [shorter(method, epochs)(model, split, rng(), exact()) for epochs in (1, 2, 3, 4)]

    def error(network: torch.nn.Module, examples: Examples) -> float:
        return 1 - float(examples.task.correct(exact().logits(network, examples.inputs), examples.labels).mean())

    errors = [error(network, split.forget) for network in ends]
    at = nearest(errors, error(ends[-1], split.validation))  # both sets hold as many of each class
    assert at < 3, "the case is meant to rewind"
    rewound = replace(method, rewind=True)(model, split, rng(), exact())
    assert fingerprint(rewound) == fingerprint(ends[at])


def test_of_equally_near_epochs_the_last() -> None:
    assert nearest([0.1, 0.3, 0.3, 0.9], 0.25) == 2
    assert nearest([0.0, 0.5], 0.25) == 1
    assert nearest([0.2], 1.0) == 0


def test_validation_classes_come_as_often_as_forgotten_ones() -> None:
    data = blobs(30)
    forget = data.take([0, 3, 6, 1])  # classes 0, 0, 0, 1
    held = data.take([9, 10, 13, 16, 11])  # classes 0, 1, 1, 1, 2
    weights = alike(Split(forget=forget, retain=None, validation=held))
    torch.testing.assert_close(weights, torch.tensor([0.75, 1 / 12, 1 / 12, 1 / 12, 0], dtype=torch.float64))
    some = alike(Split(forget=forget, retain=None, validation=data.take([10, 13])))
    torch.testing.assert_close(some, torch.full((2,), 0.5, dtype=torch.float64))
    with pytest.raises(Refusal, match="validation examples of the forgotten classes"):
        alike(Split(forget=forget, retain=None, validation=data.take([2, 5])))


def test_rewinding_needs_validation_data(trained: tuple[torch.nn.Module, Split]) -> None:
    model, split = trained
    with pytest.raises(Refusal, match="expected a validation set"):
        apply(Scrub(rewind=True), model, replace(split, validation=None), rng(), exact())


class StopError(Exception):
    pass


@pytest.mark.parametrize(
    "where", [("scrub max 1", 1), ("scrub min 2", 2), ("scrub min 3", 1)], ids=["max", "min", "late"]
)
@pytest.mark.parametrize("carried", [False, True], ids=["anew", "carried"])
def test_it_goes_on_after_a_stop(
    where: tuple[str, int], carried: bool, trained: tuple[torch.nn.Module, Split], tmp_path: Path
) -> None:
    model, split = trained
    method = Scrub(msteps=2, rewind=True, carry_momentum=carried, optim=QUICK, augment=Augment(flip=True))

    def stop(label: str, done: int, total: int) -> None:
        if (label, done) == where:
            raise StopError

    with pytest.raises(StopError):
        method(model, split, rng(), Engine(precision="fp32", events=Events(progress=stop), scratch=tmp_path))
    again = Engine(precision="fp32", scratch=tmp_path)
    resumed, whole = method(model, split, rng(), again), exact()
    assert fingerprint(resumed) == fingerprint(method(model, split, rng(), whole))
    assert (again.meter.trained < whole.meter.trained) == (where[0] != "scrub max 1"), "whole passes are not done again"


@pytest.mark.parametrize(
    "bad", [{"alpha": -1.0}, {"gamma": -0.1}, {"msteps": -1}, {"forget_batch": 0}, {"temperature": 0.0}], ids=str
)
def test_settings_that_make_no_sense(bad: dict[str, float]) -> None:
    with pytest.raises(Refusal, match=f"expected {next(iter(bad))}"):
        Scrub(**bad)  # type: ignore[arg-type]


@pytest.mark.parametrize("rewind", [False, True], ids=["last", "rewind"])
def test_contract(rewind: bool) -> None:
    data = blobs()
    one = parts(data, every=96)
    many = parts(data.relabel(torch.nn.functional.one_hot(data.labels, 3).float()))
    many = replace(many, validation=many.retain)
    for split in (parts(data), one, many):
        check_method(Scrub(optim=QUICK, rewind=rewind), build(CNN, seed=0), split)
    check_method(Scrub(optim=QUICK, rewind=rewind), linear(), one)
