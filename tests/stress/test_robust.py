"""Robust accuracy against exact answers for linear networks; transfer and the bound by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from unteach.audit.finding import Finding, Skipped
from unteach.engine import Engine
from unteach.stress import Models, Parts, Robust
from unteach.types import Examples, Refusal


def line(weight: torch.Tensor, bias: float = 0.0) -> nn.Module:
    """Class 1 where weight · x + bias > 0."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(weight.numel(), 2))
    with torch.no_grad():
        model[1].weight.copy_(torch.stack([torch.zeros(weight.numel()), weight]))  # type: ignore[operator]
        model[1].bias.copy_(torch.tensor([0.0, bias]))  # type: ignore[operator]
    return model


def data(n: int, seed: int) -> Examples:
    """Floats well inside 0–1, so that no step is cut off, labelled by the sum of the pixels."""
    x = 0.3 + 0.4 * torch.rand(n, 1, 2, 2, generator=torch.Generator().manual_seed(seed))
    y = (x.sum((1, 2, 3)) > 2).long()
    return Examples(x, y, np.array([f"{seed}.{i}" for i in range(n)]), None, ("low", "high"))


PARTS = Parts(forget=data(200, 0), retain=None, unseen=data(150, 1))
ONES = torch.ones(4)


def by_name(found: object) -> dict[tuple[str, str], Finding]:
    assert isinstance(found, tuple)
    return {(one.name, one.part): one for one in found if isinstance(one, Finding)}


def test_a_linear_network_is_broken_exactly_within_the_ball(engine: Engine) -> None:
    test = Robust(epsilon=0.02, steps=15, step=0.1)
    found = by_name(test(Models(unlearned=line(ONES, -2.0)), PARTS, seed=0, engine=engine))
    for part, examples in (("forget", PARTS.forget), ("test", PARTS.unseen)):
        slack = (examples.inputs.sum((1, 2, 3)) - 2).abs()
        expected = float((slack > 4 * 0.02).double().mean())
        assert 0 < expected < 1
        assert found["robust accuracy", part].value == pytest.approx(expected, abs=1.5 / len(examples))


def test_what_is_wrong_before_the_attack_is_wrong(engine: Engine) -> None:
    found = by_name(Robust(steps=1)(Models(unlearned=line(-ONES, 2.0)), PARTS, seed=0, engine=engine))
    assert found["robust accuracy", "forget"].value == 0


def test_transfer_between_equal_and_unlike_networks(engine: Engine) -> None:
    wide = Robust(epsilon=0.25, steps=12)
    same = line(ONES, -2.0)
    crooked = line(torch.tensor([1.0, 1.0, 1.0, -1.0]), -1.0)
    models = Models(unlearned=crooked, retrained=(same, line(2 * ONES, -4.0)))
    found = by_name(wide(models, PARTS, seed=0, engine=engine))
    forth = found["adversarial transfer", "crafted on the model, given to retrained ones"]
    back = found["adversarial transfer", "crafted on retrained models, given to the model"]
    assert forth.retrained == back.retrained == (1.0, 1.0), "one line scaled is the same line"
    assert forth.value < 1
    agreement = found["agreement on adversarial examples", "forget"]
    assert agreement.retrained == (1.0, 1.0)
    assert agreement.value < 1


def test_the_bound_is_the_norm_and_remembers_the_original(engine: Engine) -> None:
    models = Models(unlearned=line(3 * ONES), retrained=(line(ONES),), original=line(2 * ONES))
    bound = by_name(Robust(steps=1)(models, PARTS, seed=0, engine=engine))["Lipschitz bound", "logits"]
    assert bound.value == pytest.approx(6, rel=1e-3)
    assert bound.retrained == pytest.approx((2,), rel=1e-3)
    assert bound.doubts == ("Before unlearning it was 4.",)
    assert not bound.two_sided


def test_without_others_and_without_a_bound(engine: Engine) -> None:
    class Odd(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.flatten(1).softmax(1)[:, :2] ** 3

    found = Robust(steps=1)(Models(unlearned=nn.Sequential(Odd())), PARTS, seed=0, engine=engine)
    skipped = {one.name: one.reason for one in found if isinstance(one, Skipped)}
    assert set(skipped) == {"adversarial transfer", "agreement on adversarial examples", "Lipschitz bound"}
    assert all(skipped.values())


def test_settings_that_can_not_be_are_refused() -> None:
    with pytest.raises(Refusal, match="epsilon above 0"):
        Robust(epsilon=0.0)
    with pytest.raises(Refusal, match="steps above 0"):
        Robust(steps=0)
