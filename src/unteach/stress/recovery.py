"""Recovery curves: accuracy by relearning steps, the steps and areas they give, and what these say beside retrained models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from unteach.audit.finding import Finding, Skipped
from unteach.stress.lineup import Lineup, finding

FEWEST_LOOKS = 20  # evaluations before the reference gets there; with fewer a ratio of steps is mostly rounding
BUDGETS = (0, 10, 100)
SOURCE = "Chundawat et al., 2022, arXiv 2201.05629"


@dataclass(frozen=True, eq=False)
class Curve:
    """Accuracy (0–1) after so many steps, first and last one included."""

    steps: np.ndarray
    accuracy: np.ndarray

    def reached(self, mark: float) -> int | None:
        """Steps after which the accuracy first was at the mark; None if it never was (a censored run)."""
        at = np.flatnonzero(self.accuracy >= mark - 1e-12)
        return int(self.steps[at[0]]) if len(at) else None

    def area(self, mark: float) -> float:
        """Mean over the steps of how far the accuracy is below the mark, 0–1, by trapezoids."""
        missing = np.maximum(0.0, mark - self.accuracy)
        return float(np.trapezoid(missing, self.steps) / self.steps[-1])

    def after(self, steps: int) -> float:
        """Accuracy at the last evaluation up to this step."""
        return float(self.accuracy[np.searchsorted(self.steps, steps, "right") - 1])


def told(curves: Lineup[Curve], start: Curve | None, mark: float, part: str, size: int) -> list[Finding | Skipped]:
    """What the recovery curves of one half say; ``start`` is that of random weights, ``mark`` the accuracy to reach."""
    steps = curves.map(lambda curve: curve.reached(mark))
    areas = curves.map(lambda curve: curve.area(mark))
    found: list[Finding | Skipped] = []
    if why := _too_coarse(steps, curves.unlearned.steps):
        found += [
            Skipped(name=f"{name} ({part})", family="behaviour", reason=why)
            for name in ("relearn steps", "Anamnesis index")
        ]
    else:
        # Nothing is censored here, so that every number of steps is one.
        counts = steps.map(float)  # type: ignore[arg-type]
        found.append(finding(counts, name="relearn steps", part=part, unit="steps", size=size, source=SOURCE))
        found.append(
            finding(ratios(counts), name="Anamnesis index", part=part, trace="below", size=size, source=SOURCE)
        )
    if min(areas.retrained, default=0.0) > 0:
        ratio = ratios(areas)
        blank = start.area(mark) / float(np.mean(areas.retrained)) if start is not None else None
        ends = {"the original": ratio.original, "a random start": blank}
        scale = ", ".join(f"{name} {value:.2f}" for name, value in ends.items() if value is not None)
        doubts = (f"For scale: {scale}.",) if scale else ()
        found.append(
            finding(
                ratio, name="recovery area ratio", part=part, trace="below", size=size, doubts=doubts, source=SOURCE
            )
        )
    else:
        reason = (
            "retrained models reach the mark without relearning" if areas.retrained else "no retrained model was given"
        )
        found.append(Skipped(name=f"recovery area ratio ({part})", family="behaviour", reason=reason))
    for budget in [step for step in BUDGETS if step < curves.unlearned.steps[-1]] + [int(curves.unlearned.steps[-1])]:
        found.append(_accuracy_after(budget, curves, part, size))
    return found


def _accuracy_after(steps: int, curves: Lineup[Curve], part: str, size: int) -> Finding:
    after = curves.map(lambda curve: curve.after(steps))
    name = f"accuracy after {steps} relearning steps"
    return finding(after, name=name, part=part, control=False, size=size, source=SOURCE)


def ratios(values: Lineup[float]) -> Lineup[float]:
    """Each value over the mean of the retrained models', theirs over the mean of the other ones'."""
    return values.against(lambda one, others: one / float(np.mean(others)))


def _too_coarse(steps: Lineup[int | None], looked: np.ndarray) -> str:
    """Why no ratio of steps can be told, or nothing."""
    if not steps.retrained:
        return "no retrained model was given"
    runs = [steps.unlearned, *steps.retrained]
    if None in runs:
        shown = [f"more than {looked[-1]} (censored)" if run is None else str(run) for run in runs]
        return (
            f"not every run got there: unlearned {shown[0]} steps, retrained {', '.join(shown[1:])}, median "
            f"{median(steps.retrained, int(looked[-1]))}; see the areas"
        )
    fewest = min(int(np.searchsorted(looked, run)) for run in steps.retrained if run is not None)
    if fewest < FEWEST_LOOKS:
        return f"a retrained model got there within {fewest} evaluations, {FEWEST_LOOKS} are needed; see the areas"
    return ""


def median(steps: Sequence[int | None], most: int) -> str:
    """Kaplan–Meier median of the steps, in words; all censored runs end at ``most``, so it is the plain one if it is below."""
    ordered = sorted(most + 1 if step is None else step for step in steps)
    middle = ordered[(len(ordered) - 1) // 2]
    return f"above {most}" if middle > most else str(middle)
