"""Signals in, findings out: membership tests, games and class readings beside retrained models, verdict."""

from __future__ import annotations

from unteach.audit.accuracy import average_gap
from unteach.audit.comparison import Tolerance
from unteach.audit.finding import Finding, Skipped
from unteach.audit.findings import audit
from unteach.audit.likelihood import LIKELIHOOD
from unteach.audit.membership import MEMBERSHIP, MembershipTest
from unteach.audit.mia_nn import MiaNn
from unteach.audit.nomus import forgetting_score, nomus
from unteach.audit.roles import Roles
from unteach.audit.routing import neighbour_routing
from unteach.audit.sequence import History, sequence_curves
from unteach.audit.verdict import INDISTINGUISHABLE, VERDICTS

__all__ = [
    "INDISTINGUISHABLE",
    "LIKELIHOOD",
    "MEMBERSHIP",
    "VERDICTS",
    "Finding",
    "History",
    "MembershipTest",
    "MiaNn",
    "Roles",
    "Skipped",
    "Tolerance",
    "audit",
    "average_gap",
    "forgetting_score",
    "neighbour_routing",
    "nomus",
    "sequence_curves",
]
