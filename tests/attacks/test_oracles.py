"""Answers known otherwise: closed forms, a slow literal reading, foolbox."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from unteach.attacks import Fgsm, Nearest, Schedule, pgd_l2, pgd_linf
from unteach.attacks.margins import margin, soft_margin, wrong
from unteach.attacks.probe import probing

Data = tuple[torch.Tensor, torch.Tensor]


def linear(classes: int, features: int, seed: int) -> tuple[nn.Linear, torch.Tensor, torch.Tensor, torch.Tensor]:
    """A linear classifier, points in the middle of the box, its own labels, and the exact distances to the
    boundary."""
    rng = torch.Generator().manual_seed(seed)
    model = nn.Linear(features, classes)
    with torch.no_grad():
        model.weight.copy_(torch.randn(classes, features, generator=rng))
        x = 0.5 + 0.02 * torch.randn(16, features, generator=rng)
        model.bias.copy_(-model.weight @ torch.full((features,), 0.5))
        z = model(x)
    y = z.argmax(1)
    gaps = z.gather(1, y[:, None]) - z
    widths = (model.weight[y][:, None] - model.weight[None]).norm(dim=2)
    ratios = (gaps / widths).scatter(1, y[:, None], torch.inf).detach()
    return model, x.clamp(0, 1), y, ratios.amin(1)


@settings(max_examples=15, deadline=None)
@given(classes=st.integers(2, 6), seed=st.integers(0, 10_000))
def test_on_a_linear_model_nearest_is_the_distance_to_the_boundary(classes: int, seed: int) -> None:
    model, x, y, exact = linear(classes, 40, seed)
    found = Nearest(bf16=False).search(model, x, y)
    assert bool(found.success.all())
    assert bool((found.distances >= exact * 0.999 - 1e-6).all())
    ratios = found.distances / exact
    assert float(ratios.median()) <= 1.02
    assert float(ratios.max()) <= 1.3  # another class may win the approach where two boundaries are equally near


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), restart=st.booleans())
def test_on_a_linear_model_schedule_is_right_within_a_step(seed: int, restart: bool) -> None:
    model, x, y, exact = linear(2, 40, seed)
    found = Schedule(bf16=False, restart=restart).search(model, x, y)
    assert bool(found.success.all())
    assert bool((found.distances >= exact * 0.999 - 1e-6).all())
    assert bool((found.distances <= exact + 0.1 * found.epsilons + 1e-5).all())


def literal(
    model: nn.Module, x: torch.Tensor, y: torch.Tensor, epsilon: float, steps: int, restart: bool
) -> tuple[torch.Tensor, float]:
    """AMUN's search of one example, step by step, as the paper and the authors' code say it."""
    point, at = x.clone(), x.clone()
    while True:
        point = x.clone() if restart else point
        for _ in range(steps):
            at = point.detach().requires_grad_()
            logits = model(at)
            if int(logits.argmax(1)) != int(y):
                return at.detach(), epsilon
            (gradient,) = torch.autograd.grad(nn.functional.cross_entropy(logits, y), at)
            offset = at.detach() + 0.1 * epsilon * gradient / gradient.norm() - x
            offset = offset * min(1.0, epsilon / float(offset.norm()))
            point = (x + offset).clamp(0, 1)
        if int(model(point).argmax(1)) != int(y):
            return point, epsilon
        epsilon *= 2


@pytest.mark.parametrize("restart", [False, True])
def test_schedule_is_the_literal_reading(restart: bool, digits: Data) -> None:
    """On a smooth network, where no rounding can send the two on different ways."""
    x = digits[0][:20].float() / 255
    torch.manual_seed(2)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 10))
    with torch.no_grad():
        model[1].weight.mul_(3)
        y = model(x).argmax(1)
    found = Schedule(bf16=False, steps=7, restart=restart).search(model, x, y)
    assert len(set(found.epsilons.tolist())) > 2
    for i in range(len(x)):
        point, epsilon = literal(model, x[i : i + 1], y[i : i + 1], 0.04, 7, restart)
        torch.testing.assert_close(found.inputs[i : i + 1], point, atol=2e-4, rtol=0)
        assert found.epsilons[i] == pytest.approx(epsilon)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_on_a_linear_model_fgsm_takes_the_fewest_steps_that_cross_the_boundary(seed: int) -> None:
    model, x, y, _ = linear(2, 40, seed)
    apart = model.weight[1] - model.weight[0]
    with torch.no_grad():
        z = model(x)
    gap = z.gather(1, y[:, None]).squeeze(1) - z.gather(1, 1 - y[:, None]).squeeze(1)
    exact = gap / (0.001 * float(apart.detach().abs().sum()))  # steps of 0.001 in every pixel until the gap is zero
    found = Fgsm(bf16=False, epsilon=0.001, steps=400, restarts=0).search(model, x, y)
    sure = ((exact % 1) > 0.01) & ((exact % 1) < 0.99)
    taken = exact.ceil()[sure]
    assert len(taken) > 8
    assert bool(found.success.all())
    torch.testing.assert_close(found.distances[sure], taken * 0.001 * 40**0.5, rtol=1e-4, atol=0)
    assert found.gradients == 16
    assert torch.equal(found.forwards_each[sure], taken.long() + 2)  # and one before, one after


def test_fgsm_is_the_literal_reading(network: nn.Module, digits: Data) -> None:
    """On a smooth network: one gradient, its signs, one step after another, clamped after each."""
    x = digits[0][:20].float() / 255
    torch.manual_seed(2)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 10))
    with torch.no_grad():
        y = model(x).argmax(1)
    found = Fgsm(bf16=False, restarts=0).search(model, x, y)
    assert len(set(found.distances.tolist())) > 5
    for i in range(len(x)):
        at = x[i : i + 1].clone().requires_grad_()
        (gradient,) = torch.autograd.grad(nn.functional.cross_entropy(model(at), y[i : i + 1]), at)
        point = at.detach()
        for _ in range(128):
            point = (point + gradient.sign() / 255).clamp(0, 1)
            if int(model(point).argmax(1)) != int(y[i]):
                torch.testing.assert_close(found.inputs[i : i + 1], point, atol=1e-5, rtol=0)
                break
        else:
            assert not bool(found.success[i])


def test_fgsm_starts_again_from_noise_where_the_first_gradient_leads_nowhere() -> None:
    """Two hidden units that see distance from the middle, and a gradient of zero right there."""

    class Ridge(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.stack([torch.full_like(x[:, 0], 1.0), 20 * (x - 0.5).abs().mean(1)], 1)

    x, y = torch.full((6, 8), 0.5), torch.zeros(6, dtype=torch.long)
    stuck = Fgsm(restarts=0).search(Ridge(), x, y)
    assert not bool(stuck.success.any())
    assert torch.equal(stuck.inputs, x)
    assert stuck.gradients_each.tolist() == [1] * 6
    weak = Fgsm(restarts=2, steps=1).search(Ridge(), x, y, torch.Generator().manual_seed(0))
    assert weak.gradients_each.tolist() == [3] * 6
    found = Fgsm(restarts=3).search(Ridge(), x, y, torch.Generator().manual_seed(0))
    assert bool(found.success.all())
    assert found.gradients_each.tolist() == [2] * 6
    moved = (found.inputs - 0.5).abs()
    assert float(moved.mean(1).min()) > 0.05, "beyond where the two answers meet"
    assert float(moved.mean(1).max()) < 0.05 + 1 / 255 + 1e-6, "and no more than a step"
    assert len(found.inputs.unique(dim=0)) == 6


def test_fgsm_is_farther_than_the_nearest(network: nn.Module, digits: Data) -> None:
    x, y = digits[0][:100], digits[1][:100]
    near = Nearest().search(network, x, y)
    found = Fgsm().search(network, x, y, torch.Generator().manual_seed(0))
    live = near.distances > 0
    assert float((found.distances / near.distances)[live].median()) > 1.2
    assert found.gradients < near.gradients


def test_bf16_gradients_change_little(network: nn.Module, digits: Data) -> None:
    x, y = digits[0][:100], digits[1][:100]
    for make in (Schedule, Nearest):
        exact = make(bf16=False).search(network, x, y)
        fast = make(bf16=True).search(network, x, y)
        live = exact.distances > 0
        ratio = (fast.distances / exact.distances)[live]
        assert float(ratio.median()) == pytest.approx(1, abs=0.01)
        assert float(ratio.quantile(0.95)) < 1.05
        assert float((fast.labels == exact.labels).double().mean()) >= 0.97


def test_nearest_beats_the_schedule_with_a_tenth_of_the_gradients(network: nn.Module, digits: Data) -> None:
    x, y = digits[0][200:328], digits[1][200:328]
    near = Nearest().search(network, x, y)
    published = Schedule().search(network, x, y)
    live = published.distances > 0
    ratio = (near.distances / published.distances)[live]
    assert float(ratio.median()) <= 1
    assert float((ratio > 1.05).double().mean()) <= 0.05
    assert near.gradients * 8 < published.gradients


def test_where_nearest_does_not_arrive_the_schedule_takes_over(network: nn.Module, digits: Data) -> None:
    x, y = digits[0][200:264], digits[1][200:264]
    stuck = Nearest(first_cap=1e-6, cap=0.0, gradients=1, most=1, bf16=True).search(network, x, y)
    published = Schedule().search(network, x, y)
    assert bool(stuck.success.all())
    torch.testing.assert_close(stuck.distances, published.distances, rtol=1e-4, atol=1e-6)
    assert torch.equal(stuck.labels, published.labels)


def test_a_margin_in_doubt_is_asked_of_the_model_itself() -> None:
    """Nearer to the boundary than bf16 can tell: what is wrong by a hair is found at once, what is right by one a hair away."""
    model = nn.Linear(8, 2, bias=False)
    with torch.no_grad():
        model.weight.fill_(1.0)
        model.weight[1, :2] += torch.tensor([0.0100, -0.0099])
    x = torch.full((2, 8), 0.5)
    found = Nearest(bf16=True).search(model, x, torch.tensor([0, 1]))
    assert found.success.tolist() == [True, True]
    assert float(found.distances[0]) == 0
    assert found.forwards_each.tolist()[0] == 2
    assert 0 < float(found.distances[1]) < 0.01
    assert found.labels.tolist() == [1, 0]


@pytest.mark.filterwarnings("ignore")
def test_nearest_is_about_as_near_as_the_best_minimal_norm_attack(network: nn.Module, digits: Data) -> None:
    import copy

    import foolbox

    x, y = digits[0][:100].float() / 255, digits[1][:100]
    judge = foolbox.PyTorchModel(copy.deepcopy(network).eval(), bounds=(0, 1), device="cpu")
    attack = foolbox.attacks.DDNAttack(steps=100)
    _, points, success = attack(judge, x, y, epsilons=None)
    best = (points - x).flatten(1).norm(dim=1)
    found = Nearest().search(network, x, y)
    live = (found.distances > 0) & success
    assert float((found.distances / best)[live].median()) < 1.06


@pytest.mark.parametrize("random", [False, True])
def test_pgd_keeps_each_example_in_its_own_ball_and_raises_the_loss(
    random: bool, network: nn.Module, digits: Data
) -> None:
    x, y = digits[0][:150].float() / 255, digits[1][:150]
    radii = torch.linspace(0, 1, 150)
    start = torch.Generator().manual_seed(0) if random else None
    with probing(network, x, y, False) as probe:
        for out, lengths in [
            (pgd_l2(network, x, y, radii, start=start), lambda d: d.flatten(1).norm(dim=1)),
            (pgd_linf(network, x, y, radii / 4, start=start), lambda d: 4 * d.flatten(1).abs().amax(1)),
        ]:
            assert bool((lengths(out - x) <= radii + 1e-5).all())
            assert torch.equal(out[0], x[0])
            before, after = margin(probe.exact(x), y), margin(probe.exact(out), y)
            assert float((after < before)[10:].double().mean()) > 0.98
            assert float(wrong(probe.exact(out), y)[-30:].double().mean()) > 0.9


def test_pgd_reaches_the_far_end_of_the_ball_on_a_linear_model() -> None:
    model, x, y, _ = linear(2, 40, 5)
    normal = model.weight[1 - y] - model.weight[y]
    out = pgd_l2(model, x, y, 0.05, steps=30)
    torch.testing.assert_close(out, x + 0.05 * normal / normal.norm(dim=1, keepdim=True), atol=1e-5, rtol=0)
    out = pgd_linf(model, x, y, 0.05)
    torch.testing.assert_close(out, x + 0.05 * normal.sign(), atol=1e-6, rtol=0)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), many=st.booleans())
def test_the_soft_margin_tends_to_the_margin(seed: int, many: bool) -> None:
    rng = torch.Generator().manual_seed(seed)
    z = 5 * torch.randn(8, 4, generator=rng)
    y = (z > 1).float() if many else torch.randint(4, (8,), generator=rng)
    hard = margin(z, y)
    for temperature in (1.0, 0.1, 1e-4):
        soft = soft_margin(z, y, torch.full((8,), temperature))
        assert bool((soft <= hard + 1e-5).all())
        assert bool((soft >= hard - temperature * 1.4 - 1e-5).all())
