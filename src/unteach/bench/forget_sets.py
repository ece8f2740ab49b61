"""Forget sets that are not uniformly random: by how much the model has memorised them, and alike among themselves."""

from __future__ import annotations

import numpy as np

from unteach.types import Refusal

STRATA = ("low", "middle", "high", "mixed")


def memorisation(phi: np.ndarray, members: np.ndarray) -> np.ndarray:
    """How much more confident models are in an example when they were trained on it; shape ``n``, higher = more memorised.

    ``phi``: logit-scaled confidences, ``models × n``. ``members``: which model saw which example, ``models × n``. The mean
    over the models that saw it minus the mean over those that did not; NaN where one side is empty.
    *Source:* the influence of Feldman & Zhang, 2020, arXiv 2008.03703, with confidence in place of correctness, so that a few
    models are enough. *Departs:* theirs takes some hundred models on seven tenths of the data.
    """
    if phi.shape != members.shape or phi.ndim != 2:
        raise Refusal(
            f"expected confidences and members of one shape models × examples, got {phi.shape} and {members.shape}; align them"
        )
    with np.errstate(invalid="ignore"):
        inside = np.where(members, phi, 0.0).sum(0) / members.sum(0)
        outside = np.where(members, 0.0, phi).sum(0) / (~members).sum(0)
    return np.asarray(inside - outside)


def stratum(scores: np.ndarray, kind: str, count: int, seed: int) -> np.ndarray:
    """Positions of ``count`` examples of one stratum: the least, the middlemost, the most memorised, or a third of each.

    Examples without a score are in none. *Source:* Zhao et al., What makes unlearning hard, 2024, arXiv 2406.01257 (RUM),
    whose sets have 3,000 examples. ``seed`` only orders ties. Raises: Refusal for an unknown kind or more examples than
    there are.
    """
    if kind not in STRATA:
        raise Refusal(f"expected a stratum ({', '.join(STRATA)}), got {kind!r}; choose one of these")
    known = np.flatnonzero(np.isfinite(scores))
    if not 0 < count < len(known):
        raise Refusal(
            f"expected a count of 1 to {len(known) - 1} for a stratum, got {count}; that many examples have a score"
        )
    shuffled = np.random.default_rng(seed).permutation(known)
    order = shuffled[np.argsort(scores[shuffled], kind="stable")]
    start = (len(order) - count) // 2
    whole = {"low": order[:count], "middle": order[start : start + count], "high": order[-count:]}
    if kind != "mixed":
        return np.sort(whole[kind])
    sizes = [count // 3 + (number < count % 3) for number in range(3)]
    start = (len(order) - sizes[1]) // 2
    parts = [order[: sizes[0]], order[start : start + sizes[1]], order[len(order) - sizes[2] :]]
    mixed = np.unique(np.concatenate(parts))
    if len(mixed) < count:
        raise Refusal(f"expected three strata that do not touch, got {count} of {len(known)} examples; draw fewer")
    return mixed


def alike(features: np.ndarray, labels: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Positions of ``count`` examples of one class that are most alike: one drawn by ``seed``, and its nearest neighbours.

    ``features``: ``n × d``, such as the last hidden layer's; compared by cosine. ``labels``: ``n``. The class is that of the
    drawn example; only classes with enough examples are drawn from. Raises: Refusal when there is none.
    """
    sizes = np.bincount(labels)
    if not 0 < count < sizes.max():
        raise Refusal(f"expected a count of 1 to {sizes.max() - 1} alike, got {count}; the largest class has no more")
    rng = np.random.default_rng(seed)
    first = int(rng.choice(np.flatnonzero(sizes[labels] > count)))
    peers = np.flatnonzero(labels == labels[first])
    length = np.linalg.norm(features, axis=1, keepdims=True)
    unit = features / np.where(length > 0, length, 1.0)
    near = np.argsort(-(unit[peers] @ unit[first]), kind="stable")[:count]
    return np.sort(peers[near])
