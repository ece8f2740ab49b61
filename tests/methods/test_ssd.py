"""SSD: its formula by hand, what it leaves alone, and the importance that is kept for later requests."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from made import blobs
from unteach.engine import Engine, pixels
from unteach.methods.ssd import Ssd, adaptive_alpha
from unteach.models import Blueprint, build
from unteach.models.masks import masks_of, set_masks
from unteach.store import fingerprint
from unteach.testing import check_method
from unteach.train import Sgd, Source, fit
from unteach.types import Examples, Refusal, Split

World = tuple[torch.nn.Module, Examples, Split]


def rng() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.fixture(scope="module")
def world() -> World:
    data = blobs(48, noise=0.45)
    model = build(Blueprint(name="small-cnn", classes=3, shape=(1, 8, 8)), seed=0)
    fit(model, [Source(data)], Sgd(lr=0.1, epochs=4, batch=16), seed=0, engine=Engine(precision="fp32"))
    gone = data.labels.numpy() == 1
    return model, data, Split(forget=data.take(gone), retain=data.take(~gone))


def importance(model: torch.nn.Module, data: Examples, labels: bool) -> dict[str, torch.Tensor]:
    """Reading the definition aloud: the mean square (or size) of one gradient after another."""
    weights = dict(model.named_parameters())
    total = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    for i in range(len(data)):
        logits = model(pixels(data.inputs[i : i + 1]))
        value = data.task.loss(logits, data.labels[i : i + 1]).sum() if labels else logits.pow(2).sum()
        for name, g in zip(weights, torch.autograd.grad(value, list(weights.values()))):
            total[name] += (g**2 if labels else g.abs()) / len(data)
    return total


@pytest.mark.parametrize("labels", [True, False], ids=["ssd", "lfssd"])
def test_by_hand(labels: bool, world: World) -> None:
    model, data, split = world
    new = Ssd(alpha=1.5, dampening=0.7, labels=labels)(model, split, rng(), Engine(precision="fp32"))
    own, whole = importance(model, split.forget, labels), importance(model, data, labels)
    changed = dict(new.named_parameters())
    moved = 0
    for name, weight in model.named_parameters():
        chosen = own[name] > 1.5 * whole[name]
        exact = torch.where(chosen, weight * (0.7 * whole[name] / own[name]).clamp(max=1), weight)
        torch.testing.assert_close(changed[name], exact, rtol=1e-3, atol=1e-6)
        near = (own[name] / whole[name] - 1.5).abs() < 1e-3  # a hair's breadth from the threshold either may be right
        assert torch.equal(changed[name][~chosen & ~near], weight[~chosen & ~near]), "only selected weights may change"
        moved += int((changed[name] != weight).sum())
    assert moved > 0
    for (name, old), after in zip(model.named_buffers(), new.buffers()):
        assert torch.equal(old, after), f"{name} must stay"


@pytest.mark.parametrize("method", [Ssd(), Ssd(labels=False), Ssd(batch=8, alpha=2.0)], ids=["ssd", "lfssd", "batches"])
def test_contract(method: Ssd, world: World) -> None:
    model, _, split = world
    assert fingerprint(check_method(method, model, split)) != fingerprint(model)


def test_contract_for_several_labels_and_for_one_example(world: World) -> None:
    model, data, _ = world
    many = data.relabel(torch.nn.functional.one_hot(data.labels, 3).float())
    for method in (Ssd(), Ssd(labels=False)):
        check_method(method, model, Split(forget=many.take(range(5)), retain=many.take(range(5, 48))))
        check_method(method, model, Split(forget=data.take([0]), retain=data.take(range(1, 48))))


def test_it_forgets_a_class_and_keeps_the_others(world: World) -> None:
    model, _, split = world
    engine = Engine(precision="fp32")

    def right(net: torch.nn.Module, part: Examples | None) -> float:
        assert part is not None
        return float(part.task.correct(engine.logits(net, part.inputs), part.labels).mean())

    new = Ssd(alpha=1.5, dampening=0.1, labels=False)(model, split, rng(), engine)
    assert right(new, split.forget) < right(model, split.forget) - 0.2
    assert right(new, split.retain) > 0.95


def test_a_threshold_above_all_over_forgotten_selects_nothing(world: World) -> None:
    """I_D holds the forget set's own part, so I_F / I_D can't exceed |D| / |F| = 3."""
    model, _, split = world
    assert fingerprint(Ssd(alpha=3.01)(model, split, rng(), Engine(precision="fp32"))) == fingerprint(model)


@given(share=st.floats(1e-4, 1.0), n=st.integers(200, 2000))
@settings(max_examples=30, deadline=None)
def test_the_adaptive_threshold_selects_its_share(share: float, n: int) -> None:
    ratios = torch.randperm(n, generator=rng()).float()
    chosen = int((ratios > adaptive_alpha(ratios, share)).sum())
    assert abs(chosen - n * math.log(1 + 100 * share) / 100) <= 0.5 + 1e-9
    assert adaptive_alpha(torch.tensor([math.nan] * 5), share) == 0


def test_stored_importance_is_used_again_for_the_same_model_only(world: World, tmp_path: Path) -> None:
    model, data, split = world
    method = Ssd(alpha=1.2, stored=tmp_path / "importance.safetensors")
    first, again, alone = Engine(precision="fp32"), Engine(precision="fp32"), Engine(precision="fp32")
    one = method(model, split, rng(), first)
    assert first.meter.trained == len(data)
    assert fingerprint(method(model, split, rng(), again)) == fingerprint(one)
    assert again.meter.trained == len(split.forget), "only the forgotten examples are looked at again"
    assert any("reused" in stage.what and stage.units > 0 for stage in again.stages), "its cost must stay on the bill"
    assert fingerprint(method(model, replace(split, retain=None), rng(), alone)) == fingerprint(one)
    other = build(Blueprint(name="small-cnn", classes=3, shape=(1, 8, 8)), seed=9)
    with pytest.raises(Refusal, match="expected a retain set, or a file"):
        method(other, replace(split, retain=None), rng(), Engine())
    fewer, less = Engine(precision="fp32"), replace(split, retain=data.take(range(10)))
    method(model, less, rng(), fewer)
    assert not any("reused" in stage.what for stage in fewer.stages), "other data have another importance"


def test_pruned_weights_stay_zero(world: World) -> None:
    model, _, split = world
    mask = torch.rand(32, 1, 3, 3, generator=rng()) < 0.5
    pruned = build(Blueprint(name="small-cnn", classes=3, shape=(1, 8, 8)), seed=0)
    pruned.load_state_dict(model.state_dict())
    set_masks(pruned, {"1.weight": mask})
    new = Ssd(alpha=1.2)(pruned, split, rng(), Engine(precision="fp32"))
    assert not dict(new.named_parameters())["1.weight"][~mask].any()
    assert masks_of(new).keys() == {"1.weight"}


@pytest.mark.parametrize(
    "wrong", [{"alpha": 0.0}, {"dampening": 0.0}, {"batch": 0}], ids=["alpha", "dampening", "batch"]
)
def test_refusals(wrong: dict[str, float]) -> None:
    with pytest.raises(Refusal, match=next(iter(wrong))):
        Ssd(**wrong)  # type: ignore[arg-type]
