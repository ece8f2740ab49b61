"""Functions written for the NeurIPS 2023 unlearning challenge, run unchanged as a method."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch

from unteach.engine import Engine
from unteach.models.masks import keep_pruned
from unteach.train import draw_seed
from unteach.types import Card, Refusal, Split
from unteach.user_code import recall

FIXED = {"fixed": True}  # a setting that follows from the choice of the method: it is told, but no flag


@dataclass(frozen=True, kw_only=True)
class Challenge:
    """Call ``unlearning(net, retain_loader, forget_loader, val_loader)`` on a copy of the model; a network it returns counts.

    1. The function gets a copy in training mode and three shuffled loaders of pairs (inputs, labels) on the job's device: inputs
       are floats, pixels in 0–1, never varied nor normalised (networks here do that themselves). A pair also answers to
       ``sample["image"]`` and ``sample["age_group"]``, as batches of the competition did. Without validation data the third
       loader is empty: nothing else may stand in for data the model never saw.
    2. The generators of torch, NumPy and ``random`` are seeded for it and put back afterwards.
    3. Its network's state goes into a copy of the original, in eval mode; pruned weights are set back to zero.

    Every example that is drawn from a loader is billed as one training step, whatever is done with it; of several processes
    each does all of the work. *Source:* Triantafillou et al., 2024, arXiv 2406.09073, and the competition's starting kit.
    *Departs:* inputs are not standardised by the loader; all loaders give whole tensors on the device.
    """

    function: str = field(default="", metadata=FIXED)
    """The function, as file.py:NAME or pkg.module:NAME."""
    sha256: str = field(default="", metadata=FIXED)
    """SHA-256 of the file it stands in."""
    batch: int = 64
    """Examples in a batch of the loaders, 1 or more."""
    card: ClassVar[Card] = Card(
        does="Runs a function that was written for the NeurIPS 2023 unlearning challenge.",
        suits=("random", "class", "group", "sequence"),
        cost="whatever the function does",
        knobs={"batch": "examples in a step; all else stands in the function"},
    )

    def __post_init__(self) -> None:
        if self.batch < 1:
            raise Refusal(f"expected batch to be at least 1, got {self.batch}; 64 is the competition's")

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"retain"})

    def __call__(self, model: torch.nn.Module, split: Split, rng: torch.Generator, engine: Engine) -> torch.nn.Module:
        from unteach.loaders import loader

        function, new = recall(self.function, self.sha256), copy.deepcopy(model)
        engine.place(new)
        sets = (split.retain, split.forget, split.validation)
        loaders = [loader(part, self.batch, seed=draw_seed(rng), engine=engine) for part in sets]
        given = copy.deepcopy(new).train()
        with engine.stage(self.function), seeded(draw_seed(rng), engine.device), torch.enable_grad():
            made = function(given, *loaders)
        made = given if made is None else made
        refuse_unless_alike(model, made, self.function)
        new.load_state_dict(made.state_dict())
        keep_pruned(new)
        return new.eval()


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Inside, every global random generator starts from this seed; afterwards they are where they were."""
    held = random.getstate(), np.random.get_state()  # noqa: NPY002 - it is the user's code that may draw from it
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002
        try:
            yield
        finally:
            random.setstate(held[0])
            np.random.set_state(held[1])  # noqa: NPY002


def refuse_unless_alike(model: torch.nn.Module, made: object, who: str) -> None:
    """Refuse what is no network, or one whose state has other names, shapes or types than the original's, or is not finite."""
    if not isinstance(made, torch.nn.Module):
        raise Refusal(f"expected a network or None from {who}, got {type(made).__name__}; return the network")
    old, new = model.state_dict(), made.state_dict()
    if old.keys() != new.keys():
        gone, more = sorted(old.keys() - new.keys()), sorted(new.keys() - old.keys())
        raise Refusal(
            f"expected the names of the state dict to stay in {who}, got {len(gone)} missing and {len(more)} new ones (such as "
            f"{(gone + more)[0]!r}); it must load into the old network"
        )
    for name, before in old.items():
        after = new[name]
        if (before.shape, before.dtype) != (after.shape, after.dtype):
            raise Refusal(
                f"expected {name!r} to stay {before.dtype} of shape {tuple(before.shape)} in {who}, got {after.dtype} of shape "
                f"{tuple(after.shape)}; it must load into the old network"
            )
        if not torch.isfinite(after.float()).all():
            raise Refusal(
                f"expected finite weights from {who}, got NaN or infinity in {name!r}; lower its learning rate"
            )
