"""The UA / RA / TA / MIA-efficacy suite of the l1-sparse and SalUn papers: one model's answers attack that model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from unteach.audit.class_thresholds import called_members, class_thresholds
from unteach.audit.composites import composites
from unteach.audit.finding import Finding, Skipped
from unteach.audit.games import Pools
from unteach.audit.membership import _log_probabilities, correctness, logits_of
from unteach.types import Refusal, Signals

FEATURES = ("correctness", "confidence", "entropy", "modified entropy", "probabilities")
EFFICACY, PRIVACY, BY_CLASS = (
    "MIA-efficacy (SVC, {})",
    "training privacy (SVC, {})",
    "MIA-efficacy (class thresholds, {})",
)
_FEWEST = 10
_SOURCE = "Jia et al., 2023, arXiv 2304.04934; Fan et al., SalUn, 2024, arXiv 2310.12508"
_SONG = "Song and Mittal, 2021, arXiv 2003.10595"


@dataclass(frozen=True, kw_only=True)
class SvcSuite:
    """UA, RA, TA, and the share of forget examples that a support vector machine takes for non-members, all in percent.

    1. UA = 100 − forget accuracy, RA and TA the retain and test accuracies.
    2. As many retain (members) as test examples (non-members; unseen ones, where they are others) are drawn. A machine (RBF
       kernel, C = 3, gamma = 1 / features) is fitted to their correctness, confidence, entropy, modified entropy, or all
       probabilities; MIA-efficacy is the share of forget examples that it calls non-members.
    3. Training privacy: the same fitted on half of them; mean of the accuracies on the other half's members and others.
    4. The same share by a threshold a class (Song and Mittal) from the drawn examples.

    None has an ideal of its own: retrained models score about 12.5 % on CIFAR-10, so only the gap to them means anything.
    *Source:* Jia et al., 2023, arXiv 2304.04934; Fan et al., SalUn, 2024, arXiv 2310.12508; their shared public code.
    *Departs:* members are drawn at random, equally many on both sides and at most ``most`` (a machine's cost grows with their
    square); modified entropy as Song and Mittal define it. ``compat`` takes both back.
    """

    most: int = 1000
    """Largest number of members, and of non-members, that a machine is fitted to; 0 for no limit (the papers: 10,000)."""
    compat: bool = False
    """As the published code: members in index order, all non-members, wrong modified entropy; set most to 0 as well."""
    seed: int = 0
    """Seed of the drawn examples and of the halves."""

    def __post_init__(self) -> None:
        if self.most < 0 or 0 < self.most < 2 * _FEWEST:
            raise Refusal(f"expected most to be 0 or at least {2 * _FEWEST}, got {self.most}; 1000 is the default")

    def __call__(self, signals: Signals, target: int, pool: Pools) -> dict[str, float]:
        """All numbers of one model by name, in percent, from the first view. ``pool``: retain, forget and test examples."""
        why = missing(signals, pool)
        if why:
            raise Refusal(f"expected signals that the SVC suite can use, got some where {why}; leave the suite out")
        logits = logits_of(signals, target)[0]
        right = 100.0 * (logits.argmax(1) == signals.labels)
        found = {"UA": 100 - right[pool.forget].mean(), "RA": right[pool.retain].mean(), "TA": right[pool.test].mean()}
        sides = (*self.drawn(pool), pool.forget)
        tables = [features(logits[rows], signals.labels[rows], compat=self.compat) for rows in sides]
        for name in FEATURES:
            member, other, forget = (table[name] for table in tables)
            found[EFFICACY.format(name)] = 100 * float(1 - _fitted(member, other).predict(forget).mean())
            found[PRIVACY.format(name)] = 100 * self._privacy(member, other)
        labels = [signals.labels[rows] for rows in sides]
        for name in FEATURES[1:4]:
            sign = 1 if name == "confidence" else -1
            member, other, forget = (sign * table[name][:, 0] for table in tables)
            thresholds = class_thresholds(member, labels[0], other, labels[1])
            found[BY_CLASS.format(name)] = 100 * float(1 - called_members(forget, labels[2], thresholds).mean())
        return {name: float(value) for name, value in found.items()}

    def drawn(self, pool: Pools) -> tuple[np.ndarray, np.ndarray]:
        """Positions of the members and of the non-members that a machine is fitted to."""
        most = self.most or max(len(pool.retain), len(pool.others))
        if self.compat:
            return pool.retain[: min(most, len(pool.others))], pool.others[:most]
        rng = np.random.default_rng(self.seed)
        count = min(most, len(pool.retain), len(pool.others))
        member, other = (np.sort(rng.permutation(rows)[:count]) for rows in (pool.retain, pool.others))
        return member, other

    def _privacy(self, member: np.ndarray, other: np.ndarray) -> float:
        rng = np.random.default_rng(self.seed)
        halves = [np.array_split(side[rng.permutation(len(side))], 2) for side in (member, other)]
        machine = _fitted(halves[0][0], halves[1][0])
        return float(machine.predict(halves[0][1]).mean() + 1 - machine.predict(halves[1][1]).mean()) / 2


def features(logits: np.ndarray, labels: np.ndarray, *, compat: bool = False) -> dict[str, np.ndarray]:
    """The five inputs of the machines by name, ``n × 1`` each (probabilities: ``n × classes``), float64.

    ``compat``: the modified entropy of the public code, −Σ w_k log p_k with w = 1 − p for every class that occurs among
    ``labels`` and w = p for the others, so that it depends on which examples are read together.
    """
    logp, log1m = _log_probabilities(logits.astype(np.float64))
    p, true = np.exp(logp), labels.astype(np.int64)[:, None]
    if compat:
        weights = np.where(np.isin(np.arange(p.shape[1]), true), np.exp(log1m), p)
        modified = -(weights * logp).sum(1)
    else:
        terms = p * log1m
        np.put_along_axis(
            terms, true, np.exp(np.take_along_axis(log1m, true, 1)) * np.take_along_axis(logp, true, 1), 1
        )
        modified = -terms.sum(1)
    return {
        "correctness": (logits.argmax(1)[:, None] == true).astype(np.float64),
        "confidence": np.take_along_axis(p, true, 1),
        "entropy": -(p * logp).sum(1, keepdims=True),
        "modified entropy": modified[:, None],
        "probabilities": p,
    }


def _fitted(member: np.ndarray, other: np.ndarray) -> Any:
    from sklearn.svm import SVC

    called = np.repeat([1, 0], [len(member), len(other)])
    return SVC(C=3, gamma="auto", kernel="rbf").fit(np.concatenate([member, other]), called)


def missing(signals: Signals, pool: Pools) -> str | None:
    """What the suite takes and does not have, as a clause, if anything."""
    if signals.labels.ndim != 1:
        return "every example has several labels"
    least = min(len(pool.retain), len(pool.others))
    return f"one of the retain and test sets has only {least} of {_FEWEST} examples" if least < _FEWEST else None


def svc_findings(
    signals: Signals,
    judged: int,
    retrained: Sequence[int],
    pool: Pools,
    *,
    original: int | None = None,
    suite: SvcSuite | None = None,
) -> list[Finding | Skipped]:
    """All numbers of the suite for the judged model, beside those of every retrained one, then the composites.

    Models are given by their positions in the signals; ``original`` is needed for AUS only.
    """
    suite = suite or SvcSuite()
    if why := missing(signals, pool):
        names = "UA, RA, TA", "MIA-efficacy (SVC)", "ToW, averaging gap, AUS"
        return [Skipped(name=name, family="membership", reason=why) for name in names]
    mine, *others = (suite(signals, at, pool) for at in (judged, *retrained))
    members, non_members = (len(rows) for rows in suite.drawn(pool))
    fitted = (
        f"Fitted to {members:,} of {len(pool.retain):,} members and {non_members:,} of {len(pool.others):,} others."
    )
    how = ("As in the published code: members in index order, wrong modified entropy.",) if suite.compat else ()
    rows = {"UA": pool.forget, "RA": pool.retain, "TA": pool.test}
    parts = {"UA": "forget", "RA": "retain", "TA": "test"}
    found: list[Finding | Skipped] = [
        Finding(
            name=name,
            family="utility" if name in rows else "membership",
            part=parts.get(name, "RT" if name.startswith("training privacy") else "forget"),
            value=value,
            retrained=tuple(one[name] for one in others),
            unit="%",
            size=len(rows.get(name, pool.forget)),
            doubts=() if name in rows else (fitted, *how),
            source=_SONG if "thresholds" in name else _SOURCE,
        )
        for name, value in mine.items()
    ]
    before = None if original is None else correctness(signals, original)[pool.test].mean()
    return found + composites(
        _values(mine), [_values(one) for one in others], original_test=before, whole_class=bool(pool.forgotten_classes)
    )


def _values(numbers: dict[str, float]) -> dict[str, float]:
    """What `composites` takes."""
    right = {"forget": 100 - numbers["UA"], "retain": numbers["RA"], "test": numbers["TA"]}
    return {name: value / 100 for name, value in (right | {"mia": numbers[EFFICACY.format("confidence")]}).items()}
