"""Evidence that someone else can check: a signed statement of what came in, what came out and what was measured.

``run_folder`` reads what a forget run left · ``weights`` digests models without torch · ``ids`` hides a list of ids and shows
one of them · ``statement`` says it all, ``form`` is what it must look like, ``words`` what it proves and what not · ``envelope``
signs · ``opened`` reads evidence back · ``examine`` checks it, with ``files`` and ``members``. Nothing here uses torch.
"""

from __future__ import annotations

from unteach.evidence.check import Check, Places
from unteach.evidence.examine import examined
from unteach.evidence.members import check_member
from unteach.evidence.opened import Opened, opened
from unteach.evidence.run_folder import Run, read_run
from unteach.evidence.statement import canonical, sealed, statement_of

__all__ = [
    "Check",
    "Opened",
    "Places",
    "Run",
    "canonical",
    "check_member",
    "examined",
    "opened",
    "read_run",
    "sealed",
    "statement_of",
]
