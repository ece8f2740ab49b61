"""From a name, an import path or a file to a network, and from a network to a fresh one of the same kind."""

from __future__ import annotations

import copy
import importlib
import importlib.util
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

import torch

from unteach.models.preprocess import Prepare, Preprocess, attach
from unteach.types import Refusal

WHITENING_SAMPLE = 5000  # training images are plenty to set a data-dependent first layer from
Factory = Callable[..., "torch.nn.Module"]
Sample: TypeAlias = "torch.Tensor | Callable[[], torch.Tensor]"  # whoever needs none should not have to hold one


def _small_cnn(channels: int, classes: int, height: int, width: int) -> torch.nn.Module:
    from unteach.models.small import small_cnn

    return small_cnn(channels, classes, height, width)


def _airbench(channels: int, classes: int, height: int, width: int) -> torch.nn.Module:
    from unteach.models.airbench import Airbench

    return Airbench(channels, classes, (64, 256, 256))


def _airbench_small(channels: int, classes: int, height: int, width: int) -> torch.nn.Module:
    from unteach.models.airbench import Airbench

    return Airbench(channels, classes, (32, 96, 96))


def _resnet18(channels: int, classes: int, height: int, width: int) -> torch.nn.Module:
    from unteach.models.resnet import resnet18

    return resnet18(channels, classes)


def _resnet18_amun(channels: int, classes: int, height: int, width: int) -> torch.nn.Module:
    from unteach.models.resnet import resnet18

    return resnet18(channels, classes, halve=True)


def _resnet18_face(channels: int, classes: int, height: int, width: int) -> torch.nn.Module:
    from unteach.models.resnet import resnet18

    return resnet18(channels, classes, stem="imagenet")


def _vgg19_bn(channels: int, classes: int, height: int, width: int) -> torch.nn.Module:
    from unteach.models.resnet import vgg19_bn

    return vgg19_bn(channels, classes, min(height, width))


def _mlp(features: int, classes: int, hidden: Sequence[int] = (256, 128)) -> torch.nn.Module:
    from unteach.models.mlp import mlp

    return mlp(features, classes, hidden)


def _sisa(
    channels: int,
    classes: int,
    height: int,
    width: int,
    of: str = "small-cnn",
    shards: int = 5,
    by_group: bool = False,
    several_labels: bool = False,
) -> torch.nn.Module:
    from unteach.models.ensemble import Ensemble

    # A checkpoint tells these arguments, and none may choose code from outside.
    if of not in MODELS or of == "sisa":
        known = ", ".join(name for name in MODELS if name != "sisa")
        raise Refusal(
            f"expected of to be one of {known}, got {of!r}; for your own network give a factory of models.ensemble.Ensemble"
        )
    if not isinstance(shards, int) or shards < 1:
        raise Refusal(f"expected shards to be a whole number from 1, got {shards!r}; 5 is the default")
    kind = Blueprint(name=of, classes=classes, shape=(channels, height, width))
    networks = [_make(kind) for _ in range(shards)]
    for network in networks:
        network.unteach_blueprint = kind  # type: ignore[assignment]
    return Ensemble(networks, by_group=by_group, several_labels=several_labels)


MODELS: dict[str, tuple[Factory, str]] = {
    "small-cnn": (_small_cnn, "three conv-pool-BN-ReLU blocks, for 28 × 28 and smaller, 0.1-0.25 M parameters"),
    "airbench": (_airbench, "fast network for 32 × 32 colour images, widths 64/256/256, 2.0 M parameters"),
    "airbench-small": (_airbench_small, "the same at widths 32/96/96, 0.3 M parameters"),
    "resnet18": (_resnet18, "ResNet-18 with CIFAR stem, 11.2 M parameters"),
    "resnet18-amun": (_resnet18_amun, "AMUN's ResNet-18: blocks with a shortcut convolution halved, raw pixels"),
    "resnet18-face": (_resnet18_face, "ResNet-18 with torchvision's stem, for 128-pixel faces"),
    "vgg19-bn": (_vgg19_bn, "VGG-19 with batch norm, for 32 × 32 and larger"),
    "mlp": (_mlp, "linear layers with ReLU (hidden=[256, 128]), for tables of features"),
    "sisa": (_sisa, "networks (of=small-cnn, shards=5) on parts of the data, for exact forgetting by --method sisa"),
}
OUTSIDE = {
    "torchvision:NAME": "any classifier of torchvision (pip install 'unteach[vision]')",
    "timm:NAME": "any classifier of timm (pip install 'unteach[vision]')",
    "hf:FOLDER": "image classifier of a config.json on disk, by transformers (pip install 'unteach[hf]')",
    "file.py:factory": "your own, also as pkg.module:factory",
}
FLAT = ("mlp",)  # those that read an input of any shape as one row of numbers


