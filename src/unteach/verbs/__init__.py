"""The verbs of the command line: each a frozen dataclass of settings that is called and returns an exit code."""

from __future__ import annotations

from unteach.verbs.audit import AuditRun
from unteach.verbs.bench import BenchRun
from unteach.verbs.cache import CacheRun
from unteach.verbs.check import Check
from unteach.verbs.demo import Demo
from unteach.verbs.evidence import Evidence
from unteach.verbs.forget import Forget
from unteach.verbs.listing import List
from unteach.verbs.references import References
from unteach.verbs.report import Report
from unteach.verbs.requests import Requests
from unteach.verbs.serve import Serve
from unteach.verbs.spectrum import ClipCheckpoint, Spectrum
from unteach.verbs.tamper import Tamper
from unteach.verbs.train import Train
from unteach.verbs.tune import Tune
from unteach.verbs.verify import Verify

VERBS = {
    "train": Train,
    "check": Check,
    "forget": Forget,
    "request": Requests,
    "serve": Serve,
    "tune": Tune,
    "audit": AuditRun,
    "report": Report,
    "evidence": Evidence,
    "verify": Verify,
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
    "Check",
    "ClipCheckpoint",
    "Demo",
    "Evidence",
    "Forget",
    "List",
    "References",
    "Report",
    "Requests",
    "Serve",
    "Spectrum",
    "Tamper",
    "Train",
    "Tune",
    "Verify",
]
