"""Gradients of single examples: how much each weight matters to some data, and how steeply the loss rises around it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache

import torch

from unteach.engine import Engine, pixels
from unteach.eval_mode import evaluating
from unteach.models.masks import masks_of
from unteach.types import Examples, MultiLabel, Refusal, Task

# Logits n × K and labels to n × m values whose gradients are wanted, each example's from its own row of logits.
Terms = Callable[["torch.Tensor", "torch.Tensor"], "torch.Tensor"]

MEMORY = 2**29  # bytes that the gradients of single examples may take at a time
BATCH = 256  # examples in a pass where only their mean is wanted


def empirical(task: Task) -> Terms:
    """The task's loss under the data's labels, ``m`` = 1: its mean squared gradient is the empirical Fisher information."""
    return lambda logits, labels: task.loss(logits, labels)[:, None]


def expected(task: Task) -> Terms:
    """Terms whose squared gradients add up to the Fisher information under the model's own answers; ``m`` = K.

    One of K classes: √p_y · log p_y of every y, with p_y held fixed, for the sum is then the expectation of (∂ log p_y)².
    K yes-or-no labels: √(p (1 − p)) · z of each, since they are drawn independently and their scores have mean zero.
    """

    def classes(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        log = logits.float().log_softmax(1)
        return (log.detach() / 2).exp() * log

    def several(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        p = logits.detach().float().sigmoid()
        return (p * (1 - p)).sqrt() * logits.float()

    return several if isinstance(task, MultiLabel) else classes


def squared_norm(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """The squared length of the logits, which asks for no labels; ``m`` = 1."""
    return logits.float().square().sum(1, keepdim=True)


def average(
    model: torch.nn.Module,
    examples: Examples,
    terms: Terms,
    of: Callable[[torch.Tensor], torch.Tensor] = lambda gradients: gradients.square(),
    *,
    batch: int = 1,
    engine: Engine,
    label: str,
) -> torch.Tensor:
    """Mean over the examples of ``of`` (square, abs …) of their gradients, added up over the terms; flat, ``P`` values.

    Eval mode, fp32, inputs as they are; the model, on the engine's device, is left as it was. With ``batch`` above 1 it is
    ``of`` of the mean gradient of each batch, which public code takes for it. That is many times quicker and another
    number: single examples' squares have the mean (variance + mean²) of their gradients, those of batches of B only
    (variance / B + mean²), B times less where gradients cancel. If ``of`` is linear both are the same. Several processes share
    the work, whole batches each; their sums add up in another order than one process's.
    """
    if not len(examples):
        raise Refusal(f"expected at least one example for the {label}, got none; check the request and the data")
    weights = trained_weights(model)
    together = batch > 1 or _needs_loop(model, weights, examples, terms, engine)
    step = batch if together else at_once(model)
    total = torch.zeros(sum(weight.numel() for weight in weights.values()), device=engine.device)
    mine = engine.share(len(examples), step)
    with evaluating(model):
        for start in range(mine.start, mine.stop, step):
            part = examples.take(range(start, min(start + step, mine.stop)))
            if together:
                for gradient in _of_mean(model, weights, part, terms, engine):
                    total += of(gradient) * len(part)
            else:
                for rows in _of_each(model, weights, part, terms, engine):
                    total += of(rows).sum(0)
            engine.events.progress(label, start + len(part), len(examples))
    return engine.total(total) / len(examples)


def mean_gradient(model: torch.nn.Module, examples: Examples, *, engine: Engine, label: str) -> torch.Tensor:
    """The gradient of the mean loss; flat, ``P`` values. Otherwise as ``average``."""
    return average(model, examples, empirical(examples.task), torch.clone, batch=BATCH, engine=engine, label=label)


def rows_of_gradients(model: torch.nn.Module, examples: Examples, *, engine: Engine) -> torch.Tensor:
    """The gradient of every example's loss, ``n × P``, in eval mode and fp32; ``at_once`` says how many to ask for."""
    weights, terms = trained_weights(model), empirical(examples.task)
    if not len(examples):
        return torch.zeros(0, sum(weight.numel() for weight in weights.values()), device=engine.device)
    with evaluating(model):
        if not _needs_loop(model, weights, examples, terms, engine):
            return next(_of_each(model, weights, examples, terms, engine))
        each = (examples.take([i]) for i in range(len(examples)))
        return torch.stack([next(_of_mean(model, weights, one, terms, engine)) for one in each])


