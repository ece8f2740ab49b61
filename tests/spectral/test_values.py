"""Singular values against a full decomposition of the materialised map."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from unteach.spectral import Lanczos, LinearMap, PowerQR, check_linear, materialise, spectrum
from unteach.types import Refusal


def drawn(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def batch_norm(channels: int, seed: int = 0) -> nn.BatchNorm2d:
    norm, rng = nn.BatchNorm2d(channels), drawn(seed)
    assert norm.running_var is not None
    assert norm.running_mean is not None
    with torch.no_grad():
        norm.weight.copy_(0.5 + torch.rand(channels, generator=rng))
        norm.running_var.copy_(0.2 + torch.rand(channels, generator=rng))
        norm.running_mean.copy_(torch.randn(channels, generator=rng))
    return norm


class Residual(nn.Module):
    """Two branches without anything between that is not linear, halved as in AMUN's network."""

    def __init__(self) -> None:
        super().__init__()
        self.path = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), batch_norm(8), nn.Conv2d(8, 8, 3, 1, 1), batch_norm(8, 1))
        self.shortcut = nn.Sequential(nn.Conv2d(3, 8, 1, 2), batch_norm(8, 2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = (self.path(x) + self.shortcut(x)) / 2
        return out


def maps() -> dict[str, tuple[nn.Module, tuple[int, ...]]]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        paddings = ("zeros", "reflect", "circular", "replicate")
        return {
            **{
                f"{mode}, stride {stride}": (nn.Conv2d(3, 8, 3, stride, 1, padding_mode=mode), (3, 8, 8))
                for mode in paddings
                for stride in (1, 2)
            },
            "groups": (nn.Conv2d(4, 8, 3, 1, 1, groups=2), (4, 8, 8)),
            "depthwise": (nn.Conv2d(4, 4, 3, 1, 1, groups=4, bias=False), (4, 8, 8)),
            "dilation": (nn.Conv2d(3, 8, 3, 1, 2, dilation=2), (3, 8, 8)),
            "transposed": (nn.ConvTranspose2d(3, 4, 3, 2), (3, 6, 6)),
            "one dimension": (nn.Conv1d(3, 5, 5, 2), (3, 20)),
            "batch norm": (batch_norm(4), (4, 3, 3)),
            "convolution + batch norm": (nn.Sequential(nn.Conv2d(3, 8, 3, 1, 1), batch_norm(8)), (3, 8, 8)),
            "residual block": (Residual(), (3, 8, 8)),
            "wide": (nn.Linear(30, 40), (30,)),
            "flat": (nn.Linear(40, 30), (40,)),
        }


@pytest.mark.parametrize("name", maps())
def test_top_five(name: str) -> None:
    found = check_linear(*maps()[name])
    truth = spectrum(found)[:5].float()
    lanczos = Lanczos(k=5)(found, drawn())
    assert lanczos.residuals is not None
    torch.testing.assert_close(lanczos.values, truth, rtol=1e-3, atol=0)
    assert ((lanczos.values - truth).abs() <= lanczos.residuals + 1e-5).all(), "a residual must bound the error"
    # The fifth and the sixth value may be as near as 1 %: spare vectors keep them apart within 100 iterations.
    powers = PowerQR(k=10, shift=0.0)(found, drawn()).values[:5]
    torch.testing.assert_close(powers, truth, rtol=1e-3, atol=0)


@pytest.mark.parametrize("seed", range(5))
def test_the_papers_power_iteration(seed: int) -> None:
    """Stride 2, reflect padding, 8 × 8, one vector, 100 iterations, shift 1: the largest value to 0.1 %."""
    found = LinearMap(*maps()["reflect, stride 2"])
    top = PowerQR()(found, drawn(seed))
    assert float(top.values[0]) == pytest.approx(float(spectrum(found)[0]), rel=1e-3)
    assert top.calls == 201


@pytest.mark.parametrize("name", ["reflect, stride 2", "residual block", "flat"])
def test_vectors_are_orthonormal_and_give_the_values(name: str) -> None:
    found = LinearMap(*maps()[name])
    for search in (Lanczos(k=4, tolerance=1e-4), PowerQR(k=4, shift=0.0, iterations=300)):
        top = search(found, drawn(1))
        torch.testing.assert_close(top.vectors @ top.vectors.T, torch.eye(4), rtol=0, atol=1e-4)
        torch.testing.assert_close(found.matvec(top.vectors).norm(dim=1), top.values, rtol=2e-3, atol=0)


@settings(max_examples=40, deadline=None)
@given(
    inputs=st.integers(1, 12),
    outputs=st.integers(1, 12),
    k=st.integers(1, 14),
    rank=st.integers(0, 12),
    seed=st.integers(0, 9),
)
def test_any_dense_layer(inputs: int, outputs: int, k: int, rank: int, seed: int) -> None:
    """Also with no rank at all, with more values asked for than there are, with equal ones."""
    layer, rng = nn.Linear(inputs, outputs), drawn(seed)
    left, right = torch.randn(outputs, rank, generator=rng), torch.randn(rank, inputs, generator=rng)
    with torch.no_grad():
        layer.weight.copy_(left @ right)
    truth = torch.linalg.svdvals(layer.weight.detach())
    top = Lanczos(k=k, tolerance=1e-5)(LinearMap(layer, (inputs,)), rng)
    k = min(k, inputs, outputs)
    torch.testing.assert_close(top.values, truth[:k], rtol=1e-4, atol=1e-4)


def test_equal_values_are_found_as_often_as_they_occur() -> None:
    layer = nn.Linear(20, 20, bias=False)
    q = torch.linalg.qr(torch.randn(20, 20, generator=drawn()))[0]
    with torch.no_grad():
        layer.weight.copy_(q @ torch.diag(torch.tensor([3.0] * 3 + [1.0] * 17)))
    top = Lanczos(k=4, tolerance=1e-4)(LinearMap(layer, (20,)), drawn())
    torch.testing.assert_close(top.values, torch.tensor([3.0, 3.0, 3.0, 1.0]))


def test_a_transpose_is_one() -> None:
    found = LinearMap(*maps()["replicate, stride 2"])
    x, y = torch.randn(5, found.n, generator=drawn()), torch.randn(5, found.m, generator=drawn(1))
    matrix = materialise(found)
    assert matrix.shape == (found.m, found.n)
    torch.testing.assert_close(found.matvec(x), x @ matrix.T)
    torch.testing.assert_close(found.rmatvec(y), y @ matrix)
    flat = LinearMap(*maps()["flat"])  # more inputs than outputs: materialised from the other side
    torch.testing.assert_close(materialise(flat), maps()["flat"][0].get_parameter("weight").detach())


def test_warm_vectors_are_right_at_once_after_a_small_step() -> None:
    layer = nn.Conv2d(8, 8, 3, padding=1)
    old = PowerQR(k=2, iterations=400, shift=0.0)(LinearMap(layer, (8, 8, 8)), drawn())
    with torch.no_grad():
        layer.weight += 0.005 * layer.weight.std() * torch.randn(layer.weight.shape, generator=drawn())
    moved = LinearMap(layer, (8, 8, 8))
    truth = float(spectrum(moved)[0])
    warm = PowerQR(iterations=1)(moved, old.vectors)
    assert abs(float(warm.values[0]) - truth) < 1e-3 * truth
    assert warm.calls == 3


def test_torchs_spectral_norm_is_another_number() -> None:
    """The norm of the reshaped kernel, which is not that of the layer: for these weights it is less by a third and more."""
    layer = nn.Conv2d(8, 8, 3, padding=1)
    with torch.no_grad():
        layer.weight.copy_(torch.randn(layer.weight.shape, generator=drawn()) + 0.3)
    truth = float(spectrum(LinearMap(layer, (8, 12, 12)))[0])
    reshaped = float(torch.linalg.matrix_norm(layer.weight.detach().flatten(1), 2))
    peer = nn.utils.parametrizations.spectral_norm(layer, n_power_iterations=100)
    assert float(spectrum(LinearMap(peer, (8, 12, 12)))[0]) == pytest.approx(truth / reshaped, rel=1e-3)
    assert truth > 1.5 * reshaped


@pytest.mark.parametrize("inside", [nn.ReLU(), nn.MaxPool2d(2), nn.GELU()])
def test_what_is_not_linear_is_refused(inside: nn.Module) -> None:
    with pytest.raises(Refusal, match="expected a linear map"):
        check_linear(nn.Sequential(nn.Conv2d(3, 4, 3), inside, nn.Conv2d(4, 4, 1)), (3, 8, 8))
    check_linear(nn.Sequential(nn.Conv2d(3, 4, 3), nn.AvgPool2d(2), nn.Dropout(0.5), nn.Conv2d(4, 4, 1)), (3, 8, 8))


def test_looking_leaves_no_trace() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).train()
    state, random = {k: v.clone() for k, v in model.state_dict().items()}, torch.get_rng_state()
    spectrum(LinearMap(model, (3, 6, 6)))
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())
    assert all(module.training for module in model.modules())
    assert all(p.grad is None for p in model.parameters())
    assert torch.equal(torch.get_rng_state(), random)


def test_too_large_and_senseless() -> None:
    with pytest.raises(Refusal, match="expected a map of at most"):
        spectrum(LinearMap(nn.Conv2d(8, 8, 3, padding=1), (8, 32, 32)))
    for wrong in (lambda: PowerQR(k=0), lambda: PowerQR(iterations=0), lambda: Lanczos(tolerance=0)):
        with pytest.raises(Refusal, match="expected k"):
            wrong()
