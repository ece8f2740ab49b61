"""DAU: its loss and gradients against a slow literal reading, its moves, its end with whole classes, its resumption."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import unteach.attacker as attackers
import unteach.methods.dau as room
from made import blobs
from unteach.attacker import Attacker
from unteach.data.augment import Augment
from unteach.engine import Engine, pixels
from unteach.events import Events
from unteach.methods.dau import Dau, Game, are_whole_classes, correlation_loss
from unteach.models import Blueprint, build
from unteach.models.masks import masks_of, set_masks
from unteach.sensitivity import Sensitivity
from unteach.store import fingerprint
from unteach.testing import check_method
from unteach.train import Batch, Sgd, Source, fit
from unteach.types import Card, Examples, Refusal, Split

SHORT = Sgd(lr=0.02, epochs=2, batch=32, schedule="constant")
QUICK = Dau(optim=SHORT, pretraining=2, sensitivity=Sensitivity(draws=2))
CNN = Blueprint(name="small-cnn", classes=3, shape=(1, 8, 8))


def exact(scratch: Path | None = None, events: Events | None = None) -> Engine:
    return Engine(accelerator="cpu", precision="fp32", scratch=scratch, events=events)


def rng() -> torch.Generator:
    return torch.Generator().manual_seed(3)


@pytest.fixture(scope="module")
def trained() -> tuple[nn.Module, Split]:
    data = blobs(180, noise=0.45)
    model = build(CNN, seed=0)
    fit(model, [Source(data.take(range(120)))], Sgd(lr=0.1, epochs=12, batch=32), seed=0, engine=exact())
    gone = np.arange(120) % 6 == 0
    train = data.take(range(120))
    return model, Split(forget=train.take(gone), retain=train.take(~gone), validation=data.take(range(120, 180)))


@pytest.fixture(scope="module")
def of_a_class(trained: tuple[nn.Module, Split]) -> tuple[nn.Module, Split]:
    model, split = trained
    assert split.retain is not None
    rest, gone = split.retain.take(split.retain.labels != 2), split.retain.take(split.retain.labels == 2)
    return model, replace(split, forget=gone, retain=rest)


def several_labels(split: Split) -> Split:
    parts = {}
    for name in ("forget", "retain", "validation"):
        part: Examples = getattr(split, name)
        parts[name] = part.relabel(nn.functional.one_hot(part.labels, 3).float())
    return Split(**parts)


# The loss


def without_dropout(attacker: Attacker) -> Attacker:
    for module in attacker.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        if isinstance(module, nn.MultiheadAttention):
            module.dropout = 0.0
    return attacker


def a_step(size: int = 4, beta: float = 1.0, **changes: Any) -> tuple[nn.Module, Batch, Game, Engine]:
    """A smooth network in float64, one step's batch, and a game on them."""
    torch.manual_seed(0)
    layers = (
        nn.Conv2d(1, 4, 3),
        nn.BatchNorm2d(4),
        nn.Tanh(),
        nn.Flatten(),
        nn.Linear(144, 5),
        nn.Tanh(),
        nn.Linear(5, 3),
    )
    network = nn.Sequential(*layers).double().train()
    data = blobs(3 * size, noise=0.3)
    part, row = torch.arange(3).repeat_interleave(size), torch.arange(size).repeat(3)
    batch = Batch(pixels(data.inputs).double(), data.labels, part, row, 3 * size)
    attacker, engine = without_dropout(Attacker(3).double()), exact()
    adam = torch.optim.Adam(attacker.parameters(), lr=1e-3)
    settings = Dau(beta=beta, sensitivity=Sensitivity(draws=3, sigma=0.01, chunk=3), **changes)
    return network, batch, Game(settings, attacker, adam, data.task, engine, None), engine


