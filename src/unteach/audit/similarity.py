"""How far weights moved, and how alike features are: from state dicts and feature matrices, without running a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from unteach.audit.finding import Finding, Skipped
from unteach.types import Refusal

State = Mapping[str, torch.Tensor]
_RETRAINED, _ORIGINAL, _CKA = (
    "relative weight distance (ℓ2)",
    "relative weight distance from original (ℓ2)",
    "1 − linear CKA",
)
_BUFFERS = ("running_mean", "running_var", "num_batches_tracked")
_WHOLE = "all layers"


def weight_distances(
    judged: State, references: Sequence[State], original: State | None = None
) -> list[Finding | Skipped]:
    """‖θ − θ'‖₂ / ‖θ'‖₂ by layer and over all: from the retrained models (mean, with floor), and from the original.

    A layer's weights and bias count together; buffers of batch normalisation are left out. Hidden units can be permuted
    without changing what a network does, so the distance from a retrained model says little, even beside its floor; the one
    from the original, which has none, says whether and where anything moved.
    *Source:* customary, as in Cadet et al., Deep Unlearn, 2024, arXiv 2410.01276. *Departs:* nowhere known.
    """
    mine, others = _layers(judged), [_layers(one) for one in references]
    start = None if original is None else _layers(original)
    for one in (*others, *([start] if start else [])):
        if {name: len(v) for name, v in one.items()} != {name: len(v) for name, v in mine.items()}:
            raise Refusal(
                "expected state dicts of one network, got other names or shapes; give models of the same build"
            )
    found: list[Finding | Skipped] = []
    if len(others) < 2:
        reason = f"it takes 2 retrained models, one to be judged by the other, got {len(others)}"
        found.append(Skipped(name=_RETRAINED, family="distance", reason=reason))
    for layer, weights in mine.items():
        if len(others) > 1:
            found.append(_from_retrained(layer, weights, [one[layer] for one in others]))
        if start:
            found.append(_from_original(layer, weights, start[layer]))
    return found


def _layers(state: State) -> dict[str, np.ndarray]:
    """All parameters of each module in one float64 row, and of all modules in one."""
    parts: dict[str, list[np.ndarray]] = {}
    for name, tensor in state.items():
        layer, _, kind = name.rpartition(".")
        if kind not in _BUFFERS and tensor.is_floating_point():
            parts.setdefault(layer or name, []).append(tensor.detach().cpu().double().numpy().ravel())
    if not parts:
        raise Refusal("expected a state dict with weights, got none; give model.state_dict()")
    rows = {layer: np.concatenate(values) for layer, values in parts.items()}
    return rows | {_WHOLE: np.concatenate(list(rows.values()))}


def _relative(one: np.ndarray, other: np.ndarray) -> float | None:
    """Distance in lengths of the other; None when that has none."""
    length = float(np.linalg.norm(other))
    return float(np.linalg.norm(one - other)) / length if length else None


def _from_retrained(layer: str, mine: np.ndarray, others: list[np.ndarray]) -> Finding | Skipped:
    everyone = [mine, *others]
    rows = [[_relative(one, other) for j, other in enumerate(others, 1) if j != i] for i, one in enumerate(everyone)]
    if any(value is None for row in rows for value in row):
        return Skipped(
            name=_RETRAINED, family="distance", reason=f"all weights of {layer} are zero in a retrained model"
        )
    value, *floor = (float(np.mean([v for v in row if v is not None])) for row in rows)
    return Finding(
        name=_RETRAINED,
        family="distance",
        part=layer,
        value=value,
        retrained=tuple(floor),
        two_sided=False,
        size=len(mine),
        doubts=("Units can be permuted, so weights of independent trainings lie far apart whatever the models do.",),
        source="Cadet et al., 2024, arXiv 2410.01276",
    )


def _from_original(layer: str, mine: np.ndarray, start: np.ndarray) -> Finding | Skipped:
    value = _relative(mine, start)
    if value is None:
        return Skipped(name=_ORIGINAL, family="distance", reason=f"all weights of {layer} are zero in the original")
    return Finding(name=_ORIGINAL, family="distance", part=layer, value=value, size=len(mine), source="customary")


def linear_cka(first: np.ndarray, second: np.ndarray) -> float | None:
    """Debiased linear CKA of two feature matrices of the same ``n`` examples, ``n × d`` and ``n × e``; at most 1.

    HSIC(X, Y) / √(HSIC(X, X) HSIC(Y, Y)) with the unbiased estimate of HSIC, in float64; near 0 for unrelated features, and
    then it may be negative. None when the features of one matrix do not vary.
    *Source:* Kornblith et al., 2019, arXiv 1905.00414; the estimate: Song et al., JMLR 13, 2012, eq. 5. *Departs:* written
    with d × e instead of n × n products, so memory grows with n only linearly.
    """
    for features in (first, second):
        if features.ndim != 2 or not features.size or not np.isfinite(features).all():
            raise Refusal(f"expected finite features as examples × units, got shape {features.shape}; flatten them")
    if len(first) != len(second) or len(first) < 4:
        raise Refusal(f"expected features of 4 or more common examples, got {len(first)} and {len(second)}; align them")
    # The unbiased estimate does not move with the mean, but its rounding errors do.
    x, y = (np.asarray(f, dtype=np.float64) - f.mean(0, dtype=np.float64) for f in (first, second))
    own = [_hsic(one, one) for one in (x, y)]
    least = [1e-12 * float((one**2).sum(1).mean()) ** 2 for one in (x, y)]
    if any(value <= floor for value, floor in zip(own, least)):
        return None
    return _hsic(x, y) / float(np.sqrt(own[0] * own[1]))


def _hsic(x: np.ndarray, y: np.ndarray) -> float:
    """Unbiased HSIC of linear kernels K = XXᵀ, L = YYᵀ whose diagonals are taken out."""
    n = len(x)
    diagonals = (x**2).sum(1), (y**2).sum(1)
    rows = [one @ one.sum(0) - diagonal for one, diagonal in zip((x, y), diagonals)]
    trace = ((x.T @ y) ** 2).sum() - diagonals[0] @ diagonals[1]
    corner = rows[0].sum() * rows[1].sum() / ((n - 1) * (n - 2))
    return float((trace + corner - 2 / (n - 2) * (rows[0] @ rows[1])) / (n * (n - 3)))


def feature_distance(judged: np.ndarray, references: Sequence[np.ndarray], part: str, layer: str) -> Finding | Skipped:
    """1 − linear CKA of the judged model's features with the retrained models' (mean), beside these among themselves.

    ``judged``: ``n × d`` features of one layer, such as the input of the last linear one; ``references``: the same of each
    retrained model. CKA can be brought near 1 without the features being alike in what matters: read it beside a probe.
    """
    name = f"{_CKA} of {layer}"
    if len(references) < 2 or len(judged) < 4:
        reason = f"it takes 2 retrained models and 4 examples, got {len(references)} and {len(judged)}"
        return Skipped(name=name, family="distance", reason=reason)
    everyone = [judged, *references]
    alike = np.full((len(everyone), len(everyone)), np.nan)
    for i, one in enumerate(everyone):
        for j in range(i):
            value = linear_cka(one, everyone[j])
            if value is None:
                return Skipped(name=name, family="distance", reason=f"the features of a model do not vary on {part}")
            alike[i, j] = alike[j, i] = value
    value, *floor = 1 - np.nanmean(alike[:, 1:], axis=1)
    return Finding(
        name=name,
        family="distance",
        part=part,
        value=float(value),
        retrained=tuple(map(float, floor)),
        two_sided=False,
        size=len(judged),
        source="Kornblith et al., 2019, arXiv 1905.00414; Song et al., JMLR 13, 2012",
    )
