"""What was asked of a model over its life, what was done, and when to retrain: a chain of entries and what they add up to.

``chain`` is the append-only file, ``soundness`` tells what was changed in it · ``state`` adds its entries up · ``policy`` says
when to run and when to retrain · ``queue`` is the folder that requests are brought to. Nothing here needs torch.
"""

from __future__ import annotations

from unteach.ledger.chain import Entry, Ledger
from unteach.ledger.policy import Budget, Policy
from unteach.ledger.queue import Queue
from unteach.ledger.soundness import Head
from unteach.ledger.state import Request, Run, State

__all__ = ["Budget", "Entry", "Head", "Ledger", "Policy", "Queue", "Request", "Run", "State"]
