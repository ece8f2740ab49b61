"""Encoded images to one uint8 array."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from unteach.types import Refusal

GREY = ("1", "L", "LA")
COLOUR = ("RGB", "RGBA", "RGBX", "P", "PA", "CMYK", "YCbCr")
SHARE = 256  # images a thread takes at once: handing them over one by one costs as much as decoding


def decode(data: bytes, name: object, colour: bool = False) -> np.ndarray:
    """One encoded image as uint8 ``c × h × w``: grey ones with 1 channel unless ``colour``, all others with 3.

    Transparency and the camera's note of orientation are dropped. Raises: Refusal, naming the image, for bytes that are no
    whole image, and for more than 8 bits per channel.
    """
    from PIL import Image

    if data[:2] == b"P2":
        return plain_pgm(data, name)
    try:
        with Image.open(io.BytesIO(data)) as image:
            mode = image.mode
            if mode in (*GREY, *COLOUR):
                grey = mode in GREY and not colour
                plain = image.convert("RGBA") if mode == "P" and "transparency" in image.info else image
                wanted = "L" if grey else "RGB"
                array = np.asarray(plain if plain.mode == wanted else plain.convert(wanted))
                return array[None] if grey else array.transpose(2, 0, 1)
    except Exception as error:  # Pillow raises many kinds for damaged files
        raise Refusal(f"expected a whole image in {name}, got: {error}; mend or remove it") from error
    raise Refusal(f"expected 8 bits per channel in {name}, got an image of mode {mode}; convert it to grey or RGB")


def plain_pgm(data: bytes, name: object) -> np.ndarray:
    """A grey image written in decimal numbers (PGM, P2), its own white scaled to 255, as uint8 ``1 × h × w``.

    *Departs:* from Pillow, which gives the same pixels, in nothing but a third of the time.
    """
    try:
        width, height, white, *_ = numbers = [
            int(word) for line in data[2:].split(b"\n") for word in line.partition(b"#")[0].split()
        ]
    except ValueError as error:
        raise Refusal(f"expected a whole PGM image in {name}, got: {error}; mend or remove it") from error
    values = np.array(numbers[3:], dtype=np.int64)
    if min(width, height, white) < 1 or len(values) != width * height or values.min() < 0 or values.max() > white:
        raise Refusal(
            f"expected {width} × {height} values of 0 to {white} in {name}, got {len(values)}; the file is cut or damaged"
        )
    pixels: np.ndarray = np.rint(values / white * 255).astype(np.uint8)
    return pixels.reshape(1, height, width)


def decode_all(data: Sequence[bytes], source: object, colour: bool = False) -> np.ndarray:
    """Encoded images of one size as uint8 ``n × c × h × w``, decoded in threads."""
    names = [f"{source}, row {i}" for i in range(len(data))]
    return stacked(_in_threads(lambda i: decode(data[i], names[i], colour), len(data)), names)


def read_all(paths: Sequence[Path]) -> np.ndarray:
    """Image files of one size and kind as uint8 ``n × c × h × w``."""
    return stacked(_in_threads(lambda i: decode(paths[i].read_bytes(), paths[i]), len(paths)), paths)


def _in_threads(one: Callable[[int], np.ndarray], n: int) -> list[np.ndarray]:
    def some(start: int) -> list[np.ndarray]:
        return [one(i) for i in range(start, min(start + SHARE, n))]

    with ThreadPoolExecutor() as pool:
        return [image for images in pool.map(some, range(0, n, SHARE)) for image in images]


def stacked(images: Sequence[np.ndarray], names: Sequence[object]) -> np.ndarray:
    """Images of one shape as one array; where they differ, two are named."""
    for image, name in zip(images, names):
        if image.shape != images[0].shape:
            raise Refusal(
                f"expected images of one size and kind, got {images[0].shape} in {names[0]} and {image.shape} in {name} "
                "(channels, height, width); bring them to one size first"
            )
    return np.stack(images) if len(images) else np.zeros((0, 1, 1, 1), dtype=np.uint8)
