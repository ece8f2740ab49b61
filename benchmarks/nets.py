"""The networks that the training benchmarks measure, and the data they are measured on."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch

from unteach.data import Augment, DataSet
from unteach.data import load as load_data
from unteach.models import Blueprint, build
from unteach.types import Examples, Refusal

BATCH = 128


@dataclass(frozen=True)
class Net:
    """A network, the data it is measured on, and the share of the roofline it is to reach (None: no target)."""

    name: str
    data: str
    share: float | None = None

    def examples(self, count: int) -> Examples:
        return loaded(self.data).train.take(range(count))

    @property
    def augment(self) -> Augment:
        return loaded(self.data).augment or Augment()

    def build(self, seed: int = 0) -> torch.nn.Module:
        x = loaded(self.data).train.inputs
        shape = tuple(int(side) for side in x.shape[1:])
        return build(Blueprint(name=self.name, classes=10, shape=shape), seed=seed, sample=x[:2000].float() / 255)


SMALL = Net("small-cnn", "fashion-mnist", 0.45)
AIRBENCH_SMALL = Net("airbench-small", "cifar10")
AIRBENCH = Net("airbench", "cifar10")
RESNET18 = Net("resnet18", "cifar10", 0.75)


@cache
def loaded(name: str) -> DataSet:
    return load_data(name)


def present(nets: list[Net], notes: list[str]) -> list[Net]:
    """The networks whose data are here; of the others a note is made. Refuses where there are none."""
    found = []
    for net in nets:
        try:
            loaded(net.data)
            found.append(net)
        except Refusal as error:
            notes.append(f"{net.name} left out: {error}")
    if nets and not found:
        raise Refusal("; ".join(notes))
    return found
