"""Does the method suit the request?"""

from __future__ import annotations

from dataclasses import replace

import torch

from unteach.knobs import has, knob
from unteach.methods import METHODS, Sisa
from unteach.preflight.case import Case
from unteach.preflight.remark import Remark, counted, few, percent
from unteach.presets import Preset, preset, scenario_of
from unteach.types import Card, MultiClass

LARGE = 0.3  # share of the training data beyond which retraining is the plain answer
IDLE = 0.8  # of the way to retraining that doing nothing leaves: a method that leaves as much did next to nothing


def judge_method(case: Case) -> list[Remark]:
    """What the method needs, what its card says it suits, and how large the request is."""
    found = [*_needs(case), *_card(case), *_measured(case), *_size(case)]
    if not found:
        said = f"{case.named} suits a request of this kind ({scenario_of(case.parts)}, {percent(case.share)})."
        found.append(Remark(name="method", level="fine", sentence=said, numbers={"share": case.share}))
    return found


def emptied(case: Case) -> tuple[list[str], list[str]]:
    """Classes of which nothing is retained, and other classes of the request; none where examples have several labels."""
    if not case.one_class_each:
        return [], []
    left = set(case.retain.labels.tolist())
    asked = sorted(set(case.forget.labels.tolist()))
    gone, there = ([c for c in asked if (c in left) is kept] for kept in (False, True))
    return [case.forget.classes[c] for c in gone], [case.forget.classes[c] for c in there]


def able(name: str, case: Case) -> bool:
    """Whether the method of this name has what it needs here."""
    return not _needs(replace(case, method=METHODS[name](), named=name))


def _needs(case: Case) -> list[Remark]:
    name, needs, found = case.named, case.method.needs, []
    if "class" in needs and case.kind != "class":
        said = f"{name} forgets whole classes only, and this request leaves examples of every class it names."
        do = "Ask for class:NAME, or choose another method."
        found.append(Remark(name="method", level="stop", sentence=said, do=do))
    if "validation" in needs and case.parts.validation is None:
        said = f"{name} needs validation data that the model never saw, and there are none."
        do = "Hold some out in training (unteach train --validation), or choose another method."
        found.append(Remark(name="method", level="stop", sentence=said, do=do))
    if "convolutions" in needs and not any(isinstance(m, torch.nn.modules.conv._ConvNd) for m in case.model.modules()):
        said = f"{name} works on convolutions, and the network has none."
        found.append(Remark(name="method", level="stop", sentence=said, do="Choose another method, such as eu-k."))
    if isinstance(case.method, Sisa) and not hasattr(case.model, "shards"):
        said = f"{name} retrains the part of an ensemble that saw the request, and this is one network trained on all."
        do = "Choose another method, or train with --model sisa from the start."
        found.append(Remark(name="method", level="stop", sentence=said, do=do))
    if has(case.method, "training") and knob(case.method, "training") is None and case.recipe is None:
        said = f"{name} trains as the original was trained, and nobody says how that was."
        do = "Give --recipe.optim.lr, --recipe.optim.epochs …"
        found.append(Remark(name="method", level="stop", sentence=said, do=do))
    return found


def _card(case: Case) -> list[Remark]:
    card: Card | None = getattr(type(case.method), "card", None)
    if card is None or not card.suits or case.kind in card.suits:
        return []
    kind = {"class": "whole classes", "group": "whole groups", "random": "single examples"}[case.kind]
    said = f"{case.named} is not made for requests of {kind}; it suits: {', '.join(card.suits)}."
    do = "Choose one that does (unteach list tells), or expect little."
    return [Remark(name="method", level="warn", sentence=said, do=do)]


def _measured(case: Case) -> list[Remark]:
    """Whether the method did next to nothing where it was measured on such requests."""
    known = preset(case.method, case.parts)
    if known is None or known.left < IDLE:
        return []
    said = (
        f"Where it was measured on such requests, {case.named} left the network about as far from retraining as doing "
        f"nothing does, or farther ({known.score:.3f} beside {known.unchanged:.3f}; a retrained model {known.floor:.3f}; "
        f"{', '.join(known.scenes)})."
    )
    numbers = {"score": known.score, "unchanged": known.unchanged, "floor": known.floor}
    best = _nearest(case, known)
    do = (
        f"Choose another method, such as {best}."
        if best
        else "None did better there: retrain, or look closely at the audit."
    )
    return [Remark(name="method", level="warn", sentence=said, do=do, numbers=numbers)]


def _nearest(case: Case, beside: Preset) -> str:
    """The method that came nearest to retraining where this one was measured; "" where none did more than next to nothing."""
    left = {}
    for name, made in METHODS.items():
        known = preset(made(), case.parts)
        if known and known.scenes == beside.scenes and able(name, case):
            left[name] = known.left
    best = min(left, key=lambda name: left[name], default="")
    return best if best and left[best] < IDLE else ""


def _size(case: Case) -> list[Remark]:
    count, found = len(case.forget), []
    if case.share > LARGE:
        said = f"The request is {percent(case.share)} of the training data: what is left is hardly the same training."
        do = "Retrain (--method retrain)."
        found.append(Remark(name="size", level="warn", sentence=said, do=do, numbers={"share": case.share}))
    batch = getattr(getattr(case.method, "optim", None), "batch", 0)
    if count < batch and "retain" not in case.method.needs:
        said = f"{counted(count, 'example fills', 'examples fill')} less than one batch of {batch}: every step sees all of them."
        do = "Expect large steps; a lower --optim.lr is safer."
        found.append(Remark(name="size", level="note", sentence=said, do=do, numbers={"count": count, "batch": batch}))
    gone, there = emptied(case)
    if gone and there:
        said = f"Nothing is retained of {few(gone)}, something of the request's other classes: two kinds of request in one."
        do = "Make two requests of it, whole classes by a method for classes."
        found.append(Remark(name="size", level="warn", sentence=said, do=do, numbers={"emptied": len(gone)}))
    if isinstance(case.parts.task, MultiClass) and len(set(case.retain.labels.tolist())) < 2:
        said = "Examples of one class only would be retained: there is nothing left to tell apart."
        found.append(Remark(name="size", level="stop", sentence=said, do="Forget fewer classes."))
    return found
