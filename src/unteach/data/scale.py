"""Features brought to 0–1, the range that adversarial examples stay in."""

from __future__ import annotations

from dataclasses import replace

import torch

from unteach.data.dataset import DataSet
from unteach.types import Examples, Refusal

NOTE = (
    "features are scaled to 0–1 by the smallest and largest value of each column in the training part, forgotten rows included; "
    "a network trained on them expects the same scaling in use"
)


def scaled(data: DataSet, how: str | None) -> DataSet:
    """The data as they are (None), or with ``unit``: (x − low) / (high − low) for each feature, or place in an embedding's width.

    ``low`` and ``high`` are those of the training part alone. Test values outside are cut to 0–1; a feature that is constant
    in training is 0 everywhere, for nothing can be learned from it. Raises: Refusal for images and other words.
    """
    if how is None:
        return data
    if how != "unit" or data.train.inputs.ndim == 4:
        raise Refusal(
            f"expected scale=unit for features, got scale={how} for inputs of shape {tuple(data.train.inputs.shape)}; "
            "images need none"
        )
    columns = data.train.inputs.flatten(0, -2).double()
    low, span = columns.amin(0), columns.amax(0) - columns.amin(0)
    factor = torch.where(span > 0, 1 / span, 0)

    def unit(part: Examples) -> Examples:
        return replace(part, inputs=((part.inputs.double() - low) * factor).clamp_(0, 1).float())

    unseen = None if data.unseen is None else unit(data.unseen)
    return replace(data, train=unit(data.train), test=unit(data.test), unseen=unseen, notes=(*data.notes, NOTE))
