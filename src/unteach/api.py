"""The erasure job from Python, on a plain ``nn.Module``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from unteach.data import forget_ids, split
from unteach.diagnosis import Diagnosis, diagnose
from unteach.engine import Engine, Stage
from unteach.guard import Guard
from unteach.models import Preprocess
from unteach.models.masks import notice_pruned
from unteach.models.preprocess import attached
from unteach.plugins import call, method_named
from unteach.presets import with_preset
from unteach.recipe import Recipe
from unteach.types import Examples, Method, Refusal, Split


@dataclass(frozen=True, eq=False)
class Forgotten:
    """What ``forget`` gives back: the new model, what was taken out, the bill, and what can be said at first sight."""

    model: torch.nn.Module
    split: Split
    stages: tuple[Stage, ...]
    diagnosis: Diagnosis


def forget(
    model: torch.nn.Module,
    data: Examples,
    ids: str | Sequence[str],
    method: str | Method = "amun",
    *,
    validation: Examples | None = None,
    recipe: Recipe | None = None,
    seed: int = 0,
    engine: Engine | None = None,
    guard: Guard = Guard(),  # noqa: B008 - frozen
    preprocess: Preprocess = Preprocess(),  # noqa: B008 - frozen
) -> Forgotten:
    """Make a model forget some of the examples it was trained on.

    ``model``: any classifier that takes floats (pixels in 0–1) of shape ``n × …`` and gives logits ``n × classes``, as a
    tensor or where ``models.preprocess.logits_of`` finds them; it is left bit-identical, in the training mode it was in.
    ``data``: the training set. ``ids``: their ids, or a request such as ``"random:0.1"``, ``"class:3"``, ``"group:NAME"`` or
    a file of ids. ``method``: a name from ``unteach.methods.METHODS``, ``file.py:NAME``, or one with settings, such as
    ``Amun(optim=Sgd(lr=0.01))``; by name alone it has the settings of ``presets``, relative to ``recipe``, how the model was
    trained, if that is told. ``guard``: when the network counts as collapsed; its last safe state is then kept.
    ``preprocess``: what inputs are put through before the model sees them; it is no part of the new model. Raises: Refusal
    for input that can't be right.
    """
    given = named(method)
    names = forget_ids(ids, data, seed) if isinstance(ids, str) else [str(name) for name in ids]
    parts = split(data, names)
    parts = Split(forget=parts.forget, retain=parts.retain, validation=validation)
    engine = engine or Engine()
    if isinstance(method, str):
        given, words = with_preset(given, parts, recipe)
        engine.events.emit("preset", words=words)
    with attached(model, preprocess, tuple(data.inputs.shape[1:])) as detach:
        new, diagnosis = unlearn(given, model, parts, torch.Generator().manual_seed(seed), engine, guard)
        if new is not model:
            detach(new)
    return Forgotten(new, parts, tuple(engine.stages), diagnosis)


def named(method: str | Method) -> Method:
    """The method of this name with its defaults, or the one that is given."""
    return method_named(method) if isinstance(method, str) else method


def unlearn(
    method: Method,
    model: torch.nn.Module,
    parts: Split,
    rng: torch.Generator,
    engine: Engine,
    guard: Guard = Guard(),  # noqa: B008 - frozen
) -> tuple[torch.nn.Module, Diagnosis]:
    """``apply`` under a guard: the new model, or its last safe state where it collapsed, and what can be said of it."""
    trains_on_kept = parts.retain is not None and "retain" in method.needs
    engine.watch = watch = guard.watch(model, parts, repairs=trains_on_kept, engine=engine)
    try:
        new = apply(method, model, parts, rng, engine)
    finally:
        engine.watch = None
    kept, diagnosis = diagnose(model, new, parts, method, engine, watch)
    engine.events.emit("diagnosis", kind=diagnosis.kind, sentence=diagnosis.sentence)
    return kept, diagnosis


def apply(
    method: Method, model: torch.nn.Module, parts: Split, rng: torch.Generator, engine: Engine
) -> torch.nn.Module:
    """Check that a method has what it needs, and call it. A pruned network stays pruned.

    Raises: Refusal when a set it needs is missing.
    """
    for part in ("retain", "validation"):
        if part in method.needs and getattr(parts, part) is None:
            raise Refusal(
                f"expected a {part} set for {type(method).__name__}, got none; give one or choose another method"
            )
    notice_pruned(model)
    return call(method, model, parts, rng, engine)