def solve_fisher(
    model: torch.nn.Module, examples: Examples, target: torch.Tensor, *, damping: float, engine: Engine
) -> torch.Tensor:
    """x with (λI + F) x = ``target``, where F = (1/n) Σ g gᵀ over these examples' loss gradients; flat, ``P`` values.

    λ is ``damping`` times the mean squared length of a gradient, which is F's trace. Only the weights that are not pruned
    take part; the others get 0. The ``P × P`` matrix is never made: by Woodbury's identity, with the gradients as rows of G,
    x = (target − Gᵀ (λnI + GGᵀ)⁻¹ G target) / λ. Blocks of G are computed anew where all don't fit in memory. Without any
    slope (λ = 0) nothing is known of the curvature, and x is 0.
    *Source:* the matrix of Singh and Alistarh, WoodFisher, 2020, arXiv 2004.14340, equation 4, whose recursion adds one
    gradient at a time and ends at the same.
    """
    kept = alive(model)
    blocks = torch.arange(len(examples)).split(at_once(model))  # type: ignore[no-untyped-call]

    @lru_cache(maxsize=1)  # if there is but one block, it is made once
    def rows(block: int) -> torch.Tensor:
        part = examples.take(blocks[block])
        mine = part.take(range(len(part))[engine.share(len(part))])
        return engine.gather(rows_of_gradients(model, mine, engine=engine), len(part)) * kept

    target = target * kept
    gram = torch.zeros(len(examples), len(examples), dtype=torch.double)
    along = torch.zeros(len(examples), dtype=torch.double)
    for i, one in enumerate(blocks):
        mine = rows(i)
        along[one] = (mine @ target).double().cpu()
        for j, other in enumerate(blocks[i:], i):
            products = (mine @ rows(j).T).double().cpu()
            gram[one[:, None], other] = products
            gram[other[:, None], one] = products.T
        engine.events.progress("curvature", i + 1, len(blocks))
    strength = damping * float(gram.trace()) / len(examples)
    if strength == 0:
        return torch.zeros_like(target)
    shares = torch.linalg.solve(gram + strength * len(examples) * torch.eye(len(examples)), along).to(target)
    for i, one in enumerate(blocks):
        target = target - rows(i).T @ shares[one]
    return target / strength


def trained_weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The weights that get a gradient, by name. Raises: Refusal when there are none."""
    weights: dict[str, torch.Tensor] = {n: weight for n, weight in model.named_parameters() if weight.requires_grad}
    if not weights:
        raise Refusal("expected a network with weights to train, got none or fixed ones; set requires_grad on some")
    return weights


def by_weight(model: torch.nn.Module, flat: torch.Tensor) -> dict[str, torch.Tensor]:
    """``P`` values as one tensor for each trained weight, in its shape."""
    weights = trained_weights(model)
    parts = torch.split(flat, [weight.numel() for weight in weights.values()])
    return {name: part.view(weight.shape) for part, (name, weight) in zip(parts, weights.items())}


def alive(model: torch.nn.Module) -> torch.Tensor:
    """Bool, ``P`` values: False for the trained weights that are pruned."""
    masks, weights = masks_of(model), trained_weights(model)
    kept = [masks.get(name, torch.ones_like(weight, dtype=torch.bool)) for name, weight in weights.items()]
    return torch.cat([mask.to(weight.device).flatten() for mask, weight in zip(kept, weights.values())])


def at_once(model: torch.nn.Module, width: int = 4) -> int:
    """How many examples' gradients, ``width`` bytes a value, may be in memory together; at least 1, at most ``BATCH``."""
    size = sum(weight.numel() for weight in trained_weights(model).values())
    return min(BATCH, max(1, MEMORY // (width * size)))


def _of_mean(
    model: torch.nn.Module, weights: dict[str, torch.Tensor], part: Examples, terms: Terms, engine: Engine
) -> Iterator[torch.Tensor]:
    """For each term the gradient of its mean over these examples, ``P`` values."""
    values = terms(model(pixels(part.inputs.to(engine.device))), part.labels.to(engine.device)).mean(0)
    _bill(engine, len(part), len(values))
    for value in values:
        parts = torch.autograd.grad(value, list(weights.values()), retain_graph=len(values) > 1, materialize_grads=True)
        yield torch.cat([gradient.flatten() for gradient in parts])


def _of_each(
    model: torch.nn.Module, weights: dict[str, torch.Tensor], part: Examples, terms: Terms, engine: Engine
) -> Iterator[torch.Tensor]:
    """For each term its gradients over these examples one by one, ``n × P``, by torch.func."""
    inputs, labels = pixels(part.inputs.to(engine.device)), part.labels.to(engine.device)
    fixed = {name: weight.detach() for name, weight in weights.items()}

    def value(held: dict[str, torch.Tensor], x: torch.Tensor, y: torch.Tensor, pick: torch.Tensor) -> torch.Tensor:
        return terms(torch.func.functional_call(model, held, (x[None],)), y[None])[0] @ pick

    with torch.no_grad():
        count = terms(model(inputs[:1]), labels[:1]).shape[1]
    _bill(engine, len(part), count)
    for pick in torch.eye(count, device=engine.device):
        slopes = torch.func.vmap(torch.func.grad(value), in_dims=(None, 0, 0, None))(fixed, inputs, labels, pick)
        yield torch.cat([slopes[name].flatten(1) for name in weights], dim=1)


def _needs_loop(
    model: torch.nn.Module, weights: dict[str, torch.Tensor], examples: Examples, terms: Terms, engine: Engine
) -> bool:
    """Whether examples go through the network one by one: on a CPU, where that is quicker, and where torch.func gives up."""
    if engine.device.type == "cpu":
        return True
    try:
        with evaluating(model):
            next(_of_each(model, weights, examples.take([0]), terms, engine))
    except RuntimeError:  # what it raises for a network whose course depends on its input
        return True
    return False


def _bill(engine: Engine, examples: int, terms: int) -> None:
    engine.meter.trained += examples  # forward and backward by weights: what a training step costs
    engine.meter.gradients += examples * (terms - 1)  # backward once more, without the forward
