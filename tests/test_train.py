"""The one training loop: exact against a plain one, repeatable, resumable, and counted."""

from __future__ import annotations

import copy
import math
from pathlib import Path

import pytest
import torch

from made import blobs
from unteach.data.augment import Augment
from unteach.engine import Engine, pixels
from unteach.events import Events
from unteach.models import Blueprint, build
from unteach.schedule import rate
from unteach.store import fingerprint
from unteach.train import Batch, Sgd, Source, fit
from unteach.types import Refusal

CNN = Blueprint(name="small-cnn", classes=3, shape=(1, 8, 8))


def linear() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3))


def exact() -> Engine:
    return Engine(accelerator="cpu", precision="fp32")


def test_full_batch_training_equals_a_plain_loop() -> None:
    data, model, twin = blobs(), linear(), linear()
    optim = Sgd(lr=0.3, epochs=4, batch=len(data), momentum=0.9, weight_decay=0.01, schedule="step:2")
    fit(model, [Source(data)], optim, seed=0, engine=exact())
    plain = torch.optim.SGD(twin.parameters(), lr=0.3, momentum=0.9, weight_decay=0.01)
    for epoch in range(4):
        plain.param_groups[0]["lr"] = 0.3 * 0.1 ** (epoch // 2)
        loss = torch.nn.functional.cross_entropy(twin(data.inputs.float() / 255), data.labels)
        plain.zero_grad()
        loss.backward()
        plain.step()
    for ours, theirs in zip(model.parameters(), twin.parameters()):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def test_flat_weights_may_learn_faster_with_the_same_decay_a_step() -> None:
    data, model, twin = blobs(), linear(), linear()
    fit(
        model,
        [Source(data)],
        Sgd(lr=0.1, epochs=3, batch=len(data), weight_decay=0.02, bias_lr=8.0, schedule="constant"),
        seed=0,
        engine=exact(),
    )
    weight, bias = (
        torch.optim.SGD([p], lr=0.1 * k, momentum=0.9, weight_decay=0.02 / k) for p, k in zip(twin.parameters(), (1, 8))
    )
    for _ in range(3):
        loss = torch.nn.functional.cross_entropy(twin(data.inputs.float() / 255), data.labels)
        twin.zero_grad()
        loss.backward()
        weight.step()
        bias.step()
    for ours, theirs in zip(model.parameters(), twin.parameters()):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def test_every_example_of_every_source_is_seen_once_an_epoch() -> None:
    seen: list[tuple[int, int]] = []

    def note(model: torch.nn.Module, batch: Batch) -> torch.Tensor:
        seen.extend(zip(batch.part.tolist(), batch.row.tolist()))
        expected = [sources[p].examples.labels[r] for p, r in zip(batch.part, batch.row)]
        assert torch.equal(batch.labels, torch.stack(expected))
        return torch.nn.functional.cross_entropy(model(batch.inputs), batch.labels, reduction="none")

    sources = [Source(blobs(50)), Source(blobs(31, seed=1))]
    fit(linear(), sources, Sgd(epochs=1, batch=16), seed=0, engine=exact(), loss=note)
    assert sorted(seen) == [(0, i) for i in range(50)] + [(1, i) for i in range(31)]


def test_an_epoch_may_show_a_sample_of_each_set_drawn_anew() -> None:
    first, second, seen = blobs(90, seed=1), blobs(20, seed=2), []

    def loss(model: torch.nn.Module, batch: Batch) -> torch.Tensor:
        seen.append(list(zip(batch.part.tolist(), batch.row.tolist())))
        return blobs(3).task.loss(model(batch.inputs), batch.labels)

    engine, optim = exact(), Sgd(lr=0.01, epochs=3, batch=16, sample=30)
    fit(linear(), [Source(first), Source(second)], optim, seed=0, engine=engine, loss=loss)
    assert optim.steps(90, 20) == 4
    assert len(seen) == 3 * 4
    epochs = [sorted(row for step in seen[4 * n : 4 * n + 4] for row in step) for n in range(3)]
    for rows in epochs:
        assert len(set(rows)) == len(rows) == 50
        assert [row for part, row in rows if part == 1] == list(range(20))  # a smaller set is shown whole
    assert len({tuple(rows) for rows in epochs}) == 3
    assert engine.meter.trained == optim.shown(90) + optim.shown(20) == 150


def test_a_sample_of_all_is_all() -> None:
    made = []
    for sample in (0, 60, 1000):
        model = linear()
        fit(model, [Source(blobs(60))], Sgd(lr=0.1, epochs=2, batch=16, sample=sample), seed=0, engine=exact())
        made.append(fingerprint(model))
    assert made[0] == made[1] == made[2]


def test_alongside_adds_as_many_examples_to_each_step_and_goes_round() -> None:
    rows: list[int] = []

    def note(model: torch.nn.Module, batch: Batch) -> torch.Tensor:
        assert (batch.part == 0).sum() == (batch.part == 1).sum()
        assert batch.size == len(batch.labels)
        rows.extend(batch.row[batch.part == 1].tolist())
        return torch.nn.functional.cross_entropy(model(batch.inputs), batch.labels, reduction="none")

    optim = Sgd(epochs=1, batch=16)
    fit(linear(), [Source(blobs(60))], optim, seed=0, engine=exact(), loss=note, alongside=[Source(blobs(20, seed=1))])
    assert sorted(rows) == sorted(list(range(20)) * 3)


def test_same_seed_same_bytes_and_another_seed_others() -> None:
    prints = []
    for seed in (1, 1, 2):
        model = build(CNN, seed=0)
        fit(model, [Source(blobs(), Augment(crop=1, flip=True))], Sgd(epochs=2, batch=32), seed=seed, engine=Engine())
        prints.append(fingerprint(model))
    assert prints[0] == prints[1] != prints[2]


class Stopped(Exception):  # noqa: N818
    pass


@pytest.mark.parametrize("at", [1, 4, 7, 8])
def test_interrupted_training_ends_with_the_same_bytes(tmp_path: Path, at: int) -> None:
    optim = Sgd(epochs=3, batch=32, schedule="onecycle")
    sources = [Source(blobs(), Augment(crop=1, flip=False))]
    whole = build(CNN, seed=0)
    fit(whole, sources, optim, seed=5, engine=exact())

    def stop(label: str, done: int, total: int) -> None:
        assert total == 9
        if done == at:
            raise Stopped

    with pytest.raises(Stopped):
        fit(
            build(CNN, seed=0),
            sources,
            optim,
            seed=5,
            engine=Engine(precision="fp32", scratch=tmp_path, events=Events(None, stop)),
        )
    resumed, engine = build(CNN, seed=0), Engine(precision="fp32", scratch=tmp_path)
    log = fit(resumed, sources, optim, seed=5, engine=engine)
    assert fingerprint(resumed) == fingerprint(whole)
    assert [record["epoch"] for record in log] == [1, 2, 3]
    before = (at - 1) // 3
    assert engine.meter.trained == 96 * (3 - before), "whole epochs must not be done twice"
    assert [stage.units for stage in engine.stages] == ([96.0 * before] if before else []), "the bill holds both parts"


def test_another_run_does_not_go_on_from_a_foreign_state(tmp_path: Path) -> None:
    optim = Sgd(epochs=2, batch=32)
    fit(build(CNN, seed=0), [Source(blobs())], optim, seed=5, engine=Engine(precision="fp32", scratch=tmp_path))
    other, fresh_one = build(CNN, seed=1), build(CNN, seed=1)
    fit(other, [Source(blobs())], optim, seed=5, engine=Engine(precision="fp32", scratch=tmp_path))
    fit(fresh_one, [Source(blobs())], optim, seed=5, engine=exact())
    assert fingerprint(other) == fingerprint(fresh_one)


def test_global_randomness_is_left_alone() -> None:
    state = torch.get_rng_state()
    fit(build(CNN, seed=0), [Source(blobs())], Sgd(epochs=1, batch=32), seed=0, engine=exact())
    assert torch.equal(torch.get_rng_state(), state)


def test_dropout_is_seeded() -> None:
    prints = []
    for _ in range(2):
        model = torch.nn.Sequential(linear(), torch.nn.Dropout(0.5))
        fit(model, [Source(blobs())], Sgd(epochs=2, batch=32), seed=0, engine=exact())
        prints.append(fingerprint(model))
        torch.rand(3)
    assert prints[0] == prints[1]


def test_frozen_weights_stay() -> None:
    model = build(CNN, seed=0)
    frozen = next(p for p in model.parameters())
    frozen.requires_grad = False
    before = frozen.clone()
    fit(model, [Source(blobs())], Sgd(epochs=1, batch=32), seed=0, engine=exact())
    assert torch.equal(frozen, before)


def test_a_diverging_loss_is_told() -> None:
    with pytest.raises(Refusal, match="lower the learning rate"):
        fit(linear(), [Source(blobs())], Sgd(lr=1e30, epochs=5, batch=32, schedule="constant"), seed=0, engine=exact())


def test_multi_label_trains() -> None:
    data = blobs()
    many = data.relabel(torch.nn.functional.one_hot(data.labels, 3).float())
    log = fit(linear(), [Source(many)], Sgd(lr=0.5, epochs=10, batch=32), seed=0, engine=exact())
    assert log[-1]["loss"] < 0.7 * log[0]["loss"]


@pytest.mark.parametrize(
    ("spec", "epoch", "epochs", "expected"),
    [
        ("constant", 3.7, 10, 1.0),
        ("step:1", 2.5, 10, 0.01),
        ("step:5,0.5", 10, 20, 0.25),
        ("multistep:3,6", 5.9, 9, 0.1),
        ("cosine", 5, 10, 0.5),
        ("cosine", 0, 10, 1.0),
        ("onecycle:0.25", 2.5, 10, 1.0),
        ("onecycle:0.25", 1.25, 10, 0.5),
        ("onecycle", 6, 10, 0.5),
    ],
)
def test_schedules(spec: str, epoch: float, epochs: int, expected: float) -> None:
    assert math.isclose(rate(spec, epoch, epochs), expected)


@pytest.mark.parametrize(
    "spec", ["", "step", "step:", "step:0", "step:x", "cosine:3", "linear", "onecycle:1.5", "multistep:-1"]
)
def test_unknown_schedules_are_refused(spec: str) -> None:
    with pytest.raises(Refusal, match="expected a schedule"):
        Sgd(schedule=spec)


@pytest.mark.parametrize("bad", [{"lr": -1.0}, {"epochs": 0}, {"batch": 0}, {"momentum": -0.1}, {"lr": float("nan")}])
def test_impossible_settings_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(Refusal, match=f"expected {next(iter(bad))}"):
        Sgd(**bad)  # type: ignore[arg-type]


@pytest.mark.parametrize("mode", ["train", "frozen", "eval"])
def test_batch_norm_modes(mode: str) -> None:
    """One step by hand: what standardises, and whether the running statistics follow."""
    data = blobs(16, noise=0.45)
    start = build(Blueprint(name="small-cnn", classes=3, shape=(1, 8, 8)), seed=0)
    fit(start, [Source(data)], Sgd(lr=0.1, epochs=2, batch=8), seed=0, engine=Engine(precision="fp32"))
    made, by_hand = copy.deepcopy(start), copy.deepcopy(start)
    optim = Sgd(lr=0.1, epochs=1, batch=16, momentum=0.0, weight_decay=0.0, schedule="constant", batch_norm=mode)
    fit(made, [Source(data)], optim, seed=0, engine=Engine(precision="fp32"))
    norms = [module for module in by_hand.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    by_hand.train(mode != "eval")
    order = torch.randperm(16, generator=torch.Generator().manual_seed(0))
    loss = torch.nn.functional.cross_entropy(by_hand(pixels(data.inputs[order])), data.labels[order])
    weights = list(by_hand.parameters())
    for weight, gradient in zip(weights, torch.autograd.grad(loss, weights)):
        weight.data -= 0.1 * gradient
    for one, other in zip(made.parameters(), weights):
        assert torch.allclose(one, other, atol=1e-5)
    moved = [not torch.equal(a, b) for a, b in zip(_statistics(made), _statistics(start))]
    assert all(moved) if mode == "train" else not any(moved)
    assert norms
    assert not any(module.training for module in made.modules())
    assert all(module.track_running_stats for module in made.modules() if isinstance(module, torch.nn.BatchNorm2d))


def test_unknown_batch_norm_mode_is_refused() -> None:
    with pytest.raises(Refusal, match="expected batch_norm to be one of train, frozen, eval"):
        Sgd(batch_norm="off")


def _statistics(model: torch.nn.Module) -> list[torch.Tensor]:
    return [value for name, value in model.state_dict().items() if "running" in name or "tracked" in name]
