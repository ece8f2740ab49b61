"""torchvision's folders, written here as its downloads leave them."""

from __future__ import annotations

import pickle
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from unteach.data import load
from unteach.types import Refusal

RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def _nothing_on_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("UNTEACH_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def raw(folder: Path) -> np.ndarray:
    """MNIST and those like it: IDX files, unpacked beside the gzipped ones, which torchvision leaves there too."""
    folder.mkdir(parents=True)
    images = RNG.integers(0, 256, (20, 28, 28), dtype=np.uint8)
    for part, some, labels in (("train", images, np.arange(20) % 10), ("t10k", images[:10], np.arange(10))):
        for name, array in (("images-idx3", some), ("labels-idx1", labels.astype(np.uint8))):
            head = bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape)
            (folder / f"{part}-{name}-ubyte").write_bytes(head + array.tobytes())
    return images


@pytest.mark.parametrize("name", ["MNIST", "FashionMNIST", "KMNIST"])
def test_the_mnist_family(tmp_path: Path, name: str) -> None:
    images = raw(tmp_path / name / "raw")
    data = load(f"torchvision:{name}", root=tmp_path)
    assert np.array_equal(data.train.inputs[:, 0].numpy(), images)
    assert data.train.labels.tolist() == [*range(10), *range(10)]
    assert data.test.ids.tolist() == [f"test-{i}" for i in range(10)]
    assert len(data.train.classes) == 10
    assert data.augment is not None
    assert data.augment.flip == (name == "FashionMNIST"), "a mirrored digit is another one, or none"


@pytest.mark.parametrize("name", ["CIFAR10", "CIFAR100"])
def test_cifar_is_read_without_unpickling_code(tmp_path: Path, name: str) -> None:
    ten = name == "CIFAR10"
    folder = tmp_path / ("cifar-10-batches-py" if ten else "cifar-100-python")
    folder.mkdir()
    value = {b"data": np.zeros((2, 3072), np.uint8), b"labels" if ten else b"fine_labels": [3, 4]}
    for part in ([*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]) if ten else ("train", "test"):
        (folder / part).write_bytes(pickle.dumps(value, protocol=2))
    assert load(f"torchvision:{name}", root=tmp_path).test.labels.tolist() == [3, 4]


def svhn(top: Path) -> np.ndarray:
    from scipy.io import savemat

    images = RNG.integers(0, 256, (12, 32, 32, 3), dtype=np.uint8)
    for part, n in (("train", 12), ("test", 5)):
        labels = (np.arange(n) % 10 + 1).astype(np.uint8)[:, None]
        savemat(top / f"{part}_32x32.mat", {"X": images[:n].transpose(1, 2, 3, 0), "y": labels})
    return images


def test_svhn_says_ten_for_zero(tmp_path: Path) -> None:
    images = svhn(tmp_path)
    data = load("torchvision:SVHN", root=tmp_path)
    assert np.array_equal(data.train.inputs.numpy(), images.transpose(0, 3, 1, 2))
    assert data.train.labels.tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1, 2]


def stl10(top: Path) -> np.ndarray:
    folder = top / "stl10_binary"
    folder.mkdir()
    images = RNG.integers(0, 256, (10, 3, 96, 96), dtype=np.uint8)
    for part, n in (("train", 10), ("test", 4)):
        (folder / f"{part}_X.bin").write_bytes(images[:n].transpose(0, 1, 3, 2).tobytes())
        (folder / f"{part}_y.bin").write_bytes(bytes(range(1, n + 1)))
    return images


def test_stl10_stands_column_by_column(tmp_path: Path) -> None:
    images = stl10(tmp_path)
    data = load("torchvision:STL10", root=tmp_path)
    assert np.array_equal(data.train.inputs.numpy(), images)
    assert data.test.labels.tolist() == [0, 1, 2, 3]


def photo(path: Path, shade: int, mode: str = "RGB") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    side = 20 + shade % 7
    Image.fromarray(np.full((side, 24, 3), shade, np.uint8)).convert(mode).save(path, quality=100)


def flowers(top: Path) -> None:
    from scipy.io import savemat

    folder = top / "flowers-102"
    for number in range(1, 9):
        photo(folder / "jpg" / f"image_{number:05d}.jpg", 20 * number)
    savemat(folder / "imagelabels.mat", {"labels": np.array([[1, 2, 3, 1, 2, 3, 102, 102]], dtype=np.uint8)})
    parts = {"trnid": [[5, 1]], "valid": [[2]], "tstid": [[3, 7, 8]]}
    savemat(folder / "setid.mat", {name: np.array(ids, dtype=np.uint16) for name, ids in parts.items()})


def food(top: Path) -> None:
    folder = top / "food-101"
    lists = {"train": ["apple_pie/11", "waffles/13", "apple_pie/12"], "test": ["waffles/21"]}
    (folder / "meta").mkdir(parents=True)
    for part, lines in lists.items():
        (folder / "meta" / f"{part}.txt").write_text("\n".join(lines) + "\n")
        for line in lines:
            photo(folder / "images" / f"{line}.jpg", 10 * int(line.partition("/")[2]))


def pets(top: Path) -> None:
    folder = top / "oxford-iiit-pet"
    lists = {"trainval": ["Abyssinian_1", "great_pyrenees_2"], "test": ["great_pyrenees_3"]}
    (folder / "annotations").mkdir(parents=True)
    for part, names in lists.items():
        text = "#Image CLASS-ID SPECIES BREED ID\n" + "".join(f"{name} 1 1 1\n" for name in names)
        (folder / "annotations" / f"{part}.txt").write_text(text)
        for name in names:
            photo(folder / "images" / f"{name}.jpg", 40 * int(name[-1]), "L" if name == "Abyssinian_1" else "RGB")


