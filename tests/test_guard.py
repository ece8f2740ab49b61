"""The collapse guard: what it takes for safe, when it stops, and that a stop of the job itself changes nothing."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch

from made import blobs
from unteach.engine import Engine
from unteach.events import Events
from unteach.guard import Guard, Watch, accuracy
from unteach.models import Blueprint, build
from unteach.store import fingerprint
from unteach.train import Batch, Sgd, Source, fit
from unteach.types import Examples, Refusal, Split

UP = Sgd(lr=0.02, epochs=8, batch=16, schedule="constant", weight_decay=0.0)


@pytest.fixture(scope="module")
def trained() -> tuple[torch.nn.Module, Split]:
    data = blobs(120, noise=0.3)
    model = build(Blueprint(name="small-cnn", classes=3, shape=(1, 8, 8)), seed=0)
    fit(model, [Source(data)], Sgd(lr=0.1, epochs=8, batch=32), seed=0, engine=exact())
    gone = [row % 7 == 0 for row in range(120)]
    return model, Split(forget=data.take(gone_of(gone)), retain=data.take(gone_of([not one for one in gone])))


def gone_of(mask: list[bool]) -> list[int]:
    return [row for row, one in enumerate(mask) if one]


def exact(scratch: Path | None = None, events: Events | None = None) -> Engine:
    return Engine(accelerator="cpu", precision="fp32", scratch=scratch, events=events)


def climb(model: torch.nn.Module, forget: Examples, optim: Sgd, engine: Engine) -> torch.nn.Module:
    """Gradient ascent, which knows no end."""
    new = copy.deepcopy(model)

    def away(network: torch.nn.Module, batch: Batch) -> torch.Tensor:
        return -forget.task.loss(network(batch.inputs), batch.labels)

    fit(new, [Source(forget)], optim, seed=1, engine=engine, loss=away, label="ascent")
    return new


def watched(trained: tuple[torch.nn.Module, Split], engine: Engine, *, repairs: bool = False) -> Watch:
    model, split = trained
    watch = Guard().watch(model, split, repairs=repairs, engine=engine)
    assert watch is not None
    engine.watch = watch
    return watch


def test_a_climb_is_stopped_and_its_last_safe_state_kept(trained: tuple[torch.nn.Module, Split]) -> None:
    model, split = trained
    engine = exact()
    watch = watched(trained, engine)
    new = climb(model, split.forget, UP, engine)
    assert watch.stopped
    assert accuracy(new, watch.known, engine) < watch.least
    kept, now, other = watch.settle(new)
    assert other
    assert now >= watch.least
    _, epoch, then = watch.safe_at
    assert then == now
    assert 0 < epoch < UP.epochs
    shorter = climb(model, split.forget, Sgd(**{**vars(UP), "epochs": epoch}), exact())
    assert fingerprint(kept) == fingerprint(shorter), "the state of that epoch, to the byte"


def test_a_method_that_repairs_is_not_stopped(trained: tuple[torch.nn.Module, Split]) -> None:
    model, split = trained
    engine = exact()
    watch = watched(trained, engine, repairs=True)
    new = climb(model, split.forget, UP, engine)
    assert not watch.stopped
    assert fingerprint(new) == fingerprint(climb(model, split.forget, UP, exact())), "looking changes nothing"
    assert watch.settle(new)[2]


def test_a_sound_end_is_left_alone(trained: tuple[torch.nn.Module, Split]) -> None:
    model, split = trained
    engine = exact()
    watch = watched(trained, engine)
    new = climb(model, split.forget, Sgd(**{**vars(UP), "lr": 1e-5}), engine)
    kept, now, other = watch.settle(new)
    assert kept is new
    assert not other
    assert now == watch.start


def test_looking_is_not_billed(trained: tuple[torch.nn.Module, Split]) -> None:
    model, split = trained
    engine = exact()
    watched(trained, engine, repairs=True)
    climb(model, split.forget, UP, engine)
    assert engine.meter.forwards == 0
    assert engine.meter.trained == UP.epochs * len(split.forget)


class _StopError(Exception):
    pass


@pytest.mark.parametrize("after", [1, 2, 3])
def test_an_interrupted_job_ends_with_the_same_safe_state(
    trained: tuple[torch.nn.Module, Split], tmp_path: Path, after: int
) -> None:
    model, split = trained
    whole = exact()
    first = watched(trained, whole)
    expected = fingerprint(first.settle(climb(model, split.forget, UP, whole))[0])

    def stop(label: str, done: int, total: int) -> None:
        if done > after:  # two steps an epoch
            raise _StopError

    broken = exact(tmp_path, Events(None, stop))
    watched(trained, broken)
    with pytest.raises(_StopError):
        climb(model, split.forget, UP, broken)
    again = exact(tmp_path)
    watch = watched(trained, again)
    assert fingerprint(watch.settle(climb(model, split.forget, UP, again))[0]) == expected
    assert watch.safe_at == first.safe_at


def test_what_there_is_nothing_to_see_in(trained: tuple[torch.nn.Module, Split]) -> None:
    model, split = trained
    engine = exact()
    fresh = build(Blueprint(name="small-cnn", classes=3, shape=(1, 8, 8)), seed=3)
    assert Guard(keep=0).watch(model, split, repairs=True, engine=engine) is None
    alone = Split(forget=split.forget, retain=None)
    assert Guard().watch(model, alone, repairs=True, engine=engine) is None
    held = Split(forget=split.forget, retain=None, validation=split.retain)
    assert Guard().watch(model, held, repairs=True, engine=engine) is not None
    assert split.retain is not None
    constant = split.retain.take([row for row, one in enumerate(split.retain.labels.tolist()) if one == 1])
    assert Guard().watch(fresh, Split(forget=split.forget, retain=constant), repairs=True, engine=engine) is None


def test_another_network_is_none_of_its_business(trained: tuple[torch.nn.Module, Split]) -> None:
    watch = watched(trained, exact())
    assert not watch(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3)), "attacker", 1)
    assert watch.safe is None


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(Refusal, match=r"guard\.keep of 0 to 1"):
        Guard(keep=1.5)
    with pytest.raises(Refusal, match=r"guard\.sample of 1 or more"):
        Guard(sample=0)


def beside(trained: tuple[torch.nn.Module, Split]) -> Split:
    _, split = trained
    return Split(forget=split.forget, retain=split.retain, validation=blobs(90, noise=0.3, seed=5))


def test_a_training_ends_where_the_forgotten_look_unseen(trained: tuple[torch.nn.Module, Split]) -> None:
    from unteach.audit.statistics import auc

    model, split = trained[0], beside(trained)
    assert split.validation is not None
    whole, engine = exact(), exact()
    told: list[float] = []

    class Look:
        stopped = False

        def __call__(self, network: torch.nn.Module, label: str, epoch: int) -> bool:
            sure = [
                part.task.confidence(exact().logits(network, part.inputs), part.labels).numpy()
                for part in (split.forget, beside(trained).validation)
                if part is not None
            ]
            told.append(auc(sure[0], sure[1]))
            return False

        def state_dict(self) -> dict[str, object]:
            return {}

        def load_state_dict(self, state: object) -> None: ...

    slow = Sgd(lr=0.003, epochs=8, batch=16, schedule="constant", weight_decay=0.0)
    whole.watch = Look()
    climb(model, split.forget, slow, whole)
    target = sorted(told)[len(told) // 2]
    expected = next(number for number, value in enumerate(told, 1) if value <= target)
    assert 1 <= expected < slow.epochs
    engine.watch = watch = Guard(keep=0.0, near=target - 0.5).watch(model, split, repairs=False, engine=engine)
    assert watch is not None
    new = climb(model, split.forget, slow, engine)
    assert watch.stopped
    assert f"after epoch {expected}," in watch.enough
    assert f"{told[expected - 1]:.3f}" in watch.enough
    shorter = climb(model, split.forget, Sgd(**{**vars(slow), "epochs": expected}), exact())
    assert fingerprint(new) == fingerprint(shorter)
    assert engine.meter.forwards == 0, "looking is not billed"


def test_what_enough_can_not_be_told_by_is_refused(trained: tuple[torch.nn.Module, Split]) -> None:
    model, split = trained
    near = Guard(near=0.02)
    with pytest.raises(Refusal, match=r"expected validation examples for guard\.near, got none"):
        near.watch(model, split, repairs=True, engine=exact())
    every = blobs(90)
    other = [row for row, one in enumerate(every.labels.tolist()) if one]
    with pytest.raises(Refusal, match="got none of some"):
        near.watch(model, Split(forget=every, retain=every, validation=every.take(other)), repairs=True, engine=exact())
    whole = [row for row, one in enumerate(every.labels.tolist()) if not one]
    with pytest.raises(Refusal, match="got whole classes"):
        near.watch(
            model,
            Split(forget=every.take(whole), retain=every.take(other), validation=every),
            repairs=True,
            engine=exact(),
        )
    with pytest.raises(Refusal, match=r"guard\.near of 0 to 0\.5"):
        Guard(near=0.7)
