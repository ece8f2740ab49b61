"""Whatever is on a method's card can be searched: every method of the table, two trials each."""

from __future__ import annotations

import math
from dataclasses import fields, replace
from functools import cache
from typing import Any

import pytest
import torch

from made import blobs
from unteach.data import split
from unteach.engine import Engine
from unteach.knobs import has, knob
from unteach.methods import METHODS, Dau, Unsir
from unteach.methods.unsir import ClassNoise
from unteach.models import Blueprint, build
from unteach.presets import fixed
from unteach.recipe import Recipe
from unteach.sensitivity import Sensitivity
from unteach.train import Sgd, Source, fit
from unteach.tuning import Chance, Oracle, tune
from unteach.types import Split

TUNABLE = [name for name, made in METHODS.items() if type(made()).card.search]  # type: ignore[attr-defined]
RECIPE = Recipe(optim=Sgd(lr=0.1, epochs=4, batch=32))


@cache
def job(kind: str) -> tuple[torch.nn.Module, Split, tuple[torch.nn.Module, ...]]:
    """A small convolutional network, a request of some examples or of a class, and a network to come near."""
    data = blobs(90, noise=0.5)
    models = [build(Blueprint(name="small-cnn", classes=3, shape=(1, 8, 8)), seed=seed) for seed in (0, 1)]
    ids = data.ids[data.labels.numpy() == 1] if kind == "class" else data.ids[::7]
    parts = split(data, [str(name) for name in ids])
    assert parts.retain is not None
    for model, examples in zip(models, (data, parts.retain)):
        fit(model, [Source(examples)], RECIPE.optim, seed=0, engine=Engine(accelerator="cpu"))
        model.eval()
    return models[0], replace(parts, validation=blobs(45, noise=0.5, seed=5)), (models[1],)


def quick(method: Any) -> Any:
    """The same with small batches, so that an epoch is a few steps; and less of what is no epoch."""
    if isinstance(method, Dau):
        return replace(method, pretraining=2, sensitivity=Sensitivity(draws=1))
    if isinstance(method, Unsir) and isinstance(method.noise, ClassNoise):
        return replace(method, noise=ClassNoise(steps=2, images=8))
    return method


@pytest.mark.parametrize("name", TUNABLE)
def test_every_method_can_be_tuned(name: str) -> None:
    method = quick(METHODS[name]())
    model, parts, retrained = job("class" if "class" in method.needs else "random")
    before = {key: value.clone() for key, value in model.state_dict().items()}
    trials = 8 if name == "svd-removal" else 2  # its first draws take too much out of so small a network
    tuned = tune(
        method,
        model,
        parts,
        target=Oracle(),
        retrained=retrained,
        recipe=RECIPE,
        trials=trials,
        max_epochs=60.0,
        engine=Engine(accelerator="cpu"),
    )
    assert len(tuned.trials) == trials
    assert tuned.best.score is not None
    assert math.isfinite(tuned.best.score)
    assert set(tuned.best.knobs) == set(type(method).card.search) - fixed(method)
    for path, value in tuned.best.knobs.items():
        assert has(method, path)
        assert knob(tuned.method, path) == value
    unsearched = {item.name for item in fields(method)} - {path.partition(".")[0] for path in tuned.best.knobs}
    for name_ in unsearched - {"augment", "stored"}:
        assert getattr(tuned.method, name_) == getattr(method, name_)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_a_method_whose_epochs_are_not_searched_is_cut_to_the_cap() -> None:
    method = METHODS["scrub"]()
    assert "optim.epochs" not in type(method).card.search  # type: ignore[attr-defined]
    model, parts, _ = job("random")
    tuned = tune(
        method, model, parts, target=Chance(tolerance=100.0), recipe=RECIPE, trials=1, max_epochs=3.5, engine=Engine()
    )
    assert knob(tuned.method, "optim.epochs") < knob(method, "optim.epochs")
    assert all(trial.epochs <= 3.5 * 1.05 for trial in tuned.trials)
