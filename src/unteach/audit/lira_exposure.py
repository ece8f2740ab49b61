"""Which single records stand out: a p-value for each from offline LiRA, with the retrained models as OUT models."""

from __future__ import annotations

import numpy as np

from unteach.audit.exposure import Exposure
from unteach.audit.games import Pools
from unteach.audit.lira import LEAST_VARIANCE
from unteach.types import Refusal

FEWEST_MODELS = 3


def p_values(phi: np.ndarray, retrained: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Standardised excess of φ over retrained models, and the chance of one as large from one more of them; ``examples`` each.

    ``phi``: ``examples``; ``retrained``: ``K × examples``, K ≥ 3. The excess (φ − mean) / (s √(1 + 1/K)) follows Student's law.
    The variance s² of each example is drawn towards that of all, by as much as the examples' variances differ no more than K
    models explain, and the law's freedom grows by the same: pooled with few models, an example's own with many.
    *Source:* the z of Carlini et al., LiRA, 2022, arXiv 2112.03570, offline; the variance of Smyth, Statistical Applications
    in Genetics and Molecular Biology 3, 2004 (moderated t). *Departs:* means, no medians; Student's law, no normal one.
    """
    from scipy.special import stdtr

    k = len(retrained)
    if k < FEWEST_MODELS:
        raise Refusal(f"expected {FEWEST_MODELS} or more retrained models, got {k}; retrain more")
    own = np.maximum(retrained.var(0, ddof=1), LEAST_VARIANCE)
    freedom, common = _prior(own, k - 1)
    if np.isinf(freedom):
        variance, total = np.full(len(own), common), 1e9
    else:
        variance, total = (freedom * common + (k - 1) * own) / (freedom + k - 1), freedom + k - 1
    score = (phi - retrained.mean(0)) / np.sqrt(variance * (1 + 1 / k))
    return score, stdtr(total, -score)


def _prior(variances: np.ndarray, freedom: int) -> tuple[float, float]:
    """Freedom and size of the inverse-χ² law that the examples' true variances follow, by two moments of their logarithms."""
    from scipy.optimize import brentq
    from scipy.special import digamma, polygamma

    logs = np.log(variances) - digamma(freedom / 2) + np.log(freedom / 2)
    beyond = float(np.var(logs, ddof=1) - polygamma(1, freedom / 2))
    if beyond <= polygamma(1, 1e8):
        return np.inf, float(np.exp(logs.mean()))
    half = float(brentq(lambda x: float(polygamma(1, np.exp(x))) - beyond, np.log(1e-8), np.log(1e8)))
    half = float(np.exp(half))
    return 2 * half, float(np.exp(logs.mean() + digamma(half) - np.log(half)))


def lira_exposure(phi: np.ndarray, retrained: np.ndarray, pool: Pools) -> Exposure:
    """`p_values` of the forgotten records, in the form of `exposure`; ``.count`` rejects at a false-discovery rate of 5 %.

    Single records can be found, which the ranks of `exposure` cannot do, at the price of trusting Student's law: read the
    count beside that of a held-out retrained model. A model that is surer of everything than the retrained ones exposes all.
    """
    rows = np.concatenate([pool.forget, pool.unseen])
    score, p = p_values(phi[rows], retrained[:, rows])
    own = slice(len(pool.forget))
    return Exposure(
        score=score[own],
        p_value=p[own],
        phi_model=phi[pool.forget],
        phi_retrained=retrained.mean(0)[pool.forget],
    )
