"""Which forgotten records the unlearned model still answers more surely than retrained models do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from unteach.audit.games import Pools
from unteach.audit.membership import predictions
from unteach.audit.statistics import rejected
from unteach.types import Signals

MOST_EXPOSED = 20


@dataclass(frozen=True, eq=False)
class Exposure:
    """Per forgotten record (order of ``pool.forget``): standardised excess confidence and its p-value."""

    score: np.ndarray
    p_value: np.ndarray
    phi_model: np.ndarray
    phi_retrained: np.ndarray

    @property
    def count(self) -> int:
        """Records that stand out at a false-discovery rate of 5 % (Benjamini–Hochberg)."""
        return int(rejected(self.p_value).sum())


def exposure(phi: np.ndarray, references: np.ndarray, pool: Pools) -> Exposure:
    """Excess confidence φ(model) − mean φ(retrained) on forgotten records, judged by that on unseen ones.

    ``phi``: ``examples``, ``references``: ``K × examples``. The score is the excess minus its median on
    unseen examples, in units of their spread (1.4826 × median absolute deviation). The p-value is the share
    of unseen examples with at least this excess, (1 + count) / (n + 1): exact when forgotten and unseen are
    exchangeable. Nothing can be rejected when the smallest p-value possible, 1/(n + 1), is too coarse; read
    the count so.

    *Source:* Bates et al., Annals of Statistics 51, 2023 (conformal p-values and why BH holds for them); the
    excess is the offline form of Carlini et al., LiRA, arXiv 2112.03570. *Departs:* spread over examples,
    since one model gives no spread per example.
    """
    mean = references.mean(0)
    excess = phi - mean
    unseen = np.sort(excess[pool.unseen])
    centre = float(np.median(unseen))
    spread = 1.4826 * float(np.median(np.abs(unseen - centre))) or float(unseen.std()) or 1.0
    mine = excess[pool.forget]
    at_least = len(unseen) - np.searchsorted(unseen, mine, "left")
    return Exposure(
        score=(mine - centre) / spread,
        p_value=(1 + at_least) / (len(unseen) + 1),
        phi_model=phi[pool.forget],
        phi_retrained=mean[pool.forget],
    )


def most_exposed(
    signals: Signals, target: int, found: Exposure, pool: Pools, ids: np.ndarray, classes: tuple[str, ...]
) -> list[dict[str, Any]]:
    """The MOST_EXPOSED forgotten records with the highest score, as plain values for the report."""
    answers = predictions(signals, target)
    order = np.lexsort((pool.forget, -found.score))[:MOST_EXPOSED]
    return [
        {
            "id": str(ids[pool.forget[i]]),
            "label": _plain(signals.labels[pool.forget[i]]),
            "classname": _named(signals.labels[pool.forget[i]], classes),
            "predicted": _named(answers[pool.forget[i]], classes),
            "score": float(found.score[i]),
            "p_value": float(found.p_value[i]),
            "phi_unlearned": float(found.phi_model[i]),
            "phi_retrained": float(found.phi_retrained[i]),
        }
        for i in order
    ]


def _plain(label: np.ndarray) -> int | list[int]:
    whole: int | list[int] = np.asarray(label).astype(np.int64).tolist()
    return whole


def _named(label: np.ndarray, classes: tuple[str, ...]) -> str:
    """The name of a class, or the names of all labels that are on."""
    number = _plain(label)
    if isinstance(number, int):
        return classes[number] if number < len(classes) else str(number)
    on = [classes[i] if i < len(classes) else str(i) for i, value in enumerate(number) if value]
    return ", ".join(on) or "none"
