"""Is the network one that can be unlearned: finite, steady, free to move, and fed with what it expects?"""

from __future__ import annotations

from functools import partial

import torch

from unteach.preflight.case import USUAL, Case
from unteach.preflight.remark import Remark, counted, few, percent

STEADY = 1e-3  # difference of answers, beside their size, that another order of the arithmetic explains
MANY = 0.01  # share of fixed weights that can remember more than a mean or a filter
DARK = 0.1  # of the range 0–1, below which images are darker than images are


def find_broken(case: Case) -> list[Remark]:
    """Weights and answers must be numbers: nothing else can be asked of a network that gives none."""
    state = case.model.state_dict()
    bad = [name for name, value in state.items() if value.is_floating_point() and not torch.isfinite(value).all()]
    if bad:
        said = f"{counted(len(bad), 'weight or buffer holds', 'weights or buffers hold')} NaN or infinity: {few(bad)}."
        do = "Give an undamaged checkpoint."
        return [Remark(name="weights", level="stop", sentence=said, do=do, numbers={"tensors": len(bad)})]
    broken = [name for name, answer in case.answers.items() if not torch.isfinite(answer).all()]
    if broken:
        said = f"The network answers some {' and '.join(broken)} examples with NaN or infinity."
        do = "Look for inputs it was not made for, or for half precision in its code."
        return [Remark(name="weights", level="stop", sentence=said, do=do)]
    return []


def inspect_network(case: Case) -> list[Remark]:
    """Batch norm, dropout, fixed weights, and whether an answer depends on anything but its input."""
    found = [*_unsteady(case), *_batch_norm(case), *_dropout(case), *_fixed(case), *_large(case)]
    if not any(remark.level != "note" for remark in found):
        weights = sum(weight.numel() for weight in case.model.parameters())
        said = f"The network's {weights:,} weights are finite, and its answers depend on the input alone."
        found.append(Remark(name="network", level="fine", sentence=said, numbers={"weights": weights}))
    return found


def inspect_pixels(case: Case) -> list[Remark]:
    """Images that are nearly black or all alike, and features outside 0–1 for a method whose perturbations stay inside."""
    inputs = case.data.train.inputs
    low, high = float(inputs.min()), float(inputs.max())
    numbers = {"low": low, "high": high}
    top = 255 if inputs.dtype == torch.uint8 else 1
    if inputs.ndim == 4 and high <= DARK * top:
        said = (
            f"The brightest pixel of all training images is {high:g} of {top}: it looks as if they were scaled twice."
        )
        do = "Give images as uint8 in 0–255 or floats in 0–1; adversarial steps are measured on that scale."
        return [Remark(name="pixels", level="warn", sentence=said, do=do, numbers=numbers)]
    if low == high:
        said = f"All inputs are the same, {low:g} throughout."
        return [Remark(name="pixels", level="stop", sentence=said, do="Check the data.", numbers=numbers)]
    if hasattr(case.method, "attack") and (low < 0 or high > top):
        said = f"Inputs lie in {low:g} to {high:g}, and the method's adversarial examples stay in 0–1."
        do = "Scale the data and retrain, or choose a method without an attack, such as finetune or eu-k."
        return [Remark(name="pixels", level="stop", sentence=said, do=do, numbers=numbers)]
    return []


def _unsteady(case: Case) -> list[Remark]:
    seen = case.looked["retain"].inputs
    part = seen[: max(min(16, len(seen)) // 2 * 2, 1)]  # whole pairs: one example alone has no batch statistics
    ask = partial(case.engine.logits, case.model, part)
    first, again, pairs = ask(), ask(), ask(batch=2)
    size = max(1.0, float(first.abs().max()))
    random, company = (float((first - other).abs().max()) / size for other in (again, pairs))
    if random > STEADY:
        said = "The network answers the same input differently each time, in eval mode too: something in it draws at random."
        do = "Let it draw only while self.training is true, or every comparison measures noise."
        return [Remark(name="network", level="warn", sentence=said, do=do, numbers={"difference": random})]
    if company > STEADY:
        said = "The network's answer to an input depends on the others of the batch, in eval mode too."
        do = "Let batch norm keep running statistics (track_running_stats), or audits judge the batches."
        return [Remark(name="network", level="warn", sentence=said, do=do, numbers={"difference": company})]
    return []


def _batch_norm(case: Case) -> list[Remark]:
    norms = [m for m in case.model.modules() if isinstance(m, torch.nn.modules.batchnorm._BatchNorm)]
    optim = getattr(case.method, "optim", None)
    follows = norms and getattr(optim, "batch_norm", "") == "train"
    found = []
    if follows and "retain" not in case.method.needs:
        said = (
            f"{counted(len(norms), 'batch norm layer follows', 'batch norm layers follow')} what {case.named} trains on, the "
            f"{counted(len(case.forget), 'forgotten example', 'forgotten examples')} alone: the running statistics become theirs."
        )
        do = "Give --optim.batch_norm eval, which leaves the statistics as they are."
        found.append(Remark(name="batch norm", level="warn", sentence=said, do=do, numbers={"layers": len(norms)}))
    if follows and any(norm.momentum is None for norm in norms):
        said = "Batch norm without momentum averages over all batches it ever saw: new ones hardly move it."
        found.append(Remark(name="batch norm", level="note", sentence=said))
    return found


def _dropout(case: Case) -> list[Remark]:
    shares = [m.p for m in case.model.modules() if isinstance(m, torch.nn.modules.dropout._DropoutNd) and m.p > 0]
    if not shares:
        return []
    layers = counted(len(shares), "dropout layer draws", "dropout layers draw")
    said = f"{layers} at random in training, up to {percent(max(shares))}; in audits they are off. Seeds fix the draws."
    return [Remark(name="dropout", level="note", sentence=said, numbers={"layers": len(shares), "share": max(shares)})]


def _large(case: Case) -> list[Remark]:
    if case.sample or case.most == USUAL:
        return []
    said = f"An answer takes {case.effort / 1e9:.1f} GFLOP, so the network was asked about {case.most} examples of each part."
    do = "Give --sample 2000 for narrower intervals, and time for it."
    return [
        Remark(name="sample", level="note", sentence=said, do=do, numbers={"effort": case.effort, "sample": case.most})
    ]


def _fixed(case: Case) -> list[Remark]:
    fixed = [(name, weight.numel()) for name, weight in case.model.named_parameters() if not weight.requires_grad]
    total = sum(weight.numel() for weight in case.model.parameters())
    if not fixed:
        return []
    part = sum(count for _, count in fixed) / total
    said = f"{percent(part)} of the weights are fixed (requires_grad is off), such as {few(name for name, _ in fixed)}."
    if part == 1:
        return [
            Remark(name="fixed weights", level="stop", sentence=said, do="Free some: no method can change anything.")
        ]
    do = "Free them, unless they never saw the data: what fixed weights remember, they keep."
    level = "warn" if part > MANY else "note"
    return [Remark(name="fixed weights", level=level, sentence=said, do=do, numbers={"share": part})]