@dataclass(frozen=True, kw_only=True)
class Blueprint:
    """How to make a network: enough to build it again, kept in every checkpoint.

    ``shape`` is one input's shape in the data, ``c × h × w`` or ``features`` or whatever the network reads. ``preprocess``: what
    is done to inputs before the network sees them.
    """

    name: str
    classes: int
    shape: tuple[int, ...]
    arguments: dict[str, Any] = field(default_factory=dict)
    preprocess: Preprocess = field(default_factory=Preprocess)

    def as_json(self) -> dict[str, Any]:
        """The blueprint as plain values; preprocessing that is off is left out, as before there was any."""
        told = {**asdict(self), "shape": list(self.shape), "preprocess": self.preprocess.as_json()}
        return told if self.preprocess.asked else {name: v for name, v in told.items() if name != "preprocess"}

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> Blueprint:
        """The blueprint that ``as_json`` told."""
        preprocess = Preprocess.from_json(values.get("preprocess", {}))
        return Blueprint(**{**values, "shape": tuple(values["shape"]), "preprocess": preprocess})


def build(blueprint: Blueprint, *, seed: int, sample: Sample | None = None) -> torch.nn.Module:
    """A network with fresh weights, the same for the same seed; the global random state is left as it was.

    ``sample``: some training inputs, pixels in 0–1; networks with a data-dependent first layer (``whiten``) set it from
    these. The blueprint is left on the network as ``unteach_blueprint``. A network from outside is made to read the data's
    own inputs and to give logits alone (``preprocess.attach``).
    """
    if blueprint.name.startswith("hf:") and not blueprint.preprocess.asked:
        from unteach.models.libraries import hugging_face_inputs

        told = hugging_face_inputs(Path(blueprint.name.removeprefix("hf:")), blueprint.shape)
        blueprint = replace(blueprint, preprocess=told)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = _make(blueprint)
    if blueprint.preprocess.asked or blueprint.name not in MODELS:
        attach(model, blueprint.preprocess, blueprint.shape)
    whiten = getattr(model, "whiten", None)
    if sample is not None and callable(whiten):
        sample = sample() if callable(sample) else sample
        seen = (
            Prepare(blueprint.preprocess, blueprint.shape)(model, (sample,))[0]
            if blueprint.preprocess.asked
            else sample
        )
        whiten(seen)
    model.unteach_blueprint = blueprint  # type: ignore[assignment]
    return model


def fresh(model: torch.nn.Module, *, seed: int, sample: Sample | None = None) -> torch.nn.Module:
    """A network of the same kind with new random weights: what retraining starts from.

    Built again from its blueprint when it has one, else every module's ``reset_parameters`` is called on a copy. Weights that are
    frozen come from no training, so they are the given network's, unless it sets them from the ``sample`` itself.
    """
    blueprint = getattr(model, "unteach_blueprint", None)
    new = build(blueprint, seed=seed, sample=sample) if isinstance(blueprint, Blueprint) else _reset(model, seed)
    if not callable(getattr(model, "whiten", None)):
        _take_frozen(new, model)
    return new


def _take_frozen(new: torch.nn.Module, model: torch.nn.Module) -> None:
    """The frozen weights of a network, with the statistics that stand beside nothing but frozen ones."""
    with torch.no_grad():
        for name, module in model.named_modules():
            into, weights = new.get_submodule(name), dict(module.named_parameters(recurse=False))
            frozen = {which: weight for which, weight in weights.items() if not weight.requires_grad}
            for which, weight in frozen.items():
                into.get_parameter(which).copy_(weight)
            if frozen and len(frozen) == len(weights):
                for which, buffer in module.named_buffers(recurse=False):
                    into.get_buffer(which).copy_(buffer)


