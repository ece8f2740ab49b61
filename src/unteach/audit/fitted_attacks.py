"""Attacks that fit a classifier to one model's answers: SCRUB's, the entropy attack, and one that sees any shape."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from unteach.audit import resample
from unteach.audit.finding import Finding, Skipped
from unteach.audit.games import Pools
from unteach.audit.membership import Confidence, Entropy, Loss
from unteach.audit.statistics import auc, clopper_pearson
from unteach.types import Refusal, Signals

_FEWEST = 10
_CLIP = 100.0


def scrub_attack(forget: np.ndarray, unseen: np.ndarray, *, seed: int = 0) -> np.ndarray:
    """Accuracies with which a logistic regression tells forget from unseen losses in five stratified shuffle splits, 0–1.

    The larger side is cut down at random, losses are clipped to ±100, a tenth is held out. Chance is ½.
    *Source:* Kurmanji et al., SCRUB, 2023, arXiv 2302.09880, and its public code. *Departs:* nowhere known.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedShuffleSplit, cross_val_score

    count = min(len(forget), len(unseen))
    if count < _FEWEST:
        raise Refusal(
            f"expected {_FEWEST} or more losses a side, got {len(forget)} and {len(unseen)}; give more examples"
        )
    rng = np.random.default_rng(seed)
    losses = np.concatenate([rng.permutation(side)[:count] for side in (forget, unseen)])
    columns = np.clip(losses.astype(np.float64), -_CLIP, _CLIP)[:, None]
    splits = StratifiedShuffleSplit(n_splits=5, random_state=seed)
    return np.asarray(cross_val_score(LogisticRegression(), columns, np.repeat([1, 0], count), cv=splits))


def entropy_attack(retain: np.ndarray, test: np.ndarray, forget: np.ndarray) -> float:
    """Share of forget examples that a logistic regression fitted to retain and test entropies calls members, 0–1.

    Both classes weigh the same. Retraining is the target, not ½.
    *Source:* Chundawat et al., 2023, arXiv 2205.08096; Foster et al., SSD, 2024, arXiv 2308.07707; their public code.
    *Departs:* nowhere known.
    """
    from sklearn.linear_model import LogisticRegression

    if min(len(retain), len(test)) < _FEWEST or not len(forget):
        raise Refusal(
            f"expected {_FEWEST} retain and test entropies and one of forget, got too few; give more examples"
        )
    entropies = np.concatenate([retain, test]).astype(np.float64)[:, None]
    fitted = LogisticRegression(class_weight="balanced").fit(entropies, np.repeat([1, 0], [len(retain), len(test)]))
    return float(fitted.predict(forget.astype(np.float64)[:, None]).mean())


@dataclass(frozen=True, kw_only=True)
class ShapeAttack:
    """Boosted shallow trees that tell forget from unseen examples by any difference in the distribution of their scores.

    Sees what a threshold or a logistic regression can't: forget examples spread on both sides of unseen ones, as after
    over-unlearning. Cross-fitted: no example is scored by trees that saw it or another of its group.
    *Source:* our own; cross-fitted classifier two-sample tests: Lopez-Paz & Oquab, 2017, arXiv 1610.06545.
    """

    depth: int = 3
    """Largest depth of a tree, 1 or more."""
    trees: int = 30
    """Trees in the sum, 1 or more."""
    leaf: int = 5
    """Fewest examples in a leaf, 1 or more."""
    folds: int = 5
    """Parts of the data that are scored in turn by trees fitted to the others, 2 or more."""

    def __post_init__(self) -> None:
        if min(self.depth, self.trees, self.leaf) < 1 or self.folds < 2:
            raise Refusal(
                f"expected depth, trees and leaf of 1 or more, and 2 folds or more, got {self}; see the defaults"
            )

    def __call__(self, scores: np.ndarray, forget: np.ndarray, groups: np.ndarray, *, seed: int = 0) -> np.ndarray:
        """Chance of being a forget example, of the scores' shape without columns.

        ``scores``: ``n × columns``, or of several models ``models × n × columns``, which share the parts. ``forget``: bool,
        ``groups``: the unit of each example, of which both sides need two.
        """
        from sklearn.ensemble import HistGradientBoostingClassifier
        from sklearn.model_selection import PredefinedSplit, cross_val_predict
        from threadpoolctl import threadpool_limits

        units = units_of(forget, groups)
        if units < 2:
            raise Refusal(f"expected two or more groups on both sides, got {units}; give more")
        trees = HistGradientBoostingClassifier(
            max_depth=self.depth,
            max_iter=self.trees,
            min_samples_leaf=self.leaf,
            early_stopping=False,
            random_state=seed,
        )
        parts = PredefinedSplit(_folds(forget, groups, min(self.folds, units), seed))
        # Several threads wait for each other, minutes long where neighbours use the cores.
        with threadpool_limits(1, user_api="openmp"):
            found = [
                cross_val_predict(trees, one, forget, cv=parts, method="predict_proba")[:, 1]
                for one in scores.reshape(-1, *scores.shape[-2:])
            ]
        return np.stack(found).reshape(scores.shape[:-1])


