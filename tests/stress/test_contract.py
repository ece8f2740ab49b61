"""What every stress test of the table promises, and how numbers of many models become findings."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from torch import nn

from unteach.audit.finding import Finding, Measured, Skipped
from unteach.engine import Engine
from unteach.store import fingerprint
from unteach.stress import STRESS, Lineup, Models, Parts, Stress
from unteach.stress.lineup import answers, finding, sampled, share_interval
from unteach.types import Examples, MultiLabel, Refusal

QUICK = {"relearn": {"steps": 6}, "robust": {"steps": 3, "sample": 40}}


def quick(name: str) -> Stress:
    return STRESS[name](**QUICK.get(name, {}))


@pytest.mark.parametrize("name", STRESS)
def test_models_stay_as_they_were_and_the_same_seed_gives_the_same_numbers(
    name: str, random_request: tuple[Models, Parts], engine: Engine
) -> None:
    models, parts = random_request
    models = replace(models, retrained=models.retrained[:2])
    assert models.original is not None
    everyone = [models.unlearned, *models.retrained, models.original]
    everyone[0].train()
    before, state = [fingerprint(model) for model in everyone], torch.get_rng_state()
    test = quick(name)
    assert isinstance(test, Stress)
    found = test(models, parts, seed=3, engine=engine)
    assert [fingerprint(model) for model in everyone] == before
    assert torch.equal(torch.get_rng_state(), state)
    assert everyone[0].training
    everyone[0].eval()
    assert all(weight.grad is None and weight.requires_grad for model in everyone for weight in model.parameters())
    assert all(isinstance(one, Finding | Skipped) and one.family == "behaviour" for one in found)
    assert test(models, parts, seed=3, engine=engine) == found
    for one in found:
        if isinstance(one, Finding):
            assert len(one.retrained) == 2
            assert one.size or one.name == "Lipschitz bound"


@pytest.mark.parametrize("name", STRESS)
def test_every_setting_is_explained_and_every_test_has_its_source(name: str) -> None:
    assert fields(STRESS[name])  # type: ignore[arg-type]
    assert "*Source:*" in (STRESS[name].__doc__ or "")
    assert "*Departs:*" in (STRESS[name].__doc__ or "")


@pytest.mark.parametrize("name", STRESS)
def test_what_is_missing_is_skipped_or_shown_without_a_floor(
    name: str, random_request: tuple[Models, Parts], engine: Engine
) -> None:
    models, parts = random_request
    alone = Models(unlearned=models.unlearned)
    found = quick(name)(alone, replace(parts, retain=None), seed=0, engine=engine)
    assert found
    assert all(one.reason if isinstance(one, Skipped) else one.retrained == () for one in found)


@pytest.mark.parametrize("name", STRESS)
def test_several_labels_each(name: str, engine: Engine) -> None:
    def drawn(n: int, seed: int) -> Examples:
        rng = np.random.default_rng(seed)
        x = torch.from_numpy(rng.integers(0, 256, (n, 1, 8, 8), dtype=np.uint8))
        y = torch.from_numpy((rng.random((n, 3)) < 0.5).astype(np.float32))
        return Examples(x, y, np.array([f"{seed}.{i}" for i in range(n)]), None, ("a", "b", "c"))

    parts = Parts(forget=drawn(30, 0), retain=drawn(30, 1), unseen=drawn(30, 2))
    assert isinstance(parts.forget.task, MultiLabel)
    cast = [nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 3)) for _ in range(4)]
    models = Models(unlearned=cast[0], retrained=tuple(cast[1:3]), original=cast[3])
    found = quick(name)(models, parts, seed=0, engine=engine)
    assert found
    assert json_is_plain(found)


def json_is_plain(found: Measured) -> bool:
    return all(isinstance(one.as_json()["name"], str) for one in found)


def test_whole_classes_are_compared_with_their_own(class_request: tuple[Models, Parts]) -> None:
    _, parts = class_request
    assert parts.whole_classes == (3,)
    assert set(parts.matched.labels.tolist()) == {3}
    mixed = replace(parts, retain=parts.forget)
    assert mixed.whole_classes == ()
    assert len(mixed.matched) == len(parts.unseen)


def test_against_leaves_each_out() -> None:
    values = Lineup(unlearned=1.0, retrained=(2.0, 3.0, 7.0), original=0.5)
    means = values.against(lambda one, others: one - float(np.mean(others)))
    assert means.unlearned == 1 - 4
    assert means.original == 0.5 - 4
    assert means.retrained == (2 - 5.0, 3 - 4.5, 7 - 2.5)
    assert Lineup(unlearned=1.0, retrained=(2.0,)).against(lambda one, others: len(others)).retrained == ()


@pytest.mark.parametrize(
    ("original", "two_sided", "doubted"),
    [(0.5, True, True), (0.9, True, False), (0.1, True, False), (0.1, False, True), (None, True, False)],
)
def test_an_original_that_passes_is_told(original: float | None, two_sided: bool, doubted: bool) -> None:
    numbers = Lineup(unlearned=0.7, retrained=(0.4, 0.6), original=original)
    found = finding(numbers, name="a", part="forget", two_sided=two_sided)
    assert bool(found.doubts) is doubted
    assert found.target == 0.5
    assert finding(numbers, name="a", part="forget", control=False).doubts == ()


def test_networks_without_numbers_are_refused(engine: Engine, clean: tuple[Examples, Examples]) -> None:
    broken = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    with torch.no_grad():
        broken[1].weight.fill_(torch.nan)  # type: ignore[operator]
    with pytest.raises(Refusal, match="finite logits"):
        answers(broken, clean[1], engine)


def test_intervals_of_shares_widen_with_groups() -> None:
    values = np.repeat([0.0, 1.0], 100)
    low, high = share_interval(values, None, 0)
    assert (low, high) == pytest.approx((0.4287, 0.5713), abs=1e-3)
    wide = share_interval(values, np.repeat(np.arange(10), 20).astype(str), 0)
    assert wide[0] < low - 0.1
    assert wide[1] > high + 0.1


def test_samples_keep_the_order(clean: tuple[Examples, Examples]) -> None:
    data = clean[0]
    some = sampled(data, 40, 1)
    assert len(some) == 40
    assert np.array_equal(data.positions(some.ids), np.sort(data.positions(some.ids)))
    assert sampled(data, 10_000, 1) is data
