"""Wrong forms of the Jensen–Shannon divergence that published tables were made with; nothing here is used to judge.

*Source:* evaluation notes, section 5: the public code of bad teaching (arXiv 2205.08096), copied into later libraries.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike


def reversed_js(p: ArrayLike, q: ArrayLike) -> np.ndarray:
    """½ KL(m ‖ p) + ½ KL(m ‖ q) in nats over the last axis, the arguments the wrong way round; infinite for zero shares."""
    p, q = np.asarray(p, dtype=np.float64), np.asarray(q, dtype=np.float64)
    m = (p + q) / 2
    divergence: np.ndarray = (m * (np.log(m / p) + np.log(m / q))).sum(-1) / 2
    return divergence


def bad_teaching_js(p: ArrayLike, q: ArrayLike) -> float:
    """`reversed_js` divided by the number of all entries (examples × classes), as the default mean reduction does."""
    return float(reversed_js(p, q).sum() / np.asarray(p).size)
