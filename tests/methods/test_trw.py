"""TRW: its target to the formula, its training step by hand, and what it refuses."""

from __future__ import annotations

import copy
import math
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from made import blobs
from unteach.engine import Engine, pixels
from unteach.methods.trw import ClassSimilarity, Trw, tilted
from unteach.models import Blueprint, build
from unteach.models.anatomy import last_linear
from unteach.models.masks import masks_of, set_masks
from unteach.testing import check_method
from unteach.train import Sgd, Source, fit
from unteach.types import Examples, Refusal, Split

CLASSES = 5
QUICK = Sgd(lr=0.02, epochs=2, batch=32)
seeds = st.integers(0, 2**31 - 1)
some = settings(max_examples=40, deadline=None)


def without(data: Examples, *gone: int) -> Split:
    """A request for whole classes."""
    out = np.isin(data.labels.numpy(), gone)
    return Split(forget=data.take(out), retain=data.take(~out))


def rng() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.fixture(scope="module")
def trained() -> tuple[torch.nn.Module, Examples]:
    data = blobs(150, classes=CLASSES, noise=0.3)
    model = build(Blueprint(name="small-cnn", classes=CLASSES, shape=(1, 8, 8)), seed=0)
    fit(model, [Source(data)], Sgd(lr=0.1, epochs=10, batch=32), seed=0, engine=Engine(precision="fp32"))
    return model, data


