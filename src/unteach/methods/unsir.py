"""UNSIR: impair the network on noise made to be misread, then repair it on what is kept."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch

from unteach.data.augment import Augment
from unteach.data.request import whole_classes
from unteach.engine import Engine, unwrapped
from unteach.eval_mode import evaluating
from unteach.train import Batch, Loss, Sgd, Source, draw_seed, fit
from unteach.types import Card, Choice, Examples, Range, Refusal, Split, Task


@dataclass(frozen=True, kw_only=True)
class ClassNoise:
    """Noise for every forgotten class, made once against the original; for requests of whole classes.

    From N(0, 1), each image N goes by Adam down −CE(f(N), class) + ``penalty`` · ΣN², f in eval mode. N is what the layer
    behind the network's own pixel scaling sees; it need not lie in the range of pixels. Impairing teaches it as the class.
    """

    steps: int = 40
    """Steps of Adam, 0 or more."""
    lr: float = 0.1
    """Learning rate of Adam, above 0."""
    penalty: float = 0.1
    """Weight of the noise's squared length in what is minimised, 0 or more."""
    images: int = 256
    """Noise images for each forgotten class, at least 1."""

    def __post_init__(self) -> None:
        _check(self.steps, self.lr)
        if self.images < 1 or not self.penalty >= 0:
            raise Refusal(
                f"expected noise.images of at least 1 and noise.penalty of 0 or more, got {self.images} and {self.penalty}; "
                "256 and 0.1 are the authors'"
            )

    def __call__(self, model: torch.nn.Module, forget: Examples, rng: torch.Generator, engine: Engine) -> Examples:
        """The noise under its classes, float32, in the shape of the forget set's inputs."""
        from unteach.models.layers import Normalise

        scaling = next((module for module in model.modules() if isinstance(module, Normalise)), None)
        mean, std = (scaling.mean, scaling.std) if scaling is not None else (0.0, 1.0)
        task, made, labels = forget.task, [], []
        model.eval()
        mine = engine.share(self.images)
        for label in torch.unique(forget.labels).tolist():
            start = torch.randn(self.images, *forget.inputs.shape[1:], generator=rng)[mine].to(engine.device)
            wanted = torch.full((self.images,), label, device=engine.device)

            def loss(noise: torch.Tensor, wanted: torch.Tensor = wanted[mine]) -> torch.Tensor:
                away = task.loss(model(noise * std + mean), wanted)
                return self.penalty * noise.square().flatten(1).sum(1) - away

            part = descended(start, loss, steps=self.steps, lr=self.lr) * std + mean
            made.append(engine.gather(part, self.images))
            labels.append(wanted)
            engine.meter.gradients += len(part) * self.steps
        inputs = torch.cat(made).cpu()
        ids = np.array([f"~noise {number}" for number in range(len(inputs))])
        return Examples(inputs, torch.cat(labels).cpu(), ids, None, forget.classes, loss=forget.loss)


@dataclass(frozen=True, kw_only=True)
class BatchNoise:
    """Fresh noise for every batch of forgotten examples, made against the network as it is by then; for any request.

    From N(0, 1), each image goes by Adam up the mean squared distance of its logits from those of a forgotten example, in
    eval mode. Held in 0–1 where inputs are images, it is taught under the label of a retained example.
    """

    steps: int = 5
    """Steps of Adam, 0 or more."""
    lr: float = 0.01
    """Learning rate of Adam, above 0."""

    def __post_init__(self) -> None:
        _check(self.steps, self.lr)

    def __call__(self, network: torch.nn.Module, forgotten: torch.Tensor, engine: Engine) -> torch.Tensor:
        """Noise in the shape of these inputs, drawn from the global generator, which ``fit`` seeds and puts back."""
        with evaluating(network):
            with torch.no_grad():
                answers = network(forgotten)

            def loss(noise: torch.Tensor) -> torch.Tensor:
                apart: torch.Tensor = network(noise) - answers
                return -apart.float().square().mean(1)

            noise = descended(torch.randn_like(forgotten), loss, steps=self.steps, lr=self.lr)
        engine.meter.forwards += len(forgotten)
        engine.meter.gradients += len(forgotten) * self.steps
        return noise.clamp(0, 1) if noise.ndim == 4 else noise


