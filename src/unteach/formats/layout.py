"""Into a network and back: weights as a file holds them, and others in their place."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from unteach.formats.files import Held, Place, rank
from unteach.formats.names import COMPILED, FITS, Tensors, misfit, own_names, tied
from unteach.types import Refusal

# A trainer's own state: beside weights it is no use without the rest of it, and it was made of what is to be forgotten.
STATE_OF_TRAINING = re.compile(r"(?<![a-z])(optim|sched|callback|scaler|loop|(ema|swa|rng)(?![a-z]))", re.IGNORECASE)


@dataclass(frozen=True, eq=False)
class Layout:
    """How a file held a network's weights, so that others can be written in their place.

    ``names``: the file's name of each tensor → the network's, in the file's order. ``types``: by the file's names. ``place``: the
    keys that lead to the weights. ``around``: what else the file held, as far as it was plain values and no state of training;
    ``left_out`` names the rest. ``versions``: torch's own note of its modules' versions. ``metadata``: of a safetensors header.
    ``others``: places of further weights that fitted and were not taken.
    """

    path: Path
    names: Mapping[str, str]
    types: Mapping[str, torch.dtype]
    place: Place = ()
    around: Any = None
    left_out: tuple[str, ...] = ()
    versions: Any = None
    ordered: bool = True
    metadata: Mapping[str, str] = field(default_factory=dict)
    others: tuple[Place, ...] = ()

    @property
    def suffix(self) -> str:
        """Of the file's name, of ``.pth.tar`` all of it."""
        last = self.path.suffixes[-2:]
        return "".join(last) if last[-1:] == [".tar"] else self.path.suffix or ".pt"

    def named(self, state: Tensors) -> dict[str, torch.Tensor]:
        """A network's state under the file's names, in the file's order and types."""
        made = {name: state[own].detach().cpu().to(self.types[name]) for name, own in self.names.items()}
        return {name: tensor.contiguous() for name, tensor in made.items()}

    def rounded(self, state: Tensors) -> dict[str, torch.Tensor]:
        """A network's state as it would come back from such a file: of half precision if that is the file's."""
        types = {own: self.types[name] for name, own in self.names.items()}
        return {name: value.to(types.get(name, value.dtype)).to(value.dtype) for name, value in state.items()}

    def content(self, state: Tensors) -> Any:
        """What ``torch.save`` is to write for a network's state."""
        weights: Any = self.named(state)
        if self.ordered:
            weights = OrderedDict(weights)
            if self.versions is not None:
                weights._metadata = self.versions
        return _put(self.around, self.place, weights)

    def notes(self) -> tuple[str, ...]:
        """What a user should know of how the file was read, in sentences."""
        said = []
        starts = {name.removesuffix(own) for name, own in self.names.items() if name.endswith(own)} - {""}
        between = {COMPILED for name, own in self.names.items() if COMPILED in name and not name.endswith(own)}
        if taken := sorted(starts | between):
            said.append(f"{self.path}: names of weights are read without their {' and '.join(map(repr, taken))}")
        if self.others:
            rest = ", ".join(".".join(place) for place in self.others)
            said.append(
                f"{self.path}: weights are those under {'.'.join(self.place)!r}; {rest} would fit too, and are not unlearned"
            )
        return tuple(said)


def fit(model: torch.nn.Module, held: Held) -> Layout:
    """Put the weights that a file holds into a network, strictly; returns how the file holds them.

    Of several sets of weights that one is taken whose names fit, see ``own_names``. Tied weights may be left out but once.
    Raises: Refusal where none fits, or where several do and no usual key tells which is meant.
    """
    expected, found = model.state_dict(), held.weights()
    spelling = spelling_of(model)
    fitting = [(place, tensors) for place, tensors in found if own_names(tensors, expected, spelling) is not None]
    if len(fitting) > 1 and rank(fitting[0][0]) == rank(fitting[1][0]):
        places = ", ".join(repr(".".join(place)) for place, _ in fitting)
        raise Refusal(
            f"expected one set of weights that fits the network in {held.path}, got several ({places}); save the one that is in "
            "use alone"
        )
    place, tensors = (fitting or found)[0]
    names = load(model, tensors, held.path)
    around, left_out = _kept(held.content, place)
    return Layout(
        path=held.path,
        names=names,
        types={name: tensors[name].dtype for name in names},
        place=place,
        around=around,
        left_out=tuple(left_out),
        versions=getattr(tensors, "_metadata", None),
        ordered=isinstance(tensors, OrderedDict),
        metadata=held.metadata,
        others=tuple(other for other, _ in fitting[1:]),
    )


