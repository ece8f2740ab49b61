"""Examples that occur more than once: byte for byte, by perceptual hash, or nearly so; and which parts they tie together.

Clusters are int64 of shape ``n``: for every example the position of the first member of its cluster, its own when it is alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from unteach.mapped import Mapped, blocks
from unteach.types import Refusal

CHUNK = 2048  # images in float at one time, fewer of large ones
SAMPLE = 256  # images whose nearest other tells what is usual
LOW = 5  # spatial frequencies a side that the search for candidates looks at


def digests(inputs: torch.Tensor) -> list[str]:
    """SHA-256 of the bytes of each input (an image's ``c × h × w`` pixels), 64 hexadecimal digits."""
    return [row.tobytes().hex() for row in _digests(inputs)]


def _digests(inputs: torch.Tensor) -> np.ndarray:
    """The same as they are, 32 bytes each: as text a million of them would take several hundred MiB."""
    rows = (row for block in blocks(inputs) for row in block.contiguous().numpy())
    each = (np.frombuffer(hashlib.sha256(row.data).digest(), np.dtype("V32"))[0] for row in rows)
    return np.fromiter(each, np.dtype("V32"), count=len(inputs))


def exact(inputs: torch.Tensor) -> np.ndarray:
    """Clusters of inputs that are equal byte for byte, images or features."""
    _, first, which = np.unique(_digests(inputs).view("S32"), return_index=True, return_inverse=True)
    return np.asarray(first[which], dtype=np.int64)


def perceptual_hash(images: torch.Tensor) -> np.ndarray:
    """The 64-bit perceptual hash of uint8 images ``n × c × h × w`` (c = 1 or 3), uint64 of shape ``n``.

    Each image in grey is resized to 32 × 32 (Lanczos); of its discrete cosine transform (type II) the 8 × 8 lowest
    frequencies are compared with their median, row by row, the first bit the highest.
    *Source:* Zauner, Implementation and benchmarking of perceptual image hash functions, 2010, with the choices of the
    ImageHash library. *Departs:* coefficients are rounded to 0.001, since those that symmetry makes equal would otherwise
    be told apart by the noise of the arithmetic.
    """
    from PIL import Image
    from scipy.fft import dctn

    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] not in (1, 3):
        raise Refusal(
            f"expected uint8 images n × c × h × w with 1 or 3 channels, got {images.dtype} {tuple(images.shape)}; "
            "only images have a perceptual hash, take exact copies for other inputs"
        )
    small = np.empty((len(images), 32, 32), dtype=np.uint8)
    for at, pixels in enumerate(one.permute(1, 2, 0).numpy() for one in images):
        image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else np.ascontiguousarray(pixels)).convert("L")
        small[at] = np.asarray(image.resize((32, 32), Image.Resampling.LANCZOS))
    found = np.empty(len(images), dtype=np.uint64)
    for start in range(0, len(images), CHUNK):
        low = dctn(small[start : start + CHUNK].astype(np.float64), axes=(1, 2))[:, :8, :8].reshape(-1, 64).round(3)
        bits = np.packbits(low > np.median(low, axis=1, keepdims=True), axis=1)
        found[start : start + CHUNK] = bits.view(">u8")[:, 0]
    return found


def same_hash(images: torch.Tensor) -> np.ndarray:
    """Clusters of images with one perceptual hash: what MUFAC's clean protocol takes for duplicates.

    Different images may share a hash, silhouettes above all; `Near` looks at the pixels.
    *Source:* LoTUS, Spartalis et al., 2025, arXiv 2503.18314, notebook clean_MUFAC.
    """
    _, first, which = np.unique(perceptual_hash(images), return_index=True, return_inverse=True)
    return np.asarray(first[which], dtype=np.int64)


@dataclass(frozen=True, kw_only=True)
class Near:
    """Clusters of images that show the same picture, whatever its brightness, contrast or compression.

    1. Images equal byte for byte are one. The unlikeness of two others is 1 − the correlation of their pixels, each channel
       about its own mean. An image of one colour is like none.
    2. What is usual: the median over 256 images (those with the smallest digests) of the unlikeness to the nearest other.
    3. Pairs at most ``share`` as unlike as that are near-duplicates. None is missed: with every image brought to length 1
       two images are √(2 · unlikeness) apart, their lowest frequencies no further, and a k-d tree over these names the
       candidates whose pixels are then compared.
    4. Clusters are the connected components.

    The scale of 2. serves photographs and silhouettes alike; where half of all images have near-duplicates it fails.
    *Source:* our own. *Departs:* from perceptual hashes, where a near-duplicate often differs by some bits and different
    silhouettes by none.
    """

    share: float = 0.1
    """Largest unlikeness of two near-duplicates, as a share (0–1) of what is usual between an image and its nearest other."""

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise Refusal(f"expected a share between 0 and 1, got {self.share}; 0.1 is usual")

    def __call__(self, images: torch.Tensor) -> np.ndarray:
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import connected_components

        if images.ndim != 4:
            raise Refusal(
                f"expected images n × c × h × w, got shape {tuple(images.shape)}; take exact copies for other inputs"
            )
        n, first = len(images), exact(images)
        pictured = np.concatenate([_pictured(block) for block in blocks(images)])
        rows = np.flatnonzero((first == np.arange(n)) & pictured)
        chosen = images.chosen(rows) if isinstance(images, Mapped) else images[torch.from_numpy(rows)]
        pairs = rows[_alike(chosen, self.share)]
        start, end = np.concatenate([pairs[:, 0], np.arange(n)]), np.concatenate([pairs[:, 1], first])
        label = connected_components(coo_array((np.ones(len(start)), (start, end)), shape=(n, n)), directed=False)[1]
        return np.asarray(np.unique(label, return_index=True)[1][label], dtype=np.int64)


