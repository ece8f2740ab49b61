"""What forgetting and retraining will take here, in minutes and in memory: measured, or said not to be known."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from unteach.data.augment import Augment
from unteach.engine import pixels
from unteach.mapped import Mapped
from unteach.methods import Retrain
from unteach.preflight.case import Case
from unteach.preflight.remark import Remark, counted
from unteach.provenance import environment
from unteach.recipe import Recipe
from unteach.references.tiers import TIERS
from unteach.train import Sgd, Source, fit

FIRST = 16  # examples of the first steps that are timed; they tell whether whole batches can be afforded
AFFORDED = 2.0  # seconds for those
NAMED = ("quick", "standard", "strong")


@dataclass(frozen=True, kw_only=True)
class Price:
    """What work costs here, in seconds; None where nobody can say.

    ``pace``: of one training step of one example. ``source``: where that is from. ``retraining``: without the request.
    ``method``: its epochs, what it prepares not counted. ``tiers``: the trainings of audits, by name.
    """

    pace: float | None
    source: str
    retraining: float | None
    method: float | None
    tiers: dict[str, float]


def price(case: Case) -> Price:
    """Pace from the checkpoint's own training where it was done on this processor, else from a few steps timed now."""
    pace, source = _told(case) or _timed(case)
    if pace is None:
        return Price(pace=None, source=source, retraining=None, method=None, tiers={})
    recipe, kept, pool = case.recipe, len(case.retain), len(case.data.train) + len(case.data.outside)
    retraining = None if recipe is None else pace * recipe.cost * kept
    passes = _passes(case)
    tiers = {}
    if recipe is not None and retraining is not None:
        each = pace * recipe.cost * pool / 2
        tiers = {n: TIERS[n].retrained * retraining + TIERS[n].halves * each for n in NAMED}
    method = retraining if _retrains(case) else None if passes is None else pace * passes
    return Price(pace=pace, source=source, retraining=retraining, method=method, tiers=tiers)


def tell_time(case: Case, cost: Price) -> list[Remark]:
    """Minutes of the method, of retraining and of audits, and what they were reckoned from."""
    if cost.pace is None:
        return [Remark(name="time", level="note", sentence=f"How long it takes is not known: {cost.source}.")]
    numbers = {"pace": cost.pace, "retraining": cost.retraining, "method": cost.method}
    numbers |= {f"tier_{name}": seconds for name, seconds in cost.tiers.items()}
    found = [Remark(name="time", level="note", sentence=" ".join(_told_times(case, cost)), numbers=numbers)]
    if no_faster(case, cost):
        said = f"{case.named} takes as long as retraining, and nothing comes nearer than that."
        do = "Retrain (--method retrain), or give fewer epochs."
        found.append(Remark(name="time", level="warn", sentence=said, do=do))
    return found


def no_faster(case: Case, cost: Price) -> bool:
    """Whether a method that does not itself retrain takes as long as retraining."""
    known = cost.method is not None and cost.retraining is not None and not _retrains(case)
    return known and (cost.method or 0.0) >= (cost.retraining or 0.0)


def _told_times(case: Case, cost: Price) -> list[str]:
    assert cost.pace is not None
    if cost.retraining is None:
        epoch = minutes(cost.pace * len(case.retain))
        told = [
            f"An epoch of training on what is retained takes {epoch} ({cost.source}); how many are needed is not told."
        ]
    else:
        told = [f"Retraining takes {minutes(cost.retraining)} ({cost.source})."]
    card = getattr(type(case.method), "card", None)
    if not _retrains(case):
        if cost.method is not None:
            told.append(f"The epochs of {case.named} take {minutes(cost.method)}.")
        if card is not None:
            told.append(f"Its card says what it costs: {card.cost}.")
    if cost.tiers:
        told.append(f"Trainings for an audit: {', '.join(f'{n} {minutes(s)}' for n, s in cost.tiers.items())}.")
    return told


def _retrains(case: Case) -> bool:
    return isinstance(case.method, Retrain)


def measure_memory(case: Case) -> list[Remark]:
    """Bytes at the peak of a training step, and whether they are there.

    Weights four times (the original, its copy, gradients, momentum), what a batch leaves for the backward pass (counted on a
    few examples), and the inputs (twice on a CPU, where the split is a copy). Methods with a second network take more.
    """
    batch = _batch(case)
    weights = sum(t.numel() * t.element_size() for t in case.model.state_dict().values())
    inputs = sum(_bytes(part.inputs) for part in case.whole.values())
    try:
        kept = _saved(case) * batch
    except Exception as error:  # the user's own code fails in any way it likes
        said = f"The network can't take a training step here ({_line(error)})."
        return [Remark(name="memory", level="stop", sentence=said, do="Mend the network, or give more memory.")]
    needed = 4 * weights + kept + inputs * (2 if case.engine.device.type == "cpu" else 1)
    free = _free(case.engine.device)
    numbers = {"needed": needed, "weights": weights, "activations": kept, "inputs": inputs, "free": free}
    parts = (
        f"weights, gradients and momentum {size(4 * weights)}, a batch of {batch} {size(kept)}, inputs {size(inputs)}"
    )
    said = f"A training step takes about {size(needed)} ({parts})"
    if free is None or needed <= 0.8 * free:
        there = "" if free is None else f"; {size(free)} are free"
        return [Remark(name="memory", level="fine", sentence=f"{said}{there}.", numbers=numbers)]
    do = "Give a smaller --optim.batch, or a machine with more memory."
    return [Remark(name="memory", level="warn", sentence=f"{said}, and {size(free)} are free.", do=do, numbers=numbers)]


