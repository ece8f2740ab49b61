"""Who plays which part in an audit, and whether the matrices allow it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from unteach.types import Refusal, Signals


@dataclass(frozen=True, kw_only=True)
class Roles:
    """Which models of the signals play which part; positions in ``signals.models``. Parts may be missing."""

    original: int | None = None
    """The model before unlearning."""
    retrained: tuple[int, ...] = ()
    """The references, trained from scratch without the forget set; several show the spread between them."""
    held_out_retrained: int | None = None
    """One more retrained model that is audited as if it were unlearned; never one of the references."""
    unlearned: int | None = None
    """The model to judge."""
    untrained: int | None = None
    """A network with fresh weights: the audit must reject it. It has no part in the tables."""

    def indexes(self) -> dict[str, tuple[int, ...]]:
        """Positions of every part that is there."""
        single = {
            "original": self.original,
            "held_out_retrained": self.held_out_retrained,
            "unlearned": self.unlearned,
        }
        parts: dict[str, tuple[int, ...]] = {name: (at,) for name, at in single.items() if at is not None}
        if self.retrained:
            parts["retrained"] = self.retrained
        return parts


def check(signals: Signals, roles: Roles, retain: np.ndarray, forget: np.ndarray, test: np.ndarray) -> None:
    """Refuses parts that the matrices contradict, such as a retraining that saw the forget set."""
    parts = roles.indexes()
    if not parts:
        raise Refusal("expected at least one model with a role, got none; name the original or the unlearned model")
    everyone = [at for part in parts.values() for at in part]
    everyone += [roles.untrained] if roles.untrained is not None else []
    if min(everyone) < 0 or max(everyone) >= len(signals.models):
        raise Refusal(f"expected roles within the {len(signals.models)} models, got {everyone}; count from 0")
    if roles.held_out_retrained in roles.retrained or roles.unlearned in roles.retrained:
        raise Refusal("expected judged models that are not their own reference, got one twice; take it out")
    if (signals.forgotten & ~signals.members).any():
        raise Refusal("expected forgotten examples to be members, got others; mend the matrices of the signals")
    if signals.members[everyone][:, test].any():
        raise Refusal("expected test examples that no model was trained on, got members; take them out of the test set")
    clean = [at for name, part in parts.items() if "retrained" in name for at in part]
    if signals.members[clean][:, forget].any():
        raise Refusal("expected retrained models that never saw the forget set, got members; train without it")
    if roles.original is not None and not signals.members[roles.original][retain | forget].all():
        raise Refusal("expected an original trained on all of retain and forget, got non-members; mend the masks")
