"""Networks of torchvision, timm and Hugging Face's transformers, by name."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import torch

from unteach.models.preprocess import Preprocess
from unteach.models.vision import import_torchvision
from unteach.types import Refusal


def torchvision_network(name: str, classes: int, arguments: dict[str, Any]) -> torch.nn.Module:
    """torchvision's network of this name, as ``torchvision.models.get_model`` makes it."""
    model: torch.nn.Module = import_torchvision().models.get_model(name, **{"num_classes": classes, **arguments})
    return model


def timm_network(name: str, classes: int, channels: int, arguments: dict[str, Any]) -> torch.nn.Module:
    """timm's network of this name, as ``timm.create_model`` makes it."""
    import_torchvision()
    try:
        import timm
    except ImportError as error:
        raise Refusal(
            "expected timm to be installed for a timm: model, got no such package; do pip install 'unteach[vision]'"
        ) from error
    model: torch.nn.Module = timm.create_model(name, **{"num_classes": classes, "in_chans": channels, **arguments})
    return model


def hugging_face_network(folder: Path, classes: int, arguments: dict[str, Any]) -> torch.nn.Module:
    """The image classifier that the ``config.json`` in a folder describes, with random weights and this many classes.

    ``arguments`` change the configuration. Nothing is downloaded, and no code is run that lies in the folder.
    Raises: Refusal where there is no such folder, or it is none of an image classifier.
    """
    if not (folder / "config.json").is_file():
        raise Refusal(f"expected a folder with a config.json for hf:, got {folder} without; check the path")
    if importlib.util.find_spec("torchvision"):
        import_torchvision()  # transformers imports it where it is, and would fail beside a CPU build of torch
    try:
        from transformers import AutoConfig, AutoModelForImageClassification
    except ImportError as error:
        raise Refusal(
            "expected transformers to be installed for hf:, got no such package; do pip install 'unteach[hf]'"
        ) from error
    settings = {"num_labels": classes, **arguments}
    config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False, **settings)
    model: torch.nn.Module = AutoModelForImageClassification.from_config(config, trust_remote_code=False)
    model.unteach_spelling = _spelling(model)  # type: ignore[assignment]
    return model


def hugging_face_inputs(folder: Path, shape: tuple[int, ...]) -> Preprocess:
    """A network's inputs as its folder tells: the side in ``config.json``, mean and std in ``preprocessor_config.json``."""
    files = [folder / name for name in ("config.json", "preprocessor_config.json")]
    try:
        config, given = (json.loads(file.read_text()) if file.is_file() else {} for file in files)
        side = config.get("image_size")
        normalised = given.get("do_normalize", True)
        mean, std = (
            tuple(map(float, given.get(name) or ())) if normalised else () for name in ("image_mean", "image_std")
        )
    except (OSError, ValueError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        raise Refusal(
            f"expected {' and '.join(file.name for file in files)} as transformers writes them in {folder}, got: {error}; "
            "save the network anew, or give --preprocess"
        ) from error
    resized = isinstance(side, int) and len(shape) == 3 and shape[1:] != (side, side)
    return Preprocess(mean=mean, std=std, size=side if resized else 0)


def _spelling(model: torch.nn.Module) -> dict[str, str]:
    """A weight's name in the files that transformers writes → its name in the network, where these differ.

    Since its fifth version networks were renamed within, and files kept their names. Before it there is no such thing.
    """
    try:
        from transformers.core_model_loading import revert_weight_conversion
    except ImportError:
        return {}
    state = model.state_dict()
    own = {tensor.data_ptr(): name for name, tensor in state.items()}
    written = revert_weight_conversion(model, state)
    return {name: own[t.data_ptr()] for name, t in written.items() if own.get(t.data_ptr(), name) != name}