@dataclass(frozen=True, kw_only=True)
class Unsir:
    """Train on noise that the network misreads most beside retained examples, then on retained examples alone.

    1. *Impair*, by ``optim``. With ``ClassNoise``: in every step as many noise images, under the class they were made
       against, as retained examples; an epoch is one pass over these. With ``BatchNoise``: for each forgotten example
       one noise image and one retained example, both under the latter's label, CE(noise) + CE(retained); an epoch is one
       pass over the forget set.
    2. *Repair*, by ``repair``, on the retained examples.

    *Source:* Tarun et al., Fast Yet Effective Machine Unlearning, 2021, arXiv 2111.08947, and its code; BatchNoise: the
    code of MUFAC (Choi & Na, 2023, arXiv 2311.02240), which reports stage 1 alone (``repair=None``) and both; there all
    retained examples, SGD at 0.001 without momentum, batches of 64, two epochs then one, batch norm in eval mode.
    *Departs:* three epochs of SGD in either stage on all retained examples, where the paper has one of Adam, at 0.02 and 0.01,
    on 1,000 examples of each class (a fifth of CIFAR-10); equal numbers of noise and retained examples, where it shows each
    noise image 20 times an epoch; noise is made in eval mode; noise and retained examples go through the network together.
    """

    noise: ClassNoise | BatchNoise = field(default_factory=ClassNoise)
    """The noise: class-noise (made once for each forgotten class) or batch-noise (anew for each batch, for any request)."""
    optim: Sgd = field(default_factory=lambda: Sgd(lr=0.02, epochs=3, schedule="constant"))
    """Optimiser of the impairing stage."""
    repair: Sgd | None = field(default_factory=lambda: Sgd(lr=0.05, epochs=3, schedule="constant"))
    """Optimiser of the repairing stage; null leaves that out."""
    retain_share: float = 1.0
    """Share of the retain set that both stages use, above 0 and at most 1, drawn once; the paper's is about 0.2."""
    augment: Augment | None = None
    """How retained images vary; noise and forget images are shown as they are."""
    card: ClassVar[Card] = Card(
        does="Makes noise images that the network is as wrong about as can be, and trains on them so that what it knew is "
        "impaired. A short training on retained examples repairs the rest. By default for whole classes.",
        suits=("class",),
        cost="forty gradients of 256 noise images for each class, then what nine epochs over the retained data cost",
        knobs={
            "optim.lr": "raise it when the class is still known, lower it when the repair can't mend the rest",
            "optim.epochs": "as optim.lr",
            "repair.lr": "how much comes back, of what is forgotten too",
            "repair.epochs": "as repair.lr",
            "noise": "batch-noise for requests that are no whole classes",
            "retain_share": "cost against retained accuracy",
        },
        search={
            "optim.lr": Range(low=0.03, high=3.0, log=True),
            "repair.lr": Range(low=0.01, high=1.0, log=True),
            "optim.epochs": Range(low=1, high=5),
            "repair.epochs": Range(low=1, high=5),
            "retain_share": Choice(values=(0.2, 0.5, 1.0)),
        },
        more=("optim.lr", "up"),
    )

    def __post_init__(self) -> None:
        if not 0 < self.retain_share <= 1:
            raise Refusal(f"expected retain_share above 0 and at most 1, got {self.retain_share}; 1 takes all")

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"retain", "class"} if isinstance(self.noise, ClassNoise) else {"retain"})

    def __call__(self, model: torch.nn.Module, split: Split, rng: torch.Generator, engine: Engine) -> torch.nn.Module:
        assert split.retain is not None
        new = engine.place(copy.deepcopy(model))
        loss: Loss | None = None
        if isinstance(self.noise, ClassNoise):
            whole_classes(split, "unsir")
            with engine.stage("unsir noise"):
                beside = self.noise(new, split.forget, rng, engine)
        else:
            beside = split.forget
            loss = against(self.noise, split.task, engine)
        count = max(1, round(self.retain_share * len(split.retain)))
        drawn = split.retain.take(torch.randperm(len(split.retain), generator=rng)[:count].sort().values)
        kept, other = Source(drawn, self.augment), Source(beside)
        first, second = (kept, other) if loss is None else (other, kept)
        told = repr((self.noise, self.retain_share))
        with engine.stage("unsir impair"):
            fit(
                new,
                [first],
                self.optim,
                seed=draw_seed(rng),
                engine=engine,
                loss=loss,
                alongside=[second],
                identity=told,
                label="unsir impair",
            )
        if self.repair is not None:
            with engine.stage("unsir repair"):
                fit(new, [kept], self.repair, seed=draw_seed(rng), engine=engine, identity=told, label="unsir repair")
        return new


def against(noise: BatchNoise, task: Task, engine: Engine) -> Loss:
    """CE(noise) + CE(retained) of a step that holds forgotten examples (part 0) and as many retained ones (part 1)."""

    def loss(network: torch.nn.Module, batch: Batch) -> torch.Tensor:
        made = noise(unwrapped(network), batch.inputs[batch.part == 0], engine)
        retained = batch.part == 1
        labels = batch.labels[retained]
        both = torch.cat((made, batch.inputs[retained]))
        # Each half is half of the step, so twice the mean over the step is the sum of the halves' means.
        return 2 * task.loss(network(both), torch.cat((labels, labels)))

    return loss


def descended(
    start: torch.Tensor, loss: Callable[[torch.Tensor], torch.Tensor], *, steps: int, lr: float
) -> torch.Tensor:
    """Where Adam comes to from ``start``, going down each example's ``loss`` (shape ``n``); no weight gets a gradient."""
    point = start.detach().clone().requires_grad_()
    adam = torch.optim.Adam([point], lr=lr)
    for _ in range(steps):
        (point.grad,) = torch.autograd.grad(loss(point).sum(), point)
        adam.step()
    return point.detach()


def _check(steps: int, lr: float) -> None:
    if steps < 0 or not lr > 0:
        raise Refusal(f"expected noise.steps of 0 or more and noise.lr above 0, got {steps} and {lr}; see the defaults")
