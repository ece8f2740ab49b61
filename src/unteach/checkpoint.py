"""Checkpoints: weights with the story of where they come from, and the way back from a file to a network."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from unteach.formats import Held, Layout, fit, opened
from unteach.models import MODELS, Blueprint, Preprocess, build
from unteach.models.build import Sample
from unteach.models.masks import notice_pruned
from unteach.provenance import Provenance, environment, told_in
from unteach.store import fingerprint, save_tensors, write
from unteach.types import Examples, Refusal

if TYPE_CHECKING:
    from unteach.data import DataSet


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A network with its weights, and its provenance.

    ``scored``: logits that were already computed, by digest of the ids; a model is scored once however often it is judged.
    ``layout``: how its file holds the weights. ``notes``: what a user should know of how it was read, in sentences.
    ``frozen``: of a model that was trained elsewhere, frozen weights that its factory does not start with, nor retrained models.
    """

    model: torch.nn.Module
    provenance: Provenance
    path: Path
    scored: dict[str, torch.Tensor] = field(default_factory=dict)
    layout: Layout | None = None
    notes: tuple[str, ...] = ()
    frozen: tuple[str, ...] = ()

    @property
    def fingerprint(self) -> str:
        return fingerprint(self.model)


def save(path: Path, model: torch.nn.Module, provenance: Provenance, layout: Layout | None = None) -> None:
    """Write a checkpoint (safetensors, provenance in its header) whole or not at all.

    ``layout``: that of a file whose place it takes; of a safetensors file its names, types and metadata are kept.
    """
    blueprint = getattr(model, "unteach_blueprint", None)
    if isinstance(blueprint, Blueprint):
        provenance = replace(provenance, blueprint=blueprint.as_json())
    told, state = asdict(replace(provenance, environment=environment())), model.state_dict()
    if layout is None or layout.suffix != ".safetensors":
        save_tensors(path, state, told)
    else:
        save_tensors(path, layout.named(state), told, layout.metadata)


def save_alike(path: Path, model: torch.nn.Module, layout: Layout) -> None:
    """Write a network's weights as a PyTorch file like the one of this layout, whole or not at all; the same bytes each time."""

    def put(temporary: Path) -> None:
        with temporary.open("wb") as file:  # by its name torch.save would name the archive within
            torch.save(layout.content(model.state_dict()), file)

    write(path, put)


def load(
    path: Path,
    *,
    data: Examples,
    model: str = "",
    arguments: dict[str, Any] | None = None,
    preprocess: Preprocess = Preprocess(),  # noqa: B008 - frozen
) -> Checkpoint:
    """A checkpoint as a network in eval mode, checked against the data it is to be used with.

    ``model``: name, import path or file of the network, needed when the file does not say it itself (one that unteach did
    not make). ``preprocess``: what its inputs are to be put through; left out, what the file tells. Raises: Refusal when the file
    is damaged or foreign, does not fit the network, was trained on other data, or has another number of classes.
    """
    held = opened(path)
    provenance = told_in(held)
    shape = tuple(data.inputs.shape[1:])
    told = _told_blueprint(provenance, path)
    if model:
        same = told is not None and told.name == model
        given = arguments or (told.arguments if told is not None and same else {})
        blueprint = Blueprint(name=model, classes=len(data.classes), shape=shape, arguments=given)
        if told is not None and same:
            blueprint = replace(blueprint, preprocess=told.preprocess)
    elif told is None:
        raise Refusal(
            f"expected to know the network of {path}, got a file that does not say; give --model NAME or file.py:factory"
        )
    elif told.name not in MODELS:
        # A checkpoint may come from anyone; which code runs is for the user to say.
        raise Refusal(
            f"expected --model for {path}, whose network {told.name!r} is code from outside unteach, got none; "
            f"give --model {told.name} if you trust it"
        )
    else:
        blueprint = told
        _refuse_larger(blueprint, held)
        if blueprint.classes != len(data.classes):
            raise Refusal(
                f"expected a model with {len(data.classes)} classes as in the data, got {blueprint.classes} in {path}; "
                "give the data the model was trained on"
            )
        if blueprint.shape != shape:
            raise Refusal(
                f"expected a model for inputs of shape {shape}, got {blueprint.shape} in {path}; give its own data"
            )
    if preprocess.asked:
        blueprint = replace(blueprint, preprocess=preprocess)
    network = new_network(blueprint, seed=0)
    fixed = {name: w.detach().clone() for name, w in network.named_parameters() if not w.requires_grad}
    layout = fit(network, held)
    network.eval()
    notice_pruned(network)
    check_outputs(network, data, f"the network of {path}")
    own = blueprint.name in MODELS or provenance.recipe
    frozen = tuple(
        name for name, w in network.named_parameters() if name in fixed and not (own or w.equal(fixed[name]))
    )
    notes = (*layout.notes(), *_prepared(blueprint, network))
    return Checkpoint(network, provenance, Path(path), layout=layout, notes=notes, frozen=frozen)


