"""SISA: exact to the byte, at the cost of the shards concerned."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from made import blobs
from unteach.api import forget
from unteach.data.augment import Augment
from unteach.engine import Engine
from unteach.methods.sisa import Sisa
from unteach.models import Blueprint, build
from unteach.models.ensemble import Ensemble
from unteach.prune import Prune
from unteach.recipe import Recipe
from unteach.store import fingerprint
from unteach.testing import check_method
from unteach.train import Sgd
from unteach.types import Examples, Refusal, Split

RECIPE = Recipe(optim=Sgd(lr=0.1, epochs=2, batch=16))
SHARDS = 4


def exact(scratch: Path | None = None) -> Engine:
    return Engine(accelerator="cpu", precision="fp32", scratch=scratch)


def network(arguments: dict[str, object] | None = None, shape: tuple[int, ...] = (1, 8, 8)) -> torch.nn.Module:
    given = {"shards": SHARDS, **(arguments or {})}
    return build(Blueprint(name="sisa", classes=3, shape=shape, arguments=given), seed=0)


def from_scratch(data: Examples, recipe: Recipe = RECIPE, **arguments: object) -> Ensemble:
    model = network(arguments, tuple(data.inputs.shape[1:]))
    recipe(model, data, seed=5, engine=exact())
    assert isinstance(model, Ensemble)
    return model


def without(data: Examples, gone: np.ndarray) -> Split:
    return Split(forget=data.take(gone), retain=data.take(~gone))


def plain(blueprint: str, data: Examples) -> torch.nn.Module:
    return build(Blueprint(name=blueprint, classes=3, shape=tuple(data.inputs.shape[1:])), seed=0)


@pytest.fixture(scope="module")
def data() -> Examples:
    return blobs(120, noise=0.45)


@pytest.fixture(scope="module")
def trained(data: Examples) -> Ensemble:
    return from_scratch(data)


def one_of(model: Ensemble, data: Examples, *shards: int) -> np.ndarray:
    """A mask over two examples of each of these shards."""
    places = model.places(data)
    return np.isin(np.arange(len(data)), [at for shard in shards for at in np.flatnonzero(places == shard)[:2]])


def test_contract(trained: Ensemble, data: Examples) -> None:
    new = check_method(Sisa(training=RECIPE), trained, without(data, np.arange(120) % 6 == 0))
    assert fingerprint(new) != fingerprint(trained)


def test_the_bytes_of_a_training_without_the_request(trained: Ensemble, data: Examples) -> None:
    gone = one_of(trained, data, 1, 3)
    engine = exact()
    new = Sisa(training=RECIPE)(trained, without(data, gone), torch.Generator().manual_seed(99), engine)
    assert isinstance(new, Ensemble)
    assert fingerprint(new) == fingerprint(from_scratch(data.take(~gone)))
    same = [fingerprint(new.shards[at]) == fingerprint(trained.shards[at]) for at in range(SHARDS)]
    assert same == [True, False, True, False], "shards that never saw the request stay as they are"
    sizes = np.bincount(trained.places(data.take(~gone)), minlength=SHARDS)
    assert engine.meter.trained == 2 * (sizes[1] + sizes[3]), "the others are not trained"
    assert [stage.what for stage in engine.stages] == ["sisa, 2 of 4 shards"]


def test_one_request_after_another_is_all_at_once(trained: Ensemble, data: Examples) -> None:
    first, second = one_of(trained, data, 0), one_of(trained, data, 0, 2) & ~one_of(trained, data, 0)
    once = Sisa(training=RECIPE)(trained, without(data, first), torch.Generator(), exact())
    rest = data.take(~first)
    twice = Sisa(training=RECIPE)(once, without(rest, second[~first]), torch.Generator(), exact())
    assert fingerprint(twice) == fingerprint(from_scratch(data.take(~(first | second))))


@pytest.mark.parametrize(
    "recipe",
    [
        pytest.param(replace(RECIPE, prune=Prune(share=0.5, rewind=1)), id="pruned"),
        pytest.param(replace(RECIPE, augment=Augment(crop=1, flip=True), smoothing=0.1), id="augmented"),
    ],
)
def test_exact_under_other_recipes(recipe: Recipe, data: Examples) -> None:
    model = from_scratch(data, recipe, shards=2)
    gone = one_of(model, data, 1)
    done = forget(model, data, data.ids[gone].tolist(), Sisa(training=recipe), engine=exact())
    assert fingerprint(done.model) == fingerprint(from_scratch(data.take(~gone), recipe, shards=2))


def test_whitening_sees_only_the_shards_own_images() -> None:
    """A first layer set from all images would carry what was forgotten in one shard into the others."""
    small = blobs(40)
    colour = replace(small, inputs=small.inputs.repeat(1, 3, 4, 4))
    recipe = Recipe(optim=Sgd(lr=0.01, epochs=1, batch=40))
    model = from_scratch(colour, recipe, of="airbench-small", shards=2)
    gone = one_of(model, colour, 0)
    new = Sisa(training=recipe)(model, without(colour, gone), torch.Generator(), exact())
    again = from_scratch(colour.take(~gone), recipe, of="airbench-small", shards=2)
    assert fingerprint(new) == fingerprint(again)
    assert fingerprint(new.shards[1]) == fingerprint(model.shards[1])  # type: ignore[index]


def test_a_stopped_training_ends_with_the_same_bytes(data: Examples, trained: Ensemble, tmp_path: Path) -> None:
    engine, told = exact(tmp_path), 0

    def emit(kind: str, **_: object) -> None:
        nonlocal told
        told += kind == "epoch"
        if told == 3:
            raise RuntimeError("struck in the second shard")

    engine.events.emit = emit  # type: ignore[method-assign]
    with pytest.raises(RuntimeError, match="struck"):
        RECIPE(network(), data, seed=5, engine=engine)
    model, again = network(), exact(tmp_path)
    RECIPE(model, data, seed=5, engine=again)
    assert fingerprint(model) == fingerprint(trained)
    assert again.meter.trained < 2 * len(data), "what was done is not done again"


def test_logits_are_those_of_the_mean_probabilities(trained: Ensemble, data: Examples) -> None:
    x = torch.rand(7, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        mean = torch.stack([shard(x).double().softmax(1) for shard in trained.shards]).mean(0)
        torch.testing.assert_close(trained(x).double().exp(), mean, rtol=1e-5, atol=1e-7)
        one = Ensemble([trained.shards[0]])
        assert torch.equal(one(x).argmax(1), trained.shards[0](x).argmax(1))


def test_log_odds_of_the_mean_where_there_are_several_labels() -> None:
    class Constant(torch.nn.Module):
        def __init__(self, value: float) -> None:
            super().__init__()
            self.value = torch.nn.Parameter(torch.full((3,), value))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.value.expand(len(x), 3)

    out = Ensemble([Constant(2.0), Constant(-1.0)], several_labels=True)(torch.zeros(2, 1))
    mean = (1 / (1 + math.exp(-2)) + 1 / (1 + math.exp(1))) / 2
    torch.testing.assert_close(out, torch.full((2, 3), math.log(mean / (1 - mean))))
    far = Ensemble([Constant(200.0), Constant(200.0)], several_labels=True)(torch.zeros(1, 1))
    torch.testing.assert_close(far, torch.full((1, 3), 200.0))


def test_several_labels(data: Examples) -> None:
    many = data.relabel(torch.nn.functional.one_hot(data.labels, 3).float())
    with pytest.raises(Refusal, match="several_labels to be True"):
        from_scratch(many)
    model = from_scratch(many, several_labels=True)
    check_method(Sisa(training=RECIPE), model, without(many, np.arange(120) % 10 == 0))


def test_one_example_and_a_network_without_batch_norm(data: Examples) -> None:
    layers = [torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3)) for _ in range(3)]
    model = Ensemble(layers)
    RECIPE(model, data, seed=1, engine=exact())
    new = Sisa(training=RECIPE)(model, without(data, np.arange(120) == 7), torch.Generator(), exact())
    changed = [fingerprint(a) != fingerprint(b) for a, b in zip(new.shards, model.shards)]  # type: ignore[arg-type]
    assert sum(changed) == 1


def test_a_group_sits_in_one_shard(data: Examples) -> None:
    people = np.array([f"person {i // 4}" for i in range(120)])
    grouped = replace(data, groups=people)
    model = from_scratch(grouped, by_group=True)
    places = model.places(grouped)
    assert all(len(set(places[people == person])) == 1 for person in set(people))
    engine = exact()
    Sisa(training=RECIPE)(model, without(grouped, people == "person 3"), torch.Generator(), engine)
    assert engine.stages[-1].what == "sisa, 1 of 4 shards"
    with pytest.raises(Refusal, match="groups"):
        from_scratch(data, by_group=True)


def test_shards_do_not_depend_on_the_other_examples_nor_on_the_machine(trained: Ensemble, data: Examples) -> None:
    places = trained.places(data)
    assert (trained.places(data.take(np.arange(60, 120))) == places[60:]).all()
    assert places[:8].tolist() == [1, 2, 0, 1, 2, 0, 0, 2], "a hash that changes loses every ensemble that was trained"
    many = Examples(torch.zeros(8000, 1), torch.zeros(8000).long(), np.array([f"n{i}" for i in range(8000)]))
    counts = np.bincount(trained.places(many), minlength=SHARDS)
    assert ((counts - 2000) ** 2 / 2000).sum() < 16.3, "chi-square, 3 degrees of freedom, 0.1 %"


@given(st.integers(1, 4), st.integers(1, 5))
def test_expected_cost_is_the_mean_over_all_ways_to_draw(shards: int, count: int) -> None:
    """Over all ``shards ** count`` places of the deletions, the mean share of different shards."""
    share = Counter()
    for way in range(shards**count):
        share[len({way // shards**k % shards for k in range(count)})] += 1
    mean = sum(different * often for different, often in share.items()) / shards**count / shards
    model = Ensemble([torch.nn.Identity() for _ in range(shards)])
    assert model.expected_share(count) == pytest.approx(mean)


def test_refusals(trained: Ensemble, data: Examples) -> None:
    split = without(data, np.arange(120) == 0)
    with pytest.raises(Refusal, match="expected an ensemble"):
        Sisa(training=RECIPE)(plain("small-cnn", data), split, torch.Generator(), exact())
    with pytest.raises(Refusal, match="expected an ensemble"):
        Sisa(training=RECIPE)(network(), split, torch.Generator(), exact())
    with pytest.raises(Refusal, match="no recipe"):
        Sisa()(trained, split, torch.Generator(), exact())
    whole = without(data, trained.places(data) == 2)
    with pytest.raises(Refusal, match="none in shard 3"):
        Sisa(training=RECIPE)(trained, whole, torch.Generator(), exact())
    for arguments, words in (
        ({"of": "evil.py:network"}, "expected of to be one of"),
        ({"of": "sisa"}, "expected of to be one of"),
        ({"shards": 0}, "shards to be a whole number"),
        ({"shards": 2.5}, "shards to be a whole number"),
    ):
        with pytest.raises(Refusal, match=words):
            network(arguments)
