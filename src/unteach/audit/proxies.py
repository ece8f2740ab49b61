"""ZRF and RF-JSD: what the field reads when it has no retrained model; here beside the retrained models' own values."""

from __future__ import annotations

import numpy as np

from unteach.audit.distances import check, shannon
from unteach.audit.finding import Finding, Skipped
from unteach.audit.routing import check_logits, jensen_shannon, log_shares
from unteach.types import Refusal

FEWEST_RANDOM = 3


def zrf(logits: np.ndarray, random: np.ndarray) -> float:
    """Zero retrain forgetting: 1 − the mean Jensen–Shannon divergence (nats) from networks that learnt nothing.

    ``logits``: ``n × classes``, ``random``: those of three or more randomly initialised networks, ``R × n × classes``. The
    mean is over examples and networks; from 1 − ln 2 to 1.
    *Source:* Chundawat et al., 2023, arXiv 2205.08096. *Departs:* several random networks, where the paper takes one; the
    divergence in its correct form, for the authors' see ``compat``.
    """
    check(logits, random)
    if len(random) < FEWEST_RANDOM:
        raise Refusal(f"expected {FEWEST_RANDOM} or more random networks, got {len(random)}; initialise more")
    mine = log_shares(logits, ())
    return 1 - float(np.mean([shannon(mine, log_shares(other, ())).mean() for other in random]))


def rf_jsd(forget: np.ndarray, forget_labels: np.ndarray, unseen: np.ndarray, unseen_labels: np.ndarray) -> float:
    """Jensen–Shannon divergence (nats) of mean answers by class: judged on forget examples, original on unseen ones.

    For each class on both sides: the mean softmax of the judged model over its forget examples (``forget``: logits) against
    the mean softmax of the original over its unseen ones (``unseen``); then the mean over those classes.
    *Source:* Spartalis et al., LoTUS, 2025, arXiv 2503.18314. *Departs:* averaged as defined; the authors' code divides by the
    number of forget examples once more.
    """
    check_logits(forget, 2)
    check_logits(unseen, 2)
    if forget.shape[1] != unseen.shape[1] or len(forget) != len(forget_labels) or len(unseen) != len(unseen_labels):
        raise Refusal(
            f"expected one label an example and as many classes on both sides, got logits {forget.shape} and {unseen.shape} "
            f"with {len(forget_labels)} and {len(unseen_labels)} labels; align them"
        )
    shared = np.intersect1d(forget_labels, unseen_labels)
    if not len(shared):
        raise Refusal(
            "expected a class with forget and with unseen examples, got none; give unseen ones of these classes"
        )
    p, q = (np.exp(log_shares(logits, ())) for logits in (forget, unseen))
    return float(
        np.mean([jensen_shannon(p[forget_labels == c].mean(0), q[unseen_labels == c].mean(0)) for c in shared])
    )


def zrf_finding(
    judged: np.ndarray, references: np.ndarray, random: np.ndarray, part: str = "forget"
) -> Finding | Skipped:
    """ZRF of the judged model beside that of the retrained models, which is its target: 1 only means "looks untrained"."""
    check(judged, references)
    if len(random) < FEWEST_RANDOM:
        return Skipped(
            name="ZRF", family="distance", reason=f"it takes {FEWEST_RANDOM} random networks, got {len(random)}"
        )
    return Finding(
        name="ZRF",
        family="distance",
        part=part,
        value=zrf(judged, random),
        retrained=tuple(zrf(other, random) for other in references),
        size=len(judged),
        source="Chundawat et al., 2023, arXiv 2205.08096",
    )


def rf_jsd_finding(
    judged: np.ndarray,
    references: np.ndarray,
    forget_labels: np.ndarray,
    unseen: np.ndarray,
    unseen_labels: np.ndarray,
) -> Finding | Skipped:
    """RF-JSD of the judged model on the forget set beside that of the retrained ones; ``unseen``: the original's logits."""
    check(judged, references)
    if not len(np.intersect1d(forget_labels, unseen_labels)):
        return Skipped(name="RF-JSD", family="distance", reason="no class has both forget and unseen examples")
    mine, *others = (rf_jsd(logits, forget_labels, unseen, unseen_labels) for logits in (judged, *references))
    return Finding(
        name="RF-JSD",
        family="distance",
        part="forget",
        value=mine,
        retrained=tuple(others),
        unit="nats",
        size=len(judged),
        doubts=("It follows the gap to retraining badly where the model generalises badly.",),
        source="Spartalis et al., 2025, arXiv 2503.18314",
    )
