"""Where bf16 is faster than fp32, and the autocast that uses it."""

from __future__ import annotations

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
