"""The MUFAC benchmark's forgetting score and NoMUS: kept to compare with published tables, never to decide by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from unteach.audit.finding import Finding, Skipped
from unteach.audit.games import Pools
from unteach.audit.membership import Loss
from unteach.types import Refusal, Signals

FEWEST = 10
SOURCE = "Choi and Na, 2023, arXiv 2311.02240"


def forgetting_score(forget: np.ndarray, unseen: np.ndarray, *, balanced: bool = False) -> float:
    """|M − ½|, M the accuracy of a logistic regression that tells forget from unseen losses; 0 best, ½ worst.

    ``forget``, ``unseen``: losses under evaluation transforms, each of shape ``n``. Forget losses beyond the number of unseen
    ones are dropped at random (NumPy seed 42). Fewer forget than unseen losses stay as they are in the benchmark, and then
    the more frequent answer alone scores (32 against 125: 0.31); ``balanced`` drops unseen losses as well. M is the mean
    over ten stratified shuffle splits, a tenth held out.
    With equal distributions of 1,500 each it is about 0.011, so smaller differences mean nothing; it only sees a shift, and
    its ideal is ½, not the retrained model's M. Raises: Refusal for fewer than ten losses on a side.
    *Source:* Choi & Na, 2023, arXiv 2311.02240, and its public code. *Departs:* nowhere known.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedShuffleSplit, cross_val_score

    if min(len(forget), len(unseen)) < FEWEST:
        raise Refusal(
            f"expected at least 10 forget and 10 unseen losses, got {len(forget)} and {len(unseen)}; give more examples"
        )
    if len(forget) > len(unseen):
        forget = np.random.RandomState(42).permutation(forget)[: len(unseen)]
    if balanced and len(unseen) > len(forget):
        unseen = np.random.RandomState(42).permutation(unseen)[: len(forget)]
    losses = np.concatenate((unseen, forget))[:, None].astype(np.float64)
    member = np.repeat([0, 1], [len(unseen), len(forget)])
    splits = StratifiedShuffleSplit(n_splits=10, random_state=0)
    accuracy = cross_val_score(LogisticRegression(), losses, member, cv=splits, scoring="accuracy")
    return float(abs(accuracy.mean() - 0.5))


def nomus(utility: float, forgetting: float) -> float:
    """(utility + 1 − 2 · forgetting score) / 2, in 0–1, higher is better by its authors.

    A constant answer on MUCAC scores above the published retrained model, so never show it without its two parts.
    *Source:* Choi & Na, 2023, arXiv 2311.02240, with their λ = ½.
    """
    return (utility + 1 - 2 * forgetting) / 2


def nomus_findings(
    signals: Signals, judged: int, retrained: Sequence[int], pool: Pools, correct: np.ndarray
) -> list[Finding | Skipped]:
    """Both scores of the judged model and of every retrained one, for data whose non-members are not the test set.

    Utility is the accuracy on the test set, the attack tells forget from unseen losses. ``correct``: right answers,
    ``models × examples``. The doubts tell what a constant answer would get.
    """
    count = min(len(pool.forget), len(pool.unseen))
    if count < FEWEST or not len(pool.test):
        reason = f"it takes {FEWEST} examples a side, and test examples, got {count} and {len(pool.test)}"
        return [Skipped(name="forgetting score, NoMUS", family="membership", reason=reason)]
    models = (judged, *retrained)
    losses = [-Loss()(signals, at) for at in models]
    scores = [forgetting_score(each[pool.forget], each[pool.unseen]) for each in losses]
    useful = [float(correct[at][pool.test].mean()) for at in models]
    together = [nomus(u, f) for u, f in zip(useful, scores)]
    constant = _constant(signals.labels[pool.test])
    parts = f"Utility {useful[0]:.4f}, forgetting score {scores[0]:.4f}; a constant answer has up to {nomus(constant, 0.0):.4f}."
    frame = Finding(
        name="forgetting score",
        family="membership",
        part="FT",
        value=scores[0],
        retrained=tuple(scores[1:]),
        size=len(pool.forget) + len(pool.unseen),
        doubts=("Its ideal, 0, is not what retrained models score; a shift is all it sees.",),
        source=SOURCE,
    )
    whole = replace(
        frame,
        name="NoMUS",
        family="utility",
        part="all",
        value=together[0],
        retrained=tuple(together[1:]),
        doubts=(parts,),
    )
    return [frame, whole]


def _constant(labels: np.ndarray) -> float:
    """Accuracy of the best constant answer."""
    if labels.ndim == 2:
        share = labels.mean(0)
        return float(np.maximum(share, 1 - share).mean())
    return float(np.unique(labels, return_counts=True)[1].max() / len(labels))
