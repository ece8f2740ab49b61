"""ARU: reset the kernels that answer noise as they answer the forgotten images, then repair on what is kept."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

import torch

from unteach.adversarial import perturbed
from unteach.attacks import PgdLinf
from unteach.data.augment import Augment
from unteach.engine import Engine, pixels
from unteach.models import fresh
from unteach.models.masks import keep_pruned
from unteach.store import load_into, load_tensors
from unteach.train import Sgd, Source, draw_seed, fit
from unteach.types import Card, Examples, Range, Refusal, Split

SHORTCUTS = frozenset({"downsample", "shortcut"})  # what torchvision, timm and others call a block's shortcut


@dataclass(frozen=True, kw_only=True)
class Aru:
    """Reset half of the kernels of every convolution, chosen by the forgotten images and by noise made for them.

    1. *Attack*: noise δ for each forget image x with label y, by ``attack`` on the original in eval mode; by default down
       the loss. It is uniform noise, the control, with ``attack.steps`` 0.
    2. *Discrepancy*: G(x) and G(δ), the gradients of the mean loss summed over batches of the forget set, of copies in
       training mode, once with x and once with δ alone as input, both under y. Of a convolution's weight (O × I × kernel)
       each slice (o, i) scores S = |mean over the kernel of G(x) − G(δ)|.
    3. *Reset*: in each layer the floor(``ratio`` · O · I) slices with the smallest S become zero, or what ``reset`` says.
       Biases, batch norm and the weights that training leaves fixed stay; pruned weights stay zero.
    4. *Repair*: fine-tune all of the network on the retain set.

    *Source:* Jung, Cho, Hsu, Hockenmaier, Attack and Reset for Unlearning, 2024, arXiv 2401.08998; the operations from its
    second author's public port to a vision transformer. *Departs:* that port's descent, smallest S and zeros are the defaults,
    where the abstract can be read as ascent, largest S and fresh weights; which the paper's tables used is not known. δ enters
    behind the network's own pixel scaling, as there; forget batches are of equal size; convolutions are told by type, not by
    name; the last epoch is kept, where the port keeps the epoch that scores best on test data.
    """

    attack: PgdLinf = field(default_factory=lambda: PgdLinf(steps=7, random_start=True, descend=True))
    """How the noise is made."""
    which: str = "smallest"
    """Which slices of a layer are reset, by discrepancy: smallest, largest or random (a control without attack)."""
    ratio: float = 0.5
    """Share of each layer's slices that is reset, 0 to 1."""
    reset: str = "zero"
    """What they become: zero, fresh (as training from scratch starts) or checkpoint:PATH (the weights in that file)."""
    downsample: bool = False
    """Whether the convolutions on shortcuts (named downsample or shortcut) are reset too."""
    linear: bool = False
    """Whether linear layers but the last are reset too, whole output neurons at a time."""
    batch: int = 64
    """Forget examples in a batch of the discrepancy, which batch norm standardises together; at least 1."""
    optim: Sgd = field(default_factory=lambda: Sgd(lr=0.01, epochs=10, batch=64, weight_decay=0.0, schedule="step:5"))
    """Optimiser of the repair; too few epochs leave the network damaged."""
    augment: Augment | None = None
    """How retained images vary in the repair."""
    card: ClassVar[Card] = Card(
        does="Makes noise for each forgotten example, finds the kernels that respond to the noise as they do to the image, "
        "and resets them, half of every layer. Then the network learns what it lost again, from the retained examples only.",
        suits=("group", "random"),
        cost="nine gradients of each forgotten example, then the repair: by default 10 epochs of the retained examples",
        knobs={
            "ratio": "more is forgotten as it grows, and the repair takes longer",
            "optim.lr": "speed of the repair; too small a rate leaves the network damaged",
            "optim.epochs": "accuracy comes back with them, and so may some of what was forgotten",
            "which": "random is the control: what it forgets too is not the attack's doing",
            "reset": "fresh weights forget a little more than zeros (digits with wrong labels, 3 seeds) and repair as well",
        },
        layers="convolutions; with linear=true hidden linear layers too, or alone",
        search={
            "ratio": Range(low=0.1, high=0.9),
            "optim.lr": Range(low=0.01, high=1.0, log=True),
            "optim.epochs": Range(low=1, high=20),
        },
        more=("ratio", "up"),
    )

    def __post_init__(self) -> None:
        if self.which not in ("smallest", "largest", "random"):
            raise Refusal(f"expected which to be smallest, largest or random, got {self.which!r}; choose one of these")
        if not 0 <= self.ratio <= 1:
            raise Refusal(f"expected ratio between 0 and 1, got {self.ratio}; it is the share of slices that is reset")
        if self.reset not in ("zero", "fresh") and not self.reset.startswith("checkpoint:"):
            raise Refusal(
                f"expected reset to be zero, fresh or checkpoint:PATH, got {self.reset!r}; choose one of these"
            )
        if self.batch < 1:
            raise Refusal(f"expected batch to be at least 1, got {self.batch}; 64 is the authors'")

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"retain"} if self.linear else {"retain", "convolutions"})

    def __call__(self, model: torch.nn.Module, split: Split, rng: torch.Generator, engine: Engine) -> torch.nn.Module:
        assert split.retain is not None
        # Drawn together and first: variants of one seed then differ in what they are told to, not in the shuffles after it.
        drop, start, shuffle = (draw_seed(rng) for _ in range(3))
        new = engine.place(copy.deepcopy(model))
        names = resettable(new, downsample=self.downsample, linear=self.linear)
        targets = self._targets(new, names, start)
        if self.which == "random":
            scores = [torch.rand(units(new.get_parameter(name)), generator=rng) for name in names]
        else:
            with engine.stage("aru noise"):
                noise = self._noise(new, split.forget, rng, engine)
            with engine.stage("aru discrepancy"):
                images = gradients(new, names, split.forget, batch=self.batch, seed=drop, engine=engine)
                alone = gradients(new, names, noise, batch=self.batch, seed=drop, engine=engine)
                scores = [discrepancy(of_image, of_noise) for of_image, of_noise in zip(images, alone)]
        for name, score, target in zip(names, scores, targets):
            overwrite(new.get_parameter(name), choose(score, self.which, self.ratio), target)
        keep_pruned(new)
        with engine.stage("aru repair"):
            fit(new, [Source(split.retain, self.augment)], self.optim, seed=shuffle, engine=engine, label="aru")
        return new

    def _noise(self, model: torch.nn.Module, forget: Examples, rng: torch.Generator, engine: Engine) -> Examples:
        """The forget set with each image replaced by its noise alone, as the layer behind pixel scaling is to see it."""
        from unteach.models.layers import Normalise

        attacked = perturbed(model, forget, self.attack, rng=rng, engine=engine)
        noise = attacked - pixels(forget.inputs)
        # The authors' networks get δ as it is. A scaling (x − mean) / std inside the network would turn it into a black image
        # with a little noise on it; at the mean it leaves δ / std.
        scaling = next((module for module in model.modules() if isinstance(module, Normalise)), None)
        centre = scaling.mean.cpu() if scaling is not None else 0.0
        return replace(forget, inputs=noise + centre)

    def _targets(self, model: torch.nn.Module, names: list[str], seed: int) -> list[torch.Tensor]:
        """What each weight goes back to where it is reset, in the shape of the weight."""
        if self.reset == "zero":
            return [torch.zeros_like(model.get_parameter(name)) for name in names]
        if self.reset == "fresh":
            source = fresh(model, seed=seed)
        else:
            source, path = copy.deepcopy(model), Path(self.reset.removeprefix("checkpoint:"))
            load_into(source, load_tensors(path)[0], path)
        return [source.get_parameter(name).detach().to(model.get_parameter(name)) for name in names]


