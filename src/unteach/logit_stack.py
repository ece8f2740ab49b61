"""Logits of several models as one array that stays on disk."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from unteach.store import load_tensors
from unteach.types import Refusal

LARGEST = 1 << 30  # bytes that a stack turns into one array without being asked twice


@dataclass(frozen=True, eq=False)
class Stack:
    """Logits as `Signals` hold them, float32 ``models × views × examples × classes``, left on disk.

    ``stack[at]`` is one model, mapped and read-only; ``stack[at, view]`` and so on go further into it. With ``rows``
    (positions) the examples are selected when a model is read. ``numpy.asarray(stack)`` reads all, up to 1 GiB.
    """

    files: tuple[Path, ...]
    shape: tuple[int, int, int, int]
    rows: np.ndarray | None = None

    ndim = 4
    dtype = np.dtype(np.float32)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: Any) -> np.ndarray:
        at, *rest = index if isinstance(index, tuple) else (index,)
        if isinstance(at, bool) or not isinstance(at, int | np.integer):
            raise Refusal(f"expected the position of one model first, got {at!r}; read the models one at a time")
        logits = read_only(load_tensors(self.files[at])[0]["logits"])
        chosen = logits if self.rows is None else logits[:, self.rows]
        return np.asarray(chosen[tuple(rest)])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        size = 4 * int(np.prod(self.shape))
        if size > LARGEST:
            raise Refusal(
                f"expected to read the models one at a time, got a wish for all {len(self)} at once "
                f"({size / 2**30:.1f} GiB); use logits[at]"
            )
        whole = np.stack([self[at] for at in range(len(self))])
        return whole if dtype is None else whole.astype(dtype)


def read_only(mapped: torch.Tensor) -> np.ndarray:
    """The tensor as an array that can't be written to, on the same memory."""
    logits: np.ndarray = mapped.numpy()  # safetensors maps the file into memory: its pages come when they are touched
    logits.flags.writeable = False
    return logits
