"""Which device to compute on."""

from __future__ import annotations

import torch

from unteach.types import Refusal


def device_of(accelerator: str, devices: int) -> torch.device:
    """The device that auto, cpu, cuda or gpu names. Raises: Refusal where so many are not there."""
    if accelerator == "auto":
        accelerator = "cuda" if torch.cuda.is_available() else "cpu"
    if accelerator in ("cuda", "gpu") and not torch.cuda.is_available():
        raise Refusal("expected a CUDA device for --device cuda, got none that torch can see; use --device cpu")
    if accelerator not in ("cuda", "gpu", "cpu"):
        raise Refusal(f"expected --device auto, cpu or cuda, got {accelerator!r}; choose one of these")
    if accelerator != "cpu" and devices > torch.cuda.device_count():
        raise Refusal(f"expected {devices} GPUs for --devices, got {torch.cuda.device_count()}; give a smaller number")
    return torch.device("cpu" if accelerator == "cpu" else "cuda")