def resettable(model: torch.nn.Module, *, downsample: bool = False, linear: bool = False) -> list[str]:
    """Names of the weights that ARU resets: trained convolutions, hidden linear layers if asked for.

    Raises: Refusal when there are none, and for weights that are computed from others.
    """
    hidden = [module for module in model.modules() if isinstance(module, torch.nn.Linear)][:-1] if linear else []
    names = []
    for name, module in model.named_modules():
        convolution = isinstance(module, torch.nn.modules.conv._ConvNd)
        shortcut = bool(SHORTCUTS & set(name.split(".")))
        if not (convolution and (downsample or not shortcut)) and not any(module is layer for layer in hidden):
            continue
        if not isinstance(module.weight, torch.nn.Parameter):
            raise Refusal(
                f"expected plain weights to reset, got computed ones (weight or spectral norm) at {name!r}; "
                "remove the parametrisation first, torch.nn.utils.parametrize.remove_parametrizations does"
            )
        if module.weight.requires_grad:
            names.append(f"{name}.weight" if name else "weight")
    if not names:
        kinds = "convolutions or hidden linear layers" if linear else "convolutions"
        remedy = (
            "choose another method" if linear else "give linear=true for its linear layers, or choose another method"
        )
        raise Refusal(f"expected a network with {kinds} to reset, got none; {remedy}")
    return names


