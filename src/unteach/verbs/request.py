"""A request against a checkpoint: what it means, and everything that makes it impossible."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from unteach.checkpoint import Checkpoint, check_data
from unteach.data import DataSet, split
from unteach.data.augment import Augment
from unteach.provenance import Provenance
from unteach.recipe import Recipe
from unteach.types import Method, Refusal, Split


def request(data: DataSet, original: Checkpoint, ids: list[str], validation: Sequence[str] = ()) -> Split:
    """Forget, retain and validation set: the retain set is what the model was trained on, less these ids.

    Raises: Refusal when the model was not trained on some of the ids, or was on some of the validation data.
    """
    refuse_unless_it_saw(original, ids)
    refuse_unless_unseen(original, validation)
    if both := sorted(set(ids) & set(validation)):
        raise Refusal(
            f"expected validation data beside the request, got {len(both)} ids in both (such as {both[0]!r}); hold out others"
        )
    parts = split(data.train, ids)
    held = data.train.take(data.train.positions(validation)) if len(validation) else None
    parts = replace(parts, validation=held)
    gone = {*original.provenance.trained_on.get("left_out", []), *validation}
    if gone and parts.retain is not None:
        parts = replace(
            parts, retain=parts.retain.take([i for i, n in enumerate(parts.retain.ids.tolist()) if n not in gone])
        )
    return parts


def fit_references(retrained: Sequence[Checkpoint], data: DataSet, ids: list[str]) -> list[Checkpoint]:
    """These models as references; refuses some of other data, that saw what was to be forgotten, or that are one model twice."""
    seen: dict[str, Path] = {}
    found = [check_data(model, data) for model in retrained]
    for model in found:
        refuse_if_it_saw(model, ids)
        twin = seen.setdefault(model.fingerprint, model.path)
        if twin is not model.path:
            raise Refusal(
                f"expected retrained models that differ, got the same weights in {twin} and {model.path}; "
                "a model can't be its own control, train another with another seed"
            )
    return found


def refuse_unless_in_range(method: Method, data: DataSet) -> None:
    """Refuse features outside 0–1 for a method that searches for adversarial examples, which stay in that range."""
    inputs = data.train.inputs
    if not hasattr(method, "attack") or not inputs.is_floating_point():
        return
    low, high = float(inputs.min()), float(inputs.max())
    if low < 0 or high > 1:
        raise Refusal(
            f"expected inputs in 0–1 for {type(method).__name__}, whose adversarial examples stay in that range, got "
            f"{low:g} to {high:g}; scale the data and retrain, or choose another --method"
        )


def refuse_without_recipe(method: Method, original: Checkpoint) -> None:
    """Refuse to retrain by a recipe that nobody told."""
    if getattr(method, "training", method) is None and not original.provenance.recipe:
        raise Refusal(
            f"expected {original.path} to say how it was trained, got a file that does not; give --optim.lr, "
            f"--optim.epochs … for {type(method).__name__}"
        )


def refuse_unless_alike_when_fresh(original: Checkpoint) -> None:
    """Refuse to retrain a network whose frozen weights came from elsewhere: a fresh one would be frozen at others."""
    if original.frozen:
        what = f"{len(original.frozen)} of them (such as {original.frozen[0]!r})"
        raise Refusal(
            f"expected a fresh network to start with the frozen weights of {original.path}, got others for {what}; "
            "let the factory of --model load them, or give --retrained FILES, or --references 0"
        )


def recipe_of(original: Checkpoint) -> Recipe:
    """How the original says it was trained, for models that are to be compared with it.

    Raises: Refusal when it does not say.
    """
    known = original.provenance.recipe
    if not known:
        raise Refusal(
            f"expected {original.path} to say how it was trained, got a file that does not; give "
            "--recipe.optim.lr, --recipe.optim.epochs … for the retrained references, or --retrained FILES, or --references 0"
        )
    return Recipe.from_json(known)


def refuse_unless_it_saw(model: Checkpoint, ids: list[str]) -> None:
    unseen = sorted(set(model.provenance.trained_on.get("left_out", [])) & set(ids))
    if unseen:
        raise Refusal(
            f"expected ids that {model.path} was trained on, got {len(unseen)} it never saw or already forgot "
            f"(such as {unseen[0]!r}); take them out of the request"
        )


def refuse_unless_unseen(model: Checkpoint, validation: Sequence[str]) -> None:
    """Refuse validation data that the checkpoint says it was trained on."""
    if seen := _seen(model, validation):
        raise Refusal(
            f"expected validation data that {model.path} never saw, got {len(seen)} it was trained on "
            f"(such as {seen[0]!r}); hold some out in training (unteach train --validation)"
        )


def refuse_if_it_saw(model: Checkpoint, ids: list[str]) -> None:
    """Refuse a reference that the checkpoint says was trained on some of the request."""
    if seen := _seen(model, ids):
        raise Refusal(
            f"expected {model.path} to be trained without the forget set, got one trained on {len(seen)} of its ids "
            f"(such as {seen[0]!r}); give a retrained model of this request"
        )


def _seen(model: Checkpoint, ids: Sequence[str]) -> list[str]:
    """Those of these ids that a checkpoint says it was trained on; none when it does not say."""
    told = model.provenance.trained_on
    return sorted(set(ids) - set(told["left_out"])) if told else []


def with_defaults(method: Method, data: DataSet, original: Provenance, folder: Path) -> Method:
    """The method with what was left open filled in: the original's recipe, a file for adversarial examples.

    Images vary as in the original's training, when the checkpoint says how: another augmentation moves the accuracy on
    the retain set away from the retrained model's. Else they vary in the data set's usual way.
    """
    open_ = {item.name for item in fields(method) if getattr(method, item.name) is None}  # type: ignore[arg-type]
    known = original.recipe
    changes: dict[str, Any] = {}
    if "augment" in open_:
        changes["augment"] = Augment(**(known["augment"] or {})) if known else data.augment
    if "training" in open_ and known:
        changes["training"] = Recipe.from_json(known)
    if "stored" in open_:
        what = "adversarial" if hasattr(method, "attack") else type(method).__name__.lower()
        changes["stored"] = folder / f"{what}.safetensors"
    return replace(method, **changes)  # type: ignore[type-var]