def twins(inputs: torch.Tensor) -> np.ndarray:
    """Clusters of near-duplicates among images, of exact copies among features."""
    return Near()(inputs) if inputs.ndim == 4 and inputs.dtype == torch.uint8 else exact(inputs)


def _pictured(images: torch.Tensor) -> np.ndarray:
    """Which of the images have more than one colour."""
    channels = images.flatten(2)
    return np.asarray((channels.amin(2) < channels.amax(2)).any(1).numpy())


def _alike(images: torch.Tensor, share: float) -> np.ndarray:
    """Positions of near-duplicates among different images, ``pairs × 2``."""
    from scipy.spatial import cKDTree

    if len(images) < 2:
        return np.zeros((0, 2), dtype=np.int64)
    limit = share * _usual(images)
    # A little further than the limit, for float32 rounds the coefficients.
    found = cKDTree(_coefficients(images)).query_pairs((2 * limit) ** 0.5 + 1e-5, output_type="ndarray")
    unlike = np.empty(len(found), dtype=np.float32)
    chunk = _chunk(images)
    for start in range(0, len(found), chunk):
        left, right = (_standardised(images[torch.from_numpy(side)]) for side in found[start : start + chunk].T)
        unlike[start : start + chunk] = 1 - np.einsum("ncp,ncp->n", left, right)
    return np.asarray(found[unlike <= limit])


def _standardised(images: torch.Tensor) -> np.ndarray:
    """Float32 ``n × c × pixels``: every channel about its mean, every image of length 1 (of length 0 without contrast)."""
    x: np.ndarray = images.numpy().reshape(*images.shape[:2], -1).astype(np.float32)
    x -= x.mean(2, keepdims=True)
    length = np.sqrt(np.einsum("ncp,ncp->n", x, x))
    x /= np.where(length > 0, length, 1)[:, None, None]
    return x


def _chunks(images: torch.Tensor) -> Iterator[tuple[slice, np.ndarray]]:
    chunk = _chunk(images)
    for start in range(0, len(images), chunk):
        yield slice(start, start + chunk), _standardised(images[start : start + chunk])


def _chunk(images: torch.Tensor) -> int:
    """How many images may be in float at one time: about 32 MiB."""
    return max(1, min(CHUNK, 2**23 // int(np.prod(images.shape[1:]))))


def _usual(images: torch.Tensor) -> float:
    """Median unlikeness of an image and its nearest other, over images that do not depend on the order."""
    chosen = np.argsort(_digests(images).view("S32"), kind="stable")[:SAMPLE]
    sample = _standardised(images[torch.from_numpy(chosen)]).reshape(len(chosen), -1)
    nearest = np.full(len(chosen), -1.0)
    for where, chunk in _chunks(images):
        likeness = sample @ chunk.reshape(len(chunk), -1).T
        likeness[chosen[:, None] == np.arange(where.start, where.start + len(chunk))] = -1
        nearest = np.maximum(nearest, likeness.max(1))
    return float(1 - np.median(nearest))


def _coefficients(images: torch.Tensor) -> np.ndarray:
    """The lowest frequencies of the standardised images' channel sum, scaled so that no two are further apart than these.

    The orthonormal transform keeps distances, dropping frequencies shortens them, and so does the sum over the channels by
    its √c (Cauchy–Schwarz).
    """
    from scipy.fft import dctn

    _, channels, height, width = images.shape
    found = np.empty((len(images), min(LOW, height) * min(LOW, width)), dtype=np.float32)
    for where, chunk in _chunks(images):
        grey = chunk.sum(1).reshape(-1, height, width) / channels**0.5
        found[where] = dctn(grey, axes=(1, 2), norm="ortho")[:, :LOW, :LOW].reshape(len(chunk), -1)
    return found


@dataclass(frozen=True)
class Collision:
    """Clusters that two parts share, or, where both names are one, that hold several examples of it.

    ``pairs``: how many pairs of examples in one cluster. ``ids``: the examples of ``part`` with a twin in ``other``.
    """

    part: str
    other: str
    pairs: int
    ids: tuple[str, ...]


def collisions(clusters: np.ndarray, parts: np.ndarray, ids: np.ndarray) -> list[Collision]:
    """Which examples of each part have twins in it or in another: a forgotten one in retain is not forgotten at all.

    ``clusters``, ``parts`` (names), ``ids``: of shape ``n``. Parts by name; pairs of parts without a twin are left out.
    """
    names, part = np.unique(parts, return_inverse=True)
    _, cluster = np.unique(clusters, return_inverse=True)
    counts = np.zeros((cluster.max(initial=-1) + 1, len(names)), dtype=np.int64)
    np.add.at(counts, (cluster, part), 1)
    found = []
    for a, name in enumerate(names):
        for b, other in enumerate(names):
            twins = counts[:, b] - (a == b)
            hit = (part == a) & (twins[cluster] > 0)
            pairs = int(counts[:, a] @ twins) // (2 if a == b else 1)
            if hit.any():
                found.append(Collision(str(name), str(other), pairs, tuple(ids[hit].tolist())))
    return found
