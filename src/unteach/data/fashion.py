"""Fashion-MNIST: 60,000 + 10,000 grey images 28 × 28 of clothes, in IDX files."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np

from unteach.data.archives import most, refuse_bomb
from unteach.data.augment import Augment
from unteach.data.dataset import DataSet, Where, checked, paired
from unteach.data.download import fetch
from unteach.data.places import cache_folder, nowhere, places
from unteach.types import Refusal

CLASSES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
DEBIAN = Path("/usr/share/datasets/fashion-mnist")
# The authors' own repository: their other server does not speak https.
OFFICIAL = "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/"
# MD5 sums as the authors publish them. Debian's files hold the same streams under another gzip header.
FILES = {
    "train-images-idx3-ubyte.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
    "train-labels-idx1-ubyte.gz": "25c81989df183df01b3e8a0aad5dffbe",
    "t10k-images-idx3-ubyte.gz": "bef4ecab320f06d8554ea6380940ec79",
    "t10k-labels-idx1-ubyte.gz": "bb300cfdad3c16e7a12a480ee83cd310",
}


def fashion_mnist(where: Where) -> DataSet:
    """Fashion-MNIST (Xiao et al., 2017, arXiv 1708.07747), 60,000 + 10,000 images 28 × 28; Debian: dataset-fashion-mnist."""
    cache = cache_folder("fashion-mnist")
    looked = places(where.root, ("fashion-mnist",), (DEBIAN, cache))
    folder = next((place for place in looked if all((place / name).is_file() for name in FILES)), None)
    if folder is None and where.download:
        folder = _download(cache)
    if folder is None:
        raise nowhere("fashion-mnist", looked, "apt-get install dataset-fashion-mnist, or give --download true")
    parts = []
    for part, prefix in (("train", ""), ("t10k", "test-")):
        images = read_idx(folder / f"{part}-images-idx3-ubyte.gz", 3)
        labels = read_idx(folder / f"{part}-labels-idx1-ubyte.gz", 1)
        name = f"fashion-mnist ({part})"
        parts.append(checked(name, images[:, None], labels, classes=CLASSES, prefix=prefix))
    return paired("fashion-mnist", parts[0], parts[1], Augment(crop=2, flip=True))


def read_idx(path: Path, dimensions: int) -> np.ndarray:
    """The unsigned bytes of an IDX file, gzipped or not, as an array of that many dimensions.

    Raises: Refusal for a file that is cut short, too long, or of another kind.
    """
    try:
        data = path.read_bytes()
        if data[:2] == b"\x1f\x8b":
            with gzip.open(path) as file:
                data = file.read(most(len(data)) + 1)
            refuse_bomb(path, len(data))
    except (OSError, EOFError, zlib.error) as error:
        raise Refusal(f"expected an IDX file at {path}, got: {error}; fetch it again") from error
    head = 4 + 4 * dimensions
    if len(data) < head or data[:4] != bytes((0, 0, 8, dimensions)):
        raise Refusal(
            f"expected an IDX file of bytes with {dimensions} dimensions at {path}, got another kind; fetch it again"
        )
    shape = struct.unpack(f">{dimensions}I", data[4:head])
    if len(data) - head != math.prod(shape):
        raise Refusal(
            f"expected {shape} bytes in {path}, got {len(data) - head}; the file is cut or damaged, fetch it again"
        )
    return np.frombuffer(data, np.uint8, offset=head).reshape(shape).copy()


def _download(cache: Path) -> Path:
    for name, md5 in FILES.items():
        if not (cache / name).is_file():
            fetch(OFFICIAL + name, cache / name, f"md5:{md5}")
    return cache
