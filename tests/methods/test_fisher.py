"""Fisher forgetting: its noise by hand, and what it must leave alone."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from made import blobs
from unteach.engine import Engine, pixels
from unteach.methods.fisher import Fisher
from unteach.models.masks import set_masks
from unteach.store import fingerprint
from unteach.testing import check_method
from unteach.types import Refusal, Split


def rng() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3, stride=2), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(36, 3))


def halves(many: bool = False) -> Split:
    data = blobs(24)
    if many:
        data = data.relabel(nn.functional.one_hot(data.labels, 3).float())
    return Split(forget=data.take(range(8)), retain=data.take(range(8, 24)))


def test_by_hand() -> None:
    model, split = network().eval(), halves()
    assert split.retain is not None
    new = Fisher(alpha=0.01, floor=1e-3, sample=None)(model, split, rng(), Engine(precision="fp32"))
    weights = list(model.parameters())
    information = [torch.zeros_like(weight) for weight in weights]
    for image in pixels(split.retain.inputs):
        for label in range(3):
            log = model(image[None]).log_softmax(1)[0, label]
            for total, slope in zip(information, torch.autograd.grad(log, weights)):
                total += log.detach().exp() * slope**2 / 16
    generator = rng()
    torch.randperm(16, generator=generator)  # which retained examples: here all
    noise = torch.randn(sum(weight.numel() for weight in weights), generator=generator)
    parts = torch.split(noise, [weight.numel() for weight in weights])
    for weight, part, known, after in zip(weights, parts, information, new.parameters()):
        exact = weight + 0.01 * known.clamp(min=1e-3) ** -0.25 * part.view(weight.shape)
        torch.testing.assert_close(after, exact)
    for before, buffer in zip(model.buffers(), new.buffers()):
        assert torch.equal(before, buffer)


def test_what_the_retain_set_does_not_see_gets_the_most_noise() -> None:
    """A corner that is black in every retained image: the weights on it hold what the forget set alone has taught."""
    split = halves()
    assert split.retain is not None
    split.retain.inputs[:, :, :2, :2] = 0
    linear = nn.Linear(64, 3)
    new = Fisher(alpha=0.01)(nn.Sequential(nn.Flatten(), linear), split, rng(), Engine(precision="fp32"))
    moved = (dict(new.named_parameters())["1.weight"] - linear.weight).detach().abs().view(3, 8, 8).mean(0)
    assert moved[:2, :2].min() > 3 * moved[2:].mean()


def test_pruned_weights_and_fixed_ones_stay() -> None:
    model = network()
    model[1].weight.requires_grad_(False)
    set_masks(model, {"0.weight": torch.rand(4, 1, 3, 3, generator=rng()) < 0.5})
    new = Fisher(alpha=0.1)(model, halves(), rng(), Engine(precision="fp32"))
    after, before = dict(new.named_parameters()), dict(model.named_parameters())
    assert not after["0.weight"][before["0.weight"] == 0].any()
    assert torch.equal(after["1.weight"], before["1.weight"])
    assert not torch.equal(after["4.weight"], before["4.weight"])


@pytest.mark.parametrize("many", [False, True], ids=["classes", "labels"])
def test_contract(many: bool) -> None:
    split, model = halves(many), network()
    assert split.retain is not None
    assert fingerprint(check_method(Fisher(), model, split)) != fingerprint(model)
    check_method(Fisher(sample=4), model, Split(forget=split.forget.take([0]), retain=split.retain.take([0])))


def test_the_bill_counts_every_class() -> None:
    engine = Engine(precision="fp32")
    Fisher(sample=5)(network(), halves(), rng(), engine)
    assert engine.meter.trained == 5
    assert engine.meter.gradients == 10
    assert [stage.what for stage in engine.stages] == ["fisher information"]


@pytest.mark.parametrize("wrong", [{"alpha": -1.0}, {"floor": 0.0}, {"sample": 0}], ids=["alpha", "floor", "sample"])
def test_refusals(wrong: dict[str, float]) -> None:
    with pytest.raises(Refusal, match=next(iter(wrong))):
        Fisher(**wrong)  # type: ignore[arg-type]
