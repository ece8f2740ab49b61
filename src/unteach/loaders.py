"""Examples as other people's code expects them: PyTorch data loaders of pairs."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch.utils.data import DataLoader, Dataset, default_collate

from unteach.engine import Engine, Meter, pixels
from unteach.types import Examples


class Sample(NamedTuple):
    """Inputs and labels, by position and by the names of the NeurIPS 2023 challenge; batches keep the type."""

    image: torch.Tensor
    age_group: torch.Tensor

    def __getitem__(self, key: Any) -> Any:
        return getattr(self, key) if isinstance(key, str) else tuple.__getitem__(self, key)


class Samples(Dataset[Sample]):
    """Examples one by one, on the CPU: floats, pixels in 0–1. Each that is drawn is billed as one training step."""

    def __init__(self, examples: Examples | None, meter: Meter) -> None:
        self.examples, self.meter = examples, meter

    def __len__(self) -> int:
        return len(self.examples) if self.examples is not None else 0

    def __getitem__(self, index: int) -> Sample:
        if self.examples is None:
            raise IndexError(index)
        self.meter.trained += 1
        return Sample(pixels(self.examples.inputs[index]).float(), self.examples.labels[index])


def loader(examples: Examples | None, batch: int, *, seed: int, engine: Engine) -> DataLoader[Sample]:
    """Shuffled batches on the engine's device, another order each time; none at all where there are no examples."""

    def moved(items: list[Sample]) -> Sample:
        inputs, labels = default_collate(items)
        return Sample(pixels(inputs.to(engine.device)), labels.to(engine.device))

    samples, order = Samples(examples, engine.meter), torch.Generator().manual_seed(seed)
    return DataLoader(samples, batch, shuffle=len(samples) > 0, generator=order, collate_fn=moved)
