"""Weights in a safetensors file, digested without torch and without loading them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from unteach.store import KEY
from unteach.types import Refusal

# Types as the file spells them → as torch does, which ``store.fingerprint`` digests.
TYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "C64": "complex64",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U64": "uint64",
    "U32": "uint32",
    "U16": "uint16",
    "U8": "uint8",
    "BOOL": "bool",
}


@dataclass(frozen=True)
class Weights:
    """The digests of a safetensors file.

    ``sha256``: of the whole file. ``fingerprint``: as ``store.fingerprint`` gives it for a network of just these names and types.
    ``tensors``: name → SHA-256 of its type, shape and bytes. ``kinds``: name → type and shape. ``provenance``: what the header
    tells.
    """

    sha256: str
    fingerprint: str
    tensors: dict[str, str]
    kinds: dict[str, str]
    provenance: dict[str, Any]


def read_weights(path: Path, expected: str = "") -> Weights:
    """The digests of this file.

    ``expected``: the network's fingerprint; where names without a prefix that all share give it, it is the one that is returned.
    Raises: Refusal for a file that is missing, truncated or no safetensors file.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np"):  # checks the header against the file's size
            pass
        data = np.memmap(
            path, np.uint8, "r"
        )  # all that is told is of this one file, whatever is put in its place meanwhile
        start = 8 + int.from_bytes(data[:8].tobytes(), "little")
        header = json.loads(data[8:start].tobytes())
        told = json.loads((header.pop("__metadata__", None) or {}).get(KEY, "{}"))
    except (SafetensorError, OSError, ValueError, RecursionError) as error:
        raise Refusal(
            f"expected a whole safetensors file at {path}, got: {error}; it is missing, truncated or of another kind"
        ) from error
    kinds = {name: _kind(entry) for name, entry in sorted(header.items())}
    parts = {name: data[slice(*(start + at for at in header[name]["data_offsets"]))].data for name in kinds}
    fingerprints = (
        _digest({name.removeprefix(prefix): name for name in kinds}, kinds, parts) for prefix in _shared(kinds)
    )
    plain = next(fingerprints)
    return Weights(
        hashlib.sha256(data.data).hexdigest(),
        expected if expected and expected in (plain, *fingerprints) else plain,
        {name: _digest({"": name}, kinds, parts) for name in kinds},
        kinds,
        told if isinstance(told, dict) else {},
    )


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _kind(entry: dict[str, Any]) -> str:
    return f"torch.{TYPES.get(entry['dtype'], entry['dtype'])}{tuple(entry['shape'])}"


def _digest(names: dict[str, str], kinds: dict[str, str], parts: dict[str, memoryview]) -> str:
    """SHA-256 over names (as they are to be called → as the file calls them), types, shapes and bytes."""
    digest = hashlib.sha256()
    for name, held in sorted(names.items()):
        digest.update(f"{name}{kinds[held]}".encode())
        digest.update(parts[held])
    return digest.hexdigest()


def _shared(names: Collection[str]) -> list[str]:
    """The beginnings up to a dot that all names share, the empty one first."""
    one = next(iter(names), "")
    starts = ["", *(one[: at + 1] for at, sign in enumerate(one) if sign == ".")]
    return [start for start in starts if all(name.startswith(start) for name in names)]
