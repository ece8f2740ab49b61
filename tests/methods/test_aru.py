"""ARU: each stage against a slow literal reading, and what the reset touches."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import unteach.methods.aru as room
from made import blobs
from unteach.attacks import PgdLinf
from unteach.engine import Engine
from unteach.methods.aru import Aru, choose, discrepancy, gradients, resettable, units
from unteach.models import Blueprint, build
from unteach.models.layers import Normalise
from unteach.models.masks import masks_of, set_masks
from unteach.models.resnet import BasicBlock
from unteach.store import fingerprint, save_tensors
from unteach.testing import check_method
from unteach.train import Sgd, Source, fit
from unteach.types import Card, Examples, Refusal, Split

SHORT = Sgd(lr=0.02, epochs=2, batch=32, schedule="step:1")


def rng() -> torch.Generator:
    return torch.Generator().manual_seed(3)


def engine() -> Engine:
    return Engine(accelerator="cpu", precision="fp32")


def halved(data: Examples, forget: int = 24) -> Split:
    return Split(forget=data.take(range(forget)), retain=data.take(range(forget, len(data))))


def smooth(seed: int = 0) -> nn.Sequential:
    """A network without batch norm or kinks: gradients of single examples add up to the batch's."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.Tanh(),
        nn.Conv2d(4, 6, 3, stride=2),
        nn.Tanh(),
        nn.Flatten(),
        nn.Linear(54, 3),
    )


@pytest.fixture(scope="module")
def trained() -> tuple[nn.Module, Split]:
    data = blobs(120, noise=0.45)
    model = build(Blueprint(name="small-cnn", classes=3, shape=(1, 8, 8)), seed=0)
    fit(model, [Source(data)], Sgd(lr=0.1, epochs=12, batch=32), seed=0, engine=engine())
    return model, halved(data)


