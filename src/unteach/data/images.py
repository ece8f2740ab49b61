"""Encoded images to one uint8 array."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from unteach.data.places import whole_number
from unteach.types import Refusal

if TYPE_CHECKING:
    from PIL.Image import Image

GREY = ("1", "L", "LA")
COLOUR = ("RGB", "RGBA", "RGBX", "P", "PA", "CMYK", "YCbCr")
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")  # and no others: for EPS, Pillow starts Ghostscript
MOST = 2**26  # pixels of one image
SHARE = 256  # images a thread takes at once: handing them over one by one costs as much as decoding


@dataclass(frozen=True, kw_only=True)
class Look:
    """What all images of a data set are brought to."""

    colour: bool = False
    """Whether grey images get three equal channels too, for data that have both kinds."""
    size: int | None = None
    """Pixels a side: the largest centred square, scaled to it (bicubic, antialiased). None: as they are, all of one size."""

    def __post_init__(self) -> None:
        if self.size is not None and self.size < 1:
            raise Refusal(f"expected images of 1 pixel a side or more, got {self.size}; 32 or 64 are usual")


AS_THEY_ARE = Look()
LOOKS = ("colour", "size")


def look_of(options: Mapping[str, str]) -> Look:
    """The look that users ask for after a path: ``?colour=true&size=64``."""
    colour = options.get("colour", "false")
    if colour not in ("true", "false"):
        raise Refusal(
            f"expected true or false for the option colour, got {colour!r}; true gives every image 3 channels"
        )
    return Look(colour=colour == "true", size=whole_number("size", options.get("size")))


def decode(data: bytes, name: object, look: Look = AS_THEY_ARE) -> np.ndarray:
    """One encoded image as uint8 ``c × h × w``: grey ones with 1 channel unless ``look.colour``, all others with 3.

    Transparency and the camera's note of orientation are dropped. Raises: Refusal, naming the image, for bytes that are no
    whole image, and for more than 8 bits per channel.
    """
    from PIL import Image

    if data[:2] == b"P2" and look == AS_THEY_ARE:
        return plain_pgm(data, name)
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            if image.width * image.height > MOST:
                raise Refusal(
                    f"expected at most {MOST:,} pixels in {name}, got {image.width:,} × {image.height:,}; scale the image down"
                )
            return pixels_of(image, name, look)
    except Refusal:
        raise
    except Exception as error:  # Pillow raises many kinds for damaged files
        raise Refusal(f"expected a whole image in {name}, got: {error}; mend or remove it") from error


def pixels_of(image: Image, name: object, look: Look = AS_THEY_ARE) -> np.ndarray:
    """A Pillow image as ``decode`` gives it."""
    from PIL import ImageOps

    if image.mode not in (*GREY, *COLOUR):
        raise Refusal(
            f"expected 8 bits per channel in {name}, got an image of mode {image.mode}; convert it to grey or RGB"
        )
    grey = image.mode in GREY and not look.colour
    plain = image.convert("RGBA") if image.mode == "P" and "transparency" in image.info else image
    wanted = "L" if grey else "RGB"
    whole = plain if plain.mode == wanted else plain.convert(wanted)
    array = np.asarray(ImageOps.fit(whole, (look.size, look.size)) if look.size else whole)
    return array[None] if grey else array.transpose(2, 0, 1)


def plain_pgm(data: bytes, name: object) -> np.ndarray:
    """A grey image written in decimal numbers (PGM, P2), its own white scaled to 255, as uint8 ``1 × h × w``.

    *Departs:* from Pillow, which gives the same pixels, in nothing but a third of the time.
    """
    try:
        width, height, white, *_ = numbers = [
            int(word) for line in data[2:].split(b"\n") for word in line.partition(b"#")[0].split()
        ]
        values = np.array(numbers[3:], dtype=np.int64)
    except (ValueError, OverflowError) as error:
        raise Refusal(f"expected a whole PGM image in {name}, got: {error}; mend or remove it") from error
    if min(width, height, white) < 1 or len(values) != width * height or values.min() < 0 or values.max() > white:
        raise Refusal(
            f"expected {width} × {height} values of 0 to {white} in {name}, got {len(values)}; the file is cut or damaged"
        )
    pixels: np.ndarray = np.rint(values / white * 255).astype(np.uint8)
    return pixels.reshape(1, height, width)


def decode_all(data: Sequence[bytes], source: object, look: Look = AS_THEY_ARE) -> np.ndarray:
    """Encoded images of one size as uint8 ``n × c × h × w``, decoded in threads."""
    return _stacked(lambda i: decode(data[i], f"{source}, row {i}", look), lambda i: f"{source}, row {i}", len(data))


def read_all(paths: Sequence[Path], look: Look = AS_THEY_ARE) -> np.ndarray:
    """Image files of one size and kind as uint8 ``n × c × h × w``, decoded in threads."""
    return _stacked(lambda i: decode(paths[i].read_bytes(), paths[i], look), lambda i: paths[i], len(paths))


def _stacked(one: Callable[[int], np.ndarray], name: Callable[[int], object], n: int) -> np.ndarray:
    """Images of one shape as one array, without a second copy of all; where they differ, two are named."""
    if n == 0:
        return np.zeros((0, 1, 1, 1), dtype=np.uint8)
    first = one(0)
    images = np.empty((n, *first.shape), dtype=np.uint8)
    images[0] = first

    def some(start: int) -> None:
        for i in range(start, min(start + SHARE, n)):
            image = one(i)
            if image.shape != first.shape:
                raise Refusal(
                    f"expected images of one size and kind, got {first.shape} in {name(0)} and {image.shape} in {name(i)} "
                    "(channels, height, width); bring them to one, where options can be given by ?size=64&colour=true"
                )
            images[i] = image

    with ThreadPoolExecutor() as pool:
        for _ in pool.map(some, range(1, n, SHARE)):
            pass
    return images
