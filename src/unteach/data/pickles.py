"""Pickles of CIFAR's kind, read without running code in them."""

from __future__ import annotations

import io
import pickle
import pickletools
from pathlib import Path
from typing import Any

from unteach.types import Refusal


class _BytesOnly(pickle.Unpickler):
    """Lets through what an array of bytes needs, and nothing that could run code: pickle's own way is to subclass."""

    ALLOWED = frozenset(
        {
            ("numpy.core.multiarray", "_reconstruct"),
            ("numpy._core.multiarray", "_reconstruct"),
            ("numpy", "ndarray"),
            ("numpy", "dtype"),
            ("_codecs", "encode"),
        }
    )

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self.ALLOWED:
            raise pickle.UnpicklingError(f"{module}.{name} is not part of an array of bytes")
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)


def read_pickle(path: Path) -> dict[bytes, Any]:
    """The dictionary in one of CIFAR's pickle files, read without running code in it.

    Raises: Refusal for anything but a dictionary of numbers, strings, lists and byte arrays.
    """
    try:
        data = path.read_bytes()
        if any("PUT" in code.name and int(at or 0) > len(data) for code, at, _ in pickletools.genops(data)):
            raise pickle.UnpicklingError(
                "a place in its memo that no file of this size has"
            )  # Python would make room for it
        found = _BytesOnly(io.BytesIO(data), encoding="bytes").load()
    except Exception as error:  # a damaged pickle can fail in any way
        raise Refusal(f"expected one of CIFAR's own files at {path}, got: {error}; fetch the data set again") from error
    if not isinstance(found, dict):
        raise Refusal(f"expected a dictionary in {path}, got {type(found).__name__}; fetch the data set again")
    return found
