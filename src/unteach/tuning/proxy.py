"""A request to practise on: as large as the real one and of its kind, drawn from what is retained."""

from __future__ import annotations

import numpy as np

from unteach.data.dataset import chained
from unteach.data.request import kind_of, named
from unteach.types import MultiLabel, Refusal, Split


def proxy_request(split: Split, seed: int) -> Split:
    """Another request on the same model: its forget set P is drawn from the retain set, and everything else is retained.

    Whole classes: for each, the retained class nearest to it in size, ties drawn. Whole groups: likewise. Else as many
    examples of each class as the request has (where they run out, of any; with several labels, at random). The real request
    is among what is retained here: the model to start from was trained on it, so that only a model trained on
    all but P differs from it by P alone, as the model retrained for the real request differs by the real forget set.
    Raises: Refusal when too little is retained to draw another as large.
    """
    if split.retain is None or len(split.retain) < len(split.forget):
        raise Refusal(
            f"expected as many retained examples as forgotten ones ({len(split.forget)}), to draw another request from them, "
            f"got {0 if split.retain is None else len(split.retain)}; tune on a smaller request"
        )
    rng, kind = np.random.default_rng([seed, 11]), kind_of(split)
    if kind == "class":
        drawn = _nearest_in_size(split.forget.labels.numpy(), split.retain.labels.numpy(), rng, "classes")
    elif kind == "group":
        mine, theirs = named(split.forget), named(split.retain)
        assert mine is not None
        assert theirs is not None
        drawn = _nearest_in_size(mine, theirs, rng, "groups")
    else:
        drawn = _same_mix(split, rng)
    return Split(
        forget=split.retain.take(drawn),
        retain=chained(split.retain.take(~drawn), split.forget),
        validation=split.validation,
    )


def _nearest_in_size(wanted: np.ndarray, there: np.ndarray, rng: np.random.Generator, what: str) -> np.ndarray:
    """Mask of whole classes or groups, one for each that is wanted, the largest served first."""
    sizes = np.sort(np.unique(wanted, return_counts=True)[1])[::-1]
    names, counts = np.unique(there, return_counts=True)
    if len(names) < len(sizes):
        raise Refusal(
            f"expected at least {len(sizes)} retained {what} to draw another request from, got {len(names)}; "
            "tune on a smaller request"
        )
    order = rng.permutation(len(names))
    names, counts = names[order], counts[order].astype(np.int64)
    chosen = []
    for size in sizes:
        at = int(np.abs(counts - size).argmin())
        chosen.append(names[at])
        names, counts = np.delete(names, at), np.delete(counts, at)
    return np.isin(there, chosen)


def _same_mix(split: Split, rng: np.random.Generator) -> np.ndarray:
    assert split.retain is not None
    order = rng.permutation(len(split.retain))
    first = order
    if not isinstance(split.task, MultiLabel):
        labels = split.retain.labels.numpy()[order]
        wanted = np.bincount(split.forget.labels.numpy(), minlength=int(labels.max()) + 1)
        # The first so many of each class, in the drawn order, then whoever comes.
        rank = np.empty(len(order), dtype=np.int64)
        for label in np.unique(labels):
            rows = np.flatnonzero(labels == label)
            rank[rows] = np.arange(len(rows))
        first = order[np.argsort(rank >= wanted[labels], kind="stable")]
    mask = np.zeros(len(order), dtype=bool)
    mask[first[: len(split.forget)]] = True
    return mask