def test_flowers_by_their_numbers(tmp_path: Path) -> None:
    flowers(tmp_path)
    data = load("torchvision:Flowers102?size=8", root=tmp_path)
    assert data.train.ids.tolist() == [f"jpg/image_{k:05d}" for k in (1, 2, 5)]
    assert data.train.labels.tolist() == [0, 1, 1]
    assert data.test.labels.tolist() == [2, 101, 101]
    assert data.train.inputs.float().mean((1, 2, 3)).tolist() == pytest.approx([20, 40, 100], abs=2)


def test_food_by_its_lists(tmp_path: Path) -> None:
    food(tmp_path)
    data = load("torchvision:Food101?size=8", root=tmp_path)
    assert data.train.classes == ("apple_pie", "waffles")
    assert data.train.labels.tolist() == [0, 1, 0]
    assert data.train.inputs.float().mean((1, 2, 3)).tolist() == pytest.approx([110, 130, 120], abs=2)
    assert data.test.ids.tolist() == ["images/waffles/21"]


def test_pets_by_their_lists(tmp_path: Path) -> None:
    pets(tmp_path)
    data = load("torchvision:OxfordIIITPet?size=8&colour=true", root=tmp_path)
    assert data.train.classes == ("Abyssinian", "great_pyrenees")
    assert data.train.labels.tolist() == [0, 1]
    assert data.test.inputs.shape == (1, 3, 8, 8)


PICTURES = {"Flowers102": flowers, "Food101": food, "OxfordIIITPet": pets}


@pytest.mark.parametrize("name", PICTURES)
def test_pictures_of_several_sizes_want_one(tmp_path: Path, name: str) -> None:
    PICTURES[name](tmp_path)
    with pytest.raises(Refusal, match="size=64"):
        load(f"torchvision:{name}", root=tmp_path)


@pytest.mark.parametrize("name", PICTURES)
def test_a_missing_picture_is_named(tmp_path: Path, name: str) -> None:
    PICTURES[name](tmp_path)
    gone = sorted(tmp_path.rglob("*.jpg"))[0]
    gone.unlink()
    with pytest.raises(Refusal, match=gone.name):
        load(f"torchvision:{name}?size=8&colour=true", root=tmp_path)


def cut_svhn(top: Path) -> str:
    svhn(top)
    path = top / "train_32x32.mat"
    path.write_bytes(path.read_bytes()[:500])
    return "SVHN"


def odd_svhn(top: Path) -> str:
    from scipy.io import savemat

    savemat(top / "train_32x32.mat", {"X": np.zeros((3, 3)), "y": np.zeros((3, 1))})
    return "SVHN"


def half_svhn(top: Path) -> str:
    svhn(top)
    (top / "test_32x32.mat").unlink()
    return "SVHN"


def cut_stl(top: Path) -> str:
    stl10(top)
    path = top / "stl10_binary" / "train_X.bin"
    path.write_bytes(path.read_bytes()[:-1])
    return "STL10"


def odd_stl(top: Path) -> str:
    stl10(top)
    (top / "stl10_binary" / "train_y.bin").write_bytes(bytes(range(10)))
    return "STL10"


def cut_mnist(top: Path) -> str:
    raw(top / "MNIST" / "raw")
    path = top / "MNIST" / "raw" / "t10k-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:-1])
    return "MNIST"


def half_mnist(top: Path) -> str:
    raw(top / "MNIST" / "raw")
    (top / "MNIST" / "raw" / "t10k-labels-idx1-ubyte").unlink()
    return "MNIST"


def strange_food(top: Path) -> str:
    food(top)
    (top / "food-101" / "meta" / "test.txt").write_text("pizza/1\n")
    return "Food101?size=8"


def binary_food(top: Path) -> str:
    food(top)
    (top / "food-101" / "meta" / "test.txt").write_bytes(b"\xff\xfe\x00")
    return "Food101?size=8"


def strange_flower(top: Path) -> str:
    from scipy.io import savemat

    flowers(top)
    parts = {"trnid": [[5, 1]], "valid": [[2]], "tstid": [[3, 9]]}
    savemat(top / "flowers-102" / "setid.mat", {name: np.array(ids, dtype=np.uint16) for name, ids in parts.items()})
    return "Flowers102?size=8"


@pytest.mark.parametrize(
    "damage",
    [
        cut_svhn,
        odd_svhn,
        half_svhn,
        cut_stl,
        odd_stl,
        cut_mnist,
        half_mnist,
        strange_food,
        binary_food,
        strange_flower,
    ],
    ids=lambda damage: damage.__name__,
)
def test_files_that_can_not_be_right(tmp_path: Path, damage: Callable[[Path], str]) -> None:
    name = damage(tmp_path)
    with pytest.raises(Refusal, match="fetch it again"):
        load(f"torchvision:{name}", root=tmp_path)


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("torchvision", "CIFAR10"),
        ("torchvision:Cifar10", "CIFAR10"),
        ("torchvision:SVHN?size=8", "no options"),
        ("torchvision:CIFAR10?size=8", "no options"),
        ("torchvision:SVHN", "train_32x32"),
    ],
)
def test_names_that_can_not_be_right(tmp_path: Path, spec: str, says: str) -> None:
    with pytest.raises(Refusal, match=says):
        load(spec, root=tmp_path)
