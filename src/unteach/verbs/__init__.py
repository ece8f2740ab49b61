"""The verbs of the command line: each a frozen dataclass of settings that is called and returns an exit code."""

from __future__ import annotations

from unteach.verbs.audit import AuditRun
from unteach.verbs.bench import BenchRun
from unteach.verbs.cache import CacheRun
from unteach.verbs.demo import Demo
from unteach.verbs.forget import Forget
from unteach.verbs.listing import List
from unteach.verbs.references import References
from unteach.verbs.report import Report
from unteach.verbs.spectrum import ClipCheckpoint, Spectrum
from unteach.verbs.tamper import Tamper
from unteach.verbs.train import Train
from unteach.verbs.tune import Tune

VERBS = {
    "train": Train,
    "forget": Forget,
    "tune": Tune,
    "audit": AuditRun,
    "report": Report,
    "bench": BenchRun,
    "references": References,
    "cache": CacheRun,
    "spectrum": Spectrum,
    "clip": ClipCheckpoint,
    "tamper": Tamper,
    "demo": Demo,
    "list": List,
}

__all__ = [
    "VERBS",
    "AuditRun",
    "BenchRun",
    "CacheRun",
    "ClipCheckpoint",
    "Demo",
    "Forget",
    "List",
    "References",
    "Report",
    "Spectrum",
    "Tamper",
    "Train",
    "Tune",
]
