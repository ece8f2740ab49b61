"""Checkpoint files of any common form, read without running code."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from unteach.formats.names import Tensors
from unteach.types import Refusal

USUAL = ("state_dict", "model_state_dict", "model", "net", "network")  # keys of the weights, the likeliest first
DEEPEST = 3  # dictionaries within each other in which weights are sought

Place = tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Held:
    """What a checkpoint file holds: ``content`` as it was saved, ``metadata`` of a safetensors header."""

    path: Path
    content: Any
    metadata: Mapping[str, str] = field(default_factory=dict)

    def weights(self) -> list[tuple[Place, Tensors]]:
        """Every set of named tensors in it with the keys that lead there, the likeliest first.

        Raises: Refusal where there is none.
        """
        found = sorted(_sets_in(self.content), key=lambda one: rank(one[0]))
        if not found:
            raise Refusal(
                f"expected a state dict (names to tensors) in {self.path}, got {_kind(self.content)}; save model.state_dict()"
            )
        return found


def opened(path: Path) -> Held:
    """Read a checkpoint file, by its suffix a safetensors or a PyTorch one. No code in it is run.

    Raises: Refusal for a file that is missing, truncated, foreign, or a pickle of more than tensors and plain values.
    """
    path = Path(path)
    if not path.is_file():
        raise Refusal(f"expected a checkpoint at {path}, got no such file; check the path")
    if path.suffix != ".safetensors":
        return Held(path, _unpickled(path))
    from safetensors import SafetensorError

    try:
        return _mapped(path)
    except (SafetensorError, ValueError, OSError, RuntimeError) as error:
        raise Refusal(
            f"expected a whole safetensors file at {path}, got: {error}; it is truncated or of another kind"
        ) from error


def _mapped(path: Path) -> Held:
    """A safetensors file in one of its states, though other processes may put new ones in its place meanwhile.

    For torch ``safe_open`` opens the name twice, for the header and for the tensors: with one file's header and another's
    bytes it would give wrong numbers.
    """
    from safetensors import safe_open

    while True:
        before = _state(path)
        try:
            with safe_open(path, framework="pt") as file:
                held = Held(path, {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {})  # noqa: SIM118
        except Exception:
            if _state(path) == before:
                raise
        else:
            if _state(path) == before:
                return held


def _state(path: Path) -> tuple[int, ...]:
    """What differs between two files that were put under this name."""
    told = path.stat()
    return told.st_ino, told.st_size, told.st_mtime_ns, told.st_ctime_ns


def rank(place: Place) -> int:
    """How likely the weights of a file stand there: 0 is likeliest."""
    return USUAL.index(place[-1]) if place and place[-1] in USUAL else len(USUAL) if place else 0


def _sets_in(content: Any, place: Place = (), seen: set[int] | None = None) -> Iterator[tuple[Place, Tensors]]:
    seen = set() if seen is None else seen
    if not isinstance(content, dict) or id(content) in seen:
        return
    seen.add(id(content))
    if content and all(isinstance(k, str) and isinstance(v, torch.Tensor) for k, v in content.items()):
        yield place, content
    elif len(place) < DEEPEST:
        for key, value in content.items():
            if isinstance(key, str):
                yield from _sets_in(value, (*place, key), seen)


def _unpickled(path: Path) -> Any:
    import pickle
    import warnings

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch remarks on a foreign pickle's protocol before it refuses it
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL (\S+)", str(error))
        what = (
            f"an object of {named[1]}, whose code is not run"
            if named
            else "a pickle that would run code or is no pickle at all"
        )
        raise Refusal(
            f"expected {path} to hold tensors and plain values only, got {what}; where you trust the file, save "
            "torch.load(FILE, weights_only=False)'s state dict alone (of a whole network its state_dict()) and give that"
        ) from error
    except Exception as error:  # damaged files fail in many ways
        reason = str(error).partition("\n")[0] or "an empty file"
        raise Refusal(f"expected a PyTorch checkpoint at {path}, got: {reason}; it is truncated or foreign") from error


def _kind(content: Any) -> str:
    shown = ", ".join(map(repr, list(content)[:3])) if isinstance(content, dict) else ""
    return f"a dictionary of {shown}" if shown else type(content).__name__
