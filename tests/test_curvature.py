"""Gradients of single examples: against a loop, closed forms, and the definition of the Fisher information."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from made import blobs
from unteach import curvature
from unteach.curvature import (
    alive,
    average,
    by_weight,
    empirical,
    expected,
    mean_gradient,
    rows_of_gradients,
    solve_fisher,
    squared_norm,
    trained_weights,
)
from unteach.engine import Engine, pixels
from unteach.models.masks import set_masks
from unteach.store import fingerprint
from unteach.types import Examples, Refusal

Size = Callable[[torch.Tensor], torch.Tensor]


def network(seed: int = 0) -> nn.Sequential:
    """With batch norm whose running statistics are not the batch's, and dropout, in training mode."""
    torch.manual_seed(seed)
    norm = nn.BatchNorm2d(4)
    assert norm.running_mean is not None
    norm.running_mean.normal_()
    layers = nn.Conv2d(1, 4, 3, stride=2), norm, nn.ReLU(), nn.Dropout(0.5), nn.Flatten(), nn.Linear(36, 3)
    return nn.Sequential(*layers).train()


def several(data: Examples) -> Examples:
    return data.relabel(torch.nn.functional.one_hot(data.labels, 3).float())


def looped(net: nn.Module, data: Examples, term: Callable[[torch.Tensor, int], torch.Tensor]) -> torch.Tensor:
    """One gradient after another: ``n × P``; ``term(logits of one example, its position)``."""
    net.eval()
    rows = []
    for i in range(len(data)):
        value = term(net(pixels(data.inputs[i : i + 1])), i)
        rows.append(torch.cat([g.flatten() for g in torch.autograd.grad(value, list(net.parameters()))]))
    net.train()
    return torch.stack(rows)


@pytest.mark.parametrize("of", [torch.square, torch.abs], ids=["square", "abs"])
@pytest.mark.parametrize("many", [False, True], ids=["classes", "labels"])
def test_it_is_the_loop_over_single_examples(of: Size, many: bool) -> None:
    data = several(blobs(7)) if many else blobs(7)
    net, engine = network(), Engine(precision="fp32")
    before = fingerprint(net)
    found = average(net, data, empirical(data.task), of, engine=engine, label="importance")
    rows = looped(net, data, lambda logits, i: data.task.loss(logits, data.labels[i : i + 1]).sum())
    torch.testing.assert_close(found, of(rows).mean(0))
    torch.testing.assert_close(rows_of_gradients(net, data, engine=engine), rows)
    assert fingerprint(net) == before
    assert all(module.training for module in net.modules())
    assert all(weight.grad is None for weight in net.parameters())
    assert engine.meter.trained == 14


@pytest.mark.parametrize("many", [False, True], ids=["classes", "labels"])
def test_expected_terms_give_the_fisher_information(many: bool) -> None:
    """E over the answers drawn from the model of (∂ log p)², every answer in turn, weighted with its probability."""
    data = several(blobs(3)) if many else blobs(3)
    net = network()
    net.eval()
    answers = torch.cartesian_prod(*[torch.arange(2.0)] * 3) if many else torch.eye(3)
    exact = torch.zeros(sum(weight.numel() for weight in net.parameters()))
    for answer in answers:

        def log_likelihood(logits: torch.Tensor, answer: torch.Tensor = answer) -> torch.Tensor:
            if many:
                return -nn.functional.binary_cross_entropy_with_logits(logits[0], answer, reduction="sum")
            return logits.log_softmax(1)[0] @ answer

        for i, row in enumerate(looped(net, data, lambda logits, _: log_likelihood(logits))):
            with torch.no_grad():
                net.eval()
                p = log_likelihood(net(pixels(data.inputs[i : i + 1]))).exp()
            exact += p * row.square() / len(data)
    found = average(net, data, expected(data.task), engine=Engine(precision="fp32"), label="information")
    torch.testing.assert_close(found, exact)


@pytest.mark.parametrize("kind", ["empirical", "expected", "norm"])
def test_all_at_once_is_one_by_one(kind: str) -> None:
    """What a GPU does, against what a CPU does."""
    data, net, engine = blobs(5), network(), Engine(precision="fp32")
    terms = {"empirical": empirical(data.task), "expected": expected(data.task), "norm": squared_norm}[kind]
    with curvature.evaluating(net):
        rows = list(curvature._of_each(net, trained_weights(net), data, terms, engine))
    units = engine.meter.units
    found = average(net, data, terms, engine=engine, label="importance")
    torch.testing.assert_close(torch.stack(rows).square().sum(0).mean(0), found)
    assert engine.meter.units == 2 * units


def test_squared_norm_of_a_linear_map_has_a_closed_form() -> None:
    """∂‖Wx‖² = 2 (Wx) xᵀ."""
    data = blobs(4)
    linear = nn.Linear(64, 3, bias=False)
    net = nn.Sequential(nn.Flatten(), linear)
    x = pixels(data.inputs).flatten(1)
    exact = (2 * (x @ linear.weight.T)[:, :, None] * x[:, None, :]).abs().mean(0)
    found = average(net, data, squared_norm, torch.abs, engine=Engine(precision="fp32"), label="importance")
    torch.testing.assert_close(by_weight(net, found)["1.weight"], exact.detach())