def drawn(seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Logits, similarities and which classes stay (at least two), at random."""
    generator = torch.Generator().manual_seed(seed)
    logits = 4 * torch.randn(6, CLASSES, generator=generator)
    stays = torch.rand(CLASSES, generator=generator) < 0.6
    stays[torch.randperm(CLASSES, generator=generator)[:2]] = True
    return logits, torch.rand(6, CLASSES, dtype=torch.float64, generator=generator) * 2 - 1, stays


# The target


@some
@given(seeds, st.floats(0, 50))
def test_nothing_on_forgotten_classes_and_rows_sum_to_one(seed: int, beta: float) -> None:
    logits, similar, stays = drawn(seed)
    q = tilted(logits, similar, beta, stays)
    assert (q[:, ~stays] == 0).all()
    torch.testing.assert_close(q.sum(1), torch.ones(6, dtype=torch.float64), rtol=0, atol=1e-12)


@some
@given(seeds)
def test_without_a_tilt_it_is_the_renormalised_answer(seed: int) -> None:
    logits, similar, stays = drawn(seed)
    p = logits.double().softmax(1)
    expected = (p / (1 - p[:, ~stays].sum(1, keepdim=True))) * stays
    torch.testing.assert_close(tilted(logits, similar, 0.0, stays), expected)


@some
@given(seeds, st.floats(0.01, 20))
def test_tilt_as_in_the_formula(seed: int, beta: float) -> None:
    logits, similar, stays = drawn(seed)
    weight = logits.double().softmax(1) * (beta * similar).exp() * stays
    torch.testing.assert_close(tilted(logits, similar, beta, stays), weight / weight.sum(1, keepdim=True))


@some
@given(seeds, st.floats(0, 10), st.floats(0.01, 5))
def test_mean_similarity_grows_with_beta(seed: int, beta: float, more: float) -> None:
    logits, similar, stays = drawn(seed)
    low, high = ((tilted(logits, similar, b, stays) * similar).sum(1) for b in (beta, beta + more))
    assert (high >= low - 1e-12).all()
    narrow = (similar[:, stays].amax(1) - similar[:, stays].amin(1)) < 1e-3
    first, last = ((tilted(logits, similar, b, stays) * similar).sum(1) for b in (0.0, 1.0))
    assert (narrow | (last > first)).all()


@some
@given(seeds, st.floats(0.1, 5))
def test_no_other_distribution_of_that_mean_similarity_is_nearer(seed: int, beta: float) -> None:
    """The I-projection: steps that keep the sum and E[s] can only move away from p~ in KL(q‖p~)."""
    logits, similar, _ = drawn(seed)
    stays = torch.arange(CLASSES) > 0
    s = similar[0, 1:].numpy()
    plain, q = (tilted(logits[:1], similar[:1], b, stays)[0, 1:].numpy() for b in (0.0, beta))
    free = np.linalg.svd(np.stack([np.ones_like(s), s]))[2][2:]
    generator = np.random.default_rng(seed)
    for _ in range(20):
        step = generator.normal(size=len(free)) @ free
        reach = min(abs(q[i] / step[i]) for i in range(len(q)) if step[i])
        other = q + generator.uniform(0, 0.999) * reach * step
        assert other.sum() == pytest.approx(1)
        assert other @ s == pytest.approx(q @ s)
        divergence = [float((r * np.log(r / plain)).sum()) for r in (q, np.clip(other, 1e-300, None))]
        assert divergence[1] >= divergence[0] - 1e-9


def test_sure_answers_keep_their_second_thoughts() -> None:
    """p(f|x) is 1 in float64, so 1 − p(f|x) is 0: only log space still knows the others' ratio, e : 1."""
    logits = torch.tensor([[900.0, 2.0, 1.0, -900.0]])
    assert logits.double().softmax(1)[0, 0] == 1
    q = tilted(logits, torch.zeros(1, 4), 0.0, torch.tensor([False, True, True, True]))[0]
    torch.testing.assert_close(q[1:], torch.tensor([math.e, 1, 0], dtype=torch.float64) / (1 + math.e))


# The similarity

ROWS = torch.randn(7, 12, generator=torch.Generator().manual_seed(1))
STAYS = torch.tensor([False, True, True, True, True, True, True])


def test_plain_cosines() -> None:
    rows = torch.tensor([[1.0, 0.0], [3.0, 0.0], [0.0, 2.0], [-1.0, 1.0]])
    stays = torch.tensor([False, True, True, True])
    found = ClassSimilarity(components=0, temperature=None)(rows, stays)[0]
    torch.testing.assert_close(found, torch.tensor([0, 1, 0, -math.sqrt(0.5)], dtype=torch.float64))


def test_all_components_lose_nothing_but_the_mean() -> None:
    """K centred rows span K − 1 axes at most, so the projection then keeps every angle."""
    whole = ClassSimilarity(components=6, temperature=None)(ROWS, STAYS)
    centred = ROWS.double() - ROWS.double().mean(0)
    torch.testing.assert_close(whole, ClassSimilarity(components=0, temperature=None)(centred, STAYS))
    more = ClassSimilarity(components=100, temperature=None)(ROWS, STAYS)
    torch.testing.assert_close(more, whole)


def test_one_component_leaves_a_side() -> None:
    found = ClassSimilarity(components=1, temperature=None)(ROWS, STAYS)[:, 1:]
    torch.testing.assert_close(found.abs(), torch.ones_like(found))
    centred = ROWS.double() - ROWS.double().mean(0)
    side = torch.linalg.eigh(centred.T @ centred).eigenvectors[:, -1] @ centred.T
    torch.testing.assert_close(found[0], (side[0] * side[1:]).sign())


def test_softmax_of_cosines_over_temperature() -> None:
    cosines = ClassSimilarity(temperature=None)(ROWS, STAYS)
    found = ClassSimilarity(temperature=0.3)(ROWS, STAYS)
    weight = (cosines / 0.3).exp() * STAYS
    torch.testing.assert_close(found, weight / weight.sum(1, keepdim=True))
    sharp = ClassSimilarity(temperature=1e-4)(ROWS, STAYS)[0]
    assert int(sharp.argmax()) == 1 + int(cosines[0, 1:].argmax())
    assert float(sharp.max()) > 0.999


@some
@given(st.floats(0.01, 100), seeds)
def test_similarity_asks_for_angles_only(factor: float, seed: int) -> None:
    """Neither the logits' scale nor a vector added to all rows, which leaves all probabilities as they are, matters."""
    shift = torch.randn(12, generator=torch.Generator().manual_seed(seed))
    moved = factor * (ROWS + shift)
    torch.testing.assert_close(ClassSimilarity()(moved, STAYS), ClassSimilarity()(ROWS, STAYS), rtol=1e-3, atol=1e-5)


# Targets of real requests


def test_each_class_has_its_own_neighbours(trained: tuple[torch.nn.Module, Examples]) -> None:
    model, data = trained
    split, stays = without(data, 1, 3), torch.tensor([True, False, True, False, True])
    assert split.retain is not None
    engine = Engine(precision="fp32")
    q = Trw().targets(model, split.forget, split.retain.labels, engine)
    similar = ClassSimilarity()(last_linear(model).weight, stays)
    logits = engine.logits(model, split.forget.inputs)
    assert set(split.forget.labels.tolist()) == {1, 3}
    for label in (1, 3):
        mine = split.forget.labels == label
        alone = tilted(logits[mine], similar[label].expand(int(mine.sum()), -1), 10.0, stays)
        torch.testing.assert_close(q[mine], alone)
    assert (q[:, [1, 3]] == 0).all()


def test_classes_forgotten_earlier_get_nothing(trained: tuple[torch.nn.Module, Examples]) -> None:
    """Class 0 went in an earlier request: it is in no set now, however similar it is."""
    model, data = trained
    q = Trw().targets(model, without(data, 2).forget, torch.tensor([1, 3, 4]), Engine(precision="fp32"))
    assert (q[:, [0, 2]] == 0).all()
    torch.testing.assert_close(q.sum(1), torch.ones(len(q), dtype=torch.float64))


def test_entropy_of_the_target_is_told(
    trained: tuple[torch.nn.Module, Examples], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, data = trained
    split, engine = without(data, 2), Engine(precision="fp32")
    assert split.retain is not None
    told: dict[str, Any] = {}
    monkeypatch.setattr(engine.events, "emit", lambda event, **values: told.update({event: values}))
    q = Trw(beta=50.0).targets(model, split.forget, split.retain.labels, engine)
    assert told["tilted targets"]["entropy"] == pytest.approx(float(-(q[q > 0] * q[q > 0].log()).sum() / len(q)))
    assert told["tilted targets"]["entropy"] < told["tilted targets"]["entropy_untilted"]
    assert engine.meter.forwards == len(split.forget)


# The training


def test_one_step_by_hand() -> None:
    """Softmax regression: the gradient of the mean is Σ w (p − target) xᵀ / n, hard targets and soft ones alike."""
    data = blobs(40, classes=4)
    split = without(data, 2)
    assert split.retain is not None
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 4))
    step = Sgd(lr=0.5, epochs=1, batch=1000, momentum=0.0, weight_decay=0.0, schedule="constant")
    for weight in (1.0, 3.0):
        new = Trw(optim=step, forget_weight=weight)(model, split, rng(), Engine(precision="fp32"))
        q = Trw().targets(model, split.forget, split.retain.labels, Engine(precision="fp32"))
        wanted = torch.cat([torch.nn.functional.one_hot(split.retain.labels, 4), q])
        x = pixels(torch.cat([split.retain.inputs, split.forget.inputs])).flatten(1).double()
        each = torch.cat([torch.ones(30), torch.full((10,), weight)]).double()[:, None]
        with torch.no_grad():
            p = copy.deepcopy(model).double()(x).softmax(1)
            expected = model[1].weight.double() - 0.5 * (each * (p - wanted)).T @ x / 40
        torch.testing.assert_close(last_linear(new).weight.double(), expected, rtol=1e-4, atol=1e-6)


