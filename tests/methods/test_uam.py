"""UAM: its step by hand, fine-tuning as its limit, and what it must leave alone."""

from __future__ import annotations

import copy
from collections.abc import Iterable

import pytest
import torch
from torch import nn

from made import blobs
from unteach.engine import Engine, pixels
from unteach.methods.uam import Uam
from unteach.models import Blueprint, build
from unteach.models.masks import set_masks
from unteach.store import fingerprint
from unteach.testing import check_method
from unteach.train import Sgd, Source, fit
from unteach.types import Examples, Refusal, Split

WHOLE = Sgd(lr=0.3, epochs=1, batch=1000, momentum=0.0, weight_decay=0.0, schedule="constant")
SHORT = Sgd(lr=0.02, epochs=2, batch=8)


def rng() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def plain() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.Tanh(), nn.Linear(8, 3))


def halves(many: bool = False) -> Split:
    data = blobs(32, noise=0.45)
    if many:
        data = data.relabel(nn.functional.one_hot(data.labels, 3).float())
    return Split(forget=data.take(range(16)), retain=data.take(range(16, 32)))


def slope(model: nn.Module, data: Examples) -> list[torch.Tensor]:
    loss = data.task.loss(model(pixels(data.inputs)), data.labels).mean()
    return list(torch.autograd.grad(loss, list(model.parameters())))


def size(tensors: Iterable[torch.Tensor]) -> float:
    return float(torch.cat([part.detach().flatten() for part in tensors]).norm())


def test_a_step_by_hand() -> None:
    """w − lr · ∇L_retain(w + ρ‖w‖ ∇L_forget(w) / ‖∇L_forget(w)‖); both sets are as large as the one step."""
    model, split = plain(), halves()
    assert split.retain is not None
    new = Uam(rho=0.5, optim=WHOLE)(model, split, rng(), Engine(precision="fp32"))
    up = slope(model, split.forget)
    pushed = copy.deepcopy(model)
    with torch.no_grad():
        for weight, part in zip(pushed.parameters(), up):
            weight += 0.5 * size(model.parameters()) * part / size(up)
    for before, after, down in zip(model.parameters(), new.parameters(), slope(pushed, split.retain)):
        torch.testing.assert_close(after, before - 0.3 * down, rtol=1e-4, atol=1e-6)


def test_without_a_push_it_is_fine_tuning() -> None:
    model, split = plain(), halves()
    assert split.retain is not None
    new = Uam(rho=0.0, optim=WHOLE)(model, split, rng(), Engine(precision="fp32"))
    tuned = copy.deepcopy(model)
    fit(tuned, [Source(split.retain)], WHOLE, seed=0, engine=Engine(precision="fp32"))
    for ours, theirs in zip(new.parameters(), tuned.parameters()):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def test_a_flat_forget_loss_pushes_nowhere() -> None:
    """A forget set that is answered beyond doubt has no slope in fp32; the step is then fine-tuning's."""
    model, split = plain(), halves()
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(0)
        model[3].get_parameter("bias").copy_(torch.tensor([1e4, 0.0, 0.0]))
    zeros = split.forget.take([i for i in range(16) if split.forget.labels[i] == 0])
    new = Uam(rho=5.0, optim=WHOLE)(model, Split(forget=zeros, retain=split.retain), rng(), Engine(precision="fp32"))
    assert all(torch.isfinite(weight).all() for weight in new.parameters())


def test_pruned_weights_are_not_pushed() -> None:
    model, split = plain(), halves()
    mask = torch.rand(8, 64, generator=rng()) < 0.5
    set_masks(model, {"1.weight": mask})
    sparse = Uam(rho=0.5, optim=WHOLE)(model, split, rng(), Engine(precision="fp32"))
    assert not dict(sparse.named_parameters())["1.weight"][~mask].any()
    up = slope(model, split.forget)
    up[0] *= mask
    pushed = copy.deepcopy(model)
    with torch.no_grad():
        for weight, part in zip(pushed.parameters(), up):
            weight += 0.5 * size(model.parameters()) * part / size(up)
    assert split.retain is not None
    down = slope(pushed, split.retain)[0] * mask
    exact = dict(model.named_parameters())["1.weight"] - 0.3 * down
    torch.testing.assert_close(dict(sparse.named_parameters())["1.weight"], exact, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("many", [False, True], ids=["classes", "labels"])
def test_contract(many: bool) -> None:
    split, model = halves(many), build(Blueprint(name="small-cnn", classes=3, shape=(1, 8, 8)), seed=0)
    assert split.retain is not None
    assert fingerprint(check_method(Uam(optim=SHORT), model, split)) != fingerprint(model)
    check_method(Uam(optim=SHORT), model, Split(forget=split.forget.take([0]), retain=split.retain))
    check_method(Uam(optim=SHORT), model, Split(forget=split.forget, retain=split.retain.take([0])))


@pytest.mark.parametrize("mode", ["train", "frozen", "eval"])
def test_batch_norm_does_what_the_optimiser_says(mode: str) -> None:
    model = build(Blueprint(name="small-cnn", classes=3, shape=(1, 8, 8)), seed=0)
    method = Uam(optim=Sgd(lr=0.02, epochs=1, batch=8, batch_norm=mode))
    new = method(model, halves(), rng(), Engine(precision="fp32"))
    moved = [not torch.equal(a, b) for a, b in zip(model.buffers(), new.buffers())]
    assert any(moved) == (mode == "train")


def test_a_negative_push_is_refused() -> None:
    with pytest.raises(Refusal, match="rho"):
        Uam(rho=-1.0)