def units(weight: torch.Tensor) -> torch.Size:
    """What is reset as a whole, as a shape: O × I slices of a convolution's weight, O neurons of a linear layer's."""
    return weight.shape[: min(2, weight.ndim - 1)]


def gradients(
    model: torch.nn.Module, names: list[str], examples: Examples, *, batch: int, seed: int, engine: Engine
) -> list[torch.Tensor]:
    """The gradient of the mean loss by each named weight, summed over batches of about ``batch``, in the given order.

    Of a copy in training mode, in fp32, without augmentation; its batch-norm statistics and its dropout, drawn from ``seed``,
    leave nothing behind. A batch of one example has no statistics of its own: batch norm then takes the model's. Several
    processes share out the batches.
    """
    twin = copy.deepcopy(model)
    weights = [twin.get_parameter(name) for name in names]
    sums = [torch.zeros_like(weight) for weight in weights]
    parts = torch.arange(len(examples)).tensor_split(max(1, -(-len(examples) // batch)))
    mine = parts[engine.share(len(parts))]
    with torch.random.fork_rng(devices=[engine.device] if engine.device.type == "cuda" else []):
        torch.manual_seed(seed + engine.rank)
        for step, rows in enumerate(mine, 1):
            inputs = pixels(examples.inputs[rows].to(engine.device))
            labels = examples.labels[rows].to(engine.device)
            twin.train(len(rows) > 1)
            loss = examples.task.loss(twin(inputs), labels).mean()
            for total, gradient in zip(sums, torch.autograd.grad(loss, weights, materialize_grads=True)):
                total += gradient
            engine.meter.trained += len(rows)  # forward and backward by weights: what a training step costs
            engine.events.progress("aru discrepancy", step, len(mine))
    return [engine.total(total) for total in sums]


def discrepancy(images: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    """S = |mean of G(x) − G(δ)| of each unit: the signed mean first, then its size; shape ``units``, on the CPU."""
    return (images - noise).flatten(len(units(images))).mean(-1).abs().cpu()


def choose(scores: torch.Tensor, which: str, ratio: float) -> torch.Tensor:
    """The floor(ratio · count) units with the smallest scores (the largest for "largest"), True in the scores' shape."""
    count = int(ratio * scores.numel())
    order = scores.flatten().argsort(stable=True)
    chosen = torch.zeros(scores.numel(), dtype=torch.bool)
    chosen[order[len(order) - count :] if which == "largest" else order[:count]] = True
    return chosen.view(scores.shape)


def overwrite(weight: torch.Tensor, chosen: torch.Tensor, target: torch.Tensor) -> None:
    """Put the target's values into the chosen units of a weight, in place."""
    where = chosen.to(weight.device).view(*chosen.shape, *[1] * (weight.ndim - chosen.ndim))
    with torch.no_grad():
        weight.copy_(torch.where(where, target, weight))