@given(n=st.integers(1, 9), batch=st.integers(2, 10))
@settings(max_examples=8, deadline=None)
def test_the_mean_gradient_does_not_depend_on_batches(n: int, batch: int) -> None:
    data, net, engine = blobs(9).take(range(n)), network(), Engine(precision="fp32")
    terms = empirical(data.task)
    whole = mean_gradient(net, data, engine=engine, label="gradient")
    torch.testing.assert_close(average(net, data, terms, torch.clone, batch=batch, engine=engine, label="g"), whole)
    rows = looped(net, data, lambda logits, i: data.task.loss(logits, data.labels[i : i + 1]).sum())
    torch.testing.assert_close(rows.mean(0), whole)


def test_squares_of_batches_are_smaller_as_it_says() -> None:
    """variance / B + mean² of batches, against variance + mean² of single examples; equal by chance only."""
    data, net, engine = blobs(8), network(), Engine(precision="fp32")
    rows = rows_of_gradients(net, data, engine=engine)
    one = average(net, data, empirical(data.task), engine=engine, label="importance")
    torch.testing.assert_close(one, rows.var(0, correction=0) + rows.mean(0) ** 2)
    two = average(net, data, empirical(data.task), batch=4, engine=engine, label="importance")
    torch.testing.assert_close(two, torch.stack([half.mean(0) for half in torch.split(rows, 4)]).square().mean(0))
    assert two.sum() < one.sum()


@pytest.mark.parametrize("memory", [2**29, 1], ids=["one-block", "one-row-blocks"])
def test_the_fisher_system_is_solved(memory: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against the explicit matrix, and against WoodFisher's recursion by Sherman and Morrison's formula."""
    monkeypatch.setattr(curvature, "MEMORY", memory)
    data, net, engine = blobs(6), network(), Engine(precision="fp32")
    assert curvature.at_once(net) == (curvature.BATCH if memory > 1 else 1)
    target = torch.randn(int(alive(net).sum()), generator=torch.Generator().manual_seed(1))
    found = solve_fisher(net, data, target, damping=0.1, engine=engine)
    rows = rows_of_gradients(net, data, engine=engine).double()
    strength = 0.1 * rows.square().sum(1).mean()
    matrix = strength * torch.eye(len(target)).double() + rows.T @ rows / len(rows)
    torch.testing.assert_close(found, torch.linalg.solve(matrix, target.double()).float(), rtol=1e-3, atol=1e-4)
    inverse = torch.eye(len(target)).double() / strength
    for row in rows:
        turned = inverse @ row
        inverse = inverse - torch.outer(turned, turned) / (len(rows) + row @ turned)
    torch.testing.assert_close(found, (inverse @ target.double()).float(), rtol=1e-3, atol=1e-4)


def test_the_fisher_system_leaves_pruned_weights_out() -> None:
    data, net, engine = blobs(4), network(), Engine(precision="fp32")
    set_masks(net, {"5.weight": torch.rand(3, 36, generator=torch.Generator().manual_seed(0)) < 0.5})
    kept = alive(net)
    found = solve_fisher(net, data, torch.ones(len(kept)), damping=0.5, engine=engine)
    assert not found[~kept].any()
    rows = rows_of_gradients(net, data, engine=engine)[:, kept]
    strength = 0.5 * rows.square().sum(1).mean()
    matrix = strength * torch.eye(int(kept.sum())) + rows.T @ rows / len(rows)
    torch.testing.assert_close(found[kept], torch.linalg.solve(matrix, torch.ones(len(matrix))), rtol=1e-3, atol=1e-4)


def test_without_any_slope_there_is_no_solution_to_move_by() -> None:
    linear = nn.Linear(64, 3)
    torch.nn.init.constant_(linear.bias, -1e6)  # no input gets through the ReLU
    flat = nn.Sequential(nn.Flatten(), linear, nn.ReLU())
    ones = torch.ones(195)
    assert not solve_fisher(flat, blobs(3), ones, damping=0.1, engine=Engine(precision="fp32")).any()


class Wayward(nn.Module):
    """Its course depends on what it sees."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(64, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.linear(x.flatten(1))
        return logits if float(logits.sum()) > 0 else -logits


def test_a_network_that_can_not_be_mapped_is_looped() -> None:
    data, engine, wayward = blobs(4), Engine(precision="fp32"), Wayward()
    terms = empirical(data.task)
    with pytest.raises(RuntimeError):  # which is what is listened for
        next(curvature._of_each(wayward, trained_weights(wayward), data, terms, engine))
    found = average(wayward, data, terms, engine=engine, label="importance")
    rows = looped(wayward, data, lambda logits, i: data.task.loss(logits, data.labels[i : i + 1]).sum())
    torch.testing.assert_close(found, rows.square().mean(0))


def test_pruned_and_fixed_weights_are_told_apart() -> None:
    net = network()
    net[0].bias.requires_grad_(False)
    mask = torch.rand(3, 36, generator=torch.Generator().manual_seed(0)) < 0.5
    set_masks(net, {"5.weight": mask})
    assert "0.bias" not in trained_weights(net)
    assert torch.equal(by_weight(net, alive(net))["5.weight"], mask)
    assert int((~alive(net)).sum()) == int((~mask).sum())


def test_refusals() -> None:
    net, data = network(), blobs(3)
    with pytest.raises(Refusal, match="at least one example"):
        average(net, data.take([]), empirical(data.task), engine=Engine(), label="importance")
    with pytest.raises(Refusal, match="weights to train"):
        trained_weights(net.requires_grad_(False))


def test_memory_is_bounded() -> None:
    assert curvature.at_once(network()) == curvature.BATCH
    huge = nn.Linear(2**15, 2**13, bias=False, device="meta")
    assert curvature.at_once(huge) == 1
