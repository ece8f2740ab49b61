"""Under attack: does unlearning keep a network as robust as retraining would, and err where retraining errs?"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from unteach.attacks import pgd_linf
from unteach.attacks.margins import margin
from unteach.audit.finding import Finding, Measured, Skipped
from unteach.engine import Engine
from unteach.stress.lineup import Lineup, Models, Parts, answers, finding, right, sampled, share_interval
from unteach.types import Examples, Refusal

SOURCE = "Ebrahimpour-Boroojeny et al., FastClip, 2024, arXiv 2402.16017"


@dataclass(frozen=True, eq=False)
class Attacked:
    """A model, and what was crafted against it: ``forget`` and ``test`` inputs, floats 0–1."""

    model: torch.nn.Module
    forget: Examples
    test: Examples


@dataclass(frozen=True, kw_only=True)
class Robust:
    """Attack every model in a small L∞ ball around forget and unseen inputs.

    1. Projected gradient descent of the margin z_y − max z_k (the CW loss), from the input itself, on each model by itself.
       Robust accuracy: right at the input and at the last point.
    2. Transfer: the forget inputs crafted on one model are given to another; share that it gets wrong, and share that both
       answer alike. From the unlearned model to retrained ones, and back; the floor is retrained to retrained.
    3. A bound on the Lipschitz constant from the norms of the layers, where the network has one: an unlearning step must not
       silently lose what clipping gave.

    *Source:* PGD of Madry et al., 2018, arXiv 1706.06083; the margin of Carlini and Wagner, 2017, arXiv 1608.04644; radius,
    steps and step as FastClip's evaluation. *Departs:* inputs that are wrong before the attack are wrong; the transfer check
    is ours.
    """

    epsilon: float = 0.02
    """Radius of the ball, L∞, pixels in 0–1, above 0."""
    step: float = 0.1
    """Length of a step as a share of the radius, above 0."""
    steps: int = 50
    """Steps, at least 1."""
    sample: int = 250
    """Most forget and most unseen examples to attack, at least 1."""

    def __post_init__(self) -> None:
        for name, low in (("epsilon", 0.0), ("step", 0.0), ("steps", 0), ("sample", 0)):
            if not getattr(self, name) > low:
                raise Refusal(f"expected {name} above {low}, got {getattr(self, name)}; choose a larger one")

    def __call__(self, models: Models, parts: Parts, *, seed: int, engine: Engine) -> Measured:
        """Shares 0–1, and the bound in logits (L2) per unit of the pixels (L2)."""
        forget, test = (sampled(part, self.sample, seed) for part in (parts.forget, parts.useful))

        def attack(model: torch.nn.Module, part: Examples) -> Examples:
            placed = engine.place(model)
            inputs = pgd_linf(
                placed, part.inputs, part.labels, self.epsilon, step=self.step, steps=self.steps, objective=margin
            )
            engine.meter.gradients += self.steps * len(part)
            return replace(part, inputs=inputs)

        with engine.stage("attack"):
            # The original is nobody's control here, and an attack costs the most of all.
            judged = replace(models, original=None)
            attacked = judged.map(lambda model: Attacked(model, attack(model, forget), attack(model, test)))
        return (
            _robust_accuracy(attacked, "forget", forget, seed, engine),
            _robust_accuracy(attacked, "test", test, seed, engine),
            *transfer(attacked, engine),
            bound(models, tuple(forget.inputs.shape[1:])),
        )


def _robust_accuracy(attacked: Lineup[Attacked], part: str, clean: Examples, seed: int, engine: Engine) -> Finding:
    """Share of the examples that each model gets right with and without the attack."""

    def stood(one: Attacked) -> np.ndarray:
        crafted = one.forget if part == "forget" else one.test
        both: np.ndarray = np.minimum(right(one.model, clean, engine), right(one.model, crafted, engine))
        return both

    shares = attacked.map(stood)
    return finding(
        shares.map(lambda each: float(each.mean())),
        name="robust accuracy",
        part=part,
        interval=share_interval(shares.unlearned, clean.groups, seed),
        size=len(clean),
        source=SOURCE,
    )


def transfer(attacked: Lineup[Attacked], engine: Engine) -> Measured:
    """What one model's adversarial forget inputs do to another, both ways."""
    names = ("adversarial transfer", "agreement on adversarial examples")
    if not attacked.retrained:
        return tuple(Skipped(name=n, family="behaviour", reason="no retrained model was given") for n in names)

    def wrong(on: Attacked, crafted: Examples) -> float:
        return 1 - float(right(on.model, crafted, engine).mean())

    def alike(one: Attacked, other: Attacked) -> float:
        task = one.forget.task
        said = [task.predict(answers(model, one.forget, engine)) for model in (one.model, other.model)]
        return float(torch.eq(*said).double().mean())

    forth = attacked.against(lambda one, others: float(np.mean([wrong(other, one.forget) for other in others])))
    back = attacked.against(lambda one, others: float(np.mean([wrong(one, other.forget) for other in others])))
    both = attacked.against(lambda one, others: float(np.mean([alike(one, other) for other in others])))
    size = len(attacked.unlearned.forget)
    return (
        finding(forth, name=names[0], part="crafted on the model, given to retrained ones", size=size),
        finding(back, name=names[0], part="crafted on retrained models, given to the model", size=size),
        finding(both, name=names[1], part="forget", size=size),
    )


def bound(models: Models, shape: tuple[int, ...]) -> Finding | Skipped:
    """The Lipschitz bounds of all networks, or why there is none."""
    from unteach.spectral.lipschitz import lipschitz

    bounds = models.map(lambda model: lipschitz(model, shape))
    if reason := next((one.reason for one in (bounds.unlearned, *bounds.retrained) if one.bound is None), ""):
        return Skipped(name="Lipschitz bound", family="behaviour", reason=reason)
    before = bounds.original.bound if bounds.original else None
    return finding(
        Lineup(unlearned=bounds.unlearned.bound or 0.0, retrained=tuple(one.bound or 0.0 for one in bounds.retrained)),
        name="Lipschitz bound",
        part="logits",
        two_sided=False,
        doubts=() if before is None else (f"Before unlearning it was {before:.4g}.",),
        source=SOURCE,
    )
