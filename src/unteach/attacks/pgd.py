"""Projected gradient steps up or down the loss in an L2 or L∞ ball, with a radius of its own for every example."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from unteach.attacks.lanes import each, norms
from unteach.attacks.margins import confidence
from unteach.attacks.probe import probing
from unteach.types import Refusal

Objective = Callable[["torch.Tensor", "torch.Tensor"], "torch.Tensor"]


def doubt(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """What a walk down the loss pushes down: ``confidence`` with the other sign, shape ``n``."""
    return -confidence(logits, labels)


@dataclass(frozen=True, kw_only=True)
class PgdL2:
    """Projected gradient ascent on the loss in an L2 ball around each input, pixels in 0–1.

    Per step: along the normalised input gradient by ``step`` · ε, back into the ball, into 0–1. The last
    point is returned, whether it flips or not. The model is in eval mode, and left as it was.

    *Source:* Madry et al., 2018, arXiv 1706.06083, section 2.1, in L2.
    *Departs:* the ascent follows log(p / (1 − p)): the direction of the cross-entropy, but it does not
    vanish where p rounds to 1.
    """

    epsilon: float = 0.5
    """radius of the ball, L2, pixels in 0–1"""
    step: float = 0.1
    """length of a step as a share of the radius"""
    steps: int = 50
    """steps"""
    random_start: bool = False
    """start at a point drawn uniformly from the ball instead of at the input"""
    descend: bool = False
    """walk down the loss instead of up"""

    def __post_init__(self) -> None:
        _check(self)

    def __call__(
        self,
        model: torch.nn.Module,
        inputs: torch.Tensor,
        labels: torch.Tensor,
        rng: torch.Generator | None = None,
        *,
        rows: slice = slice(None),
    ) -> torch.Tensor:
        """Perturbed inputs, float32 in 0–1, on the CPU, in the shape of the inputs (uint8 or 0–1).

        Of a slice of ``rows`` only these; starts are drawn for all, so parts made apart are those of the whole.
        """
        start = rng if self.random_start else None
        return pgd_l2(
            model,
            inputs,
            labels,
            self.epsilon,
            step=self.step,
            steps=self.steps,
            start=_drawn(self, start),
            objective=doubt if self.descend else confidence,
            rows=rows,
        )


@dataclass(frozen=True, kw_only=True)
class PgdLinf:
    """Projected gradient ascent on the loss in an L∞ ball around each input, pixels in 0–1.

    Per step: by ``step`` · ε along the sign of the input gradient, back into the ball, into 0–1. The last
    point is returned, whether it flips or not. The model is in eval mode, and left as it was. With
    ``descend`` the steps go against the gradient, which is noise that makes the label easier to read; with 0
    ``steps`` the random start is all there is, which is uniform noise, the control for either.

    *Source:* Madry et al., 2018, arXiv 1706.06083, section 2.1; descent: the error-minimising noise
    of Huang et al., Unlearnable Examples, 2021, arXiv 2101.04898.
    *Departs:* as ``PgdL2``.
    """

    epsilon: float = 8 / 255
    """radius of the ball, L∞, pixels in 0–1"""
    step: float = 0.25
    """length of a step as a share of the radius"""
    steps: int = 10
    """steps"""
    random_start: bool = False
    """start at a point drawn uniformly from the ball instead of at the input"""
    descend: bool = False
    """walk down the loss instead of up"""

    def __post_init__(self) -> None:
        _check(self)

    def __call__(
        self,
        model: torch.nn.Module,
        inputs: torch.Tensor,
        labels: torch.Tensor,
        rng: torch.Generator | None = None,
        *,
        rows: slice = slice(None),
    ) -> torch.Tensor:
        """Perturbed inputs, float32 in 0–1, on the CPU, in the shape of the inputs (uint8 or 0–1).

        Of a slice of ``rows`` only these; starts are drawn for all, so parts made apart are those of the whole.
        """
        start = rng if self.random_start else None
        return pgd_linf(
            model,
            inputs,
            labels,
            self.epsilon,
            step=self.step,
            steps=self.steps,
            start=_drawn(self, start),
            objective=doubt if self.descend else confidence,
            rows=rows,
        )


def pgd_l2(
    model: torch.nn.Module,
    inputs: torch.Tensor,
    labels: torch.Tensor,
    epsilons: torch.Tensor | float,
    *,
    step: float = 0.1,
    steps: int = 50,
    start: torch.Generator | None = None,
    objective: Objective = confidence,
    rows: slice = slice(None),
) -> torch.Tensor:
    """As ``PgdL2``, with one radius for all or one per example (shape ``n``); a generator as ``start`` means
    a random start; ``objective(logits, labels)``, shape ``n``, is what the steps push down."""

    def move(gradient: torch.Tensor) -> torch.Tensor:
        return gradient / each(norms(gradient).clamp_min(1e-30), gradient)

    def project(offset: torch.Tensor, radius: torch.Tensor) -> torch.Tensor:
        return offset * each((radius / norms(offset).clamp_min(1e-30)).clamp_max(1), offset)

    def draw(like: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
        direction = move(torch.randn(like.shape, generator=rng))
        length = torch.rand(len(like), generator=rng) ** (1 / max(1, like[0].numel()))
        return direction * each(length, direction)

    return _walk(model, inputs, labels, epsilons, step, steps, start, objective, move, project, draw, rows)


def pgd_linf(
    model: torch.nn.Module,
    inputs: torch.Tensor,
    labels: torch.Tensor,
    epsilons: torch.Tensor | float,
    *,
    step: float = 0.25,
    steps: int = 10,
    start: torch.Generator | None = None,
    objective: Objective = confidence,
    rows: slice = slice(None),
) -> torch.Tensor:
    """As ``PgdLinf``, with one radius for all or one per example (shape ``n``); a generator as ``start``
    means a random start; ``objective(logits, labels)``, shape ``n``, is what the steps push down."""

    def move(gradient: torch.Tensor) -> torch.Tensor:
        return gradient.sign()

    def project(offset: torch.Tensor, radius: torch.Tensor) -> torch.Tensor:
        wide = each(radius, offset)
        return offset.clamp(-wide, wide)

    def draw(like: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
        return torch.rand(like.shape, generator=rng) * 2 - 1

    return _walk(model, inputs, labels, epsilons, step, steps, start, objective, move, project, draw, rows)


def _walk(
    model: torch.nn.Module,
    inputs: torch.Tensor,
    labels: torch.Tensor,
    epsilons: torch.Tensor | float,
    step: float,
    steps: int,
    start: torch.Generator | None,
    objective: Objective,
    move: Callable[[torch.Tensor], torch.Tensor],
    project: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    draw: Callable[[torch.Tensor, torch.Generator], torch.Tensor],
    rows: slice,
) -> torch.Tensor:
    radii = torch.as_tensor(epsilons, dtype=torch.float32).cpu().expand(len(inputs))
    if bool((radii < 0).any()):
        raise Refusal(f"expected radii of at least 0, got {float(radii.min()):g}; give non-negative ones")
    out = []
    first, last, _ = rows.indices(len(inputs))
    with probing(model, inputs, labels, False) as probe:
        for at in range(0, len(inputs), probe.batch):
            drawn = draw(inputs[at : at + probe.batch], start) if start is not None else None
            part = slice(max(first, at), min(last, at + probe.batch))
            if part.start >= part.stop:
                continue
            origin, label, radius = (
                probe.place(inputs[part]),
                labels[part].to(probe.device),
                radii[part].to(probe.device),
            )
            point = origin
            if drawn is not None:
                point = (origin + each(radius, origin) * drawn[part.start - at : part.stop - at].to(origin)).clamp(0, 1)
            for _ in range(steps):
                _, gradient = probe.slope(point, label, objective)
                offset = point - each(step * radius, origin) * move(gradient) - origin
                point = (origin + project(offset, radius)).clamp(0, 1)
            out.append(point.cpu().contiguous())
    return torch.cat(out) if out else inputs[:0].float().cpu()


def _check(settings: PgdL2 | PgdLinf) -> None:
    for name in ("epsilon", "step", "steps"):
        if not getattr(settings, name) >= 0:
            raise Refusal(f"expected {name} to be at least 0, got {getattr(settings, name)}; choose a larger one")


def _drawn(settings: PgdL2 | PgdLinf, rng: torch.Generator | None) -> torch.Generator | None:
    if settings.random_start and rng is None:
        raise Refusal("expected a torch.Generator for a random start, got none; pass rng, or random_start=False")
    return rng
