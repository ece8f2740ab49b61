"""Tuning: settings of a method for a model and a kind of request, found without looking at what the report will use."""

from __future__ import annotations

from unteach.knobs import USUAL_PEAK
from unteach.tuning.filing import write_tuned
from unteach.tuning.range_test import Sweep, range_test
from unteach.tuning.targets import Chance, Oracle, Proxy, Target
from unteach.tuning.tuned import Tuned, refuse_unless_tunable, tune

__all__ = [
    "USUAL_PEAK",
    "Chance",
    "Oracle",
    "Proxy",
    "Sweep",
    "Target",
    "Tuned",
    "range_test",
    "refuse_unless_tunable",
    "tune",
    "write_tuned",
]
