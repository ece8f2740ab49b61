"""Where bf16 is faster than fp32, the autocast that uses it, and fp32 that is fp32 on a GPU too."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


def has_fast_bf16(device: torch.device) -> bool:
    """Whether the chip multiplies bf16 natively: AVX512-BF16 or AMX on a CPU, compute capability 8 on a GPU."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device)[0] >= 8
    if device.type == "cpu":
        flags = torch.backends.cpu.get_cpu_capability()
        return flags in ("AVX512", "AMX") and bool(torch.cpu._is_avx512_bf16_supported())
    return False


def autocast(device: torch.device, bf16: bool) -> torch.autocast:
    """bf16 autocast when asked for; sums, batch-norm statistics and losses stay in fp32 either way."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=bf16)


@contextmanager
def whole_fp32(device: torch.device) -> Iterator[None]:
    """Inside, fp32 arithmetic on a GPU is fp32: TF32, which convolutions have by default, keeps three digits."""
    if device.type != "cuda":
        yield
        return
    convolutions, products = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = convolutions, products