def test_contract(trained: tuple[torch.nn.Module, Examples]) -> None:
    model, data = trained
    check_method(Trw(optim=QUICK), model, without(data, 2))
    check_method(Trw(beta=0.0, retain_share=0.5, optim=QUICK), model, without(data, 0, 4))


def test_the_class_goes_to_its_target_and_the_others_stay(trained: tuple[torch.nn.Module, Examples]) -> None:
    model, data = trained
    split, engine = without(data, 2), Engine(precision="fp32")
    assert split.retain is not None
    before = engine.logits(model, split.forget.inputs)
    assert (before.argmax(1) == 2).double().mean() > 0.9, "there must be something to forget"
    targets = {}
    answers = {}
    for beta in (0.0, 10.0):
        method = Trw(beta=beta, optim=Sgd(lr=0.02, epochs=8, batch=32))
        targets[beta] = method.targets(model, split.forget, split.retain.labels, engine)
        new = method(model, split, rng(), engine)
        answers[beta] = engine.logits(new, split.forget.inputs).softmax(1).double()
        assert (answers[beta].argmax(1) == 2).double().mean() < 0.01, (
            "over all logits, with the class still in the head"
        )
        kept = engine.logits(new, split.retain.inputs).argmax(1) == split.retain.labels
        assert kept.double().mean() > 0.9
    for beta, other in ((0.0, 10.0), (10.0, 0.0)):
        near, far = ((answers[beta] - targets[b]).abs().sum(1).mean() for b in (beta, other))
        assert near < far, "each ends nearer to its own target"


