"""Influence unlearning: the step by hand, against exact removal where that is known, and what it must leave alone."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from made import blobs
from unteach import curvature
from unteach.engine import Engine, pixels
from unteach.methods.influence import Influence
from unteach.models.masks import set_masks
from unteach.store import fingerprint
from unteach.testing import check_method
from unteach.types import Examples, Refusal, Split


def rng() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3, stride=2), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(36, 3))


def halves(many: bool = False) -> Split:
    data = blobs(24, noise=0.45)
    if many:
        data = data.relabel(nn.functional.one_hot(data.labels, 3).float())
    return Split(forget=data.take(range(8)), retain=data.take(range(8, 24)))


def slopes(model: nn.Module, data: Examples) -> torch.Tensor:
    """Each example's gradient, in float64, ``n × P``."""
    model.eval()
    rows = []
    for i in range(len(data)):
        loss = data.task.loss(model(pixels(data.inputs[i : i + 1])), data.labels[i : i + 1]).sum()
        rows.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(model.parameters()))]))
    return torch.stack(rows).double()


def flat(model: nn.Module) -> torch.Tensor:
    return torch.cat([weight.detach().flatten() for weight in model.parameters()]).double()


def test_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """θ + α (λI + F)⁻¹ (∇ mean over all − ∇ mean over the rest), with the matrix written out; blocks of one row."""
    monkeypatch.setattr(curvature, "MEMORY", 1)
    model, split = network(), halves()
    assert split.retain is not None
    new = Influence(alpha=0.7, damping=0.05)(model, split, rng(), Engine(precision="fp32"))
    rows, gone = slopes(model, split.retain), slopes(model, split.forget)
    pull = torch.cat([rows, gone]).mean(0) - rows.mean(0)
    strength = 0.05 * rows.square().sum(1).mean()
    matrix = strength * torch.eye(rows.shape[1]) + rows.T @ rows / len(rows)
    exact = flat(model) + 0.7 * torch.linalg.solve(matrix, pull)
    torch.testing.assert_close(flat(new), exact, rtol=1e-3, atol=1e-4)
    for before, after in zip(model.buffers(), new.buffers()):
        assert torch.equal(before, after)


def test_it_goes_where_training_without_them_would_have_gone() -> None:
    """A logistic regression with a unique optimum: one step removes most of the way to the optimum of the rest."""
    split = halves()
    assert split.retain is not None
    data = Examples(
        torch.cat([split.forget.inputs, split.retain.inputs]),
        torch.cat([split.forget.labels, split.retain.labels]),
        blobs(24).ids,
        None,
        split.forget.classes,
    )

    def trained(part: Examples) -> nn.Module:
        model = nn.Sequential(nn.Flatten(), nn.Linear(64, 3, bias=False))
        torch.nn.init.zeros_(next(model.parameters()))
        optimizer = torch.optim.LBFGS(model.parameters(), max_iter=200, line_search_fn="strong_wolfe")

        def closure() -> torch.Tensor:
            optimizer.zero_grad()
            size = next(model.parameters()).square().sum()
            loss = part.task.loss(model(pixels(part.inputs)), part.labels).mean() + 0.05 * size
            loss.backward()  # type: ignore[no-untyped-call]
            return loss

        optimizer.step(closure)  # type: ignore[no-untyped-call]
        return model.requires_grad_(True)

    original, without = trained(data), trained(split.retain)
    way = flat(without) - flat(original)
    new = Influence(damping=0.3)(original, split, rng(), Engine(precision="fp32"))
    went = flat(new) - flat(original)
    assert torch.cosine_similarity(went, way, dim=0) > 0.5
    best = Influence(alpha=float(went @ way / went.square().sum()), damping=0.3)
    assert (flat(best(original, split, rng(), Engine())) - flat(without)).norm() < 0.9 * way.norm()


def test_pruned_weights_stay_zero() -> None:
    model = network()
    set_masks(model, {"4.weight": torch.rand(3, 36, generator=rng()) < 0.5})
    new = Influence()(model, halves(), rng(), Engine(precision="fp32"))
    after, before = dict(new.named_parameters())["4.weight"], dict(model.named_parameters())["4.weight"]
    assert not after[before == 0].any()
    assert not torch.equal(after, before)


@pytest.mark.parametrize("many", [False, True], ids=["classes", "labels"])
def test_contract(many: bool) -> None:
    split, model = halves(many), network()
    assert split.retain is not None
    assert fingerprint(check_method(Influence(), model, split)) != fingerprint(model)
    check_method(Influence(sample=3), model, Split(forget=split.forget.take([0]), retain=split.retain.take([0])))


def test_forgetting_what_is_kept_as_well_moves_nothing() -> None:
    """Forget set and retain set alike in content: their mean gradients are equal, and so v = 0."""
    split, model = halves(), network()
    same = Split(forget=split.forget, retain=split.forget)
    assert fingerprint(Influence()(model, same, rng(), Engine(precision="fp32"))) == fingerprint(model)


@pytest.mark.parametrize(
    "wrong", [{"alpha": -1.0}, {"damping": 0.0}, {"sample": 0}], ids=["alpha", "damping", "sample"]
)
def test_refusals(wrong: dict[str, float]) -> None:
    with pytest.raises(Refusal, match=next(iter(wrong))):
        Influence(**wrong)  # type: ignore[arg-type]
