"""Inputs that stay on disk: rows of memory-mapped arrays, read when and as far as they are asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    from torch import Tensor as Base
else:  # no tensor of torch's: such a class would need torch where it is only imported
    Base = object

BLOCK = 2**22  # bytes of inputs that are looked at in one go


class Mapped(Base):
    """Rows of one or more arrays on disk in place of a tensor ``n × …``: uint8 images, or numbers that are read as float32.

    Indexing reads those rows and gives a tensor of its own. ``chosen`` and ``torch.cat`` along the rows read nothing. Whatever
    else is asked, as of any tensor, is asked of all rows, which are read for it: right, and as large as they are.
    """

    def __init__(self, arrays: Sequence[np.ndarray], rows: np.ndarray | None = None) -> None:
        """``arrays``: of one type and item shape, end to end. ``rows``: positions in them all, int64; every one by default."""
        first, self.arrays = arrays[0], tuple(arrays)
        ends = list(accumulate(len(array) for array in arrays))
        self.starts = np.array([0, *ends[:-1]])
        self.rows = np.arange(ends[-1]) if rows is None else rows
        images = first.dtype == np.uint8 and first.ndim == 4
        self.dtype = torch.uint8 if images else torch.float32
        self.read_as: type[np.generic] = np.uint8 if images else np.float32
        self.shape = torch.Size((len(self.rows), *first.shape[1:]))
        self.ndim, self.device = first.ndim, torch.device("cpu")

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[torch.Tensor]:
        return (self[row] for row in range(len(self)))

    def size(self, dim: int | None = None) -> Any:
        return self.shape if dim is None else self.shape[dim]

    def is_floating_point(self) -> bool:
        return self.dtype != torch.uint8

    def chosen(self, index: Any) -> Mapped:
        """These of the rows, unread. ``index``: as of a one-dimensional array, giving several."""
        return Mapped(self.arrays, self.rows[_plain(index)])

    def __getitem__(self, index: Any) -> torch.Tensor:
        if isinstance(index, tuple) or index is None or index is Ellipsis:
            return self.read()[index]
        rows = np.asarray(self.rows[_plain(index)])
        return self._read(rows.reshape(-1)).reshape((*rows.shape, *self.shape[1:]))

    def read(self) -> torch.Tensor:
        """All rows, in memory."""
        return self._read(self.rows)

    def min(self) -> torch.Tensor:  # type: ignore[override]
        return torch.stack([block.min() for block in blocks(self)]).min()

    def max(self) -> torch.Tensor:  # type: ignore[override]
        return torch.stack([block.max() for block in blocks(self)]).max()

    def _read(self, rows: np.ndarray) -> torch.Tensor:
        if len(self.arrays) == 1:
            return torch.from_numpy(np.asarray(self.arrays[0][rows]).astype(self.read_as, copy=False))
        found = np.empty((len(rows), *self.shape[1:]), dtype=self.read_as)
        which = np.searchsorted(self.starts, rows, side="right") - 1
        for number in np.unique(which).tolist():
            here = which == number
            found[here] = self.arrays[number][rows[here] - self.starts[number]]
        return torch.from_numpy(found)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # what copy and pickle look for
            raise AttributeError(name)
        return getattr(self.read(), name)

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch.cat and not kwargs.get("dim") and args[1:] in ((), (0,)) and _alike(args[0]):
            return _joined(args[0])
        return func(*_read_all(args), **{name: _read_all(value) for name, value in kwargs.items()})


def blocks(inputs: torch.Tensor) -> Iterator[torch.Tensor]:
    """Some rows after the others, never more than 4 MiB at once but at least one."""
    each = max(1, int(np.prod(inputs.shape[1:]))) * (1 if inputs.dtype == torch.uint8 else 4)
    step = max(1, BLOCK // each)
    return (inputs[start : start + step] for start in range(0, len(inputs), step))


def _plain(index: Any) -> Any:
    return index.cpu().numpy() if isinstance(index, torch.Tensor) else index


def _alike(parts: Sequence[torch.Tensor]) -> bool:
    return len({(part.dtype, tuple(part.shape[1:])) for part in parts}) == 1


def _joined(parts: Sequence[torch.Tensor]) -> Mapped:
    """The parts end to end; what is in memory stays there, uncopied."""
    arrays: list[np.ndarray] = []
    rows, start = [], 0
    for part in parts:
        own = part.arrays if isinstance(part, Mapped) else (part.cpu().numpy(),)
        rows.append(start + (part.rows if isinstance(part, Mapped) else np.arange(len(part))))
        arrays += own
        start += sum(len(array) for array in own)
    return Mapped(arrays, np.concatenate(rows))


def _read_all(value: Any) -> Any:
    if isinstance(value, Mapped):
        return value.read()
    return type(value)(map(_read_all, value)) if type(value) in (list, tuple) else value
