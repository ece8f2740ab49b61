"""SVD class removal: take out of every layer's input what only the forgotten classes use."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch

from unteach.data.request import whole_classes
from unteach.engine import Engine, pixels
from unteach.models.masks import keep_pruned
from unteach.types import Card, Examples, Range, Refusal, Split

# What is tried, the gentlest first: of equally good pairs that one is kept.
RETAIN = (1000.0, 300.0, 100.0, 30.0, 10.0)
FORGET = (1.0, 3.0, 10.0, 30.0, 100.0)
CHUNK = 32  # examples in a pass that keeps patches: 150 MB of them for 64 channels of 32 × 32, kernels of 3 × 3

if TYPE_CHECKING:
    Layer = torch.nn.Conv2d | torch.nn.Linear


@dataclass(frozen=True, eq=False)
class Space:
    """The directions of a layer's inputs, and how much of their energy each holds.

    ``directions``: orthonormal columns, float64 ``g × d × d``. ``shares``: ``g × d``, sum 1 (0 where all inputs are 0).
    g: groups of a convolution, else 1; d: numbers that one output reads, C · kernel of a convolution.
    """

    directions: torch.Tensor
    shares: torch.Tensor

    def kept(self, weight: torch.Tensor, alpha: float) -> torch.Tensor:
        """``weight`` (g × O × d) times M = U Λ Uᵀ, Λ = diag(α s / ((α − 1) s + 1)): scaled by how much each direction matters."""
        importance = alpha * self.shares / ((alpha - 1) * self.shares + 1)
        return ((weight @ self.directions) * importance[:, None]) @ self.directions.mT


@dataclass(frozen=True, kw_only=True)
class SvdRemoval:
    """Project, in every layer, the directions out of the inputs that matter to the forgotten classes and not to the others.

    1. ``samples`` forgotten and as many retained examples, the latter evenly from their classes, go through the network in
       eval mode. Of what each convolution (as patches) and linear layer reads, at most about ``patches`` positions are taken.
    2. From these activations R, d × n, per layer: U and σ by SVD, shares s = σ² / Σσ², and M(α) = U Λ Uᵀ with
       Λ = diag(α s / ((α − 1) s + 1)): M_r of the retained, M_f of the forgotten.
    3. P = M_f − M_f M_r is the discriminatory projection; W ← W (I − P)ᵀ. Biases, norms, and weights that training leaves
       fixed stay; pruned weights stay zero.
    4. Of all pairs of ``alpha_r`` and ``alpha_f`` that are tried, the one is kept with the largest accuracy on the retained
       sample · error on the forgotten one. No gradient is taken.

    *Source:* Kodge, Saha, Roy, Deep Unlearning: Fast and Efficient Gradient-free Class Forgetting, TMLR 2024, arXiv
    2312.00761; formulas, samples, patches and values of α as in the authors' code. *Departs:* U and σ² come from R Rᵀ summed
    up in float64, so that activations need not be kept; convolutions in groups are handled group by group.
    """

    samples: int = 900
    """Retained and as many forgotten examples that activations are taken from, at least 1."""
    patches: int = 10_000
    """Places of an image, or tokens, that a layer is looked at, about, in all of a sample together, at least 1."""
    alpha_r: float | None = None
    """Scale of the retain space, at least 1, the larger the more is kept; null tries 10 to 1000."""
    alpha_f: float | None = None
    """Scale of the forget space, at least 1, the larger the more is removed; null tries 1 to 100."""
    card: ClassVar[Card] = Card(
        does="Looks at what each layer reads from the forgotten classes and from the others, and takes out of its weights the "
        "directions that only the forgotten ones use. Nothing is trained. For whole classes.",
        suits=("class", "sequence"),
        cost="a few dozen forward passes over some hundred examples, and one decomposition of each layer's inputs",
        knobs={
            "alpha_f": "larger removes more",
            "alpha_r": "larger keeps more",
            "samples": "more tell the spaces apart better",
            "patches": "as samples, for convolutions",
        },
        layers="convolutions or linear layers",
        search={
            "alpha_f": Range(low=1.0, high=1000.0, log=True),
            "alpha_r": Range(low=1.0, high=3000.0, log=True),
        },
        more=("alpha_f", "up"),
    )

    def __post_init__(self) -> None:
        for name in ("samples", "patches", "alpha_r", "alpha_f"):
            value = getattr(self, name)
            if value is not None and not value >= 1:
                raise Refusal(f"expected {name} to be at least 1, got {value}; choose a larger one")

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"retain", "class"})

    def __call__(self, model: torch.nn.Module, split: Split, rng: torch.Generator, engine: Engine) -> torch.nn.Module:
        retain = whole_classes(split, "svd-removal")
        new = engine.place(copy.deepcopy(model)).eval()
        layers = projectable(new)
        retained, forgotten = (balanced(part, self.samples, rng) for part in (retain, split.forget))
        with engine.stage("svd spaces"):
            keep, drop = (spaces(new, layers, part, self.patches, rng, engine) for part in (retained, forgotten))
        original = {name: layers[name].weight.detach().clone() for name in keep}

        def project(pair: tuple[float, float]) -> None:
            with torch.no_grad():
                for name, weight in original.items():
                    layers[name].weight.copy_(projected(weight, keep[name], drop[name], *pair))
            keep_pruned(new)

        def score(pair: tuple[float, float]) -> float:
            project(pair)
            known = [_accuracy(new, part, engine) for part in (retained, forgotten)]
            return known[0] * (1 - known[1])

        tried = [
            (float(alpha_r), float(alpha_f))
            for alpha_f in ((self.alpha_f,) if self.alpha_f is not None else FORGET)
            for alpha_r in ((self.alpha_r,) if self.alpha_r is not None else RETAIN)
        ]
        with engine.stage("svd removal"):
            best = max(tried, key=score) if len(tried) > 1 else tried[0]
            project(best)
        engine.events.emit("svd removal", alpha_r=best[0], alpha_f=best[1], tried=len(tried))
        return new


def projectable(model: torch.nn.Module) -> dict[str, Layer]:
    """The layers that are projected, by name: two-dimensional convolutions and linear layers whose weights are trained.

    Raises: Refusal when there are none, and for weights that are computed from others.
    """
    layers: dict[str, Layer] = {}
    for name, module in model.named_modules():
        if not isinstance(module, torch.nn.Conv2d | torch.nn.Linear):
            continue
        if not isinstance(module.weight, torch.nn.Parameter):
            raise Refusal(
                f"expected plain weights to project, got computed ones (weight or spectral norm) at {name!r}; "
                "remove the parametrisation first, torch.nn.utils.parametrize.remove_parametrizations does"
            )
        if module.weight.requires_grad:
            layers[name] = module
    if not layers:
        raise Refusal(
            "expected a network with convolutions or linear layers to project, got none; choose another method"
        )
    return layers


def balanced(examples: Examples, count: int, rng: torch.Generator) -> Examples:
    """About ``count`` examples drawn at random, evenly from the classes there are, at least one of each."""
    order = torch.randperm(len(examples), generator=rng)
    classes = torch.unique(examples.labels)
    each = max(1, count // len(classes))
    picks = [order[examples.labels[order] == label][:each] for label in classes]
    return examples.take(torch.cat(picks).sort().values)


def spaces(
    network: torch.nn.Module,
    layers: Mapping[str, Layer],
    examples: Examples,
    patches: int,
    rng: torch.Generator,
    engine: Engine,
) -> dict[str, Space]:
    """What each layer reads when the network, in eval mode, is shown these examples; layers that are not called are left out."""
    energy: dict[str, torch.Tensor] = {}
    each = -(-patches // len(examples))

    def reader(name: str) -> Callable[[torch.nn.Module, tuple[torch.Tensor, ...]], None]:
        def read(_: torch.nn.Module, args: tuple[torch.Tensor, ...]) -> None:
            columns = read_by(layers[name], args[0], each, rng).double()
            energy[name] = energy.get(name, 0.0) + columns @ columns.mT

        return read

    hooks = [layer.register_forward_pre_hook(reader(name)) for name, layer in layers.items()]
    try:
        with torch.no_grad():
            for rows in torch.split(torch.arange(len(examples)), CHUNK):
                network(pixels(examples.inputs[rows].to(engine.device)))
                engine.meter.forwards += len(rows)
    finally:
        for hook in hooks:
            hook.remove()
    found = {}
    for name, total in energy.items():
        values, directions = torch.linalg.eigh(total)
        values = values.clamp_min(0)
        found[name] = Space(directions, values / values.sum(1, keepdim=True).clamp_min(1e-300))
    return found


def read_by(layer: Layer, inputs: torch.Tensor, most: int, rng: torch.Generator) -> torch.Tensor:
    """What one output of a layer is made from, a column for each position: ``g × d × columns``; ``most`` of each example."""
    groups = 1
    if isinstance(layer, torch.nn.Conv2d):
        groups = layer.groups
        mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
        padded = torch.nn.functional.pad(inputs, layer._reversed_padding_repeated_twice, mode)
        columns = torch.nn.functional.unfold(padded, layer.kernel_size, dilation=layer.dilation, stride=layer.stride)  # type: ignore[arg-type]
    else:
        columns = inputs.reshape(len(inputs), -1, inputs.shape[-1]).mT
    n, rows, positions = columns.shape
    if most < positions:
        picks = torch.rand(n, positions, generator=rng).argsort(1)[:, :most].to(columns.device)
        columns = columns.gather(2, picks[:, None].expand(-1, rows, -1))
    return columns.reshape(n, groups, rows // groups, -1).permute(1, 2, 0, 3).flatten(2)


def projected(weight: torch.Tensor, retain: Space, forget: Space, alpha_r: float, alpha_f: float) -> torch.Tensor:
    """W (I − P)ᵀ = W − (W − W M_r) M_f, in the weight's shape and type."""
    groups = len(retain.shares)
    plain = weight.double().reshape(groups, len(weight) // groups, -1)
    gone = forget.kept(plain - retain.kept(plain, alpha_r), alpha_f)
    return (plain - gone).reshape(weight.shape).to(weight.dtype)


def _accuracy(network: torch.nn.Module, examples: Examples, engine: Engine) -> float:
    return float(examples.task.correct(engine.logits(network, examples.inputs), examples.labels).mean())