def new_network(blueprint: Blueprint, *, seed: int, sample: Sample | None = None) -> torch.nn.Module:
    """A network with fresh weights, as ``models.build`` makes it.

    Raises: Refusal also where the user's own factory fails, whatever it raises.
    """
    try:
        return build(blueprint, seed=seed, sample=sample)
    except Refusal:
        raise
    except Exception as error:  # the user's own code fails in any way it likes
        with_arguments = f" with {blueprint.arguments}" if blueprint.arguments else ""
        raise Refusal(
            f"expected {blueprint.name} to make a network{with_arguments}, got {type(error).__name__}: {_line(error)}; "
            "mend the factory, or --model and --model_args"
        ) from error


def _prepared(blueprint: Blueprint, network: torch.nn.Module) -> list[str]:
    """What is to be said where a folder of Hugging Face told how inputs are prepared, and not the user."""
    found = getattr(network, "unteach_blueprint", blueprint)
    if blueprint.preprocess.asked or not (isinstance(found, Blueprint) and found.preprocess.asked):
        return []
    return [f"{found.name} prepares its inputs: {found.preprocess.words()}; --preprocess says otherwise"]


def _refuse_larger(blueprint: Blueprint, held: Held) -> None:
    """Refuse a file that tells a network far larger than itself, before there is room for it."""
    with torch.device("meta"):
        wanted = sum(tensor.numel() for tensor in new_network(blueprint, seed=0).state_dict().values())
    there = sum(tensor.numel() for _, tensors in held.weights() for tensor in tensors.values())
    if wanted > 2 * there + 1_000_000:
        raise Refusal(
            f"expected {held.path} to hold the network that it tells, got {there:,} of its {wanted:,} numbers; it is damaged"
        )


def _told_blueprint(provenance: Provenance, path: Path) -> Blueprint | None:
    if not provenance.blueprint:
        return None
    try:
        told = provenance.blueprint
        return Blueprint.from_json({**told, "name": str(told["name"])})
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
        raise Refusal(
            f"expected {path} to tell its network, got: {_line(error)}; it is damaged or foreign, give --model"
        ) from error


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def check_data(checkpoint: Checkpoint, data: DataSet) -> Checkpoint:
    """The checkpoint as it is to be used with these data, which may lack what it no longer knows.

    Records that were forgotten and then deleted are no longer among its left out. Raises: Refusal for a checkpoint that says it
    was trained on other data, or on some of the test set as reference models are.
    """
    story = checkpoint.provenance
    if "pool" in story.trained_on:
        raise Refusal(
            f"expected a model of the training set, got {checkpoint.path}, a reference model that was trained on test examples "
            "too; give another"
        )
    theirs = story.data_fingerprint
    if not theirs or theirs == data.fingerprint:
        return checkpoint
    left_out = story.trained_on.get("left_out", [])
    if left_out and story.trained_on.get("kept") == data.fingerprint_without(left_out):
        here = set(data.train.ids.tolist())
        lists = {
            name: [each for each in story.trained_on[name] if each in here]
            for name in ("left_out", "validation")
            if name in story.trained_on
        }
        known = replace(story, data_fingerprint=data.fingerprint, trained_on=story.trained_on | lists)
        return replace(checkpoint, provenance=known)
    raise Refusal(
        f"expected a checkpoint trained on these data (fingerprint {data.fingerprint[:12]}), got {checkpoint.path} trained "
        f"on {story.data or 'other data'} ({theirs[:12]}); give the data it was trained on, of which only what it has forgotten "
        "may be missing"
    )


def check_outputs(network: torch.nn.Module, data: Examples, which: str) -> None:
    """Refuse a network that can't read these inputs, or gives anything but one finite logit a class."""
    from unteach.engine import pixels

    shape = tuple(data.inputs.shape[1:])
    with torch.no_grad():
        try:
            out = network(pixels(data.inputs[:2]))
        except Exception as error:  # the user's own code fails in any way it likes
            raise Refusal(
                f"expected {which} to take inputs of shape {shape}, got {type(error).__name__}: {_line(error)}; "
                "give the data it is made for, or another --model"
            ) from error
    if not isinstance(out, torch.Tensor):
        raise Refusal(
            f"expected logits from {which} (a tensor, alone, first of a tuple, or called logits), got {type(out).__name__}; "
            "wrap it to give logits only"
        )
    if out.shape != (len(data.inputs[:2]), len(data.classes)):
        raise Refusal(
            f"expected logits of shape n × {len(data.classes)} from {which}, got {tuple(out.shape)}; "
            "the data have another number of classes than the model"
        )
    if not torch.isfinite(out).all():
        raise Refusal(f"expected finite logits from {which}, got NaN or infinity; its weights or its code are damaged")