def literal(network: nn.Module, batch: Batch, game: Game, seed: int) -> torch.Tensor:
    """CE(D(x_r), y_r) + β · (0.9 · L_A + 0.001 · L_BT), read from the specification and with every loop written out."""
    torch.manual_seed(seed)
    evidence, features = [], []
    for part in (1, 2):
        x, y = batch.inputs[batch.part == part], batch.labels[batch.part == part]
        logits, z = network(x), network[:-1](x)
        moved = torch.zeros_like(logits)
        for number in torch.randint(2**40, (3,)).tolist():
            u = torch.empty_like(x).normal_(0, 1, generator=torch.Generator().manual_seed(number))
            moved = moved + (network(x + 0.01 * u) - logits).abs() / 0.01
        evidence.append(torch.cat((logits, torch.eye(3)[y], moved / 3), 1))
        features.append((z - z.mean(0)) / torch.sqrt(z.var(0, unbiased=False) + 1e-5))
    seen, truth = torch.cat(evidence), torch.tensor([1] * 4 + [0] * 4)
    attacker = copy.deepcopy(game.attacker)
    adam = torch.optim.Adam(attacker.parameters(), lr=1e-3)
    nn.functional.cross_entropy(attacker(seen.detach()), truth).backward()
    adam.step()
    misled = nn.functional.cross_entropy(attacker(seen), torch.tensor([0] * 4 + [1] * 4))
    c = sum(torch.outer(v, f) for f, v in zip(*features)) / 4
    unlike = torch.zeros(())
    for i in range(5):
        for j in range(5):
            unlike = unlike + ((c[i, i] - 1) ** 2 if i == j else 5e-3 * c[i, j] ** 2)
    retain = nn.functional.cross_entropy(network(batch.inputs[:4]), batch.labels[:4])
    return retain + game.settings.beta * (0.9 * misled + 0.001 * unlike)


@pytest.mark.parametrize("beta", [1.0, 0.5])
def test_loss_and_gradients_are_the_papers(beta: float) -> None:
    network, batch, game, _ = a_step(beta=beta)
    twin = copy.deepcopy(network)
    expected = literal(twin, batch, game, seed=7)
    expected.backward()
    torch.manual_seed(7)
    values = game(network, batch)
    assert all(p.grad is None for p in network.parameters()), "the attacker's step leaves the network's gradients empty"
    found = values.sum() / batch.size
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=0)  # the task's loss is in fp32
    found.backward()
    assert all(p.grad is None for p in game.attacker.parameters())
    for one, other in zip(network.parameters(), twin.parameters()):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-5, atol=1e-8)


def test_loss_with_chunks_is_the_same() -> None:
    found = []
    for chunk in (1, 3):
        network, batch, game, _ = a_step()
        game.settings = replace(game.settings, sensitivity=replace(game.settings.sensitivity, chunk=chunk))
        torch.manual_seed(7)
        loss = game(network, batch).sum() / batch.size
        loss.backward()
        found.append(torch.cat([loss[None], *[p.grad.flatten() for p in network.parameters()]]))
    torch.testing.assert_close(*found, rtol=1e-8, atol=1e-10)


def test_one_attacker_step_for_each_of_the_networks() -> None:
    network, batch, game, _ = a_step()
    before = copy.deepcopy(game.attacker.state_dict())
    game(network, batch)
    (state, *_) = game.adam.state.values()
    assert state["step"] == 1
    assert any(not torch.equal(before[name], value) for name, value in game.attacker.state_dict().items())


def test_the_bill_of_a_step() -> None:
    network, batch, game, engine = a_step()
    game(network, batch)
    assert engine.meter.trained == 2 * 4 * 3, "noisy images; fit counts the clean ones"
    assert engine.meter.forwards == 0
    game.settings = replace(game.settings, sensitivity=Sensitivity(draws=3, chunk=1))
    game(network, batch)
    assert engine.meter.trained == 2 * (2 * 4 * 3)
    assert engine.meter.forwards == 2 * 4 * 3, "computed again in the backward pass"
    game.settings = replace(game.settings, beta=0.0)
    game(network, batch)
    assert engine.meter.trained == 2 * (2 * 4 * 3) - 8, "what fit will count but nobody went through"


# L_BT


def orthonormal() -> torch.Tensor:
    """Four examples of three features with mean 0, variance 1 and no correlation."""
    return torch.tensor([[1, 1, 1], [-1, 1, -1], [1, -1, -1], [-1, -1, 1]]).double()


def test_correlation_loss_is_zero_when_c_is_the_identity() -> None:
    assert correlation_loss(orthonormal(), orthonormal()) < 1e-8
    expected = 4 * 3  # C = −1 on the diagonal
    torch.testing.assert_close(
        float(correlation_loss(orthonormal(), -orthonormal())), float(expected), rtol=1e-4, atol=0
    )