def test_a_share_of_the_retain_set(trained: tuple[torch.nn.Module, Examples]) -> None:
    model, data = trained
    split, engine = without(data, 2), Engine(precision="fp32")
    Trw(retain_share=0.25, optim=QUICK)(model, split, rng(), engine)
    assert engine.meter.trained == 2 * (30 + 30), "a quarter of 120 retained and all 30 forgotten, twice"
    assert [stage.what for stage in engine.stages] == ["trw targets", "trw fine-tuning"]


def test_pruned_weights_stay_pruned(trained: tuple[torch.nn.Module, Examples]) -> None:
    model, data = copy.deepcopy(trained[0]), trained[1]
    set_masks(model, {"1.weight": torch.rand(model.state_dict()["1.weight"].shape, generator=rng()) < 0.5})
    new = Trw(optim=QUICK)(model, without(data, 2), rng(), Engine(precision="fp32"))
    assert (new.state_dict()["1.weight"][~masks_of(new)["1.weight"]] == 0).all()


# What it refuses


def test_part_of_a_class_is_refused(trained: tuple[torch.nn.Module, Examples]) -> None:
    model, data = trained
    split = Split(forget=data.take(range(10)), retain=data.take(range(10, 150)))
    with pytest.raises(Refusal, match=r"expected whole classes.*28 retained examples of class 'class 0'"):
        Trw()(model, split, rng(), Engine())


def test_every_class_is_refused(trained: tuple[torch.nn.Module, Examples]) -> None:
    model, data = trained
    for retain in (None, data.take([])):
        with pytest.raises(Refusal, match="expected a retain set"):
            Trw()(model, Split(forget=data, retain=retain), rng(), Engine())


def test_multi_label_is_refused(trained: tuple[torch.nn.Module, Examples]) -> None:
    model, data = trained
    many = data.relabel(torch.nn.functional.one_hot(data.labels, CLASSES).float())
    with pytest.raises(Refusal, match="one class for each example"):
        Trw()(model, Split(forget=many.take([0]), retain=many.take([1])), rng(), Engine())


def test_a_head_that_is_not_linear_is_refused(trained: tuple[torch.nn.Module, Examples]) -> None:
    _, data = trained
    hidden = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 9), torch.nn.AdaptiveMaxPool1d(CLASSES))
    with pytest.raises(Refusal, match="one row for each of 5 classes, got 9 rows"):
        Trw()(hidden, without(data, 2), rng(), Engine())


@pytest.mark.parametrize(
    "wrong",
    [
        {"beta": -1.0},
        {"beta": math.nan},
        {"beta": math.inf},
        {"forget_weight": 0.0},
        {"retain_share": 0.0},
        {"retain_share": 1.1},
    ],
)
def test_settings_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(Refusal, match=next(iter(wrong))):
        Trw(**wrong)


@pytest.mark.parametrize("wrong", [{"components": -1}, {"temperature": 0.0}, {"temperature": math.nan}])
def test_similarity_out_of_range_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(Refusal, match=next(iter(wrong))):
        ClassSimilarity(**wrong)


def test_knobs_are_settings() -> None:
    def names(thing: Any, prefix: str = "") -> set[str]:
        inner = {prefix + f.name for f in fields(thing)}
        nested = [f.name for f in fields(thing) if hasattr(getattr(thing, f.name), "__dataclass_fields__")]
        return inner | {name for n in nested for name in names(getattr(thing, n), f"{prefix}{n}.")}

    assert Trw.card.knobs.keys() <= names(Trw())
    assert replace(Trw(), beta=0.0) == Trw(beta=0.0)
