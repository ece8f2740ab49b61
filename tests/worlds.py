"""Synthetic logits of originals, retrained and unlearned models, with no network behind them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from unteach.audit import Roles, audit
from unteach.types import Signals

CLASSES = tuple("abcdefghij")


@dataclass(frozen=True, kw_only=True)
class World:
    """Examples with a shared ease; a model adds its own noise, and a boost on what it was trained on."""

    retain: int = 4000
    forget: int = 4500
    test: int = 4500
    own: float = 0.4
    boost: float = 4.0
    seed: int = 0
    whole_class: bool = False

    def masks(self) -> dict[str, np.ndarray]:
        part = np.repeat([0, 1, 2], [self.retain, self.forget, self.test])
        return {"retain": part == 0, "forget": part == 1, "test": part == 2}

    def signals(self, *shifts: float | np.ndarray | None) -> Signals:
        """One model per shift of the forget set's true logit (None: the original, boosted there too)."""
        rng = np.random.default_rng(self.seed)
        masks = self.masks()
        n = self.retain + self.forget + self.test
        labels = rng.integers(0, 10, n)
        if self.whole_class:
            labels[masks["retain"]] = rng.integers(0, 9, self.retain)
            labels[masks["forget"]] = 9
        ease, background = rng.normal(3, 2, n), rng.normal(0, 1, (n, 10))
        logits, members, forgotten = [], [], []
        for shift in shifts:
            seen = masks["retain"] | (masks["forget"] if shift is None else False)
            z = background + rng.normal(0, self.own, (n, 10))
            lift = ease + self.boost * seen
            if shift is not None:
                lift[masks["forget"]] += shift
            z[np.arange(n), labels] += lift
            logits.append(z)
            members.append(seen)
            forgotten.append(np.zeros(n, dtype=bool))
        stack = np.array(logits, dtype=np.float32)[:, None]
        names = tuple(f"m{i}" for i in range(len(shifts)))
        return Signals(names, stack, labels, np.array(members), np.array(forgotten))

    def audit(self, signals: Signals, roles: Roles, **rest: object) -> dict:
        ids = np.array([f"x{i}" for i in range(signals.logits.shape[2])])
        return audit(signals, roles=roles, ids=ids, classes=CLASSES, **self.masks(), **rest)  # type: ignore[arg-type]


ROLES = Roles(original=0, retrained=(1, 2, 3), held_out_retrained=4, unlearned=5)
RETRAINED = (None, 0.0, 0.0, 0.0, 0.0)
