"""Every measure that signals alone allow, of the unlearned model beside every retrained one."""

from __future__ import annotations

import numpy as np

from unteach.audit.distances import output_distances
from unteach.audit.finding import Finding, Measured, Skipped
from unteach.audit.fitted_attacks import fitted_findings
from unteach.audit.games import Pools
from unteach.audit.likelihood import likelihood_games
from unteach.audit.lira_exposure import FEWEST_MODELS, lira_exposure
from unteach.audit.lower_bound import epsilon_lower_bound
from unteach.audit.membership import Confidence
from unteach.audit.nomus import nomus_findings
from unteach.audit.proxies import rf_jsd_finding
from unteach.audit.roles import Roles
from unteach.audit.svc_suite import svc_findings
from unteach.types import Signals


def battery(signals: Signals, roles: Roles, pool: Pools, correct: np.ndarray, *, seed: int) -> Measured:
    """Distances of the answers, fitted attacks, the SVC suite with its composites, likelihood attacks, a lower bound of ε.
    MUFAC's scores where the non-members are others than the test set.

    The held-out retrained model counts among the retrained ones: each of them is judged by the others, or by the same attack.
    ``correct``: right answers, ``models × examples``. Empty without an unlearned model.
    """
    judged = roles.unlearned
    clean = tuple(at for at in (*roles.retrained, roles.held_out_retrained) if at is not None and at != judged)
    if judged is None or not clean:
        reason = "no unlearned model was given" if judged is None else "no retrained model was given"
        return [Skipped(name="further measures", family="distance", reason=reason)]
    found: list[Finding | Skipped] = []
    if signals.labels.ndim == 1:
        found += _without_retraining(signals, roles, pool, judged, clean)
        for part, rows in {"forget": pool.forget, "retain": pool.retain, "test": pool.test}.items():
            if len(rows):
                mine, others = signals.logits[judged][0, rows], np.stack([signals.logits[at][0, rows] for at in clean])
                groups = None if pool.groups is None else pool.groups[rows]
                found += output_distances(mine, others, part, groups=groups, seed=seed)
        found.append(_worst_class(correct, signals.labels, pool, judged, clean))
    else:
        found.append(Skipped(name="distances of answers", family="distance", reason="every example has several labels"))
    found += fitted_findings(signals, judged, clean, pool, seed=seed)
    found += svc_findings(signals, judged, clean, pool, original=roles.original)
    if pool.non_members is not None:  # the roles of MUFAC and MUCAC
        found += nomus_findings(signals, judged, clean, pool, correct)
    phi = np.stack([Confidence()(signals, at) for at in (judged, *clean)])
    found.append(epsilon_lower_bound(phi, pool.sides("FT"), groups=pool.groups, seed=seed))
    found.append(_exposed(phi, pool))
    if signals.references:
        found += likelihood_games(signals, judged, clean, pool, seed=seed)
    else:
        reason = "no reference models were trained; ask for a tier that has some"
        found.append(Skipped(name="LiRA and RMIA", family="membership", reason=reason))
    return found


def _exposed(phi: np.ndarray, pool: Pools) -> Finding | Skipped:
    """Share of forgotten records that stand out one by one, by offline LiRA with the retrained models as references.

    ``phi``: the judged model's confidences, then the retrained ones', ``models × examples``.
    """
    name, others = "records exposed (offline LiRA, 5 % false discoveries)", phi[1:]
    if len(others) <= FEWEST_MODELS:
        reason = f"it takes {FEWEST_MODELS + 1} retrained models, one to be judged by the others, got {len(others)}"
        return Skipped(name=name, family="membership", reason=reason)
    judged = [(phi[0], others), *((one, np.delete(others, at, 0)) for at, one in enumerate(others))]
    shares = [lira_exposure(one, rest, pool).count / len(pool.forget) for one, rest in judged]
    return Finding(
        name=name,
        family="membership",
        part="forget",
        value=shares[0],
        retrained=tuple(shares[1:]),
        trace="above",
        size=len(pool.forget),
        source="Carlini et al., 2022, arXiv 2112.03570; Smyth, 2004; Benjamini and Hochberg, 1995",
    )


def _without_retraining(
    signals: Signals, roles: Roles, pool: Pools, judged: int, clean: tuple[int, ...]
) -> list[Finding | Skipped]:
    """RF-JSD: mean answers by class, beside those of the original on unseen examples of the class."""
    if roles.original is None:
        return [Skipped(name="RF-JSD", family="distance", reason="no original model was given")]
    logits, labels = signals.logits, signals.labels
    mine, others = logits[judged][0, pool.forget], np.stack([logits[at][0, pool.forget] for at in clean])
    unseen = logits[roles.original][0, pool.unseen]
    return [rf_jsd_finding(mine, others, labels[pool.forget], unseen, labels[pool.unseen])]


def _worst_class(
    correct: np.ndarray, labels: np.ndarray, pool: Pools, judged: int, clean: tuple[int, ...]
) -> Finding | Skipped:
    """Test accuracy on the class that is worst for each model."""
    rows = pool.test
    classes = np.unique(labels[rows])
    if not len(classes):
        return Skipped(name="accuracy on the worst class", family="utility", reason="there are no test examples")
    worst = [min(correct[at][rows[labels[rows] == c]].mean() for c in classes) for at in (judged, *clean)]
    return Finding(
        name="accuracy on the worst class",
        family="utility",
        part="test",
        value=float(worst[0]),
        retrained=tuple(map(float, worst[1:])),
        size=len(rows),
    )
