"""How far a model's answers lie from retrained models' answers, beside how far these lie from each other.

Every measure takes logits of the same examples, ``n × classes`` of the judged model and ``K × n × classes`` of K retrained
models. Its value is the mean over the retrained models; each of these, judged by the others, gives the floor.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from unteach.audit import resample
from unteach.audit.finding import Finding, Skipped
from unteach.audit.routing import check_logits, jensen_shannon, log_shares, total_variation
from unteach.types import Refusal

FEWEST = 2  # one retrained model has no other to be judged by

Pair = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True, kw_only=True)
class Distance:
    """A distance of one model's log probabilities from another's, both ``n × classes``.

    ``pair(retrained, judged)`` gives one number an example, or a single number for all of them (shape ``1``); ``root`` takes
    the square root of the mean.
    """

    name: str
    pair: Pair
    unit: str
    source: str
    root: bool = False


def activation(order: int) -> Pair:
    """‖p − q‖ of the probabilities in this norm, 1 or 2."""
    return lambda logp, logq: np.asarray(np.linalg.norm(np.exp(logp) - np.exp(logq), ord=order, axis=-1))


def squared(logp: np.ndarray, logq: np.ndarray) -> np.ndarray:
    """‖p − q‖₂² of the probabilities."""
    return np.asarray(((np.exp(logp) - np.exp(logq)) ** 2).sum(-1))


def kullback_leibler(logp: np.ndarray, logq: np.ndarray) -> np.ndarray:
    """KL(p ‖ q) = Σ p (log p − log q) in nats, exact in the tails and finite for finite logits."""
    return np.asarray((np.exp(logp) * (logp - logq)).sum(-1))


def shannon(logp: np.ndarray, logq: np.ndarray) -> np.ndarray:
    """Jensen–Shannon divergence of the probabilities, in nats, 0 to ln 2."""
    return jensen_shannon(np.exp(logp), np.exp(logq))


def disagreement(logp: np.ndarray, logq: np.ndarray) -> np.ndarray:
    """1 where the two answers differ, else 0."""
    return np.asarray((logp.argmax(-1) != logq.argmax(-1)).astype(np.float64))


def answer_variation(logp: np.ndarray, logq: np.ndarray) -> np.ndarray:
    """Total variation of the two histograms of answers, shape ``1``."""
    return total_variation(_answers(logp)[None], _answers(logq)[None])


def answer_divergence(logp: np.ndarray, logq: np.ndarray) -> np.ndarray:
    """KL(p ‖ q) of the two histograms of answers, in nats, shape ``1``; half an answer is added to every class."""
    p, q = ((_answers(log) * len(log) + 0.5) / (len(log) + 0.5 * log.shape[1]) for log in (logp, logq))
    return np.asarray((p * np.log(p / q)).sum(keepdims=True))


def _answers(logp: np.ndarray) -> np.ndarray:
    return np.asarray(np.bincount(logp.argmax(-1), minlength=logp.shape[-1]) / len(logp))


_BAD_TEACHING = "Chundawat et al., 2023, arXiv 2205.08096"
_INEXACT = "Goel et al., 2022, arXiv 2201.06640"
_SUPREME = "pedroandreou/supreme-unlearning, 2025"
_NOTES = "customary; no single source"
DISTANCES = (
    Distance(name="activation distance (ℓ1)", pair=activation(1), unit="", source=_INEXACT),
    Distance(name="activation distance (ℓ2)", pair=activation(2), unit="", source=_BAD_TEACHING),
    Distance(name="activation distance (root mean square)", pair=squared, unit="", source=_SUPREME, root=True),
    Distance(name="KL(retrained ‖ judged)", pair=kullback_leibler, unit="nats", source=_NOTES),
    Distance(name="JS divergence", pair=shannon, unit="nats", source="Lin, 1991, IEEE Trans. Information Theory 37"),
    Distance(name="prediction disagreement", pair=disagreement, unit="", source=_SUPREME),
    Distance(name="TV of answers", pair=answer_variation, unit="", source=_NOTES),
    Distance(name="KL(retrained ‖ judged) of answers", pair=answer_divergence, unit="nats", source=_NOTES),
)


def output_distances(
    judged: np.ndarray,
    references: np.ndarray,
    part: str,
    *,
    distances: tuple[Distance, ...] = DISTANCES,
    groups: np.ndarray | None = None,
    seed: int = 0,
) -> list[Finding | Skipped]:
    """All distances of the judged model from the retrained ones on the examples of one part, with floors.

    ``judged``: ``n × classes`` logits, ``references``: ``K × n × classes``. Intervals: bootstrap over the examples, over the
    ``groups`` (one name an example) where given; none for the histograms of answers. Prediction agreement ("completeness")
    is one minus the disagreement.
    """
    check(judged, references)
    if len(references) < FEWEST:
        reason = f"it takes {FEWEST} retrained models, one to be judged by the other, got {len(references)}"
        return [Skipped(name=distance.name, family="distance", reason=reason) for distance in distances]
    logs = [log_shares(z, ()) for z in (judged, *references)]
    units = np.arange(len(judged)) if groups is None else groups
    found: list[Finding | Skipped] = []
    for distance in distances:
        table = _between(logs, distance)
        mine = np.mean([distance.pair(other, logs[0]) for other in logs[1:]], axis=0)
        drawn = None
        if len(mine) > 1:
            low, high = resample.percentile(resample.mean_draws(mine[None], np.ones(1), units, seed=seed))
            drawn = (_finish(low, distance), _finish(high, distance))
        found.append(
            Finding(
                name=distance.name,
                family="distance",
                part=part,
                value=_finish(float(mine.mean()), distance),
                retrained=tuple(_finish(float(value), distance) for value in table),
                interval=drawn,
                two_sided=False,
                unit=distance.unit,
                size=len(judged),
                source=distance.source,
            )
        )
    return found


def _between(logs: list[np.ndarray], distance: Distance) -> np.ndarray:
    """Mean distance of each retrained model (all but the first) from the other retrained ones, shape ``K``."""
    others = range(1, len(logs))
    rows = [[float(distance.pair(logs[j], logs[i]).mean()) for j in others if j != i] for i in others]
    return np.asarray(np.mean(rows, axis=1))


def _finish(mean: float, distance: Distance) -> float:
    # A divergence of equal answers may come out a rounding error below zero.
    return float(np.sqrt(max(0.0, mean))) if distance.root else max(0.0, mean)


def check(judged: np.ndarray, references: np.ndarray) -> None:
    """Refuses logits in half precision, not finite, or of other examples or classes than the judged model's."""
    check_logits(judged, 2)
    check_logits(references, 3)
    if references.shape[1:] != judged.shape:
        raise Refusal(
            f"expected logits of the same examples and classes, got {judged.shape} for the model and "
            f"{references.shape[1:]} for the references; use the same rows of the store"
        )
