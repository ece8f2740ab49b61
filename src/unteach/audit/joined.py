"""Signals of two sources as one: the judged models, in memory, and the references, on disk."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from unteach.types import Refusal, Signals


@dataclass(frozen=True, eq=False)
class Chain:
    """Logits of several sources, ``models × views × examples × classes``, each read where it is, one model at a time."""

    parts: tuple[Any, ...]

    ndim = 4
    dtype = np.dtype(np.float32)

    @property
    def shape(self) -> tuple[int, ...]:
        return (sum(len(part) for part in self.parts), *self.parts[0].shape[1:])

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> np.ndarray:
        at, *rest = index if isinstance(index, tuple) else (index,)
        if not 0 <= at < len(self):
            raise IndexError(f"model {at} of {len(self)}")
        for part in self.parts:
            if at < len(part):
                found: np.ndarray = np.asarray(part[at])[tuple(rest)]
                return found
            at -= len(part)
        raise AssertionError


def joined(judged: Signals, references: Signals) -> Signals:
    """The judged models, then the references, on the same examples; the references' positions are marked.

    Raises: Refusal for signals of other examples, views or classes.
    """
    if judged.logits.shape[1:] != references.logits.shape[1:] or not np.array_equal(judged.labels, references.labels):
        raise Refusal(
            f"expected references on the same examples, got logits of shape {references.logits.shape[1:]} beside "
            f"{judged.logits.shape[1:]}, or other labels; select the same examples"
        )
    first = len(judged.models)
    return Signals(
        models=(*judged.models, *references.models),
        logits=cast(np.ndarray, Chain((judged.logits, references.logits))),
        labels=judged.labels,
        members=np.concatenate([judged.members, references.members]),
        forgotten=np.concatenate([judged.forgotten, references.forgotten]),
        groups=judged.groups,
        references=tuple(range(first, first + len(references.models))),
    )
