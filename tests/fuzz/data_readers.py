"""The readers of data and of requests, with small sound files for each."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import struct
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fuzz.hostile import Files, Target
from unteach.data import DATA, Where, load
from unteach.data.archives import files_in
from unteach.data.download import unpack
from unteach.data.manifest import Manifest
from unteach.data.request import forget_ids

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (6, 8, 8, 3), dtype=np.uint8)
Read = Callable[[Path], Any]


def spec(words: str) -> Read:
    """Read the folder by ``--data`` in these words, with ``{}`` for the folder."""
    return lambda folder: load(words.format(folder)).fingerprint


def known(name: str, argument: str = "") -> Read:
    """Read a known data set in the folder, and nowhere else."""
    return lambda folder: DATA[name](Where(argument=argument, root=folder)).fingerprint


def idx(array: np.ndarray) -> bytes:
    return bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def image(kind: str, at: int = 0, size: int = 8, grey: bool = False) -> bytes:
    out = io.BytesIO()
    Image.fromarray(PIXELS[at % 6]).resize((size, size)).convert("L" if grey else "RGB").save(out, kind)
    return out.getvalue()


def png(pixels: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def _fashion() -> list[Files]:
    files = {}
    for part, n in (("train", 4), ("t10k", 2)):
        files[f"{part}-images-idx3-ubyte.gz"] = idx(RNG.integers(0, 256, (n, 28, 28), dtype=np.uint8))
        files[f"{part}-labels-idx1-ubyte.gz"] = idx(np.arange(n, dtype=np.uint8))
    return [files, {name: gzip.compress(content) for name, content in files.items()}]


def _cifar_pickles() -> list[Files]:
    value = {b"data": np.zeros((2, 3072), np.uint8), b"coarse_labels": [4, 1], b"fine_labels": [0, 1]}
    meta = {b"fine_label_names": [f"name {i}".encode() for i in range(100)]}
    files = {"train": value, "test": value, "meta": meta}
    return [{name: pickle.dumps(content, protocol=p) for name, content in files.items()} for p in (0, 2, 4)]


def _cifar_binary() -> list[Files]:
    row = bytes([3]) + bytes(3072)
    return [{f"{name}.bin": row * 2 for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch")}]


def parquet_of(columns: dict[str, Any], **settings: Any) -> bytes:
    from pyarrow import BufferOutputStream, parquet, table

    out = BufferOutputStream()
    parquet.write_table(table(columns), out, **settings)
    return bytes(out.getvalue())


def _columns(n: int = 4, start: int = 0) -> dict[str, list[Any]]:
    rows = range(start, start + n)
    return {
        "image": [{"bytes": image("PNG", row), "path": f"{row}.png"} for row in rows],
        "label": [row % 2 for row in rows],
        "id": [f"no-{row}" for row in rows],
        "group": [f"p{row // 2}" for row in rows],
    }


def _cifar_parquet() -> list[Files]:
    rows = {"img": [{"bytes": image("PNG", at, 32), "path": ""} for at in range(2)], "label": [3, 4]}
    return [{"train-00000.parquet": parquet_of(rows), "test-00000.parquet": parquet_of(rows)}]


def _parquet() -> list[Files]:
    numbers = {"a": [1.0, 2.0, 3.0, 4.0], "b": [4, 3, 2, 1], "label": ["x", "y", "x", "y"], "id": list("abcd")}
    several = {"a": [1.0, 2.0, 3.0], "label": [[0, 1], [1, 1], [1, 0]]}
    plain: dict[str, Any] = {"compression": "none", "use_dictionary": False}
    return [
        {"data.parquet": parquet_of(_columns())},
        {"data.parquet": parquet_of(numbers, **plain)},
        {"data.parquet": parquet_of(several, compression="gzip")},
        {"train.parquet": parquet_of(_columns(), **plain), "test.parquet": parquet_of(_columns(2, 4))},
    ]


def _hub() -> list[Files]:
    from pyarrow import BufferOutputStream, ipc, table

    def stream(columns: dict[str, Any]) -> bytes:
        told = {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": ["cat", "dog"]}}
        rows = table(columns).replace_schema_metadata({"huggingface": json.dumps({"info": {"features": told}})})
        out = BufferOutputStream()
        with ipc.new_stream(out, rows.schema) as writer:
            writer.write_table(rows)
        return bytes(out.getvalue())

    state = json.dumps({"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}).encode()
    files: dict[str, bytes] = {"dataset_dict.json": json.dumps({"splits": ["train", "test"]}).encode()}
    for part, start in (("train", 0), ("test", 4)):
        files |= {
            f"{part}/state.json": state,
            f"{part}/data-00000-of-00001.arrow": stream(_columns(4, start)),
        }
    return [files, {"set-train.arrow": stream({"a": [1.0, 2.0, 3.0, 4.0], "label": [0, 0, 1, 1]})}]


def tar_of(members: dict[str, bytes], mode: str = "w") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as tar:  # type: ignore[call-overload]
        for name, content in members.items():
            about = tarfile.TarInfo(name)
            about.size = len(content)
            tar.addfile(about, io.BytesIO(content))
    return out.getvalue()


def _members() -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for at in range(4):
        found |= {f"{at:03}.png": image("PNG", at), f"{at:03}.cls": str(at % 2).encode()}
        found[f"{at:03}.json"] = json.dumps({"label": at % 2, "person": f"p{at // 2}"}).encode()
    return found


def _shards() -> list[Files]:
    files = {
        "train-0.tar": tar_of(_members()),
        "test-0.tar": tar_of(_members(), "w:gz"),
        "classnames.txt": b"cat\ndog\n",
    }
    return [files, files | {"test-0.tar": zip_of(_members())}]


def zip_of(members: dict[str, bytes]) -> bytes:
    import zipfile

    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as made:
        for name, content in members.items():
            made.writestr(name, content)
    return out.getvalue()


def _archives() -> list[Files]:
    members = {"set/a.txt": b"a", "set/b/c.txt": b"c" * 2000}
    return [
        {"a": tar_of(members)},
        {"a": tar_of(members, "w:gz")},
        {"a": tar_of(members, "w:xz")},
        {"a": zip_of(members)},
    ]


def _unpacked(folder: Path) -> None:
    into = folder / "into"
    into.mkdir()
    list(files_in(folder / "a"))
    unpack(folder / "a", into, "set")


def npy(array: np.ndarray, **settings: Any) -> bytes:
    out = io.BytesIO()
    np.save(out, array, **settings)
    return out.getvalue()


def _arrays() -> dict[str, np.ndarray]:
    return {
        "inputs": PIXELS.transpose(0, 3, 1, 2),
        "labels": np.arange(6) % 2,
        "ids": np.array([f"id {i}" for i in range(6)]),
        "groups": np.array(list("aabbcc")),
        "classes": np.array(["cat", "dog"]),
    }


def _npz() -> list[Files]:
    made = []
    for write in (np.savez, np.savez_compressed):
        out = io.BytesIO()
        write(out, allow_pickle=True, **_arrays())
        made.append({"data.npz": out.getvalue()})
    return made


def _memmap() -> list[Files]:
    arrays = _arrays()
    files = {f"{name}.npy": npy(array) for name, array in arrays.items()}
    texts = {"ids.txt": b"a\nb\nc\nd\ne\nf\n", "classes.txt": b"cat\ndog\n"}
    some = {name: npy(arrays[name[:-4]]) for name in ("inputs.npy", "labels.npy")}
    return [files, some | texts, {"inputs.npy": npy(RNG.random((6, 5))), "labels.npy": npy(arrays["labels"])}]


def _csv() -> list[Files]:
    rows = "\n".join(f"{i},{i / 3},{'xy'[i % 2]},p{i // 2}" for i in range(6))
    return [
        {"data.csv": f"a,b,label,group\n{rows}\n".encode()},
        {"train.csv": b"id,a,label\n007,1,0\n008,2,1\n", "test.csv": b'id,label,a\n"1",0,3\n2,1,4e1\n'},
    ]


def _folder() -> list[Files]:
    kinds = ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM")
    endings = {"JPEG": "jpg", "PPM": "ppm"}
    pgm = b"P2\n# made\n2 2\n255\n0 1 2\n255\n"
    several = [
        {f"{name}/{i}.{endings.get(kind, kind.lower())}": image(kind, i) for i in range(2) for name in ("cat", "dog")}
        for kind in kinds
    ]
    return [*several, {f"{name}/{i}.pgm": pgm for i in range(2) for name in ("cat", "dog")}]


def _mufac() -> list[Files]:
    files: dict[str, bytes] = {}
    for part in ("train", "val", "test"):
        rows = "".join(f"F000{i % 2},{'ab'[i % 2]},{'ah'[i % 2]},F000{i % 2}_{part}{i}.png\n" for i in range(4))
        files[f"custom_{part}_dataset.csv"] = f"family_id,person_id,age_class,image_path\n{rows}".encode()
        noise = RNG.integers(0, 256, (4, 16, 16, 3), dtype=np.uint8)
        files |= {f"{part}_images/F000{i % 2}_{part}{i}.png": png(noise[i]) for i in range(4)}
    return [files]


def _mucac() -> list[Files]:
    people = (100, 100, 200, 200, 2000, 2000, 5000, 5000)
    head = " ".join({21: "Male", 32: "Smiling", 40: "Young"}.get(at, f"x{at}") for at in range(1, 41))
    marks = "".join(f"{at}.jpg {' '.join(['1', '-1'] * 20)}\n" for at in range(8))
    files = {
        "CelebA-HQ-identity.txt": "".join(f"{at}.jpg {who}\n" for at, who in enumerate(people)).encode(),
        "CelebA-HQ-attribute.txt": f"8\n{head}\n{marks}".encode(),
    }
    return [files | {f"CelebA-HQ-img/{at}.jpg": image("JPEG", at, 16) for at in range(8)}]


def _tiny_imagenet() -> list[Files]:
    files = {"wnids.txt": b"n02\nn01\n", "words.txt": b"n01\tgoldfish, Carassius\nn02\tcat\n"}
    for wnid in ("n01", "n02"):
        files |= {f"train/{wnid}/images/{wnid}_{i}.JPEG": image("JPEG", i) for i in range(2)}
        files[f"train/{wnid}/{wnid}_boxes.txt"] = f"{wnid}_0.JPEG\t0\t0\t63\t63\n".encode()
    files |= {f"val/images/val_{i}.JPEG": image("JPEG", i, grey=i == 0) for i in range(2)}
    files["val/val_annotations.txt"] = b"val_0.JPEG\tn01\t0\t32\nval_1.JPEG\tn02\t0\t1\n"
    return [files]


def mat(**arrays: np.ndarray) -> bytes:
    from scipy.io import savemat

    out = io.BytesIO()
    savemat(out, arrays)
    return out.getvalue()


def _svhn() -> list[Files]:
    files = mat(X=RNG.integers(0, 256, (32, 32, 3, 4), dtype=np.uint8), y=np.array([[1], [2], [10], [1]]))
    return [{"train_32x32.mat": files, "test_32x32.mat": files}]


def _lists() -> list[Files]:
    pets = {f"images/{name}.jpg": image("JPEG") for name in ("Abyssinian_1", "pug_2")}
    rows = b"# list\nAbyssinian_1 1 1 1\npug_2 2 2 1\n"
    pets |= {f"annotations/{part}.txt": rows for part in ("trainval", "test")}
    food = {f"images/{name}.jpg": image("JPEG") for name in ("pie/1", "ham/2")}
    return [pets, food | {f"meta/{part}.txt": b"pie/1\nham/2\n" for part in ("train", "test")}]


def _flowers() -> list[Files]:
    tables = mat(trnid=np.array([[1]]), valid=np.array([[2]]), tstid=np.array([[3, 4]]))
    files = {"setid.mat": tables, "imagelabels.mat": mat(labels=np.array([[1, 2, 3, 4]]))}
    return [files | {f"jpg/image_0000{i}.jpg": image("JPEG", i) for i in range(1, 5)}]


def _torchvision(folder: Path) -> None:
    names = {"annotations": "OxfordIIITPet", "meta": "Food101", "jpg": "Flowers102"}
    known("torchvision", next((name for part, name in names.items() if (folder / part).is_dir()), "SVHN"))(folder)


def _ids() -> list[Files]:
    return [
        {"ids.txt": b"# wanted\nid 0\nid 1\n"},
        {"ids.csv": b"id,when\nid 0,now\nid 1,later\n"},
        {"ids.json": b'["id 0", "id 1", 7]'},
    ]


def _forget(folder: Path) -> None:
    from unteach.data import checked, split

    train = checked(
        "made", PIXELS.transpose(0, 3, 1, 2), np.arange(6) % 2, ids=np.array([*(f"id {i}" for i in range(5)), "7"])
    )
    split(train, forget_ids(str(next(folder.iterdir())), train, 0))


def _manifest() -> list[Files]:
    rows = "".join(
        f"id {i},{part},{i % 2},p{i},{i // 2},{i:064x}\n" for i, part in enumerate(("retain", "forget", "test"))
    )
    several = "".join(f"id {i},{part},0 1,,,{i:064x}\n" for i, part in enumerate(("retain", "forget", "test")))
    return [
        {"split.csv": f"id,part,label,group,cluster,sha256\n{rows}".encode()},
        {"split.csv": f"id,part,labels,group,cluster,sha256\n{several}".encode()},
    ]


def _parquet_or_folder(folder: Path) -> None:
    alone = folder / "data.parquet"
    spec(f"parquet:{alone if alone.is_file() else folder}")(folder)


def _csv_or_folder(folder: Path) -> None:
    alone = folder / "data.csv"
    spec(f"csv:{alone if alone.is_file() else folder}")(folder)


TARGETS = (
    Target("fashion-mnist (IDX)", _fashion, known("fashion-mnist")),
    Target("cifar (pickles)", _cifar_pickles, known("cifar20")),
    Target("cifar (binary)", _cifar_binary, known("cifar10")),
    Target("cifar (Parquet)", _cifar_parquet, known("cifar10")),
    Target("parquet", _parquet, _parquet_or_folder),
    Target("hub (Arrow)", _hub, spec("hub:{}")),
    Target("wds (tar)", _shards, spec("wds:{}?group=person")),
    Target("downloaded archive", _archives, _unpacked),
    Target("npz", _npz, spec("npz:{}/data.npz")),
    Target("memmap", _memmap, spec("memmap:{}")),
    Target("csv", _csv, _csv_or_folder),
    Target("folder (images)", _folder, spec("folder:{}")),
    Target("mufac", _mufac, known("mufac", "any-count,size=16"), only=(".csv",)),
    Target("mucac", _mucac, known("mucac", "any-count,size=16"), only=(".txt",)),
    Target("tiny-imagenet", _tiny_imagenet, known("tiny-imagenet"), only=(".txt",)),
    Target("torchvision (SVHN)", _svhn, _torchvision),
    Target("torchvision (Flowers102)", _flowers, _torchvision, only=(".mat",)),
    Target("torchvision (lists)", _lists, _torchvision, only=(".txt",)),
    Target("ids", _ids, _forget),
    Target("split manifest", _manifest, lambda folder: Manifest.read(folder / "split.csv", shared=True)),
)
