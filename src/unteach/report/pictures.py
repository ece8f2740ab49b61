"""Thumbnails as data addresses, so that the page needs nothing beside itself."""

from __future__ import annotations

import base64
import io

import numpy as np

from unteach.types import Refusal

LARGEST = 128


def as_data_uri(name: str, pixels: np.ndarray) -> str:
    """A PNG of ``pixels`` (uint8 ``h × w``, ``h × w × 1`` or ``h × w × 3``), at most 128 pixels a side."""
    from PIL import Image

    pixels = np.asarray(pixels)
    flat = pixels[..., 0] if pixels.ndim == 3 and pixels.shape[-1] == 1 else pixels
    shaped = flat.ndim == 2 or (flat.ndim == 3 and flat.shape[-1] == 3)
    if pixels.dtype != np.uint8 or not shaped or 0 in pixels.shape:
        raise Refusal(
            f"expected thumbnail {name!r} to be uint8 of shape h × w or h × w × 3, "
            f"got {pixels.dtype} of shape {pixels.shape}; do scale it to 0–255 and put the colours last"
        )
    picture = Image.fromarray(np.ascontiguousarray(flat))
    picture.thumbnail((LARGEST, LARGEST))
    written = io.BytesIO()
    picture.save(written, "png", optimize=True)
    return "data:image/png;base64," + base64.b64encode(written.getvalue()).decode("ascii")