@pytest.fixture
def no_repair(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stop where the reset is done."""
    monkeypatch.setattr(room, "fit", lambda new, *args, **kw: new.eval())


@pytest.mark.parametrize(
    "method",
    [
        Aru(),
        Aru(which="largest", reset="fresh", attack=PgdLinf(steps=3)),
        Aru(which="random", linear=True, downsample=True),
        Aru(attack=PgdLinf(steps=0, random_start=True), ratio=0.25, batch=7),
    ],
    ids=["as published", "ascent, largest, fresh", "random", "random noise"],
)
def test_contract(method: Aru, trained: tuple[nn.Module, Split]) -> None:
    model, split = trained
    new = check_method(replace(method, optim=SHORT), model, split)
    assert fingerprint(new) != fingerprint(model)


def test_contract_with_several_labels(trained: tuple[nn.Module, Split]) -> None:
    model, _ = trained
    data = blobs(60)
    many = data.relabel(torch.nn.functional.one_hot(data.labels, 3).float())
    check_method(Aru(optim=SHORT), model, halved(many))


@pytest.mark.parametrize("count", [1, 2, 65])
def test_any_number_of_examples_can_be_forgotten(count: int, trained: tuple[nn.Module, Split]) -> None:
    model, _ = trained
    new = Aru(optim=SHORT)(model, halved(blobs(100), count), rng(), engine())
    assert all(torch.isfinite(value.float()).all() for value in new.state_dict().values())


def test_the_card_names_real_settings() -> None:
    assert isinstance(Aru.card, Card)
    for knob in Aru.card.knobs:
        value: object = Aru()
        for name in knob.split("."):
            value = getattr(value, name)


def branched() -> nn.Module:
    torch.manual_seed(0)
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3)]
    return nn.Sequential(nn.Conv2d(1, 3, 3, bias=True), BasicBlock(3, 6, 2, False), *head).eval()


@pytest.mark.usefixtures("no_repair")
@pytest.mark.parametrize("ratio", [0.0, 0.3, 0.5, 1.0])
@pytest.mark.parametrize("downsample", [False, True])
def test_the_reset_takes_the_floor_of_each_convolution_and_nothing_else(ratio: float, downsample: bool) -> None:
    model, split = branched(), halved(blobs(48))
    new = Aru(ratio=ratio, downsample=downsample)(model, split, rng(), engine())
    old = model.state_dict()
    for name, value in new.state_dict().items():
        if value.ndim == 4 and (downsample or "downsample" not in name):
            emptied = (value == 0).flatten(2).all(2)
            assert int(emptied.sum()) == int(ratio * value.shape[0] * value.shape[1]), name
            assert torch.equal(value[~emptied], old[name][~emptied]), name
        else:
            assert torch.equal(value, old[name]), name


@pytest.mark.usefixtures("no_repair")
def test_smallest_and_largest_are_the_two_halves(trained: tuple[nn.Module, Split]) -> None:
    model, split = trained
    small, large = (Aru(which=which)(model, split, rng(), engine()) for which in ("smallest", "largest"))
    for name in resettable(model):
        zero = [(made.get_parameter(name) == 0).flatten(2).all(2) for made in (small, large)]
        assert torch.equal(zero[0], ~zero[1])


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10_000), ratio=st.floats(0, 1), rows=st.integers(1, 5), columns=st.integers(1, 5))
def test_what_is_chosen_never_scores_above_what_is_not(seed: int, ratio: float, rows: int, columns: int) -> None:
    scores = torch.randint(0, 4, (rows, columns), generator=torch.Generator().manual_seed(seed)).float()
    small, large = choose(scores, "smallest", ratio), choose(scores, "largest", ratio)
    assert int(small.sum()) == int(large.sum()) == int(ratio * rows * columns)
    if 0 < int(small.sum()) < rows * columns:
        assert scores[small].max() <= scores[~small].min()
        assert scores[large].min() >= scores[~large].max()


def test_the_discrepancy_is_that_of_loops_over_examples_and_kernels() -> None:
    model, data, names = smooth(), blobs(14), ["0.weight", "2.weight"]
    noise = replace(data, inputs=0.05 * torch.randn(data.inputs.shape, generator=rng()))
    ours = [gradients(model, names, each, batch=5, seed=0, engine=engine()) for each in (data, noise)]
    parts = torch.arange(14).tensor_split(3)  # 5 + 5 + 4
    slow = []
    for inputs in (data.inputs.float() / 255, noise.inputs):
        sums = [torch.zeros_like(model.get_parameter(name)) for name in names]
        for part in parts:
            for i in part.tolist():
                loss = nn.functional.cross_entropy(model(inputs[i : i + 1]), data.labels[i : i + 1])
                for total, one in zip(sums, torch.autograd.grad(loss, [model.get_parameter(name) for name in names])):
                    total += one / len(part)
        slow.append(sums)
    for number, name in enumerate(names):
        scores = discrepancy(ours[0][number], ours[1][number])
        out, into, *kernel = model.get_parameter(name).shape
        assert scores.shape == (out, into) == units(model.get_parameter(name))
        gap = slow[0][number] - slow[1][number]
        for o in range(out):
            for i in range(into):
                total = sum(float(gap[o, i, h, w]) for h in range(kernel[0]) for w in range(kernel[1]))
                assert float(scores[o, i]) == pytest.approx(abs(total / (kernel[0] * kernel[1])), rel=1e-3, abs=1e-6)


def test_gradients_are_taken_in_training_mode_of_a_copy(trained: tuple[nn.Module, Split]) -> None:
    model, split = trained
    before, state = fingerprint(model), torch.get_rng_state()
    name = resettable(model)[1]
    (ours,) = gradients(model, [name], split.forget, batch=64, seed=0, engine=engine())
    twin = copy.deepcopy(model).train()
    loss = nn.functional.cross_entropy(twin(split.forget.inputs.float() / 255), split.forget.labels)
    (theirs,) = torch.autograd.grad(loss, twin.get_parameter(name))
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-6)
    assert fingerprint(model) == before
    assert torch.equal(torch.get_rng_state(), state)
    assert all(weight.grad is None for weight in model.parameters())


def test_dropout_is_the_same_for_images_and_noise() -> None:
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Dropout(0.5), nn.Flatten(), nn.Linear(144, 3))
    one, two = (gradients(model, ["0.weight"], blobs(20), batch=8, seed=5, engine=engine())[0] for _ in range(2))
    assert torch.equal(one, two)
    (other,) = gradients(model, ["0.weight"], blobs(20), batch=8, seed=6, engine=engine())
    assert not torch.equal(one, other)


@pytest.mark.parametrize("descend", [True, False])
@pytest.mark.parametrize("many", [True, False])
def test_the_attack_is_the_literal_reading(descend: bool, many: bool) -> None:
    """x ∓ 2/255 · sign of the loss's gradient, seven times, into the ball and the box."""
    model, data = smooth(), blobs(16)
    labels = torch.nn.functional.one_hot(data.labels, 3).float() if many else data.labels
    clean = data.inputs.float() / 255
    point, sign = clean.clone(), -1.0 if descend else 1.0
    for _ in range(7):
        point.requires_grad_()
        if many:
            loss = nn.functional.binary_cross_entropy_with_logits(model(point), labels, reduction="sum")
        else:
            loss = nn.functional.cross_entropy(model(point), labels, reduction="sum")
        (slope,) = torch.autograd.grad(loss, point)
        offset = (point.detach() + sign * 2 / 255 * slope.sign() - clean).clamp(-8 / 255, 8 / 255)
        point = (clean + offset).clamp(0, 1)
    ours = PgdLinf(steps=7, descend=descend)(model, data.inputs, labels)
    assert (
        float(((ours - point).abs() < 1e-5).float().mean()) > 0.995
    )  # a gradient of nearly nothing may have either sign
    with torch.no_grad():
        loss_of = [data.relabel(labels).task.loss(model(inputs), labels) for inputs in (clean, ours)]
    assert bool((loss_of[1] < loss_of[0]).all() if descend else (loss_of[1] > loss_of[0]).all())


def test_the_default_noise_is_the_authors() -> None:
    attack = Aru().attack
    assert (attack.epsilon, attack.step * attack.epsilon, attack.steps) == (8 / 255, 2 / 255, 7)
    assert attack.random_start
    assert attack.descend


def test_without_steps_the_noise_is_uniform_in_the_ball() -> None:
    grey = torch.full((400, 1, 8, 8), 0.5)
    noise = PgdLinf(steps=0, random_start=True)(smooth(), grey, torch.zeros(400, dtype=torch.long), rng()) - 0.5
    shares = torch.histc(noise, 8, -8 / 255, 8 / 255) / noise.numel()
    assert float(noise.abs().max()) <= 8 / 255 + 1e-6
    assert float((shares - 1 / 8).abs().max()) < 0.01


def test_the_network_proper_sees_the_noise_alone(trained: tuple[nn.Module, Split]) -> None:
    model, split = trained
    assert isinstance(model[0], Normalise)
    inputs = Aru()._noise(model, split.forget, rng(), engine()).inputs
    seen = model[0](inputs)
    delta = Aru().attack(model, split.forget.inputs, split.forget.labels, rng()) - split.forget.inputs.float() / 255
    torch.testing.assert_close(seen, delta / 0.5, atol=1e-6, rtol=1e-5)
    plain = Aru()._noise(smooth(), split.forget, rng(), engine()).inputs
    assert float(plain.abs().max()) <= 8 / 255 + 1e-6


@pytest.mark.usefixtures("no_repair")
@pytest.mark.parametrize("kind", ["fresh", "checkpoint"])
def test_slices_go_back_to_other_weights(kind: str, trained: tuple[nn.Module, Split], tmp_path: Path) -> None:
    model, split = trained
    start = build(model.unteach_blueprint, seed=9)
    save_tensors(tmp_path / "start.safetensors", start.state_dict(), {})
    reset = kind if kind == "fresh" else f"checkpoint:{tmp_path / 'start.safetensors'}"
    zero, new = (Aru(reset=how)(model, split, rng(), engine()) for how in ("zero", reset))
    for name in resettable(model):
        before, after = model.get_parameter(name), new.get_parameter(name)
        gone = (zero.get_parameter(name) == 0).flatten(2).all(2)
        assert torch.equal(after[~gone], before[~gone])
        if kind == "checkpoint":
            assert torch.equal(after[gone], start.get_parameter(name)[gone])
        else:
            assert not (after[gone] == before[gone]).any()
            spread = float(after[gone].detach().std() / start.get_parameter(name).detach().std())
            assert spread == pytest.approx(1, rel=0.35)


@pytest.mark.usefixtures("no_repair")
def test_pruned_weights_stay_zero(trained: tuple[nn.Module, Split]) -> None:
    model, split = trained
    sparse = copy.deepcopy(model)
    keep = {name: torch.rand(sparse.get_parameter(name).shape, generator=rng()) > 0.5 for name in resettable(sparse)}
    set_masks(sparse, keep)
    new = Aru(reset="fresh")(sparse, split, rng(), engine())
    assert masks_of(new).keys() == keep.keys()
    for name, mask in keep.items():
        assert not new.get_parameter(name)[~mask].any(), name
        assert float((new.get_parameter(name)[mask] != 0).float().mean()) > 0.99, name


@pytest.mark.usefixtures("no_repair")
def test_linear_layers_lose_whole_neurons_but_the_last_layer_none() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 9), nn.ReLU(), nn.Linear(9, 3))
    split = halved(blobs(48))
    with pytest.raises(Refusal, match="linear=true"):
        Aru()(model, split, rng(), engine())
    new = Aru(linear=True)(model, split, rng(), engine())
    dead = (new[1].weight == 0).all(1)
    assert int(dead.sum()) == 4
    assert torch.equal(new[1].weight[~dead], model[1].weight[~dead])
    assert torch.equal(new[1].bias, model[1].bias)
    assert torch.equal(new[3].weight, model[3].weight)
    assert "convolutions" not in Aru(linear=True).needs
    assert Aru().needs == {"retain", "convolutions"}