def load(model: torch.nn.Module, tensors: Tensors, path: Path) -> dict[str, str]:
    """Put named tensors into a network, strictly; returns each of their names with the network's own.

    Raises: Refusal where names or shapes don't fit, or tied weights differ.
    """
    expected = model.state_dict()
    names = own_names(tensors, expected, spelling_of(model))
    if names is None:
        raise Refusal(misfit(tensors, expected, path))
    state = {own: tensors[name] for name, own in names.items()}
    for name, value in state.items():
        if value.shape != expected[name].shape:
            raise Refusal(
                f"expected {name!r} in {path} to have shape {tuple(expected[name].shape)}, got {tuple(value.shape)}; "
                "the number of classes or the --model differs"
            )
        if value.layout != torch.strided or value.is_meta or value.is_quantized or value.is_complex():
            raise Refusal(
                f"expected {name!r} in {path} to be a plain tensor of real numbers, got {_sort(value)}; save it dense and whole"
            )
    for twins in tied(expected):
        told = [name for name in twins if name in state]
        if any(not torch.equal(state[told[0]], state[name]) for name in told):
            raise Refusal(
                f"expected {' and '.join(told)} in {path} to be equal, as tied weights are, got others; {FITS}"
            )
        state |= dict.fromkeys(twins, state[told[0]])
    model.load_state_dict(state, strict=True)
    return names


def _sort(tensor: torch.Tensor) -> str:
    kind = "one without values" if tensor.is_meta else str(tensor.layout).removeprefix("torch.")
    return f"{kind}, {str(tensor.dtype).removeprefix('torch.')}"


def spelling_of(model: torch.nn.Module) -> dict[str, str]:
    """Names that the files of a network's library have for its weights, where they are others, see ``models.libraries``."""
    found: dict[str, str] = model.__dict__.get("unteach_spelling", {})
    return found


def _kept(content: Any, place: Place, where: str = "") -> tuple[Any, list[str]]:
    """What stands around the weights and may stay, with None in their place; and the names of what may not."""
    if not place:
        return None, []
    kept: dict[Any, Any] = {}
    left: list[str] = []
    for key, value in content.items():
        name = f"{where}{key}"
        if key == place[0]:
            kept[key], more = _kept(value, place[1:], f"{name}.")
            left += more
        elif STATE_OF_TRAINING.search(str(key)):
            left.append(name)
        elif _plain(value):
            kept[key] = value
        elif isinstance(value, dict) and any(_plain(part) for part in value.values()):
            kept[key] = {inner: part for inner, part in value.items() if _plain(part)}
            left += [f"{name}.{inner}" for inner in value if inner not in kept[key]]
        else:
            left.append(name)
    return kept, left


def _plain(value: Any, seen: dict[int, bool] | None = None) -> bool:
    """Whether a value is of numbers, words, lists and dictionaries only, none of them within itself."""
    if isinstance(value, dict | list | tuple):
        seen = {} if seen is None else seen
        if id(value) not in seen:
            seen[id(value)] = False
            parts = [*value.keys(), *value.values()] if isinstance(value, dict) else value
            seen[id(value)] = all(_plain(part, seen) for part in parts)
        return seen[id(value)]
    return value is None or isinstance(value, bool | int | float | str)


def _put(around: Any, place: Place, weights: Any) -> Any:
    if not place:
        return weights
    return {key: _put(value, place[1:], weights) if key == place[0] else value for key, value in around.items()}