def _reset(model: torch.nn.Module, seed: int) -> torch.nn.Module:
    new = copy.deepcopy(model)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for name, module in new.named_modules():
            if not (list(module.parameters(recurse=False)) or list(module.buffers(recurse=False))):
                continue
            reset = getattr(module, "reset_parameters", None)
            if callable(reset):
                reset()
            elif list(module.parameters(recurse=False)):
                raise Refusal(
                    f"expected every layer to know reset_parameters(), got {type(module).__name__} at {name!r} without; "
                    "build the network from a factory (--model file.py:factory), so that it can be retrained"
                )
    return new


def _make(blueprint: Blueprint) -> torch.nn.Module:
    name = blueprint.name
    if name in MODELS:
        return _own(blueprint)
    library, _, rest = name.partition(":")
    if library in ("torchvision", "timm", "hf"):
        return _of_library(library, rest, blueprint)
    if ":" in name:
        made = imported(name)(**blueprint.arguments)
        if not isinstance(made, torch.nn.Module):
            raise Refusal(f"expected {name} to return a torch.nn.Module, got {type(made).__name__}; check the factory")
        return made
    known = ", ".join(MODELS)
    raise Refusal(
        f"expected a model name ({known}), timm:NAME, torchvision:NAME, hf:FOLDER, pkg.module:factory or file.py:factory, "
        f"got {name!r}"
    )


def _own(blueprint: Blueprint) -> torch.nn.Module:
    make, shape = MODELS[blueprint.name][0], blueprint.shape
    if blueprint.name not in FLAT and len(shape) != 3:
        raise Refusal(
            f"expected images for the network {blueprint.name}, got inputs of shape {blueprint.shape}; "
            "take mlp, or give your own network as file.py:factory"
        )
    try:
        if blueprint.name in FLAT:
            return make(math.prod(shape), blueprint.classes, **blueprint.arguments)
        return make(shape[0], blueprint.classes, *shape[1:], **blueprint.arguments)
    except ValueError as error:
        raise Refusal(str(error)) from error


def _of_library(library: str, name: str, blueprint: Blueprint) -> torch.nn.Module:
    from unteach.models import libraries

    if library == "torchvision":
        return libraries.torchvision_network(name, blueprint.classes, blueprint.arguments)
    if library == "timm":
        return libraries.timm_network(name, blueprint.classes, blueprint.shape[0], blueprint.arguments)
    return libraries.hugging_face_network(Path(name), blueprint.classes, blueprint.arguments)


def imported(spec: str) -> Callable[..., Any]:
    """The object that ``pkg.module:name`` or ``file.py:name`` names. Importing runs the user's own code."""
    path, _, attribute = spec.rpartition(":")
    try:
        if path.endswith(".py"):
            file = Path(path).resolve()
            if not file.is_file():
                raise Refusal(f"expected a Python file at {path}, got none; check the path before the colon")
            name = f"unteach_user_{file.stem}"
            module_spec = importlib.util.spec_from_file_location(name, file)
            assert module_spec is not None
            assert module_spec.loader is not None
            module = importlib.util.module_from_spec(module_spec)
            sys.modules[name] = module
            module_spec.loader.exec_module(module)
        else:
            module = importlib.import_module(path)
    except ImportError as error:
        raise Refusal(f"expected an importable module before the colon of {spec!r}, got: {error}") from error
    found = getattr(module, attribute, None)
    if not callable(found):
        raise Refusal(
            f"expected {attribute!r} in {path} to be a class or function, got {found!r}; check the name after the colon"
        )
    return found  # type: ignore[no-any-return]


def requires(model: torch.nn.Module, kind: type[torch.nn.Module], who: str) -> None:
    """Refuse a network that has no layer of the kind a method works on."""
    if not any(isinstance(module, kind) for module in model.modules()):
        raise Refusal(f"expected a network with {kind.__name__} layers for {who}, got none; choose another method")