def _folds(forget: np.ndarray, groups: np.ndarray, count: int, seed: int) -> np.ndarray:
    """The fold of each example: groups are shuffled, put in order by their sides and dealt out in turn.

    Those with examples on both sides stand between the others, so that each side's groups go round evenly and none of a few
    folds has all of them. scikit-learn's StratifiedGroupKFold takes seconds for thousands of groups of one.
    """
    names, group = np.unique(groups, return_inverse=True)
    on = np.zeros((2, len(names)), dtype=bool)
    on[forget.astype(int), group] = True
    shuffled = np.random.default_rng(seed).permutation(len(names))
    dealt = shuffled[np.argsort((on[1].astype(int) - on[0])[shuffled], kind="stable")]
    fold = np.empty(len(names), dtype=int)
    fold[dealt] = np.arange(len(names)) % count
    return fold[group]


def units_of(forget: np.ndarray, groups: np.ndarray) -> int:
    """Groups on the side that has fewer of them."""
    return min(len(np.unique(groups[forget])), len(np.unique(groups[~forget])))


def fitted_findings(
    signals: Signals,
    judged: int,
    retrained: Sequence[int],
    pool: Pools,
    *,
    shape: ShapeAttack | None = None,
    seed: int = 0,
) -> list[Finding | Skipped]:
    """The three attacks on the judged model, beside the same on every retrained one (positions in the signals).

    SCRUB's attack only sees unseen examples of classes that occur in the forget set.
    """
    readings = [Reading.of(signals, at) for at in (judged, *retrained)]
    return [_scrub(readings, signals, pool, seed), _entropy(readings, pool), _shape(readings, pool, shape, seed)]


@dataclass(frozen=True, eq=False)
class Reading:
    """One model's φ, entropy and loss (nats) on every example."""

    phi: np.ndarray
    entropy: np.ndarray
    loss: np.ndarray

    @classmethod
    def of(cls, signals: Signals, target: int) -> Reading:
        return cls(Confidence()(signals, target), -Entropy()(signals, target), -Loss()(signals, target))


def _scrub(readings: list[Reading], signals: Signals, pool: Pools, seed: int) -> Finding | Skipped:
    name, unseen = "SCRUB's attack", pool.unseen
    if signals.labels.ndim == 1:
        unseen = unseen[np.isin(signals.labels[unseen], signals.labels[pool.forget])]
    count = min(len(pool.forget), len(unseen))
    if count < _FEWEST:
        return Skipped(name=name, family="membership", reason=f"it takes {_FEWEST} examples a side, got {count}")
    each = [scrub_attack(one.loss[pool.forget], one.loss[unseen], seed=seed) for one in readings]
    value, *target = (float(accuracies.mean()) for accuracies in each)
    return Finding(
        name=name,
        family="membership",
        part="FT",
        value=value,
        retrained=tuple(target),
        trace="above",
        size=2 * count,
        doubts=(f"Standard deviation over the splits: {each[0].std(ddof=1):.3f}.",),
        source="Kurmanji et al., 2023, arXiv 2302.09880",
    )


def _entropy(readings: list[Reading], pool: Pools) -> Finding | Skipped:
    name, sides = "entropy attack: forgotten ones called members", (pool.retain, pool.others, pool.forget)
    if min(map(len, sides[:2])) < _FEWEST:
        reason = f"it takes {_FEWEST} retain and test examples, got {len(pool.retain)} and {len(pool.others)}"
        return Skipped(name=name, family="membership", reason=reason)
    value, *target = (entropy_attack(*(one.entropy[rows] for rows in sides)) for one in readings)
    return Finding(
        name=name,
        family="membership",
        part="forget",
        value=value,
        retrained=tuple(target),
        trace="above",
        interval=clopper_pearson(round(value * len(pool.forget)), len(pool.forget)),
        size=len(pool.forget),
        source="Chundawat et al., 2023, arXiv 2205.08096; Foster et al., 2024, arXiv 2308.07707",
    )


def _shape(readings: list[Reading], pool: Pools, attack: ShapeAttack | None, seed: int) -> Finding | Skipped:
    name, attack = "FT AUC of boosted trees", attack or ShapeAttack()
    rows = np.concatenate([pool.forget, pool.unseen])
    forget = np.arange(len(rows)) < len(pool.forget)
    groups = rows if pool.groups is None else pool.groups[rows]
    if len(pool.unseen) == 0 or (units := units_of(forget, groups)) < _FEWEST:
        reason = f"it takes {_FEWEST} independent examples or groups a side"
        return Skipped(name=name, family="membership", reason=reason)
    scores = attack(
        np.stack([np.stack([one.phi, one.entropy, one.loss], 1)[rows] for one in readings]), forget, groups, seed=seed
    )
    pair = None if pool.groups is None else (groups[forget], groups[~forget])
    estimate = resample.auc_estimate(scores[0][None, forget], scores[0][None, ~forget], np.ones(1), pair, seed)
    return Finding(
        name=name,
        family="membership",
        part="FT",
        value=estimate.value,
        retrained=tuple(auc(one[forget], one[~forget]) for one in scores[1:]),
        interval=estimate.interval(least=0.0),
        trace="above",
        size=len(rows),
        doubts=(f"{attack.folds} folds of {units} or more groups a side; φ, entropy and loss.",),
        source="our own, after Lopez-Paz & Oquab, 2017, arXiv 1610.06545",
    )
