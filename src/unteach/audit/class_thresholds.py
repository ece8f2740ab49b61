"""The threshold attack with one threshold a class: share of forget examples that it calls non-members."""

from __future__ import annotations

import numpy as np


def class_thresholds(
    member: np.ndarray, member_labels: np.ndarray, other: np.ndarray, other_labels: np.ndarray
) -> dict[int, float]:
    """For each class the threshold with the largest ½ (TPR + TNR), a value at or above it speaking for membership.

    Scores *higher = more like a member*, of examples trained on and not. Key −1 holds the threshold of all classes together;
    classes without examples on both sides have no key of their own. The lowest of equally good thresholds is taken.
    *Source:* Song and Mittal, 2021, arXiv 2003.10595. *Departs:* candidates are the scores on both sides.
    """
    found = {-1: _best(member, other)}
    for label in np.intersect1d(member_labels, other_labels):
        found[int(label)] = _best(member[member_labels == label], other[other_labels == label])
    return found


def called_members(scores: np.ndarray, labels: np.ndarray, thresholds: dict[int, float]) -> np.ndarray:
    """Which examples reach the threshold of their class, or the common one where that is missing; bool."""
    needed = np.array([thresholds.get(int(label), thresholds[-1]) for label in labels])
    return np.asarray(scores >= needed)


def _best(member: np.ndarray, other: np.ndarray) -> float:
    candidates = np.unique(np.concatenate([member, other]))
    below = [np.searchsorted(np.sort(scores), candidates) / len(scores) for scores in (member, other)]
    return float(candidates[np.argmax(below[1] - below[0])])
