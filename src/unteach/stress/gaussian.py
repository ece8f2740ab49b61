"""Gaussian poisoning: noise that some images were trained with, and whether the model's gradients still know it."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, replace

import numpy as np
import torch

from unteach.attacks.margins import confidence
from unteach.attacks.probe import probing
from unteach.audit.finding import Finding, Measured, Skipped
from unteach.audit.statistics import clopper_pearson
from unteach.engine import Engine
from unteach.stress.lineup import Lineup, Models, Parts, finding
from unteach.types import Examples, Refusal

SOURCE = "Pawelczyk et al., 2024, arXiv 2406.17216"
FEWEST = 8  # traces; a test of normality on fewer says nothing


@dataclass(frozen=True, kw_only=True)
class Noise:
    """Add Gaussian noise to some training images; what is to be unlearned then is the noise.

    Noise is drawn from ``seed`` and the example's id, so that it need not be kept and no order matters. Images are clipped to
    their range and, if uint8, rounded: a network trains on a little less than the noise, and the measure below uses all of it.
    *Source:* Pawelczyk et al., Machine Unlearning Fails to Remove Data Poisoning Attacks, 2024, arXiv 2406.17216 (CIFAR-10: 750
    or more images of 50,000, variance 0.32). *Departs:* there the noisy images are no pixels any more; here they are.
    """

    share: float = 0.015
    """Part of the examples that are made noisy, above 0 and at most 1; 0.015 to 0.025 is usual."""
    sigma: float = 0.566
    """Standard deviation of the noise, above 0, pixels in 0–1."""
    seed: int = 0
    """Seed of the choice and of the noise."""

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise Refusal(f"expected share above 0 and at most 1, got {self.share}; 0.015 is usual")
        if not 0 < self.sigma < math.inf:
            raise Refusal(f"expected sigma above 0, got {self.sigma}; 0.566 is usual")

    def __call__(self, examples: Examples) -> tuple[Examples, np.ndarray]:
        """The examples to train with, and the ids of the noisy ones, in the order of the data; at least one."""
        count = max(1, round(self.share * len(examples)))
        rows = np.sort(np.random.default_rng(self.seed).permutation(len(examples))[:count])
        noisy = self.sigma * self.drawn(examples.take(rows))
        clean, inputs = examples.inputs[rows], examples.inputs.clone()
        if clean.dtype == torch.uint8:
            inputs[rows] = (clean.double() + 255 * noisy).round().clamp(0, 255).to(torch.uint8)
        else:
            moved = clean.double() + noisy
            inputs[rows] = (moved.clamp(0, 1) if clean.ndim == 4 else moved).to(clean.dtype)
        return replace(examples, inputs=inputs), examples.ids[rows]

    def drawn(self, examples: Examples) -> torch.Tensor:
        """The noise of these examples in units of sigma, float64 in the shape of their inputs."""
        shape = tuple(examples.inputs.shape[1:])
        each = [np.random.default_rng(self._seed_of(name)).standard_normal(shape) for name in examples.ids.tolist()]
        return torch.from_numpy(np.stack(each))

    def _seed_of(self, name: str) -> int:
        return int.from_bytes(hashlib.sha256(f"{self.seed} {name}".encode()).digest()[:16])


@dataclass(frozen=True, kw_only=True)
class Trace:
    """Does the loss still fall along the noise that an example was trained with?

    ``parts.forget`` are the noisy examples *before* the noise, by their ids. For each, the input gradient g of the loss at the
    clean image gives I = ⟨g, ξ⟩ / (σ ‖g‖). A model that does not depend on ξ has I ~ N(0, 1) exactly, whatever it computes,
    since ξ is the Gaussian draw and not what clipping left of it. One that was fitted to the noise has I below 0: mean, with
    its 95 % interval and t; Kolmogorov–Smirnov distance from N(0, 1); share of I below the 1 % quantile, which fresh noise
    is in one time in a hundred. No retrained model is needed; theirs are shown where there are any.

    *Source:* Pawelczyk et al., 2024, arXiv 2406.17216. *Departs:* fresh noise is not drawn, its law is known; the loss's
    direction is taken from log(p / (1 − p)), which does not vanish where p rounds to 1.
    """

    noise: Noise
    rate: float = 0.01
    """False-positive rate of the share of examples found out, above 0 and below 1."""

    def __post_init__(self) -> None:
        if not 0 < self.rate < 1:
            raise Refusal(f"expected rate above 0 and below 1, got {self.rate}; 0.01 is usual")

    def __call__(self, models: Models, parts: Parts, *, seed: int, engine: Engine) -> Measured:
        """``seed`` draws nothing: all of the noise comes from ``noise``."""
        drawn = self.noise.drawn(parts.forget)
        traces = models.map(lambda model: traces_of(engine.place(model), parts.forget, drawn))
        engine.meter.gradients += len(parts.forget) * (1 + len(models.retrained) + (models.original is not None))
        if fewest := [one for one in (traces.unlearned, *traces.retrained) if len(one) < FEWEST]:
            why = f"only {len(fewest[0])} examples have an input gradient, {FEWEST} are needed"
            return (Skipped(name="Gaussian poisoning", family="behaviour", reason=why),)
        if traces.original is not None and len(traces.original) < FEWEST:
            traces = replace(traces, original=None)
        return (self._mean(traces), self._distance(traces), self._found_out(traces))

    def _mean(self, traces: Lineup[np.ndarray]) -> Finding:
        from scipy.stats import ttest_1samp

        test = ttest_1samp(traces.unlearned, 0.0)
        low, high = test.confidence_interval()
        told = f"Student's t is {test.statistic:.2f} (p = {test.pvalue:.2g}); without any trace the mean is 0."
        return finding(
            traces.map(lambda one: float(one.mean())),
            name="Gaussian poisoning, mean trace",
            part="forget",
            interval=(float(low), float(high)),
            size=len(traces.unlearned),
            doubts=(told,),
            source=SOURCE,
        )

    def _distance(self, traces: Lineup[np.ndarray]) -> Finding:
        from scipy.stats import kstest

        p_value = float(kstest(traces.unlearned, "norm").pvalue)
        return finding(
            traces.map(lambda one: float(kstest(one, "norm").statistic)),
            name="Gaussian poisoning, Kolmogorov–Smirnov distance",
            part="forget",
            two_sided=False,
            size=len(traces.unlearned),
            doubts=(f"p = {p_value:.2g} for a model without any trace.",),
            source=SOURCE,
        )

    def _found_out(self, traces: Lineup[np.ndarray]) -> Finding:
        from scipy.special import ndtri

        hits = traces.map(lambda one: one < ndtri(self.rate))
        return finding(
            hits.map(lambda one: float(one.mean())),
            name=f"Gaussian poisoning, TPR at {self.rate:.0%} FPR",
            part="forget",
            interval=clopper_pearson(int(hits.unlearned.sum()), len(hits.unlearned)),
            two_sided=False,
            size=len(hits.unlearned),
            source=SOURCE,
        )


def traces_of(model: torch.nn.Module, clean: Examples, drawn: torch.Tensor) -> np.ndarray:
    """I = ⟨g, ξ⟩ / ‖g‖ of every example with a gradient, float64; ``drawn``: their noise in units of sigma."""
    found = []
    with probing(model, clean.inputs, clean.labels, False) as probe:
        for at in range(0, len(clean), probe.batch):
            rows = slice(at, at + probe.batch)
            labels = clean.labels[rows].to(probe.device)
            _, slope = probe.slope(probe.place(clean.inputs[rows]), labels, confidence)
            # The loss falls where the confidence rises.
            gradient = -slope.double().cpu().flatten(1)
            along = (gradient * drawn[rows].flatten(1)).sum(1)
            found.append((along / gradient.norm(dim=1))[gradient.norm(dim=1) > 0])
    traces: np.ndarray = torch.cat(found).numpy()
    return traces
