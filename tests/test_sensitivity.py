"""Sensitivity: against closed forms, the same in chunks as at once, in memory that doesn't grow, without traces."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from unteach.precision import whole_fp32
from unteach.sensitivity import Sensitivity, probing
from unteach.store import fingerprint
from unteach.types import Refusal


def network(seed: int = 0) -> nn.Sequential:
    """With batch norm and dropout, in float64, so that chunks can be compared to the last digits."""
    torch.manual_seed(seed)
    layers = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Tanh(), nn.Dropout(0.5), nn.Flatten(), nn.Linear(64, 3)
    return nn.Sequential(*layers).double().train()


def inputs(n: int = 5) -> torch.Tensor:
    return torch.rand(n, 1, 6, 6, generator=torch.Generator().manual_seed(3), dtype=torch.double)


def measured(net: nn.Module, x: torch.Tensor, sensitivity: Sensitivity, seed: int = 0) -> torch.Tensor:
    torch.manual_seed(seed)
    with probing(net, len(x)):
        return sensitivity(net, x, net(x))


def test_of_a_linear_map_it_is_the_mean_size_of_a_normal_variable() -> None:
    """|w_k · u| has mean ‖w_k‖ · √(2/π), at every point and for every σ."""
    torch.manual_seed(1)
    linear = nn.Linear(20, 4).double()
    x = torch.rand(3, 20, dtype=torch.double)
    expected = linear.weight.norm(dim=1) * math.sqrt(2 / math.pi)
    for sigma in (1e-3, 1.0):
        found = measured(linear, x, Sensitivity(draws=4000, sigma=sigma, chunk=4000))
        assert found.shape == (3, 4)
        torch.testing.assert_close(found, expected.expand(3, 4), rtol=0.05, atol=0)


def test_of_a_smooth_network_it_is_the_slope_along_the_noise() -> None:
    net, x = network(), inputs()
    near = measured(net, x, Sensitivity(sigma=1e-5))
    torch.testing.assert_close(measured(net, x, Sensitivity(sigma=1e-3)), near, rtol=1e-2, atol=1e-3)


@given(draws=st.integers(1, 7), chunk=st.integers(1, 8), n=st.integers(2, 6))
@settings(max_examples=12, deadline=None)
def test_chunks_give_what_all_at_once_gives(draws: int, chunk: int, n: int) -> None:
    x, found = inputs(n), []
    for size in (chunk, draws):
        net = network()
        value = measured(net, x, Sensitivity(draws=draws, chunk=size))
        (value * torch.arange(1.0, 4.0)).sum().backward()
        found.append((value, net))
    (chunked, one), (whole, other) = found
    torch.testing.assert_close(chunked, whole, rtol=1e-12, atol=0)
    for name, weight in one.named_parameters():
        assert weight.grad is not None
        torch.testing.assert_close(weight.grad, other.get_parameter(name).grad, rtol=1e-9, atol=1e-9)
    assert fingerprint(one) == fingerprint(other), "running statistics too"
    assert one[1].num_batches_tracked == 1 + draws, "each pass is counted once, though some are computed twice"


def test_each_draw_is_a_pass_of_its_own() -> None:
    net, seen = network(), []
    net.register_forward_pre_hook(lambda _, args: seen.append(args[0].detach()))
    x = inputs()
    measured(net, x, Sensitivity(draws=3))
    clean, *noisy = seen
    assert torch.equal(clean, x)
    assert [len(batch) for batch in noisy] == [5] * 3
    noise = torch.stack(noisy) - x
    assert 0.8e-3 < noise.std() < 1.2e-3
    assert not torch.equal(noise[0], noise[1])


def test_memory_does_not_grow_with_draws() -> None:
    def held(draws: int, chunk: int) -> int:
        """Bytes that autograd keeps for the backward pass, each storage once."""
        kept: dict[int, torch.Tensor] = {}

        def keep(tensor: torch.Tensor) -> torch.Tensor:
            kept[tensor.untyped_storage().data_ptr()] = tensor
            return tensor

        net, x = network(), inputs(64)
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            value = measured(net, x, Sensitivity(draws=draws, chunk=chunk))
            value.sum().backward()
        return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())

    assert held(12, 1) < 1.1 * held(2, 1)
    assert held(12, 12) > 4 * held(12, 1)


def test_dropout_does_not_count() -> None:
    net, x = network(), inputs()
    without = copy.deepcopy(net)
    without[3] = nn.Identity()
    assert torch.equal(measured(net, x, Sensitivity()), measured(without, x, Sensitivity()))


def test_the_same_seed_gives_the_same_and_another_seed_something_else() -> None:
    net, x = network(), inputs()
    one, again, other = (measured(net, x, Sensitivity(), seed) for seed in (0, 0, 1))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def test_probing_leaves_flags_and_without_a_trace_buffers_as_they_were() -> None:
    net = network()
    net[3].eval()
    before, flags = fingerprint(net), [module.training for module in net.modules()]

    def fail_inside() -> None:
        with probing(net, 5, trace=False):
            assert [module.training for module in net.modules()] == [False, False, True, *[False] * 4]
            net(inputs())
            assert fingerprint(net) != before, "inside, batch norm counts"
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_inside()
    assert fingerprint(net) == before
    assert [module.training for module in net.modules()] == flags
    with probing(net, 5):
        net(inputs())
    assert fingerprint(net) != before


def test_one_example_takes_the_running_statistics() -> None:
    net, x = network(), inputs(1)
    before = fingerprint(net)
    found = measured(net, x, Sensitivity())
    assert fingerprint(net) == before
    assert torch.equal(found, measured(copy.deepcopy(net).eval(), x, Sensitivity()))


@pytest.mark.parametrize("bad", [{"draws": 0}, {"chunk": 0}, {"sigma": 0.0}, {"sigma": float("nan")}])
def test_impossible_settings_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(Refusal, match=f"expected sensitivity.{next(iter(bad))}"):
        Sensitivity(**bad)  # type: ignore[arg-type]


def test_whole_fp32_is_a_loan() -> None:
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    with whole_fp32(torch.device("cpu")):
        assert (torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32) == before
    with whole_fp32(torch.device("cuda")):  # a device by name: no GPU is asked for
        assert not torch.backends.cudnn.allow_tf32
        assert not torch.backends.cuda.matmul.allow_tf32
    assert (torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32) == before
