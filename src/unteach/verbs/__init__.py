"""The verbs of the command line: each a frozen dataclass of settings that is called and returns an exit code."""

from __future__ import annotations

from unteach.verbs.audit import AuditRun
from unteach.verbs.demo import Demo
from unteach.verbs.forget import Forget
from unteach.verbs.listing import List
from unteach.verbs.report import Report
from unteach.verbs.spectrum import ClipCheckpoint, Spectrum
from unteach.verbs.train import Train

VERBS = {
    "train": Train,
    "forget": Forget,
    "audit": AuditRun,
    "report": Report,
    "spectrum": Spectrum,
    "clip": ClipCheckpoint,
    "demo": Demo,
    "list": List,
}

__all__ = ["VERBS", "AuditRun", "ClipCheckpoint", "Demo", "Forget", "List", "Report", "Spectrum", "Train"]