def test_correlation_loss_of_one_feature_in_place_of_another() -> None:
    """C is a permutation without fixed points: d misses on the diagonal, d ones off it."""
    found = correlation_loss(orthonormal(), orthonormal()[:, [1, 2, 0]])
    torch.testing.assert_close(float(found), 3 + 3 * 5e-3, rtol=1e-4, atol=0)


@given(st.integers(2, 9), st.integers(1, 6), st.integers(0, 2**31))
@settings(max_examples=40, deadline=None)
def test_correlation_loss_literally_and_its_symmetries(n: int, d: int, seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    f, v = (5 * torch.randn(n, d, generator=draw, dtype=torch.double) for _ in range(2))
    c = np.corrcoef(f.T.numpy(), v.T.numpy())[d:, :d] if d > 1 else np.corrcoef(f[:, 0], v[:, 0])[1:, :1]
    weight = np.where(np.eye(d, dtype=bool), 1.0, 5e-3)
    found = correlation_loss(f, v)
    steady = min(float(f.var(0).min()), float(v.var(0).min())) > 0.1  # else 1e-5 under the root shows
    if steady:
        torch.testing.assert_close(float(found), float((weight * (c - np.eye(d)) ** 2).sum()), rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(correlation_loss(3 * f + 1, v), found, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(correlation_loss(v, f), found, rtol=1e-9, atol=1e-12)
    order = torch.randperm(n, generator=draw)
    torch.testing.assert_close(correlation_loss(f[order], v[order]), found, rtol=1e-9, atol=1e-12)


def test_dead_features_and_single_pairs_have_a_finite_gradient() -> None:
    f = torch.randn(6, 4)
    f[:, 2] = 0.3
    f.requires_grad_()
    correlation_loss(f, torch.randn(6, 4)).backward()
    assert f.grad is not None
    assert torch.isfinite(f.grad).all()
    assert correlation_loss(torch.randn(1, 4), torch.randn(1, 4)) == 0


# The game


def test_without_beta_it_is_fine_tuning(trained: tuple[nn.Module, Split]) -> None:
    model, split = trained
    assert split.retain is not None
    engine, tuned = exact(), copy.deepcopy(model)
    new = replace(QUICK, beta=0.0)(model, split, rng(), engine)
    draws = rng()
    seeds = [int(torch.randint(0, 2**40, (1,), generator=draws)) for _ in range(2)]
    fit(tuned, [Source(split.retain)], SHORT, seed=seeds[1], engine=exact())
    for name, value in tuned.state_dict().items():
        torch.testing.assert_close(new.state_dict()[name], value, rtol=1e-4, atol=1e-5, msg=name)
    assert engine.stages[-1].units == pytest.approx(2 * len(split.retain))


@pytest.fixture
def moves(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many forget examples the attacker saw at each of its moves in the game."""
    seen: list[int] = []
    learn = attackers.learn

    def note(attacker: Attacker, adam: torch.optim.Adam, x: torch.Tensor, truth: torch.Tensor, engine: Engine) -> Any:
        assert int(truth.sum()) * 2 == len(truth), "as many validation examples"
        seen.append(int(truth.sum()))
        return learn(attacker, adam, x, truth, engine)

    monkeypatch.setattr(attackers, "learn", note)
    return seen


def test_the_attacker_moves_in_every_step_of_a_random_request(
    trained: tuple[nn.Module, Split], moves: list[int]
) -> None:
    model, split = trained
    replace(QUICK, stop_after=1, pretraining=0)(model, split, rng(), exact())
    assert moves == [25] * 8, "100 retained examples in four steps, twice; no stop"


def test_the_game_of_a_whole_class_ends_and_its_rate_drops(
    of_a_class: tuple[nn.Module, Split], moves: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, split = of_a_class
    factors: list[float] = []

    def watch(*args: Any, pace: Any, **kw: Any) -> Any:
        def note(step: int) -> float:
            factors.append(pace(step))
            return factors[-1]

        return fit(*args, pace=note, **kw)

    monkeypatch.setattr(room, "fit", watch)
    replace(QUICK, stop_after=3, boost=2.0, pretraining=0)(model, split, rng(), exact())
    assert len(moves) == 3
    assert factors == [2.0] * 3 + [1.0] * (len(factors) - 3)
    assert len(factors) > 3
    moves.clear()
    factors.clear()
    replace(QUICK, stop_after=None, pretraining=0)(model, split, rng(), exact())
    assert len(moves) == len(factors), "null: never"
    assert set(factors) == {1.0}


def test_defaults_are_the_papers_for_both_requests() -> None:
    """Table of section 3.4: random 3 epochs at 0.01; a class at 0.02 for 30 steps, then at 0.01."""
    method = Dau()
    assert (method.optim.lr, method.optim.epochs, method.optim.batch, method.optim.schedule) == (
        0.01,
        3,
        256,
        "constant",
    )
    assert (method.optim.momentum, method.optim.weight_decay) == (0.9, 5e-4)
    assert (method.optim.lr * method.boost, method.stop_after) == (0.02, 30)
    assert (method.beta, method.deceive, method.correlation) == (1.0, 0.9, 0.001)
    assert (method.sensitivity.draws, method.sensitivity.sigma) == (10, 1e-3)
    assert (method.attacker_lr, method.pretraining) == (1e-3, 1000)


def test_only_of_whole_classes_forget_and_validation_images_vary(
    trained: tuple[nn.Module, Split], of_a_class: tuple[nn.Module, Split], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Source] = []
    monkeypatch.setattr(room, "fit", lambda new, sources, *a, alongside, **kw: seen.extend([*sources, *alongside]))
    vary = Augment(crop=1)
    for (model, split), expected in ((trained, [vary, None, None]), (of_a_class, [vary] * 3)):
        seen.clear()
        replace(QUICK, augment=vary)(model, split, rng(), exact())
        assert [source.examples for source in seen] == [split.retain, split.forget, split.validation]
        assert [source.augment for source in seen] == expected


def test_whole_classes_are_told_by_what_is_left(
    trained: tuple[nn.Module, Split], of_a_class: tuple[nn.Module, Split]
) -> None:
    assert not are_whole_classes(trained[1])
    assert are_whole_classes(of_a_class[1])
    assert not are_whole_classes(several_labels(of_a_class[1]))


def test_it_makes_forgotten_examples_look_unseen(trained: tuple[nn.Module, Split]) -> None:
    """Losses of forget and validation examples come nearer to each other, more than by fine-tuning; the rest is kept."""
    model, split = trained
    assert split.retain is not None
    assert split.validation is not None

    def loss(new: nn.Module, data: Examples) -> float:
        return float(data.task.loss(exact().logits(new, data.inputs), data.labels).mean())

    game = Sgd(lr=0.02, epochs=3, batch=32, schedule="constant")
    method = Dau(pretraining=60, sensitivity=Sensitivity(draws=4, chunk=4), optim=game)
    new = method(model, split, rng(), exact())
    tuned = replace(method, beta=0.0, pretraining=0)(model, split, rng(), exact())
    gap, gap_tuned = (loss(made, split.validation) - loss(made, split.forget) for made in (new, tuned))
    assert abs(gap) < 0.75 * gap_tuned
    correct = split.task.correct(exact().logits(new, split.retain.inputs), split.retain.labels)
    assert correct.mean() > 0.97


def test_in_bf16_the_attacker_sees_fp32(trained: tuple[nn.Module, Split], monkeypatch: pytest.MonkeyPatch) -> None:
    model, split = trained
    types: list[torch.dtype] = []
    evidence = attackers.evidence

    def note(network: nn.Module, inputs: torch.Tensor, *args: Any, **kw: Any) -> Any:
        types.append(network[1](inputs).dtype)
        return evidence(network, inputs, *args, **kw)

    monkeypatch.setattr(attackers, "evidence", note)
    new = QUICK(model, split, rng(), Engine(accelerator="cpu", precision="bf16"))
    assert set(types) == {torch.float32}
    assert all(torch.isfinite(value.float()).all() for value in new.state_dict().values())


# The contract


def test_contract(trained: tuple[nn.Module, Split], of_a_class: tuple[nn.Module, Split]) -> None:
    for model, split in (trained, of_a_class):
        assert fingerprint(check_method(QUICK, model, split)) != fingerprint(model)


def test_several_labels(trained: tuple[nn.Module, Split]) -> None:
    model, split = trained
    check_method(QUICK, model, several_labels(split))


@pytest.mark.parametrize("batch", [1, 2, 1000])
def test_steps_of_any_size_and_one_example_to_forget(batch: int, trained: tuple[nn.Module, Split]) -> None:
    model, split = trained
    assert split.retain is not None
    assert split.validation is not None
    small = replace(
        split,
        forget=split.forget.take([3]),
        retain=split.retain.take(range(5)),
        validation=split.validation.take(range(2)),
    )
    new = replace(QUICK, optim=replace(SHORT, batch=batch))(model, small, rng(), exact())
    assert all(torch.isfinite(value.float()).all() for value in new.state_dict().values())


def test_a_pruned_network_stays_pruned(trained: tuple[nn.Module, Split]) -> None:
    model = copy.deepcopy(trained[0])
    mask = torch.rand(model[1].weight.shape, generator=rng()) < 0.5
    set_masks(model, {"1.weight": mask})
    new = QUICK(model, trained[1], rng(), exact())
    assert not new[1].weight[~mask].any()
    assert (new[1].weight[mask] != model[1].weight[mask]).all()
    assert masks_of(new).keys() == {"1.weight"}


class Stopped(Exception):  # noqa: N818
    pass


@pytest.mark.parametrize("at", [2, 5, 8])
def test_interrupted_it_ends_with_the_same_bytes(at: int, trained: tuple[nn.Module, Split], tmp_path: Path) -> None:
    model, split = trained
    method = replace(QUICK, optim=replace(SHORT, epochs=3, batch=34))
    whole = method(model, split, rng(), exact())

    def stop(label: str, done: int, total: int) -> None:
        if label == "dau" and done == at:
            assert total == 9
            raise Stopped

    with pytest.raises(Stopped):
        method(model, split, rng(), exact(tmp_path, Events(None, stop)))
    engine = exact(tmp_path)
    resumed = method(model, split, rng(), engine)
    assert fingerprint(resumed) == fingerprint(whole)
    before = (at - 1) // 3
    assert engine.meter.trained == (3 - before) * 100 * (3 + 2 * 2), "whole epochs are not done twice"
    assert "reused" in engine.stages[0].what, "nor is the pre-training"


def test_a_stored_attacker_serves_the_next_request(trained: tuple[nn.Module, Split], tmp_path: Path) -> None:
    model, split = trained
    assert split.retain is not None
    method = replace(QUICK, stored=tmp_path / "attacker.safetensors")
    first, second = exact(), exact()
    method(model, split, rng(), first)
    order = replace(split, retain=split.forget, forget=split.retain)  # the same training set
    method(model, order, rng(), second)
    assert ("reused" in first.stages[0].what, "reused" in second.stages[0].what) == (False, True)


def test_what_it_can_not_do_is_refused(trained: tuple[nn.Module, Split]) -> None:
    model, split = trained
    assert QUICK.needs == {"retain", "validation"}
    for part, name in (("retain", "retained"), ("forget", "forgotten"), ("validation", "validation")):
        with pytest.raises(Refusal, match=f"at least one {name} example"):
            QUICK(model, replace(split, **{part: split.forget.take([])}), rng(), exact())
    plain = nn.Sequential(nn.Conv2d(1, 3, 8), nn.Flatten())
    with pytest.raises(Refusal, match="linear layer"):
        QUICK(plain, split, rng(), exact())


@pytest.mark.parametrize(
    "bad",
    [
        {"beta": -1.0},
        {"deceive": float("nan")},
        {"correlation": -0.1},
        {"attacker_lr": 0.0},
        {"pretraining": -1},
        {"stop_after": -1},
        {"boost": 0.0},
        {"stored": Path("attacker.pt")},
    ],
)
def test_impossible_settings_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(Refusal, match=f"expected {next(iter(bad))}"):
        Dau(**bad)


def test_the_card_names_real_settings() -> None:
    assert isinstance(Dau.card, Card)
    for knob in Dau.card.knobs:
        value: Any = Dau()
        for name in knob.split("."):
            value = getattr(value, name)
