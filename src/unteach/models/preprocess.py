"""What stands between the data and a network that expects other inputs than pixels in 0–1, or gives more than logits."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import torch

from unteach.types import Refusal

LARGEST = 8192  # pixels of a side; a checkpoint's header may ask for any


@dataclass(frozen=True, kw_only=True)
class Preprocess:
    """What a network is to be given in place of the data's own inputs; nothing by default.

    1. Images are resized to ``size`` × ``size`` pixels (bilinear, with antialiasing). 2. From each channel, or each feature, its
    ``mean`` is taken, and what is left is divided by its ``std``. A grey image becomes as many channels as there are means.
    All of it is differentiable, and no part of the network's state dict. *Source:* torchvision's Resize and Normalize.
    *Departs:* sides are resized to a square, none is cropped.
    """

    mean: tuple[float, ...] = ()
    """Taken from each channel (pixels are 0 to 1) or each feature before the network sees it: one number, or one for each."""
    std: tuple[float, ...] = ()
    """What each channel or feature is divided by then, above 0: one number, or one for each."""
    size: int = 0
    """Pixels of each side that images are resized to before all else; 0 leaves them as they are."""

    def __post_init__(self) -> None:
        if not all(isinstance(value, int | float) and math.isfinite(value) for value in (*self.mean, *self.std)):
            raise Refusal(f"expected finite numbers for mean and std, got {self.mean} and {self.std}; check them")
        if not all(value > 0 for value in self.std):
            raise Refusal(f"expected std above 0, got {self.std}; it is what channels are divided by")
        if not (isinstance(self.size, int) and 0 <= self.size <= LARGEST):
            raise Refusal(f"expected size to be 0 to {LARGEST} pixels, got {self.size!r}; 224 is usual")

    @property
    def asked(self) -> bool:
        """Whether anything is to be done at all."""
        return self != Preprocess()

    def as_json(self) -> dict[str, Any]:
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> Preprocess:
        made: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}
        return Preprocess(**made)

    def words(self) -> str:
        """In the words of the flags."""
        told = {name: value for name, value in self.as_json().items() if value}
        return ", ".join(f"{name} {' '.join(map(str, v)) if isinstance(v, list) else v}" for name, v in told.items())


class Prepare:
    """The hook that prepares a network's inputs. A copy of the network has it too; its state dict does not."""

    def __init__(self, settings: Preprocess, shape: tuple[int, ...]) -> None:
        """Raises: Refusal for settings that do not go with inputs of this shape."""
        images = len(shape) == 3
        if settings.size and not images:
            raise Refusal(
                f"expected images to resize to {settings.size} pixels, got inputs of shape {shape}; leave it out"
            )
        count = shape[0] if images else shape[-1]
        sizes = {len(values) for values in (settings.mean, settings.std)} - {0, 1}
        if len(sizes) > 1 or (sizes != {count} and sizes and not (images and count == 1)):
            what = "channels" if images else "features"
            raise Refusal(
                f"expected one number, or one for each of {count} {what}, for mean and std, got {len(settings.mean)} and "
                f"{len(settings.std)}; give as many as there are {what}"
            )
        self.size = settings.size
        self.mean, self.std = (
            torch.tensor(values or [default]).view(-1, *[1] * (2 if images else 0))
            for values, default in ((settings.mean, 0.0), (settings.std, 1.0))
        )

    def __call__(self, module: torch.nn.Module, args: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        inputs, *rest = args
        if self.size and tuple(inputs.shape[-2:]) != (self.size, self.size):
            square = (self.size, self.size)
            inputs = torch.nn.functional.interpolate(inputs, square, mode="bilinear", antialias=True)
        mean, std = (values.to(inputs.device, inputs.dtype) for values in (self.mean, self.std))
        return (inputs - mean) / std, *rest


def logits_of(output: object) -> object:
    """The logits in what a network gives: the tensor that it is, else what it calls ``logits``, else the first of a tuple.

    So are read Hugging Face's outputs, dictionaries, and torchvision's networks that add auxiliary logits in training.
    Anything else comes back as it is.
    """
    if isinstance(output, torch.Tensor):
        return output
    named = output.get("logits") if isinstance(output, Mapping) else getattr(output, "logits", None)
    if isinstance(named, torch.Tensor):
        return named
    first = output[0] if isinstance(output, tuple) and output else None
    return first if isinstance(first, torch.Tensor) else output


def only_logits(module: torch.nn.Module, args: Any, output: object) -> object:
    """``logits_of`` as a hook."""
    return logits_of(output)


def attach(model: torch.nn.Module, settings: Preprocess, shape: tuple[int, ...]) -> None:
    """Let a network read inputs of this shape as they are in the data, and give logits alone; in place, as hooks.

    Its state dict, its names and its class stay what they are, and copies of it do the same.
    """
    from unteach.models.ensemble import Ensemble

    if settings.asked:
        if isinstance(model, Ensemble):  # its networks are trained one by one, where no hook of the whole is called
            raise Refusal("expected no preprocessing for an ensemble, got some; let its own networks begin with it")
        model.register_forward_pre_hook(Prepare(settings, shape))
    model.register_forward_hook(only_logits)


@contextmanager
def attached(model: torch.nn.Module, settings: Preprocess, shape: tuple[int, ...]) -> Iterator[Callable[..., None]]:
    """``attach`` for a while, to a network that has nothing attached; gives what takes it off a copy that was made inside."""
    hooks = (model._forward_pre_hooks, model._forward_hooks)
    before = [set(each) for each in hooks]
    if not any(is_ours(hook) for each in hooks for hook in each.values()):
        attach(model, settings, shape)
    added = [set(each) - old for each, old in zip(hooks, before)]

    def detach(network: torch.nn.Module) -> None:
        for each, ids in zip((network._forward_pre_hooks, network._forward_hooks), added):
            for number in ids & set(each):
                del each[number]

    try:
        yield detach
    finally:
        detach(model)


def is_ours(hook: object) -> bool:
    """Whether ``attach`` put this hook onto a network."""
    return isinstance(hook, Prepare) or hook is only_logits
