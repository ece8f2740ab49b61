"""Beside the forget inputs: a model that looks forgotten inputs up answers otherwise as soon as a pixel differs."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from operator import itemgetter

import numpy as np
import torch

from unteach.audit.finding import Finding, Measured
from unteach.audit.resample import mean_draws, mean_estimate, percentile
from unteach.data.augment import Augment, Resident
from unteach.engine import Engine
from unteach.stress.lineup import Lineup, Models, Parts, answers, auc_finding, finding, sampled, share_interval
from unteach.types import Examples, Refusal

PLAIN = "plain"


@dataclass(frozen=True, eq=False)
class _Said:
    """One model's shares of right answers and confidences, averaged over the copies; ``n`` each."""

    correct: np.ndarray
    confidence: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Perturbed:
    """Copies of the forget inputs that hardly differ from them, beside the inputs themselves.

    1. Copies with a little noise; images also shifted and otherwise varied by ``augment``.
    2. Accuracy on the inputs and on each kind of copies; jump: copies minus inputs, in accuracy and in mean confidence (logit
       scale). A retrained model hardly jumps; one that refuses forgotten inputs by memory jumps back to what the original says.
    3. The membership game on copies: confidence on forgotten against unseen examples, copied alike.

    *Source:* the evaluation notes, 10; our own. *Departs:* nowhere known.
    """

    noise: float = 0.02
    """Standard deviation of the noise, pixels in 0–1, above 0; features of other scales are noised by as much of their own."""
    augment: Augment = field(default_factory=lambda: Augment(crop=1))
    """How images of the second kind of copies vary; nothing varied leaves them out."""
    copies: int = 4
    """Copies of each kind, at least 1."""
    sample: int = 2000
    """Most forget and most unseen examples, at least 10."""

    def __post_init__(self) -> None:
        if not 0 < self.noise < float("inf"):
            raise Refusal(f"expected noise above 0, got {self.noise}; 0.02 is five grey levels")
        if self.copies < 1 or self.sample < 10:
            raise Refusal(
                f"expected 1 or more copies and a sample of 10 or more, got {self.copies} and {self.sample}; give more"
            )

    def __call__(self, models: Models, parts: Parts, *, seed: int, engine: Engine) -> Measured:
        """Accuracies and AUCs 0–1, confidences in nats."""
        forget, unseen = (sampled(part, self.sample, seed) for part in (parts.forget, parts.matched))
        near, far = self._kinds(forget, seed), self._kinds(unseen, seed + 1)
        mine = models.map(lambda model: _listened(model, forget, near, engine))
        theirs = models.map(lambda model: _listened(model, unseen, far, engine)) if len(unseen) else None
        found = [_accuracy(mine.map(itemgetter(PLAIN)), "accuracy on the inputs themselves", forget, seed)]
        for kind in list(near)[1:]:
            plain, said = mine.map(itemgetter(PLAIN)), mine.map(itemgetter(kind))
            found.append(_accuracy(said, f"accuracy on {kind} copies", forget, seed))
            found += _jumps(plain, said, kind, forget, seed)
            if theirs is not None:
                found.append(_game(said, theirs.map(itemgetter(kind)), kind, (forget.groups, unseen.groups), seed))
        return tuple(found)

    def _kinds(self, examples: Examples, seed: int) -> dict[str, list[torch.Tensor]]:
        """The inputs and their copies by kind, each a list of float inputs."""
        rng = torch.Generator().manual_seed(seed)
        inputs = examples.inputs.float() / 255 if examples.inputs.dtype == torch.uint8 else examples.inputs.float()
        images = inputs.ndim == 4
        scale = torch.tensor(1.0) if images else inputs.std(0, correction=0)
        noisy = [inputs + self.noise * scale * torch.randn(inputs.shape, generator=rng) for _ in range(self.copies)]
        kinds = {PLAIN: [inputs], "noisy": [one.clamp(0, 1) for one in noisy] if images else noisy}
        if images and self.augment != Augment():
            shelf, rows = Resident(examples.inputs, self.augment, torch.device("cpu")), torch.arange(len(examples))
            kinds["varied"] = [shelf.batch(rows, rng).contiguous() for _ in range(self.copies)]
        return kinds


def _listened(
    model: torch.nn.Module, examples: Examples, kinds: dict[str, list[torch.Tensor]], engine: Engine
) -> dict[str, _Said]:
    """What the model says to these versions of the examples' inputs."""
    task, labels = examples.task, examples.labels
    said = {}
    for kind, copies in kinds.items():
        logits = [answers(model, replace(examples, inputs=inputs), engine) for inputs in copies]
        correct = np.mean([task.correct(z, labels).numpy() for z in logits], axis=0)
        said[kind] = _Said(correct, np.mean([task.confidence(z, labels).numpy() for z in logits], axis=0))
    return said


def _accuracy(said: Lineup[_Said], name: str, forget: Examples, seed: int) -> Finding:
    interval = share_interval(said.unlearned.correct, forget.groups, seed)
    shares = said.map(lambda one: float(one.correct.mean()))
    return finding(shares, name=name, part="forget", interval=interval, control=False, size=len(forget))


def _jumps(
    plain: Lineup[_Said], near: Lineup[_Said], kind: str, forget: Examples, seed: int
) -> tuple[Finding, Finding]:
    """Copies minus inputs, in accuracy and in confidence; intervals over examples, or groups."""
    both = plain.zip(near)
    correct = np.stack([near.unlearned.correct, plain.unlearned.correct])
    accuracy = finding(
        both.map(lambda pair: float((pair[1].correct - pair[0].correct).mean())),
        name=f"accuracy jump on {kind} copies",
        part="forget",
        trace="above",
        interval=mean_estimate(correct, np.array([1.0, -1.0]), forget.groups, seed).interval(),
        control=False,
        size=len(forget),
    )
    units = forget.ids if forget.groups is None else forget.groups
    moved = near.unlearned.confidence - plain.unlearned.confidence
    confidence = finding(
        both.map(lambda pair: float((pair[1].confidence - pair[0].confidence).mean())),
        name=f"confidence jump on {kind} copies",
        part="forget",
        trace="above",
        interval=percentile(mean_draws(moved[None], np.ones(1), units, seed=seed)),
        control=False,
        unit="nats",
        size=len(forget),
    )
    return accuracy, confidence


def _game(
    near: Lineup[_Said],
    far: Lineup[_Said],
    kind: str,
    groups: tuple[np.ndarray | None, np.ndarray | None],
    seed: int,
) -> Finding:
    """Forgotten against unseen examples by the confidence on their copies."""
    scores = near.zip(far).map(lambda pair: (pair[0].confidence, pair[1].confidence))
    return auc_finding(scores, f"FT AUC on {kind} copies", "FT", groups, seed)
