"""Arrays of numbers in MATLAB's files: SciPy's reader takes the whole process down where a file is damaged."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from unteach.data.archives import most
from unteach.types import Refusal

HEAD = 128  # bytes before the first element
MATRIX, COMPRESSED = 14, 15
STORED = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
CLASSES = {6: "f8", 7: "f4", 8: "i1", 9: "u1", 10: "i2", 11: "u2", 12: "i4", 13: "u4", 14: "i8", 15: "u8"}


def read_matlab(path: Path, name: str) -> np.ndarray:
    """The array of real numbers of this name in a file of MATLAB's version 5 to 7.

    *Source:* MATLAB, MAT-File Format (its versions 5 to 7), tables 1-1 to 1-3. *Departs:* structures, texts, complex and sparse
    arrays are passed over. Raises: Refusal for a file that is damaged, of another kind, or without such an array.
    """
    try:
        data = path.read_bytes()
        order = {b"IM": "<", b"MI": ">"}[data[126:128]]
        for kind, content in _elements(data[HEAD:], order):
            if kind == COMPRESSED:
                opened = zlib.decompressobj().decompress(content, most(len(content)))
                kind, content = next(_elements(opened, order))
            found = _array(content, order) if kind == MATRIX else None
            if found is not None and found[0] == name:
                return found[1]
        raise ValueError("no such array of numbers")
    except (OSError, ValueError, LookupError, StopIteration, zlib.error) as error:
        raise Refusal(f"expected MATLAB's table {name} in {path}, got: {error}; fetch it again") from error


def _elements(data: bytes, order: str) -> Iterator[tuple[int, bytes]]:
    """Kind and content of one element after the other; small ones stand in the eight bytes of their tag."""
    at = 0
    while len(data) - at >= 8:
        kind, size = (int(number) for number in np.frombuffer(data, f"{order}u4", 2, at))
        if kind >> 16:
            kind, size, start, step = kind & 0xFFFF, kind >> 16, at + 4, 8
        else:
            start, step = at + 8, 8 + (size if kind == COMPRESSED else -(-size // 8) * 8)
        if start + size > len(data):
            raise ValueError("an element that goes beyond the end")
        yield kind, data[start : start + size]
        at += step


def _array(content: bytes, order: str) -> tuple[str, np.ndarray] | None:
    """Name and values of an array; None for one that is not of real numbers."""
    (_, flags), (_, sizes), (_, name), *rest = _elements(content, order)
    about = int(np.frombuffer(flags, f"{order}u4", 1)[0])
    if about & 0xFF not in CLASSES or about & 0x800 or len(rest) != 1:
        return None
    kind, values = rest[0]
    shape = tuple(np.frombuffer(sizes, f"{order}i4").tolist())
    stored = np.frombuffer(values, order + STORED[kind])
    if min(shape, default=0) < 0 or math.prod(shape) != len(stored):
        raise ValueError(f"{len(stored)} numbers for the shape {shape}")
    return name.decode("latin-1"), stored.reshape(shape, order="F").astype(CLASSES[about & 0xFF])
