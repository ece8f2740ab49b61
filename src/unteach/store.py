"""Files: written whole or not at all, loaded without running code."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, get_args, get_type_hints

import torch

from unteach.formats import Held, load, opened
from unteach.temporary import temporary
from unteach.types import Refusal

T = TypeVar("T")
KEY = "unteach"  # where our provenance sits in a safetensors header


def write(path: Path, put: Callable[[Path], object], mode: int = 0o644) -> None:
    """Write a file through ``put(temporary_path)`` and rename it into place; a failure leaves nothing behind.

    What a killed process leaves of it, the next one that writes it takes away, see ``temporary``. ``mode``: who may read it;
    until it is in place only its owner may.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary(path) as made:
            put(made)
            with made.open("rb+") as file:
                os.fsync(file.fileno())
            made.chmod(mode)
            made.replace(path)
    except (OSError, RuntimeError) as error:  # torch.save tells a full disk by RuntimeError
        reason = (error.strerror or error) if isinstance(error, OSError) else "a write that was cut short"
        raise Refusal(
            f"expected to be able to write {path}, got: {reason}; free some space or choose another folder"
        ) from error


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    write(path, lambda temporary: temporary.write_text(text, encoding="utf-8", newline="\n"))


def write_json(path: Path, value: Any) -> None:
    """Write JSON with sorted keys; NaN and infinity are refused, since JSON has neither."""
    write_text(path, json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file, or say what is wrong with it."""
    try:
        return json.loads(Path(path).read_text())
    except OSError as error:
        raise Refusal(f"expected a readable file at {path}, got: {error.strerror}; check the path") from error
    except (ValueError, RecursionError) as error:
        raise Refusal(f"expected JSON in {path}, got: {error}; the file is damaged or of another kind") from error


def made_for(path: Path, key: str) -> bool:
    """Whether a JSON file is there that says it was made for this key; a damaged one is as good as none."""
    try:
        found = read_json(path) if path.is_file() else None
    except Refusal:
        return False
    return isinstance(found, dict) and found.get("key") == key


def save_tensors(
    path: Path,
    tensors: Mapping[str, torch.Tensor],
    provenance: Mapping[str, Any],
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Tensors and where they come from, as one safetensors file; ``metadata``: what else its header says."""
    from safetensors.torch import save

    whole = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    data = save(whole, metadata={**(metadata or {}), KEY: json.dumps(provenance, sort_keys=True)})
    write(path, lambda temporary: temporary.write_bytes(data))


def load_tensors(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Tensors and provenance of a safetensors file, or the state dict of a PyTorch file without provenance.

    PyTorch files are read with ``weights_only=True``: a pickle with code in it is refused, not run.
    Raises: Refusal for a file that is missing, truncated, foreign, or holds anything but tensors.
    """
    held = opened(path)
    tensors = held.content if held.path.suffix == ".safetensors" else held.weights()[0][1]
    return dict(tensors), provenance_of(held)


def provenance_of(held: Held) -> dict[str, Any]:
    """What unteach wrote into a safetensors header; empty for other files."""
    try:
        found = json.loads(held.metadata.get(KEY, "{}"))
        if not isinstance(found, dict):
            raise ValueError(f"provenance that is {type(found).__name__}")
    except (ValueError, RecursionError) as error:
        raise Refusal(
            f"expected a whole safetensors file at {held.path}, got: {error}; it is truncated or of another kind"
        ) from error
    return found


def load_into(model: torch.nn.Module, tensors: Mapping[str, torch.Tensor], path: Path) -> None:
    """Put a state dict into a network, strictly, see ``formats.load``."""
    load(model, tensors, path)


def fingerprint(model: torch.nn.Module) -> str:
    """SHA-256 over the state dict: names, types, shapes and bytes."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name}{tensor.dtype}{tuple(tensor.shape)}".encode())
        # In channels_last a 1 × 1 kernel counts as contiguous, yet its last stride is not 1: only a flat one is read as bytes.
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def digest_of(names: object) -> str:
    """SHA-256 of any JSON value, for lists of ids and settings."""
    return hashlib.sha256(json.dumps(names, sort_keys=True).encode()).hexdigest()


def record(settings: Any) -> dict[str, Any]:
    """Settings (a dataclass, others within) as plain values, for keys and provenance; ``restored`` is the way back.

    Where a field may hold settings of several classes, ``kind`` names the one. A field with ``later`` in its metadata is left
    out at its default: results that were kept before it came are found again.
    """
    kept, hints = asdict(settings), get_type_hints(type(settings))
    for item in fields(settings):
        value = getattr(settings, item.name)
        if "later" in item.metadata and value == item.default:
            del kept[item.name]
        elif is_dataclass(value):
            kind = {} if len(choices(hints[item.name])) == 1 else {"kind": type(value).__name__}
            kept[item.name] = kind | record(value)
    return kept


def restored(kind: type[T], values: Mapping[str, Any]) -> T:
    """The settings of this class that ``record`` told.

    Raises: Refusal for settings that no such class has.
    """
    try:
        return _restored(kind, values)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise Refusal(
            f"expected settings of {kind.__name__}, got others ({reason}); they are damaged or of another version"
        ) from error


def _restored(kind: type[T], values: Mapping[str, Any]) -> T:
    hints, made = get_type_hints(kind), dict(values)
    for name, value in values.items():
        plain = (int, float) if hints[name] is float else hints[name]
        if hints[name] in (int, float, bool, str) and not isinstance(value, plain):
            raise TypeError(f"{name} that is {type(value).__name__}")
        options = choices(hints[name])
        if isinstance(value, Mapping) and options:
            told = {key: inner for key, inner in value.items() if key != "kind"}
            chosen = next((o for o in options if o.__name__ == value.get("kind")), options[0])
            made[name] = _restored(chosen, told)
        elif isinstance(value, list):
            made[name] = tuple(value)
        elif isinstance(value, str) and Path in (hints[name], *get_args(hints[name])):
            made[name] = Path(value)
    return kind(**made)


def choices(hint: Any) -> tuple[type, ...]:
    """The settings classes that a field of this type may hold; empty for plain values."""
    parts = get_args(hint) if isinstance(hint, UnionType) else (hint,)
    return tuple(part for part in parts if isinstance(part, type) and is_dataclass(part))