def test_fixed_weights_stay_and_computed_ones_are_refused() -> None:
    model = smooth()
    model[0].weight.requires_grad_(False)
    assert resettable(model) == ["2.weight"]
    nn.utils.parametrizations.spectral_norm(model[2])
    with pytest.raises(Refusal, match="remove_parametrizations"):
        resettable(model)
    with pytest.raises(Refusal, match="hidden linear layers"):
        resettable(nn.Linear(3, 2), linear=True)


def test_the_bill(trained: tuple[nn.Module, Split]) -> None:
    model, split = trained
    assert split.retain is not None
    forgotten, kept = len(split.forget), len(split.retain)
    spent = engine()
    Aru(optim=SHORT)(model, split, rng(), spent)
    assert spent.meter.gradients == 7 * forgotten
    assert spent.meter.trained == 2 * forgotten + SHORT.epochs * kept
    assert spent.meter.forwards == 0
    assert [stage.what for stage in spent.stages] == ["aru noise", "aru discrepancy", "aru repair"]
    assert spent.stages[1].units == 2 * forgotten
    control = engine()
    Aru(which="random", optim=SHORT)(model, split, rng(), control)
    assert control.meter.gradients == 0
    assert control.meter.trained == SHORT.epochs * kept


def test_labels_learnt_by_heart_are_lost() -> None:
    data = blobs(120, noise=0.3)
    wrong = data.labels.clone()
    wrong[:12] = (wrong[:12] + 1) % 3
    split = halved(data.relabel(wrong), 12)
    assert split.retain is not None
    model = build(Blueprint(name="small-cnn", classes=3, shape=(1, 8, 8)), seed=0)
    both = [Source(split.retain), Source(split.forget)]
    fit(model, both, Sgd(lr=0.1, epochs=15, batch=32), seed=0, engine=engine())

    def remembered(network: nn.Module) -> float:
        return float((engine().logits(network, split.forget.inputs).argmax(1) == split.forget.labels).double().mean())

    assert remembered(model) == 1
    repair = Sgd(lr=0.02, epochs=6, batch=32, schedule="step:3")
    assert remembered(Aru(optim=repair, ratio=0.0)(model, split, rng(), engine())) > 0.9, (
        "the repair alone forgets little"
    )
    new = Aru(optim=repair)(model, split, rng(), engine())
    assert remembered(new) < 0.5
    assert float((engine().logits(new, split.retain.inputs).argmax(1) == split.retain.labels).double().mean()) > 0.95


def test_bad_settings_are_refused_in_a_sentence(trained: tuple[nn.Module, Split], tmp_path: Path) -> None:
    for changes, word in [
        ({"which": "most"}, "smallest, largest or random"),
        ({"ratio": 1.5}, "between 0 and 1"),
        ({"ratio": float("nan")}, "between 0 and 1"),
        ({"reset": "kaiming"}, "zero, fresh or checkpoint"),
        ({"batch": 0}, "at least 1"),
    ]:
        with pytest.raises(Refusal, match=word):
            Aru(**changes)
    with pytest.raises(Refusal, match="steps to be at least 0"):
        PgdLinf(steps=-1)
    model, split = trained
    with pytest.raises(Refusal, match="no such file"):
        Aru(reset=f"checkpoint:{tmp_path / 'none.pt'}")(model, split, rng(), engine())
