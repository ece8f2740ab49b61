"""The model under attack: a folded copy for gradients, itself for answers, and the memory format of both."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from unteach.attacks.probe import Probe, probing

Data = tuple[torch.Tensor, torch.Tensor]


def test_the_copy_is_folded_where_it_can_be_and_plain_where_it_cannot(network: nn.Module, digits: Data) -> None:
    class Branching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = network

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            logits: torch.Tensor = self.inner(x * 1) if float(x.sum()) > 0 else self.inner(x)
            return logits

    def norms_left(model: nn.Module) -> int:
        with probing(model, digits[0][:4], digits[1][:4], False) as probe:
            return sum(isinstance(m, nn.BatchNorm2d) for m in probe._copy.modules())

    assert norms_left(network) == 0
    assert norms_left(Branching()) == 2


def test_a_hook_that_folding_would_lose_is_kept(network: nn.Module, digits: Data) -> None:
    hooked = copy.deepcopy(network).eval()
    hooked.register_forward_pre_hook(lambda _, args: (1 - args[0],))
    x, y = digits[0][:8], digits[1][:8]
    probe = Probe(hooked, x, y, False)
    seen: list[torch.Tensor] = []

    def watch(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        seen.append(logits.detach())
        return logits.sum(1)

    probe.slope(probe.place(x), y, watch)
    torch.testing.assert_close(seen[0], probe.exact(probe.place(x)), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("channels", [1, 3])
def test_whatever_the_format_of_the_points_the_model_sees_channels_last(channels: int) -> None:
    """Lanes lose it on the way, and NCHW is two to three times as slow on a CPU; one channel is the trap."""
    seen: list[bool] = []

    class Watching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(channels, 4, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.conv(x)
            seen.append(x.is_contiguous(memory_format=torch.channels_last))
            return x.flatten(1)[:, :4]

    x, y = torch.rand(5, channels, 9, 9), torch.zeros(5, dtype=torch.long)
    with probing(Watching(), x, y, False) as probe:
        seen.clear()
        probe.exact(x)
        probe.exact(probe.place(x)[torch.arange(3)])
        probe.slope(torch.cat([x, x]), torch.cat([y, y]), lambda logits, _: logits.sum(1))
    assert seen == [True] * len(seen)
    assert len(seen) >= 2
