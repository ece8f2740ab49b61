"""CIFAR-100 under its 20 coarse labels: a subclass is a kind of image, which both parts have, and no unit of the data."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from made import blobs
from unteach.data import DataSet, forget_ids, load, split
from unteach.data.cifar import COARSE, FINE
from unteach.data.dataset import chained
from unteach.data.request import alike, kind_of
from unteach.references.cache import Cache
from unteach.references.units import units_in
from unteach.tuning.proxy import proxy_request
from unteach.types import Refusal

# The coarse label of every fine one, as the field passes it around: an oracle that is not made from the names.
KNOWN = """
4 1 14 8 0 6 7 7 18 3 3 14 9 18 7 11 3 9 7 11 6 11 5 10 7 6 13 15 3 15 0 11 1 10 12 14 16 9 11 5 5 19 8 8 15 13 14 17 18 10
16 4 17 4 2 0 17 4 18 17 10 3 2 12 12 16 12 1 9 19 2 10 0 1 16 12 9 13 15 13 16 19 2 4 6 19 5 5 8 19 18 1 2 15 6 0 17 8 14 13
"""
BELONGS = np.array(KNOWN.split(), dtype=np.int64)
RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def _nothing_on_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("UNTEACH_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def rows(n: int) -> np.ndarray:
    return RNG.integers(0, 256, (n, 3072), dtype=np.uint8)


def pickles(top: Path, fine: dict[str, np.ndarray], coarse: dict[str, np.ndarray] | None = None) -> None:
    folder = top / "cifar-100-python"
    folder.mkdir(parents=True)
    for part, labels in fine.items():
        value: dict[bytes, Any] = {b"fine_labels": labels.tolist(), b"data": rows(len(labels))}
        value[b"coarse_labels"] = (BELONGS[labels] if coarse is None else coarse[part]).tolist()
        (folder / part).write_bytes(pickle.dumps(value, protocol=2))


def binary(top: Path, fine: dict[str, np.ndarray]) -> None:
    folder = top / "cifar-100-binary"
    folder.mkdir(parents=True)
    for part, labels in fine.items():
        table = np.column_stack((BELONGS[labels], labels, rows(len(labels)))).astype(np.uint8)
        (folder / f"{part}.bin").write_bytes(table.tobytes())


def parquet(top: Path, fine: dict[str, np.ndarray]) -> None:
    import io

    arrow = pytest.importorskip("pyarrow")
    from PIL import Image
    from pyarrow import parquet

    (top / "cifar100").mkdir(parents=True)
    names = {"fine_label": ["cra" if name == "crab" else name for name in FINE], "coarse_label": list(COARSE)}
    told = {"info": {"features": {k: {"names": v, "_type": "ClassLabel"} for k, v in names.items()}}}
    for part, labels in fine.items():
        images = []
        for pixels in rows(len(labels)):
            out = io.BytesIO()
            Image.fromarray(pixels.reshape(32, 32, 3)).save(out, "PNG")
            images.append({"bytes": out.getvalue(), "path": None})
        table = arrow.table({"img": images, "fine_label": labels, "coarse_label": BELONGS[labels]})
        table = table.replace_schema_metadata({"huggingface": json.dumps(told)})
        parquet.write_table(table, top / "cifar100" / f"{part}-00000-of-00001.parquet")


LAYOUTS = {"pickles": pickles, "binary": binary, "parquet": parquet}


def test_every_fine_class_is_in_the_coarse_one_that_is_known() -> None:
    assert list(COARSE) == sorted(COARSE)
    assert len(FINE) == 100
    assert [list(COARSE)[k] for k in BELONGS] == [next(c for c, names in COARSE.items() if f in names) for f in FINE]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_subclasses_of_all_layouts(tmp_path: Path, layout: str) -> None:
    fine = {"train": np.arange(200) % 100, "test": np.arange(100)[::-1].copy()}
    LAYOUTS[layout](tmp_path, fine)
    data = load("cifar20", root=tmp_path)
    for part, labels in ((data.train, fine["train"]), (data.test, fine["test"])):
        assert part.labels.tolist() == BELONGS[labels].tolist()
        assert part.kinds is not None
        assert part.kinds.tolist() == [FINE[k] for k in labels]
        assert part.groups is None
    assert data.train.classes == tuple(COARSE)
    ids = forget_ids("group:rocket,crab", data.train, 0)
    assert ids == [str(i) for i in range(200) if FINE[i % 100] in ("rocket", "crab")]
    assert kind_of(split(data.train, ids)) == "group"
    whole = load("cifar100", root=tmp_path)
    assert np.array_equal(whole.train.inputs.numpy(), data.train.inputs.numpy())
    assert whole.train.labels.tolist() == fine["train"].tolist()


def test_names_without_a_file_of_names_are_the_published_ones(tmp_path: Path) -> None:
    binary(tmp_path, {"train": np.arange(100), "test": np.arange(100)})
    assert load("cifar100", root=tmp_path).train.classes == FINE


@pytest.mark.parametrize("wrong", ["another coarse label", "no coarse labels", "no rows", "no such class"])
def test_labels_that_do_not_belong_together_are_refused(tmp_path: Path, wrong: str) -> None:
    fine = np.arange(100)
    coarse = BELONGS.copy()
    if wrong == "another coarse label":
        coarse[17] = (coarse[17] + 1) % 20
    pickles(tmp_path, {"train": fine, "test": fine}, {"train": coarse, "test": BELONGS})
    train = tmp_path / "cifar-100-python" / "train"
    value = pickle.loads(train.read_bytes())
    if wrong == "no coarse labels":
        del value[b"coarse_labels"]
    if wrong == "no rows":
        value = {b"fine_labels": [], b"coarse_labels": [], b"data": rows(0)}
    if wrong == "no such class":
        value[b"fine_labels"][0] = 2**80
    train.write_bytes(pickle.dumps(value, protocol=2))
    with pytest.raises(Refusal):
        load("cifar20", root=tmp_path)


def with_kinds(n: int) -> DataSet:
    """Two classes of three subclasses each, in training and test set."""
    train, test = blobs(n, classes=2, seed=0), blobs(n // 2, classes=2, seed=1)
    parts = [replace(part, kinds=np.array([f"k{i % 6}" for i in range(len(part))])) for part in (train, test)]
    return DataSet("kinds", parts[0], replace(parts[1], ids=np.array([f"test-{i}" for i in range(n // 2)])))


def test_halves_cut_through_a_subclass(tmp_path: Path) -> None:
    units = units_in(with_kinds(48), Cache(tmp_path))
    assert len(np.unique(units)) == 72, "each image is a unit of its own, its subclass is none"


def test_kinds_stay_with_their_examples() -> None:
    data = with_kinds(48)
    taken = data.train.take(np.array([5, 1]))
    assert taken.kinds is not None
    assert taken.kinds.tolist() == ["k5", "k1"]
    both = chained(data.train, data.test)
    assert both.kinds is not None
    assert both.kinds.tolist() == [f"k{i % 6}" for i in (*range(48), *range(24))]
    with pytest.raises(Refusal, match="kinds"):
        replace(data.train, kinds=np.array(["k0"]))


def test_one_practises_a_subclass_on_another_subclass() -> None:
    data = with_kinds(48)
    real = split(data.train, forget_ids("group:k2", data.train, 0))
    proxy = proxy_request(real, seed=0)
    assert proxy.forget.kinds is not None
    assert proxy.retain is not None
    assert proxy.retain.kinds is not None
    (kind,) = set(proxy.forget.kinds.tolist())
    assert kind != "k2"
    assert len(proxy.forget) == len(real.forget)
    assert kind not in proxy.retain.kinds.tolist()
    assert kind_of(proxy) == "group"


def test_a_forgotten_subclass_is_compared_with_unseen_images_of_it() -> None:
    data = with_kinds(48)
    forget = data.train.take(data.train.positions(forget_ids("group:k2,k5", data.train, 0)))
    assert data.test.kinds is not None
    assert set(data.test.kinds[alike(data.test, forget)].tolist()) == {"k2", "k5"}
    drawn = data.train.take(np.arange(24))
    assert alike(data.test, drawn).all(), "a random request is of all kinds"
    assert alike(data.test, replace(forget, kinds=None)).all()
    assert alike(data.test, replace(forget, kinds=np.full(len(forget), "gone"))).all()


def test_an_unknown_subclass_is_refused() -> None:
    with pytest.raises(Refusal, match="k0, k1"):
        forget_ids("group:rocket", with_kinds(48).train, 0)
