"""One example's confidence under many unlearned and many retrained models: what the distributional measures compare."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from unteach.types import Refusal

HALVINGS = 5


def check(unlearned: np.ndarray, retrained: np.ndarray) -> None:
    """Refuses populations (``models × examples``) that do not fit together, are not finite or in half precision."""
    for name, values in {"unlearned": unlearned, "retrained": retrained}.items():
        if values.ndim != 2 or 0 in values.shape or values.dtype not in (np.float32, np.float64):
            raise Refusal(
                f"expected {name} confidences as models × examples in float32 or float64, got {values.dtype} of shape "
                f"{values.shape}; store one row a model"
            )
        if not np.isfinite(values).all():
            raise Refusal(f"expected finite {name} confidences, got NaN or infinity; check the checkpoints")
    if unlearned.shape[1] != retrained.shape[1]:
        raise Refusal(
            f"expected the same examples under both, got {unlearned.shape[1]} and {retrained.shape[1]}; align them by id"
        )


def matched(unlearned: int, retrained: int) -> int:
    """Models a side when retrained ones are also compared with each other, out of so many of either."""
    return min(unlearned, retrained // 2)


def halved(
    unlearned: np.ndarray, retrained: np.ndarray, seed: int
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """``HALVINGS`` draws of three populations of equal size: unlearned, retrained, and other retrained models.

    First against second gives the value, third against second what retraining itself gives with as many models. All three
    are `matched` in size, since every distance between two small samples grows as they shrink.
    """
    rng = np.random.default_rng(seed)
    size = matched(len(unlearned), len(retrained))
    for _ in range(HALVINGS):
        order = rng.permutation(len(retrained))
        mine = np.sort(rng.permutation(len(unlearned))[:size])
        yield unlearned[mine], retrained[np.sort(order[:size])], retrained[np.sort(order[size : 2 * size])]
