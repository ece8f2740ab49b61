"""AMUN's variants: the ablation sets to the point and the label, SalUn's mask, l1, and examples that transfer."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import unteach.methods.amun as room
from made import blobs
from unteach.adversarial import ablation_set, on_sphere, other_labels
from unteach.attacks import Fgsm, Nearest
from unteach.checkpoint import save
from unteach.data.augment import Augment
from unteach.engine import Engine, pixels
from unteach.methods.amun import NEIGHBOURS, Amun
from unteach.models import Blueprint, build
from unteach.models.masks import set_masks
from unteach.provenance import Provenance
from unteach.saliency import only, saliency_mask
from unteach.sparsity import strength
from unteach.store import fingerprint
from unteach.testing import check_method
from unteach.train import Sgd, Source, fit
from unteach.types import Examples, Refusal, Split

SHORT = Sgd(lr=0.02, epochs=2, batch=32, schedule="step:1")
CNN = Blueprint(name="small-cnn", classes=4, shape=(1, 8, 8))
seeds = st.integers(0, 2**31 - 1)


def rng() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def exact() -> Engine:
    return Engine(accelerator="cpu", precision="fp32")


def parted(data: Examples) -> Split:
    gone = np.arange(len(data)) % 6 == 0
    return Split(forget=data.take(gone), retain=data.take(~gone))


def several(data: Examples) -> Examples:
    """The same images with two or three labels each."""
    hot = torch.nn.functional.one_hot(data.labels, 4) + torch.nn.functional.one_hot((data.labels + 1) % 4, 4)
    return data.relabel((hot > 0).float())


@pytest.fixture(scope="module", params=["one label", "several labels"])
def trained(request: pytest.FixtureRequest) -> tuple[torch.nn.Module, Split]:
    data = blobs(120, classes=4, noise=0.4)
    data = several(data) if request.param == "several labels" else data
    model = build(CNN, seed=0)
    fit(model, [Source(data)], Sgd(lr=0.1, epochs=12, batch=32), seed=0, engine=exact())
    return model, parted(data)


@pytest.fixture(scope="module")
def another(trained: tuple[torch.nn.Module, Split]) -> torch.nn.Module:
    """A network of the same kind that learnt the forget set only, from another start."""
    _, split = trained
    model = build(CNN, seed=5)
    fit(model, [Source(split.forget)], Sgd(lr=0.1, epochs=40, batch=32), seed=3, engine=exact())
    return model


def linear(classes: int = 3) -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, classes))


VARIANTS = [
    *(Amun(neighbours=kind) for kind in NEIGHBOURS),
    Amun(saliency=0.3),
    Amun(l1=5e-4),
    Amun(l1=5e-4, l1_decay="compounding", saliency=0.5, use_retain=False),
    Amun(augment=Augment(crop=1), augment_neighbours=True),
    Amun(attack=Fgsm(steps=32, restarts=1, bf16=False)),
]


@pytest.mark.parametrize("method", VARIANTS, ids=str)
def test_contract(method: Amun, trained: tuple[torch.nn.Module, Split]) -> None:
    model, split = trained
    new = check_method(replace(method, optim=SHORT), model, split)
    assert fingerprint(new) != fingerprint(model)
    assert not any(weight._backward_hooks for weight in new.parameters())


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        ({"neighbours": "far"}, "adv, advl, rl"),
        ({"saliency": 0.0}, "saliency above 0"),
        ({"saliency": 1.1}, "at most 1"),
        ({"l1": -1.0}, "l1 to be 0 or more"),
        ({"l1": math.nan}, "l1 to be 0 or more"),
        ({"l1_decay": "cosine"}, "linear or compounding"),
    ],
)
def test_settings_that_can_not_be(wrong: dict[str, float], word: str) -> None:
    with pytest.raises(Refusal, match=word):
        Amun(**wrong)


# What stands for neighbours


def pairs(seed: int, many: bool) -> tuple[Examples, Examples]:
    """Made-up neighbours of examples 5, 2, 7 and 0 of ten: near ones, one at distance 0, under labels one off."""
    generator = torch.Generator().manual_seed(seed)
    clean = blobs(10, classes=4, seed=seed % 1000)
    clean = several(clean) if many else clean
    own = clean.take([5, 2, 7, 0])
    moved = (pixels(own.inputs) + 0.1 * torch.randn(own.inputs.shape, generator=generator)).clamp(0, 1)
    moved[2] = pixels(own.inputs)[2]
    labels = 1 - own.labels if many else (own.labels + 1) % 4
    ids = np.array([f"~{name}" for name in own.ids])
    return replace(own, inputs=moved, labels=labels, ids=ids), clean


@given(seed=seeds, many=st.booleans(), kind=st.sampled_from(["adv", "advl", "rl", "arl", "ars"]))
@settings(max_examples=60, deadline=None)
def test_ablation_sets_have_the_points_and_labels_of_their_names(seed: int, many: bool, kind: str) -> None:
    near, clean = pairs(seed, many)
    own = clean.take([5, 2, 7, 0])
    made = ablation_set(near, clean, kind, torch.Generator().manual_seed(seed))
    assert made.ids.tolist() == near.ids.tolist()
    assert made.labels.dtype == near.labels.dtype
    if kind in ("rl", "arl"):
        for label, true, theirs in zip(made.labels, own.labels, near.labels):
            assert not torch.equal(label, true)
            assert not torch.equal(label, theirs)
            assert bool(((label == 0) | (label == 1)).all()) if many else 0 <= int(label) < 4
    else:
        assert torch.equal(made.labels, near.labels)
    if kind in ("advl", "rl"):
        assert torch.equal(made.inputs, own.inputs)
    elif kind in ("adv", "arl"):
        assert torch.equal(made.inputs, near.inputs)
    else:
        assert float(made.inputs.min()) >= 0
        assert float(made.inputs.max()) <= 1
        centre = pixels(own.inputs)
        limit = (near.inputs - centre).flatten(1).norm(dim=1)
        distance = (made.inputs - centre).flatten(1).norm(dim=1)
        assert bool((distance <= limit + 1e-5).all()), "held in 0–1 a point can only come nearer"
        assert torch.equal(made.inputs[2], centre[2]), "what is misread already has no neighbour but itself"
        again = on_sphere(centre, limit, torch.Generator().manual_seed(seed)).clamp(0, 1)
        torch.testing.assert_close(made.inputs, again, rtol=0, atol=1e-5)


@given(seed=seeds, radius=st.floats(0, 50))
@settings(max_examples=40, deadline=None)
def test_random_points_are_exactly_as_far_before_they_are_held_in_range(seed: int, radius: float) -> None:
    centre = torch.rand(6, 1, 4, 4)
    radii = torch.linspace(0, radius, 6)
    points = on_sphere(centre, radii, torch.Generator().manual_seed(seed))
    torch.testing.assert_close((points - centre).flatten(1).norm(dim=1), radii, rtol=1e-4, atol=1e-4)


def test_random_points_favour_no_direction() -> None:
    points = on_sphere(torch.zeros(20_000, 3), torch.full((20_000,), 2.0), rng())
    assert float(points.mean(0).abs().max()) < 0.05
    # On a sphere in three dimensions every coordinate is uniform.
    assert float((points[:, 0].abs() < 1).double().mean()) == pytest.approx(0.5, abs=0.02)


def test_other_labels_are_uniform_over_the_rest() -> None:
    one, other = torch.full((30_000,), 3), torch.full((30_000,), 1)
    counts = torch.bincount(other_labels(one, other, 5, rng()), minlength=5).double() / 30_000
    torch.testing.assert_close(counts, torch.tensor([1, 0, 1, 0, 1]).double() / 3, rtol=0, atol=0.015)
    one, other = torch.tensor([[0.0, 1.0]]).expand(30_000, 2), torch.tensor([[1.0, 1.0]]).expand(30_000, 2)
    drawn = other_labels(one, other, 2, rng())
    assert not bool(drawn[:, 1].any()), "only 00 and 10 are left"
    assert float(drawn[:, 0].mean()) == pytest.approx(0.5, abs=0.02)


def test_without_a_third_label_there_is_no_random_one() -> None:
    with pytest.raises(Refusal, match="only 2 classes"):
        other_labels(torch.tensor([0]), torch.tensor([1]), 2, rng())
    with pytest.raises(Refusal, match="only 1 label"):
        other_labels(torch.tensor([[0.0]]), torch.tensor([[1.0]]), 1, rng())


def shown(method: Amun, model: torch.nn.Module, split: Split, monkeypatch: pytest.MonkeyPatch) -> Source:
    """What the fine-tuning is given for neighbours."""
    seen: list[Source] = []
    with monkeypatch.context() as patched:
        patched.setattr(room, "fit", lambda new, sources, *args, **kw: seen.append(sources[0]))
        method(model, split, rng(), Engine())
    return seen[0]


def test_what_is_shown_for_neighbours(trained: tuple[torch.nn.Module, Split], monkeypatch: pytest.MonkeyPatch) -> None:
    model, split = trained
    near = shown(Amun(), model, split, monkeypatch).examples
    labels = Amun(neighbours="advl")
    assert torch.equal(shown(labels, model, split, monkeypatch).examples.inputs, split.forget.inputs)
    assert torch.equal(shown(labels, model, split, monkeypatch).examples.labels, near.labels)
    random = shown(Amun(neighbours="arl"), model, split, monkeypatch).examples
    assert torch.equal(random.inputs, near.inputs)
    engine = Engine()
    again = Amun(neighbours="orig").find(model, split.forget, rng(), engine)
    assert torch.equal(again.inputs, split.forget.inputs)
    assert torch.equal(again.labels, split.forget.labels)
    assert again.ids.tolist() == near.ids.tolist()
    assert engine.meter.gradients == 0, "to repeat the forget set nothing is attacked"


def test_neighbours_vary_only_when_asked(
    trained: tuple[torch.nn.Module, Split], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, split = trained
    vary = Augment(crop=1, flip=True)
    assert shown(Amun(augment=vary), model, split, monkeypatch).augment is None
    assert shown(Amun(augment=vary, augment_neighbours=True), model, split, monkeypatch).augment == vary


def test_a_stopped_ablation_is_not_taken_for_another(trained: tuple[torch.nn.Module, Split], tmp_path: Path) -> None:
    """Seed, ids, labels and sizes are the same; only the points differ."""
    model, split = trained
    near = Amun(optim=SHORT)
    near(model, split, rng(), Engine(precision="fp32", scratch=tmp_path))
    moved = replace(near, neighbours="advl")
    beside = moved(model, split, rng(), Engine(precision="fp32", scratch=tmp_path))
    assert fingerprint(beside) == fingerprint(moved(model, split, rng(), exact()))


# Another model's adversarial examples


@pytest.mark.parametrize("told", ["state dict", "checkpoint"])
def test_adversarial_examples_and_labels_of_another_model(
    told: str,
    trained: tuple[torch.nn.Module, Split],
    another: torch.nn.Module,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, split = trained
    path = tmp_path / ("other.pt" if told == "state dict" else "other.safetensors")
    if told == "state dict":
        torch.save(another.state_dict(), path)
    else:
        save(path, another, Provenance())
    near = shown(Amun(attacked=path), model, split, monkeypatch).examples
    task, logits = split.task, exact().logits(another, near.inputs)
    assert torch.equal(task.predict(logits), near.labels), "labels are the other model's"
    assert not torch.equal(task.predict(exact().logits(model, near.inputs)), near.labels)
    check_method(Amun(attacked=path, optim=SHORT), model, split)


def test_another_kind_of_network_is_taken_from_its_checkpoint(
    trained: tuple[torch.nn.Module, Split], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, split = trained
    other = build(Blueprint(name="resnet18", classes=4, shape=(1, 8, 8)), seed=1)
    save(tmp_path / "deep.safetensors", other, Provenance())
    found = shown(Amun(attacked=tmp_path / "deep.safetensors"), model, split, monkeypatch).examples
    assert torch.equal(split.task.predict(exact().logits(other, found.inputs)), found.labels)


def test_a_model_that_does_not_fit_is_refused(trained: tuple[torch.nn.Module, Split], tmp_path: Path) -> None:
    model, split = trained
    torch.save(linear().state_dict(), tmp_path / "flat.pt")
    with pytest.raises(Refusal, match="to fit the network"):
        Amun(attacked=tmp_path / "flat.pt")(model, split, rng(), Engine())
    with pytest.raises(Refusal, match="no such file"):
        Amun(attacked=tmp_path / "none.pt")(model, split, rng(), Engine())


# SalUn's mask


@given(share=st.floats(0.001, 1.0))
@settings(max_examples=30, deadline=None)
def test_the_share_of_trained_weights_is_exact(share: float) -> None:
    model, data = linear(), blobs(9)
    masks = saliency_mask(model, data, share, engine=exact())
    assert list(masks) == ["1.weight", "1.bias"]
    assert sum(int(mask.sum()) for mask in masks.values()) == round(share * 195)


def test_the_mask_keeps_the_weights_with_the_largest_gradients(trained: tuple[torch.nn.Module, Split]) -> None:
    """Against one plain backward pass over all examples, in eval mode."""
    model, split = trained
    model.train()
    flags, before = [module.training for module in model.modules()], fingerprint(model)
    masks = saliency_mask(model, split.forget, 0.25, engine=exact())
    assert [module.training for module in model.modules()] == flags
    assert fingerprint(model) == before
    assert all(weight.grad is None for weight in model.parameters())
    model.eval()
    twin = copy.deepcopy(model)
    split.task.loss(twin(pixels(split.forget.inputs)), split.forget.labels).neg().sum().backward()
    steep = torch.cat([weight.grad.abs().flatten() for weight in twin.parameters()])
    chosen = torch.cat([mask.flatten() for mask in masks.values()])
    assert float(steep[chosen].min()) >= float(steep[~chosen].max()) * (1 - 1e-4)
    assert steep[chosen].sum() > 0.4 * steep.sum()


def test_pruned_and_fixed_weights_are_neither_counted_nor_kept() -> None:
    model, data = linear(), blobs(9)
    kept = torch.rand(3, 64, generator=rng()) < 0.5
    set_masks(model, {"1.weight": kept})
    model[1].bias.requires_grad_(False)  # type: ignore[union-attr]
    masks = saliency_mask(model, data, 0.5, engine=exact())
    assert list(masks) == ["1.weight"]
    assert int(masks["1.weight"].sum()) == round(0.5 * int(kept.sum()))
    assert not bool((masks["1.weight"] & ~kept).any())
    assert torch.equal(saliency_mask(model, data, 1.0, engine=exact())["1.weight"], kept)


def test_only_the_mask_gets_a_gradient_and_nothing_stays_behind() -> None:
    model, data = linear(), blobs(9)
    plain = copy.deepcopy(model)
    masks = {"1.weight": torch.rand(3, 64, generator=rng()) < 0.4}
    with only(model, masks):
        data.task.loss(model(pixels(data.inputs)), data.labels).sum().backward()
    data.task.loss(plain(pixels(data.inputs)), data.labels).sum().backward()
    (ours, bias), (theirs, its) = ([weight.grad for weight in network.parameters()] for network in (model, plain))
    assert torch.equal(ours, torch.where(masks["1.weight"], theirs, 0.0))
    assert torch.equal(bias, its)
    model.zero_grad()
    data.task.loss(model(pixels(data.inputs)), data.labels).sum().backward()
    assert torch.equal(model[1].weight.grad, theirs)  # type: ignore[union-attr]


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_masked_weights_stay_or_only_decay(decay: float) -> None:
    """Without weight decay bit for bit; with it they follow momentum on weight_decay × weight, and nothing else."""
    model, split = linear(), parted(blobs(60))
    optim = Sgd(lr=0.1, epochs=3, batch=1000, weight_decay=decay, momentum=0.9, schedule="constant")
    new = Amun(saliency=0.3, optim=optim)(model, split, rng(), exact())
    masks = saliency_mask(model, split.forget, 0.3, engine=exact())
    for name, mask in masks.items():
        old, now = model.get_parameter(name).detach(), new.get_parameter(name).detach()
        factor, speed = 1.0, 0.0
        for _ in range(3):
            speed = 0.9 * speed + decay * factor
            factor -= 0.1 * speed
        torch.testing.assert_close(now[~mask], factor * old[~mask], rtol=1e-5, atol=1e-7)
        assert bool(decay) or torch.equal(now[~mask], old[~mask])
        assert bool((now[mask] != factor * old[mask]).all())


def test_a_mask_of_everything_is_no_mask(trained: tuple[torch.nn.Module, Split]) -> None:
    model, split = trained
    whole = Amun(saliency=1.0, optim=SHORT)(model, split, rng(), exact())
    assert fingerprint(whole) == fingerprint(Amun(optim=SHORT)(model, split, rng(), exact()))


def test_a_pruned_network_stays_pruned(trained: tuple[torch.nn.Module, Split]) -> None:
    model, split = copy.deepcopy(trained[0]), trained[1]
    name, weight = next((n, w) for n, w in model.named_parameters() if w.ndim == 4)
    kept = torch.rand(weight.shape, generator=rng()) < 0.3
    set_masks(model, {name: kept})
    new = Amun(saliency=0.5, l1=1e-3, optim=SHORT)(model, split, rng(), exact())
    assert not bool(new.get_parameter(name)[~kept].any())
    assert not torch.equal(new.get_parameter(name), model.get_parameter(name))


# l1


def test_strength_of_l1_over_the_epochs() -> None:
    assert [strength(0.5, "linear", e, 4) for e in range(4)] == [0.5, 0.375, 0.25, 0.125]
    alpha, told = 5e-4, []
    for epoch in range(10):
        alpha *= 2 - 2 * epoch / 10
        told.append(alpha)
    assert [strength(5e-4, "compounding", e, 10) for e in range(10)] == pytest.approx(told, rel=1e-12)
    assert max(told) > 9 * 5e-4, "it grows before it fades"


@pytest.mark.parametrize("decay", ["linear", "compounding"])
def test_l1_is_the_loss_plus_alpha_times_the_sum_of_sizes(decay: str) -> None:
    """Against a plain loop of full batches over neighbours and forget set."""
    model, split = linear(), parted(blobs(60))
    optim = Sgd(lr=0.1, epochs=3, batch=1000, weight_decay=0.01, schedule="constant")
    method = Amun(l1=0.02, l1_decay=decay, use_retain=False, optim=optim, attack=Nearest(bf16=False))
    new = method(model, split, rng(), exact())
    near, twin = method.find(model, split.forget, rng(), exact()), copy.deepcopy(model)
    inputs = torch.cat((near.inputs, pixels(split.forget.inputs)))
    labels = torch.cat((near.labels, split.forget.labels))
    plain = torch.optim.SGD(twin.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01)
    for epoch in range(3):
        size = sum(weight.abs().sum() for weight in twin.parameters())
        loss = torch.nn.functional.cross_entropy(twin(inputs), labels) + strength(0.02, decay, epoch, 3) * size
        plain.zero_grad()
        loss.backward()
        plain.step()
    for ours, theirs in zip(new.parameters(), twin.parameters()):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def test_l1_follows_its_epochs_when_they_have_several_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    model, split = linear(), parted(blobs(60))
    seen: list[float] = []
    plain = room.Sparse.__call__
    monkeypatch.setattr(room.Sparse, "__call__", lambda self, *given: seen.append(self.alpha) or plain(self, *given))
    Amun(l1=0.4, optim=Sgd(lr=0.01, epochs=4, batch=16))(model, split, rng(), exact())
    steps = math.ceil((10 + 60) / 16)
    assert seen == pytest.approx([alpha for alpha in (0.4, 0.3, 0.2, 0.1) for _ in range(steps)])