def minutes(seconds: float) -> str:
    """A time for a sentence."""
    if seconds < 60:
        return f"about {seconds:.0f} s" if seconds >= 1 else "less than a second"
    return f"about {seconds / 60:.1f} min" if seconds < 5400 else f"about {seconds / 3600:.1f} h"


def size(count: float) -> str:
    """Bytes for a sentence."""
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.1f} MiB"


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


def _bytes(inputs: torch.Tensor) -> int:
    """What inputs take in memory; those that stay on disk take nothing."""
    return 0 if isinstance(inputs, Mapped) else inputs.numel() * inputs.element_size()


def _batch(case: Case) -> int:
    optim = getattr(case.method, "optim", None) or (case.recipe.optim if case.recipe else Sgd())
    return int(min(optim.batch, len(case.forget) + len(case.retain)))


def _passes(case: Case) -> float | None:
    """Examples that go through the method's training steps; None for a method without epochs."""
    optim = getattr(case.method, "optim", None)
    if not isinstance(optim, Sgd):
        return None
    return float(
        optim.shown(len(case.forget)) + (optim.shown(len(case.retain)) if "retain" in case.method.needs else 0)
    )


def _told(case: Case) -> tuple[float, str] | None:
    """Seconds per example and epoch of the original's own training, where it tells, on this processor."""
    story = case.provenance
    here = story.environment.get("processor") == environment()["processor"]
    if not here or story.parent or not story.units or not story.seconds or case.recipe is None:
        return None
    if story.recipe != case.recipe.as_json():
        return None
    threads = story.environment.get("threads", 1)
    return (
        story.seconds / story.units,
        f"from the original's own training on this processor with {counted(int(threads), 'thread', 'threads')}",
    )


def _timed(case: Case) -> tuple[float | None, str]:
    from unteach.models.ensemble import Ensemble  # a class of torch's, which --help need not load

    if isinstance(case.model, Ensemble):
        return None, "the networks of an ensemble are trained each on its own part, which was not timed"
    recipe = case.recipe or Recipe()
    optim = replace(recipe.optim, lr=1e-6, epochs=2, schedule="constant")
    augment = recipe.augment or case.data.augment
    try:
        pace, many = _steps(case, FIRST, optim, augment), 2 * optim.batch
        if case.engine.world == 1 and pace * 2 * many < AFFORDED:  # a group must not disagree on it
            pace = _steps(case, many, optim, augment)
    except Exception as error:  # the user's own code fails in any way it likes
        return None, f"the steps that were to be timed failed ({_line(error)})"
    threads = counted(torch.get_num_threads(), "thread", "threads")
    harder = recipe.trades is not None or recipe.prune is not None
    return pace, f"from a few steps timed here with {threads}{', plain ones' if harder else ''}"


def _steps(case: Case, count: int, optim: Sgd, augment: Augment | None) -> float:
    """Seconds per example of the second of two short epochs; the network is a copy."""
    few = case.retain.take(range(min(count, len(case.retain))))
    billed = copy.copy(case.engine.meter)
    watch, case.engine.watch = case.engine.watch, None
    try:
        with torch.random.fork_rng():
            log = fit(
                copy.deepcopy(case.model), [Source(few, augment)], optim, seed=0, engine=case.engine, label="timing"
            )
    finally:
        case.engine.meter, case.engine.watch = billed, watch
    return log[-1]["seconds"] / len(few)


def _saved(case: Case) -> float:
    """Bytes that one example leaves for the backward pass."""
    few = case.retain.take(range(min(8, len(case.retain))))
    model = case.engine.place(copy.deepcopy(case.model)).train(len(few) > 1)
    own = {t.untyped_storage().data_ptr() for t in (*model.parameters(), *model.buffers())}
    kept: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    inputs, labels = pixels(few.inputs.to(case.engine.device)), few.labels.to(case.engine.device)
    with torch.random.fork_rng(), torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        with case.engine.autocast():
            loss = few.task.loss(model(inputs), labels).sum()
        del loss
    return sum(kept.values()) / len(few)


def _free(device: torch.device) -> int | None:
    """Bytes that a program may still take: on the GPU, or of this machine where it tells."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration, ValueError):
        return None
