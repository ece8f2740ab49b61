"""The learning-rate range test: which rates a method bears on this model, before any search."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from unteach.engine import Engine
from unteach.knobs import USUAL_PEAK, has, is_rate, knob, turned
from unteach.tuning.budget import attempt
from unteach.tuning.judge import Reading, judge_of
from unteach.tuning.targets import Aim, Case
from unteach.types import Method, Refusal, Split

SHARES = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)


@dataclass(frozen=True, eq=False)
class Sweep:
    """What became of a model at each learning rate; None where its loss or answers were no longer finite.

    ``shares``: rates as shares of ``peak``, the highest of the original's training. ``before``: the model as it was.
    """

    path: str
    peak: float
    steps: int
    before: Reading
    shares: tuple[float, ...]
    readings: tuple[Reading | None, ...]

    @property
    def largest(self) -> float | None:
        """The largest share up to which retained accuracy always stayed within 2 points; None when it never did."""
        held = None
        for share, reading in zip(self.shares, self.readings):
            if reading is None or reading.retain < self.before.retain - 0.02:
                break
            held = share
        return held

    def words(self) -> str:
        """One sentence."""
        after = f"after about {self.steps} steps"
        if self.largest is None:
            return f"Even {self.path} {self.peak * self.shares[0]:.2g} costs more than 2 points of retained accuracy {after}."
        at = self.readings[self.shares.index(self.largest)]
        assert at is not None
        return (
            f"The largest {self.path} that keeps retained accuracy within 2 points {after} is {self.peak * self.largest:.2g} "
            f"({self.largest:g} of the original's {self.peak:g}); forget accuracy is then {100 * at.forget:.1f} %, "
            f"before {100 * self.before.forget:.1f} %."
        )


def range_test(
    method: Method,
    model: torch.nn.Module,
    split: Split,
    *,
    peak: float = USUAL_PEAK,
    steps: int = 200,
    shares: tuple[float, ...] = SHARES,
    seed: int = 0,
    engine: Engine | None = None,
) -> Sweep:
    """Run a method for some steps at each of these learning rates, and see what is left.

    ``peak``: the highest rate of the original's training. The retained examples are cut to what about ``steps`` steps take,
    the same at all rates, or gone through several times; the rate stays constant. Nothing is retrained, no test set is
    looked at. Accuracies are of retained examples and of the request itself. Raises: Refusal for a method without a learning
    rate or no retain set.
    """
    path = rate_of(method)
    if split.retain is None or steps < 1:
        raise Refusal(f"expected a retain set and 1 step or more for the range test, got {steps} steps; give both")
    outer = path.rpartition(".")[0]
    optim = knob(method, outer) if outer else method
    batch = getattr(optim, "batch", 128)
    rows = np.random.default_rng([seed, 14]).permutation(len(split.retain))[: steps * batch]
    each = -(-len(rows) // batch)
    epochs = max(1, round(steps / each))
    fixed = {name: value for name, value in (("epochs", epochs), ("schedule", "constant")) if has(optim, name)}
    short = turned(method, {f"{outer}.{name}" if outer else name: value for name, value in fixed.items()})
    case = Case(
        method=short,
        model=model,
        split=split,
        recipe=None,
        retrained=(),
        seed=seed,
        engine=engine or Engine(),
        folder=None,
    )
    judge = judge_of(replace(split, validation=None), seed=seed, validation=None)
    before = judge(model, case.engine)
    if before is None:
        raise Refusal("expected finite logits of the model, got NaN or infinity; check the checkpoint")
    part = replace(split, retain=split.retain.take(np.sort(rows)))
    aim = Aim(words="range test", split=part, judge=judge, score=lambda reading: 0.0)
    readings = []
    for number, share in enumerate(shares):
        readings.append(attempt(case, aim, turned(short, {path: peak * share})).reading)
        case.engine.events.progress("range test", number + 1, len(shares))
    return Sweep(path, peak, each * epochs, before, tuple(shares), tuple(readings))


def rate_of(method: Method) -> str:
    """The name of the method's learning rate: the first on its card, else its optimiser's. Raises: Refusal when it has none."""
    card = getattr(type(method), "card", None)
    for path in [*(card.search if card is not None else ()), "optim.lr"]:
        if is_rate(path) and has(method, path):
            return str(path)
    raise Refusal(f"expected a method with a learning rate, got {type(method).__name__} without; choose another")
