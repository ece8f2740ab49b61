"""Relearning: how fast does a model find back what it was to forget, beside models that never knew it?"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field, replace
from operator import itemgetter
from typing import Any

import numpy as np
import torch

from unteach.audit.finding import Finding, Measured, Skipped
from unteach.engine import Engine, pixels
from unteach.models import WHITENING_SAMPLE, fresh
from unteach.stress.lineup import Models, Parts, right, sampled
from unteach.stress.recovery import Curve, told
from unteach.train import Sgd, Source, fit
from unteach.types import Examples, Refusal


@dataclass(frozen=True, kw_only=True)
class Relearn:
    """Train every model again on half of the forget set, by one fixed recipe, and watch both halves come back.

    1. The forget set is cut in two halves, class by class. A copy of each model is trained on one half, beside as many retained
       examples, or on these alone; its accuracy on both halves is taken before, every few steps, and at the end.
    2. Steps until a half's accuracy is (1 − α) of the original's. Anamnesis index: the model's steps over the mean of the
       retrained ones'; 1 is ideal, below 1 knowledge is left, above 1 the model resists more than one that never knew. It is
       skipped where a run never got there (such a run is told as censored, at no number of steps) or where the retrained ones
       got there within 20 evaluations.
    3. Recovery area ratio: the same with the area between that accuracy and the curve below it, which needs neither.
    4. Accuracies after 0, 10, 100 and all steps. A random start is run as well, to show the other end of the scale.

    *Source:* the index: Chundawat et al., Zero-Shot Machine Unlearning, 2022, arXiv 2201.05629; relearn time: Golatkar et al.,
    2020, arXiv 1911.04933. *Departs:* the other half, the areas and the floor of retrained models among themselves are ours.
    """

    optim: Sgd = field(default_factory=lambda: Sgd(lr=0.01, epochs=1, batch=64, schedule="constant", weight_decay=0.0))
    """How the models are trained again; epochs are added until there are as many steps as ``steps`` says."""
    forget: bool = True
    """Whether half of the forget set is trained on."""
    retain: bool = False
    """Whether as many retained examples as half of the forget set are trained on."""
    steps: int = 200
    """Fewest steps, at least 1."""
    every: int = 1
    """Steps from one evaluation to the next, at least 1 and usually at most 10; more are quicker and coarser."""
    alpha: float = 0.05
    """Part of the original's accuracy that need not come back, 0 to below 1."""
    sample: int = 250
    """Most examples of each half that are evaluated, at least 1."""

    def __post_init__(self) -> None:
        if not (self.forget or self.retain):
            raise Refusal("expected forget or retain to relearn from, got neither; switch one on")
        for name in ("steps", "every", "sample"):
            if getattr(self, name) < 1:
                raise Refusal(f"expected {name} of at least 1, got {getattr(self, name)}; give more")
        if not 0 <= self.alpha < 1:
            raise Refusal(f"expected alpha to be at least 0 and below 1, got {self.alpha}; 0.05 is usual")

    @property
    def lesson(self) -> str:
        """What is trained on, in words."""
        if not self.forget:
            return "retain only"
        return "half of forget" + (" and as many of retain" if self.retain else "")

    def __call__(self, models: Models, parts: Parts, *, seed: int, engine: Engine) -> Measured:
        """Accuracies 0–1, steps, ratios; for the relearned and the held-out half."""
        if why := self._missing(models, parts):
            return (Skipped(name=f"relearning, trained on {self.lesson}", family="behaviour", reason=why),)
        taught, held = halves(parts.forget, seed)
        sources = [taught] if self.forget else []
        if self.retain and parts.retain:
            sources.append(sampled(parts.retain, len(taught), seed))
        watched = sampled(taught, self.sample, seed), sampled(held, self.sample, seed)

        def run(model: torch.nn.Module) -> tuple[Curve, ...]:
            return self._run(model, sources, watched, seed, engine)

        with engine.stage("relearn"):
            curves, random = models.map(run), _random_start(models.unlearned, parts, seed)
            start = run(random) if random is not None else None
        found: list[Finding | Skipped] = []
        for at, half in enumerate(("relearned half" if self.forget else "one half", "held-out half")):
            part = f"{half} of forget, trained on {self.lesson}"
            runs = curves.map(itemgetter(at))
            assert runs.original is not None
            mark = (1 - self.alpha) * float(runs.original.accuracy[0])
            found += told(runs, start[at] if start else None, mark, part, len(watched[at]))
        return tuple(found)

    def _missing(self, models: Models, parts: Parts) -> str:
        if models.original is None:
            return "no original model was given to set the mark"
        if self.retain and not parts.retain:
            return "there is no retain set"
        return "" if len(parts.forget) > 1 else "one example can't be cut in halves"

    def _run(
        self,
        model: torch.nn.Module,
        sources: list[Examples],
        watched: tuple[Examples, Examples],
        seed: int,
        engine: Engine,
    ) -> tuple[Curve, ...]:
        """Accuracy curves of a copy of the model, one for each watched half."""
        learner = copy.deepcopy(model)
        per_epoch = -(-sum(map(len, sources)) // self.optim.batch)
        watch = Watch(watched, self.every, engine)
        watch.look(learner)
        fit(
            learner,
            [Source(part) for part in sources],
            replace(self.optim, epochs=max(self.optim.epochs, -(-self.steps // per_epoch))),
            seed=seed,
            engine=engine,
            after_step=watch,
            carry={"watch": watch},
            identity=f"{self!r}",
            label="relearn",
        )
        if watch.steps[-1] != watch.done:
            watch.look(learner)
        return tuple(Curve(np.array(watch.steps), values) for values in np.array(watch.accuracy).T)


class Watch:
    """Evaluates a network in training every few steps; goes on after an interruption with the training it watches."""

    def __init__(self, parts: tuple[Examples, ...], every: int, engine: Engine) -> None:
        self.parts, self.every, self.engine = parts, every, engine
        self.done = 0
        self.steps: list[int] = []
        self.accuracy: list[list[float]] = []

    def __call__(self, model: torch.nn.Module) -> None:
        self.done += 1
        if self.done % self.every == 0:
            self.look(model)

    def look(self, model: torch.nn.Module) -> None:
        """Write the accuracy on every part down."""
        self.steps.append(self.done)
        self.accuracy.append([float(right(model, part, self.engine).mean()) for part in self.parts])

    def state_dict(self) -> dict[str, Any]:
        return {"done": self.done, "steps": self.steps, "accuracy": self.accuracy}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.done, self.steps, self.accuracy = (state_dict[name] for name in ("done", "steps", "accuracy"))


def halves(examples: Examples, seed: int) -> tuple[Examples, Examples]:
    """Two halves with the classes shared out evenly, drawn at random, each in the order of the data."""
    if len(examples) < 2:
        raise Refusal(f"expected two or more examples to cut in halves, got {len(examples)}; forget more")
    order = np.random.default_rng(seed).permutation(len(examples))
    if examples.labels.ndim == 1:
        order = order[np.argsort(examples.labels.numpy()[order], kind="stable")]
    return examples.take(np.sort(order[::2])), examples.take(np.sort(order[1::2]))


def _random_start(model: torch.nn.Module, parts: Parts, seed: int) -> torch.nn.Module | None:
    """The same network with random weights, or None where it does not know how to be made anew."""
    known = parts.retain if parts.retain else parts.forget
    try:
        return fresh(model, seed=seed, sample=lambda: pixels(known.inputs[:WHITENING_SAMPLE]))
    except Refusal:
        return None
