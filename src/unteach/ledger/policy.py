"""When requests are run and how many together, and when it is time to retrain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import Any

from unteach.ledger.state import Request, State
from unteach.types import Refusal


@dataclass(frozen=True, kw_only=True)
class Policy:
    """When requests are run, and how many together; never torn apart, in the order they came."""

    together: int = 0
    """Ids that one run takes at most, of whole requests; 0 gives every request a run of its own."""
    wait_ids: int = 0
    """Ids that are waited for before a run starts; 0 for none."""
    wait_days: float = 0.0
    """Days that the oldest request waits at most; 0 for no waiting, unless for ids."""
    due_days: float = 3.0
    """Days before its due date from which on a request waits no longer."""

    def __post_init__(self) -> None:
        _refuse_negative(self)

    def __call__(self, waiting: Sequence[Request], at: datetime) -> tuple[tuple[int, ...], ...]:
        """The runs to do now, as numbers of requests; none while it is right to wait."""
        return self.batches(waiting) if waiting and self._over(waiting, at) else ()

    def batches(self, waiting: Sequence[Request]) -> tuple[tuple[int, ...], ...]:
        """These requests as runs, as numbers of requests."""
        runs: list[list[Request]] = []
        for request in waiting:
            if runs and sum(each.count for each in runs[-1]) + request.count <= self.together:
                runs[-1].append(request)
            else:
                runs.append([request])
        return tuple(tuple(each.number for each in run) for run in runs)

    def _over(self, waiting: Sequence[Request], at: datetime) -> bool:
        """Whether the waiting is over."""
        if not (self.wait_ids or self.wait_days):
            return True
        if self.wait_ids and sum(request.count for request in waiting) >= self.wait_ids:
            return True
        oldest = min(datetime.fromisoformat(request.received) for request in waiting)
        if self.wait_days and at - oldest >= timedelta(days=self.wait_days):
            return True
        soon = at + timedelta(days=self.due_days)
        return any(request.due and datetime.fromisoformat(request.due) <= soon for request in waiting)


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What a model may lose and cost before retraining is advised, counted from the last retraining."""

    cost: float = 1.0
    """Cost of all runs since the last retraining, as a share of one retraining, from which on retraining is advised; 0 for
    whatever it costs."""
    accuracy: float = 1.0
    """Points of test accuracy lost since the last retraining from which on retraining is advised; 0 for however many."""
    exposure: float = 0.02
    """How far from chance (0.5) an attack's AUC on all that was forgotten so far may surely be, by the nearer end of its 95 %
    interval: above, something is left; below, more was forgotten than retraining would. 0.5 for however far."""
    drop: float = 5.0
    """Points of test accuracy that a single run may lose; one that loses more is rejected, and the model stays as it was."""

    def __post_init__(self) -> None:
        _refuse_negative(self)

    def reasons(self, state: State) -> tuple[str, ...]:
        """Why it is time to retrain, a sentence each; none while it is not, and right after a retraining."""
        found = []
        if rejected := [str(request.number) for request in state.with_status("rejected")]:
            found.append(
                f"the model bears no more of this: rejected and waiting for a retraining: {', '.join(rejected)}"
            )
        if not state.since or state.current is None:
            return tuple(found)
        cost, numbers = spent(state), state.current.numbers
        if self.cost and cost is not None and cost >= self.cost:
            found.append(
                f"forgetting has cost {100 * cost:.0f} % of one retraining since the model was last trained from scratch"
                f" ({100 * self.cost:.0f} % allowed)"
            )
        lost = 100 * (numbers["base"] - numbers["test"])
        if self.accuracy and lost >= self.accuracy:
            found.append(f"test accuracy has fallen by {lost:.1f} points since then ({self.accuracy:g} allowed)")
        auc, low, high = numbers["so_far"] or (0.5, 0.0, 1.0)
        told = f"with AUC {auc:.3f} ({low:.3f} to {high:.3f}), {self.exposure:g} from chance allowed"
        if low > 0.5 + self.exposure:
            found.append(f"what was forgotten so far is still told from unseen examples, {told}")
        if high < 0.5 - self.exposure:
            found.append(f"what was forgotten so far is answered worse than unseen examples, {told}")
        return tuple(found)

    def rejection(self, numbers: dict[str, Any]) -> str:
        """Why a run's model is not to be used; nothing if it is."""
        lost = 100 * (numbers["before"] - numbers["test"])
        if numbers["collapsed"]:
            return str(numbers["diagnosis"])
        return f"it lost {lost:.1f} points of test accuracy ({self.drop:g} allowed)" if lost > self.drop else ""


def spent(state: State) -> float | None:
    """Cost of the runs since the last retraining as a share of one retraining; None where that is not known."""
    price = next(
        (run.numbers["retrain_epochs"] for run in reversed(state.accepted) if run.numbers["retrain_epochs"]), None
    )
    return sum(run.numbers["epochs"] for run in state.since) / price if price else None


def _refuse_negative(settings: Policy | Budget) -> None:
    for item in fields(settings):
        value = getattr(settings, item.name)
        if not 0 <= value < float("inf"):
            raise Refusal(f"expected {item.name} to be 0 or more, got {value}; give such a number")
