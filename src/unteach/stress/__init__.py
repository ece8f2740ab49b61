"""Stress tests of behaviour: what a model does when it is trained again, tampered with, attacked or asked otherwise.

``STRESS`` lists those that any audit can make. ``Confusion``, ``Backdoor`` and ``Trace`` need models that were trained on data
which ``Confuse``, ``Poison`` or ``Noise`` prepared: ``unteach tamper`` does all of it.
"""

from __future__ import annotations

from unteach.stress.backdoor import CORRECTIVE, SALUN, Backdoor, Patch, Poison
from unteach.stress.confusion import Confuse, Confusion, fgt_error, ic_error, requested
from unteach.stress.features import Features
from unteach.stress.gaussian import Noise, Trace
from unteach.stress.identity import Identity
from unteach.stress.lineup import Lineup, Models, Parts, Stress
from unteach.stress.perturbed import Perturbed
from unteach.stress.relearn import Relearn
from unteach.stress.robust import Robust

STRESS: dict[str, type[Stress]] = {
    "relearn": Relearn,
    "features": Features,
    "perturbed": Perturbed,
    "robust": Robust,
    "identity": Identity,
}

__all__ = [
    "CORRECTIVE",
    "SALUN",
    "STRESS",
    "Backdoor",
    "Confuse",
    "Confusion",
    "Features",
    "Identity",
    "Lineup",
    "Models",
    "Noise",
    "Parts",
    "Patch",
    "Perturbed",
    "Poison",
    "Relearn",
    "Robust",
    "Stress",
    "Trace",
    "fgt_error",
    "ic_error",
    "requested",
]
