"""SVD class removal: the projection to the formula, what a layer reads, and a class that is removed without a gradient."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from made import blobs
from unteach.engine import Engine
from unteach.methods.svd_removal import Space, SvdRemoval, balanced, projectable, projected, read_by, spaces
from unteach.models.masks import set_masks
from unteach.models.small import small_cnn
from unteach.store import fingerprint
from unteach.testing import check_method
from unteach.train import Sgd, Source, fit
from unteach.types import Examples, Refusal, Split

CLASSES = 4
FEW = SvdRemoval(samples=60, patches=300)
seeds = st.integers(0, 2**31 - 1)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def trained() -> tuple[torch.nn.Module, Examples, Split]:
    data = blobs(160, classes=CLASSES, noise=0.2)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = small_cnn(1, CLASSES, 8, 8, filters=16)
    fit(model, [Source(data)], Sgd(lr=0.1, epochs=8, batch=32), seed=0, engine=Engine(precision="fp32"))
    gone = data.labels.numpy() == 1
    return model, data, Split(forget=data.take(gone), retain=data.take(~gone))


def space_of(columns: torch.Tensor) -> Space:
    """By SVD of the activations themselves, ``d × n``."""
    directions, sizes, _ = torch.linalg.svd(columns.double(), full_matrices=True)
    energy = torch.zeros(len(columns), dtype=torch.float64)
    energy[: len(sizes)] = sizes**2
    return Space(directions[None], (energy / energy.sum())[None])


def scaled(columns: torch.Tensor, alpha: float) -> torch.Tensor:
    """M(α) without a decomposition: with A = R Rᵀ / tr(R Rᵀ), α A (I + (α − 1) A)⁻¹."""
    share = columns.double() @ columns.double().T
    share = share / share.trace()
    return alpha * share @ torch.linalg.inv(torch.eye(len(share)) + (alpha - 1) * share)


def accuracy(model: torch.nn.Module, part: Examples) -> float:
    return float(part.task.correct(Engine(precision="fp32").logits(model, part.inputs), part.labels).mean())


# The formula


@settings(max_examples=40, deadline=None)
@given(seeds, st.sampled_from([1.0, 3.0, 100.0]), st.sampled_from([1.0, 10.0, 1000.0]))
def test_the_projection_is_the_papers(seed: int, alpha_f: float, alpha_r: float) -> None:
    weight = torch.randn(3, 6, generator=rng(seed)).double()
    kept, gone = (torch.randn(6, n, generator=rng(seed + n)) for n in (20, 4))
    ours = projected(weight, space_of(kept), space_of(gone), alpha_r, alpha_f)
    m_r, m_f = scaled(kept, alpha_r), scaled(gone, alpha_f)
    expected = weight @ (torch.eye(6) - (m_f - m_f @ m_r)).T
    torch.testing.assert_close(ours, expected, rtol=1e-8, atol=1e-10)


def test_separate_spaces_are_separated() -> None:
    """Retained inputs live in three directions, forgotten ones in two others: theirs go to nothing, the rest stays."""
    frame = torch.linalg.qr(torch.randn(6, 6, generator=rng()))[0]
    kept = frame[:, :3] @ torch.randn(3, 50, generator=rng())
    gone = frame[:, 3:5] @ torch.randn(2, 50, generator=rng())
    weight = torch.randn(4, 6, generator=rng())
    new = projected(weight, space_of(kept), space_of(gone), 10.0, 1e9)
    torch.testing.assert_close(new @ kept, weight @ kept, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(new @ gone, torch.zeros(4, 50), rtol=0, atol=1e-4)


def test_what_both_use_is_kept() -> None:
    columns = torch.randn(5, 40, generator=rng())
    weight = torch.randn(3, 5, generator=rng())
    same = projected(weight, space_of(columns), space_of(columns), 1e9, 1e9)
    torch.testing.assert_close(same, weight, rtol=1e-5, atol=1e-5)


@settings(max_examples=30, deadline=None)
@given(
    seeds,
    st.sampled_from([1, 2]),
    st.sampled_from([1, 2]),
    st.sampled_from([0, 1, 2, "same"]),
    st.sampled_from(["zeros", "reflect", "circular", "replicate"]),
    st.sampled_from([1, 2, 4]),
)
def test_a_convolution_reads_these_columns(
    seed: int, stride: int, dilation: int, padding: int | str, mode: str, groups: int
) -> None:
    stride = 1 if padding == "same" else stride
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layer = torch.nn.Conv2d(4, 8, (3, 5), stride, padding, dilation, groups=groups, bias=False, padding_mode=mode)  # type: ignore[arg-type]
    images = torch.randn(3, 4, 9, 11, generator=rng(seed))
    columns = read_by(layer, images, 10_000, rng())
    made = layer.weight.reshape(groups, 8 // groups, -1) @ columns
    n, _, height, width = (expected := layer(images)).shape
    ours = made.reshape(8, n, height, width).transpose(0, 1)
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-5)


def test_tokens_are_read_one_by_one_and_not_too_many() -> None:
    layer, tokens = torch.nn.Linear(5, 2), torch.randn(3, 7, 5)
    every = read_by(layer, tokens, 99, rng())
    assert torch.equal(every[0].T, tokens.reshape(-1, 5))
    some = read_by(layer, tokens, 2, rng())
    assert some.shape == (1, 5, 6)
    for example, rows in zip(tokens, some[0].T.reshape(3, 2, 5)):
        assert all((example == row).all(1).any() for row in rows)


def test_spaces_are_the_svd_of_what_is_read(trained: tuple[torch.nn.Module, Examples, Split]) -> None:
    model, data, _ = trained
    network = copy.deepcopy(model).eval()
    engine = Engine(precision="fp32")
    found = spaces(network, projectable(network), data, 10**6, rng(), engine)
    assert set(found) == {"1", "5", "9", "14"}
    assert engine.meter.forwards == len(data)
    features = network[:-1](data.inputs / 255).T.detach()
    wanted, ours = space_of(features), found["14"]
    torch.testing.assert_close(ours.shares.flip(1)[0, :10], wanted.shares[0, :10], rtol=1e-4, atol=1e-7)
    weight = torch.randn(1, 3, len(features), dtype=torch.float64, generator=rng())
    torch.testing.assert_close(ours.kept(weight, 30.0), wanted.kept(weight, 30.0), rtol=1e-4, atol=1e-5)


# The method


def test_contract(trained: tuple[torch.nn.Module, Examples, Split]) -> None:
    model, data, split = trained
    assert fingerprint(check_method(FEW, model, split)) != fingerprint(model)
    check_method(replace(FEW, alpha_r=10.0, alpha_f=3.0), model, replace(split, forget=split.forget.take([0])))
    two = data.labels.numpy() >= 2
    check_method(replace(FEW, alpha_r=10.0), model, Split(forget=data.take(two), retain=data.take(~two)))


def test_a_class_is_removed_and_no_gradient_taken(trained: tuple[torch.nn.Module, Examples, Split]) -> None:
    model, _, split = trained
    assert split.retain is not None
    engine = Engine(precision="fp32")
    new = FEW(model, split, rng(), engine)
    assert accuracy(new, split.forget) < 0.1
    assert accuracy(new, split.retain) > accuracy(model, split.retain) - 0.05
    assert engine.meter.gradients == engine.meter.trained == 0
    assert engine.meter.forwards == (40 + 60) * (1 + 25), "once for the spaces, once for each pair"
    before = model.state_dict()
    same = {name for name, value in new.state_dict().items() if torch.equal(value, before[name])}
    assert same == set(before) - {f"{name}.weight" for name in (1, 5, 9, 14)}


def test_the_best_pair_is_kept(trained: tuple[torch.nn.Module, Examples, Split]) -> None:
    model, _, split = trained
    assert split.retain is not None

    def score(alpha_r: float | None, alpha_f: float | None) -> float:
        new = replace(FEW, alpha_r=alpha_r, alpha_f=alpha_f)(model, split, rng(), Engine(precision="fp32"))
        drawn = rng()
        kept, gone = (balanced(part, 60, drawn) for part in (split.retain, split.forget))  # type: ignore[arg-type]
        return accuracy(new, kept) * (1 - accuracy(new, gone))

    best = score(None, 30.0)
    assert best == max(score(alpha_r, 30.0) for alpha_r in (10.0, 30.0, 100.0, 300.0, 1000.0))


def test_samples_are_even_over_classes() -> None:
    data = blobs(90)
    uneven = data.take([i for i in range(90) if i % 3 == 0 or i < 45])
    drawn = balanced(uneven, 30, rng())
    assert drawn.labels.bincount().tolist() == [10, 10, 10]
    assert len(set(drawn.ids)) == 30
    assert balanced(data, 1, rng()).labels.bincount().tolist() == [1, 1, 1]


def test_what_is_fixed_and_what_is_pruned_stays(trained: tuple[torch.nn.Module, Examples, Split]) -> None:
    model, _, split = trained
    odd = copy.deepcopy(model)
    odd[1].weight.requires_grad = False
    keep = torch.rand(odd[5].weight.shape, generator=rng()) < 0.5
    set_masks(odd, {"5.weight": keep})
    new = replace(FEW, alpha_r=10.0, alpha_f=10.0)(odd, split, rng(), Engine())
    assert torch.equal(new[1].weight, odd[1].weight)
    assert not new[5].weight[~keep].any()
    assert not torch.equal(new[5].weight, odd[5].weight)


def test_refusals(trained: tuple[torch.nn.Module, Examples, Split]) -> None:
    model, data, split = trained
    with pytest.raises(Refusal, match="alpha_f to be at least 1"):
        SvdRemoval(alpha_f=0.5)
    many = data.relabel(torch.nn.functional.one_hot(data.labels, CLASSES).float())
    with pytest.raises(Refusal, match="one class for each example"):
        FEW(model, Split(forget=many.take(range(10)), retain=many.take(range(10, 60))), rng(), Engine())
    with pytest.raises(Refusal, match="whole classes"):
        FEW(model, Split(forget=data.take(range(10)), retain=data.take(range(10, 60))), rng(), Engine())
    with pytest.raises(Refusal, match="convolutions or linear layers"):
        FEW(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Bilinear(64, 64, 4)), split, rng(), Engine())
    computed = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, CLASSES))
    torch.nn.utils.parametrizations.weight_norm(computed[1])
    with pytest.raises(Refusal, match="plain weights to project"):
        FEW(computed, split, rng(), Engine())
