"""Every method of the table keeps the contract, and does what its name says."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from made import blobs
from unteach.api import apply, forget
from unteach.attacks import Nearest, Schedule
from unteach.engine import Engine
from unteach.knobs import has
from unteach.methods import METHODS, Amun, Dau, GradientAscent, NegGradPlus, Retrain, SvdRemoval, Unsir
from unteach.methods.unsir import ClassNoise
from unteach.models import Blueprint, build
from unteach.recipe import Recipe
from unteach.sensitivity import Sensitivity
from unteach.store import fingerprint
from unteach.testing import check_method
from unteach.train import Sgd, Source, fit
from unteach.types import Examples, Method, Refusal, Split
from unteach.wrong_labels import wrong_labels

ONE_LABEL = {
    "trw",
    "rwft",
    "unsir",
    "boundary-expand",
    "svd-removal",
}  # methods for classes have no meaning where an example has several labels
ENSEMBLES = {"sisa"}  # methods for networks of their own; their tests stand in their own file
ANY_NETWORK = [name for name in METHODS if name not in ENSEMBLES]
SHORT = Sgd(lr=0.02, epochs=2, batch=32, schedule="step:1")


@pytest.fixture(scope="module")
def trained() -> tuple[torch.nn.Module, Examples, Split]:
    data = blobs(120, noise=0.45)
    model = build(Blueprint(name="small-cnn", classes=3, shape=(1, 8, 8)), seed=0)
    fit(model, [Source(data)], Sgd(lr=0.1, epochs=12, batch=32), seed=0, engine=Engine(precision="fp32"))
    gone = np.arange(len(data)) % 6 == 0
    return model, data, Split(forget=data.take(gone), retain=data.take(~gone))


def loss_of(model: torch.nn.Module, data: Examples) -> float:
    return float(data.task.loss(Engine(precision="fp32").logits(model, data.inputs), data.labels).mean())


def quick(method: Method) -> Method:
    """The same method with little to do."""
    if "training" in {f.name for f in fields(method)}:  # type: ignore[arg-type]
        return replace(method, training=Recipe(optim=SHORT))  # type: ignore[type-var]
    if isinstance(method, Dau):
        method = replace(method, pretraining=2, sensitivity=Sensitivity(draws=2))
    if isinstance(method, Unsir):
        noise = ClassNoise(steps=6, images=16) if isinstance(method.noise, ClassNoise) else method.noise
        method = replace(method, noise=noise, repair=SHORT)
    if isinstance(method, SvdRemoval):
        method = replace(method, alpha_r=30.0)
    return replace(method, optim=SHORT) if "optim" in {f.name for f in fields(method)} else method  # type: ignore


def asked(method: Method, data: Examples, otherwise: Split) -> Split:
    """A request of the kind a method is for: a whole class, or any."""
    if "class" in method.needs:
        gone = data.labels.numpy() == 1
        otherwise = Split(forget=data.take(gone), retain=data.take(~gone))
    return replace(otherwise, validation=blobs(30, noise=0.45, seed=5))


@pytest.mark.parametrize("name", ANY_NETWORK)
def test_contract(name: str, trained: tuple[torch.nn.Module, Examples, Split]) -> None:
    model, data, split = trained
    new = check_method(quick(METHODS[name]()), model, asked(METHODS[name](), data, split))
    assert fingerprint(new) != fingerprint(model), "a method that changes nothing forgets nothing"


@pytest.mark.parametrize("name", METHODS)
def test_what_it_needs_is_refused_when_missing(name: str, trained: tuple[torch.nn.Module, Examples, Split]) -> None:
    model, _, split = trained
    method = quick(METHODS[name]())
    alone = Split(forget=split.forget, retain=None, validation=blobs(30, seed=5))
    rng = torch.Generator().manual_seed(0)
    if "retain" in method.needs:
        with pytest.raises(Refusal, match="expected a retain set"):
            apply(method, model, alone, rng, Engine())
    else:
        apply(method, model, alone, rng, Engine())


@pytest.mark.parametrize("name", METHODS)
def test_cards(name: str) -> None:
    method = METHODS[name]()
    card = type(method).card  # type: ignore[attr-defined]
    assert card.does.endswith(".")
    assert card.does.count(". ") <= 2, "three sentences at most"
    assert set(card.suits) <= {"random", "class", "group", "sequence"}
    assert ("class" in method.needs) <= ("random" not in card.suits)
    assert card.cost
    for knob in card.knobs:
        held: object = method
        for part in knob.split("."):
            assert part in {item.name for item in fields(held)}, f"{knob} is no setting"  # type: ignore[arg-type]
            held = getattr(held, part)
    for knob in [*card.search, *([card.more[0]] if card.more else [])]:
        assert has(method, knob), f"{knob} is no setting"
    if name not in ("retrain", "sisa"):
        assert card.search, "what is worth tuning"
        assert card.more[1] in ("up", "down")
    told = type(method).__doc__ or ""
    assert "*Source:*" in told or name == "retrain"
    assert "*Departs:*" in told


@pytest.mark.parametrize("name", ANY_NETWORK)
def test_multi_label(name: str) -> None:
    data = blobs(60)
    many = data.relabel(torch.nn.functional.one_hot(data.labels, 3).float())
    model = build(Blueprint(name="small-cnn", classes=3, shape=(1, 8, 8)), seed=0)
    fit(model, [Source(many)], Sgd(lr=0.1, epochs=6, batch=32), seed=0, engine=Engine(precision="fp32"))
    split = Split(forget=many.take(range(10)), retain=many.take(range(10, 60)), validation=many.take(range(50, 60)))
    if name in ONE_LABEL:
        with pytest.raises(Refusal, match="one class for each example"):
            quick(METHODS[name]())(model, split, torch.Generator(), Engine())
    else:
        check_method(quick(METHODS[name]()), model, split)


@pytest.mark.parametrize("name", ANY_NETWORK)
def test_one_example_can_be_forgotten(name: str, trained: tuple[torch.nn.Module, Examples, Split]) -> None:
    model, data, _ = trained
    one = Split(forget=data.take([5]), retain=data.take([i for i in range(len(data)) if i != 5]))
    if "class" in METHODS[name]().needs:
        alike = [i for i in range(len(data)) if data.labels[i] == data.labels[5]]
        one = replace(one, retain=data.take([i for i in range(len(data)) if i not in alike]))
    one = replace(one, validation=blobs(8, seed=5))
    new = quick(METHODS[name]())(model, one, torch.Generator().manual_seed(0), Engine(precision="fp32"))
    assert all(torch.isfinite(value.float()).all() for value in new.state_dict().values())


def test_retraining_asks_for_the_recipe(trained: tuple[torch.nn.Module, Examples, Split]) -> None:
    model, _, split = trained
    with pytest.raises(Refusal, match="how the original was trained"):
        Retrain()(model, split, torch.Generator(), Engine())


def test_retraining_never_sees_the_forget_set(trained: tuple[torch.nn.Module, Examples, Split]) -> None:
    model, _, split = trained
    noise = split.forget.relabel(torch.zeros_like(split.forget.labels))
    noise = replace(noise, inputs=torch.randint(0, 256, noise.inputs.shape, dtype=torch.uint8))
    rng = [torch.Generator().manual_seed(1) for _ in range(2)]
    method = Retrain(training=Recipe(optim=SHORT))
    one = method(model, split, rng[0], Engine())
    other = method(model, replace(split, forget=noise), rng[1], Engine())
    assert fingerprint(one) == fingerprint(other)


def test_gradient_ascent_raises_the_loss_it_climbs(trained: tuple[torch.nn.Module, Examples, Split]) -> None:
    model, _, split = trained
    method = GradientAscent(optim=Sgd(lr=0.01, epochs=3, batch=32, schedule="constant"))
    new = method(model, split, torch.Generator().manual_seed(0), Engine())
    assert loss_of(new, split.forget) > loss_of(model, split.forget) + 0.1


def test_neggrad_plus_at_alpha_one_is_fine_tuning(trained: tuple[torch.nn.Module, Examples, Split]) -> None:
    """With batch norm out of the way the forget half of each step has weight zero."""
    _, _, split = trained
    plain = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3))
    whole = Sgd(lr=0.1, epochs=3, batch=1000, schedule="constant")
    assert split.retain is not None
    new = NegGradPlus(alpha=1.0, optim=whole)(plain, split, torch.Generator().manual_seed(0), Engine(precision="fp32"))
    import copy

    tuned = copy.deepcopy(plain)
    fit(tuned, [Source(split.retain)], whole, seed=0, engine=Engine(precision="fp32"))
    for ours, theirs in zip(new.parameters(), tuned.parameters()):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("alpha", [-0.1, 1.1])
def test_alpha_is_a_share(alpha: float) -> None:
    with pytest.raises(Refusal, match="alpha"):
        NegGradPlus(alpha=alpha)


def test_random_labels_are_wrong_and_uniform() -> None:
    labels = torch.arange(30_000) % 5
    wrong = wrong_labels(labels, 5, torch.Generator().manual_seed(0))
    assert not (wrong == labels).any()
    shifts = torch.bincount((wrong - labels) % 5, minlength=5)[1:].double() / len(labels)
    assert (shifts - 0.25).abs().max() < 0.01


def test_random_multi_labels_are_wrong_somewhere() -> None:
    labels = (torch.rand(500, 4) > 0.5).float()
    assert (wrong_labels(labels, 4, torch.Generator().manual_seed(0)) != labels).any(1).all()


@pytest.mark.parametrize("attack", [Nearest(bf16=False), Schedule(bf16=False)])
def test_amun_keeps_the_adversarial_set_and_uses_it_again(
    attack: Nearest | Schedule, trained: tuple[torch.nn.Module, Examples, Split], tmp_path: Path
) -> None:
    model, data, split = trained
    file = tmp_path / "near.safetensors"
    method = Amun(attack=attack, optim=SHORT, stored=file)
    first, again = Engine(), Engine()
    one = method(model, split, torch.Generator().manual_seed(0), first)
    two = method(model, split, torch.Generator().manual_seed(0), again)
    assert fingerprint(one) == fingerprint(two)
    assert first.meter.gradients > 0
    assert again.meter.gradients == 0, "what is stored must not be attacked again"
    assert any("reused" in stage.what and stage.units > 0 for stage in again.stages), "its cost must stay on the bill"
    more = Split(forget=data.take(range(0, 60, 2)), retain=data.take(range(1, 120, 2)))
    overlap = len(set(more.forget.ids) & set(split.forget.ids))
    third = Engine()
    method(model, more, torch.Generator().manual_seed(0), third)
    attacked = third.meter.gradients / max(1, first.meter.gradients)
    assert 0 < overlap < len(more.forget)
    assert 0 < attacked < 2.5, "only the new examples are attacked"
    other = build(Blueprint(name="small-cnn", classes=3, shape=(1, 8, 8)), seed=9)
    fresh_engine = Engine()
    method(other, split, torch.Generator().manual_seed(0), fresh_engine)
    assert not any("reused" in stage.what for stage in fresh_engine.stages), "another model's set must not be used"


def test_amun_trains_on_what_it_says(
    trained: tuple[torch.nn.Module, Examples, Split], monkeypatch: pytest.MonkeyPatch
) -> None:
    import unteach.methods.amun as room

    model, _, split = trained
    seen: dict[str, list[Source]] = {}

    def note(new: torch.nn.Module, sources: list[Source], *args: object, **kw: object) -> None:
        seen["sources"] = list(sources)

    monkeypatch.setattr(room, "fit", note)
    for retain, keep in ((True, True), (False, True), (True, False)):
        method = Amun(use_retain=retain, use_forget=keep)
        method(model, split, torch.Generator().manual_seed(0), Engine())
        near, *rest = seen["sources"]
        assert near.augment is None, "adversarial images are shown as they are"
        assert near.examples.ids.tolist() == [f"~{name}" for name in split.forget.ids]
        logits = Engine(precision="fp32").logits(model, near.examples.inputs)
        assert torch.equal(logits.argmax(1), near.examples.labels), "labels are the model's own"
        assert not (near.examples.labels == split.forget.labels).any(), "and wrong"
        expected = ([split.retain] if retain else []) + ([split.forget] if keep else [])
        assert [source.examples for source in rest] == expected


def test_python_call(trained: tuple[torch.nn.Module, Examples, Split]) -> None:
    model, data, _ = trained
    done = forget(model, data, ["3", "17", "40"], Amun(optim=SHORT))
    assert done.split.forget.ids.tolist() == ["3", "17", "40"]
    assert done.split.retain is not None
    assert len(done.split.retain) == 117
    assert fingerprint(done.model) != fingerprint(model)
    assert [stage.what for stage in done.stages] == ["adversarial examples", "amun fine-tuning"]
    with pytest.raises(Refusal, match="expected a method"):
        forget(model, data, ["3"], "amnesia")
