"""One request after another: each model is made from the last, and what was forgotten stays out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from unteach.api import Forgotten, named, unlearn
from unteach.data import forget_ids, split
from unteach.engine import Engine
from unteach.methods import Amun
from unteach.types import Examples, Method, Refusal, Split


def forget_in_sequence(
    model: torch.nn.Module,
    data: Examples,
    requests: Sequence[str | Sequence[str]],
    method: str | Method = "amun",
    *,
    adaptive: bool = False,
    validation: Examples | None = None,
    seed: int = 0,
    engine: Engine | None = None,
) -> Iterator[Forgotten]:
    """Make a model forget several requests, one after the other; gives one result a request, each when it is made.

    Every request starts from the last one's model, with a fresh optimiser; what earlier ones forgot is no longer retained.
    ``requests``: each as in ``forget``, drawn from what is left. AMUN looks for adversarial examples of all requests in the
    *original* model, before the first; ``adaptive=True`` looks for each request's in the model it is to change (AMUN-A).
    Other methods don't differ in this. *Source:* Ebrahimpour-Boroojeny et al., Not All Wrong is Bad, ICML 2025, arXiv
    2503.00917, the experiment with subsequent requests. *Departs:* nowhere known.
    Raises: Refusal, before anything is done, for a request that is unknown, empty, already forgotten, or leaves nothing.
    """
    method = named(method)
    parts = [replace(part, validation=validation) for part in _splits(data, requests, seed)]
    return _forget_each(model, data, parts, method, adaptive, seed, engine or Engine())


@dataclass(frozen=True, kw_only=True, eq=False)
class Fixed:
    """AMUN with adversarial examples at hand: whatever model it is given, none is attacked."""

    amun: Amun
    near: Examples

    @property
    def needs(self) -> frozenset[str]:
        return self.amun.needs

    def __call__(self, model: torch.nn.Module, split: Split, rng: torch.Generator, engine: Engine) -> torch.nn.Module:
        wanted = np.isin(self.near.ids, [f"~{name}" for name in split.forget.ids])
        return self.amun.tune(model, split, self.near.take(wanted), rng, engine)


def _forget_each(
    model: torch.nn.Module,
    data: Examples,
    parts: list[Split],
    method: Method,
    adaptive: bool,
    seed: int,
    engine: Engine,
) -> Iterator[Forgotten]:
    for number, part in enumerate(parts):
        billed = len(engine.stages)
        rng = torch.Generator().manual_seed(seed + number)
        if isinstance(method, Amun) and not adaptive:
            every = data.take(np.isin(data.ids, np.concatenate([each.forget.ids for each in parts])))
            method = Fixed(amun=method, near=method.find(model, every, rng, engine))
        model, diagnosis = unlearn(method, model, part, rng, engine)
        yield Forgotten(model, part, tuple(engine.stages[billed:]), diagnosis)


def _splits(data: Examples, requests: Sequence[str | Sequence[str]], seed: int) -> list[Split]:
    """One split a request: its examples, and those that neither it nor an earlier one forgets."""
    parts: list[Split] = []
    left, gone = data, set[str]()
    for number, request in enumerate(requests):
        if isinstance(request, str):
            ids = forget_ids(request, data, seed + number, gone)
        else:
            ids = [str(name) for name in request]
        if again := sorted(gone & set(ids)):
            raise Refusal(
                f"expected ids that no earlier request forgets, got {len(again)} in request {number + 1} "
                f"(such as {again[0]!r}); take them out of it"
            )
        parts.append(split(left, ids))
        assert parts[-1].retain is not None
        left = parts[-1].retain
        gone |= set(ids)
    return parts
