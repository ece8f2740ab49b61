"""The split on paper: there and back, its digest, and every way in which it can be wrong."""

from __future__ import annotations

import hashlib
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unteach.data.dataset import writable
from unteach.data.manifest import PARTS, Manifest
from unteach.store import write_text
from unteach.types import Examples, Refusal


def examples(names: str, groups: bool = True, seed: int = 0) -> Examples:
    rng = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (len(names), 1, 2, 2), generator=rng, dtype=torch.uint8)
    people = np.array([f"p{i % 2}" for i in range(len(names))]) if groups else None
    return Examples(images, torch.arange(len(names)) % 3, np.array(list(names)), people, ("a", "b", "c"))


def manifest(**more: object) -> Manifest:
    parts = {"forget": examples("ab", seed=1), "retain": examples("cde"), "test": examples("xyz", seed=2)}
    return Manifest.of(parts, **more)  # type: ignore[arg-type]


def same(one: Manifest, other: Manifest) -> bool:
    columns = ("ids", "parts", "labels", "content", "groups", "clusters")
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in columns)


def kept(path: Path, made: Manifest) -> Path:
    write_text(path, made.text)
    return path


def test_there_and_back(tmp_path):
    made = manifest(clusters=np.array([0, 1, 1, 3, 4, 5, 6, 0]))
    found = Manifest.read(kept(tmp_path / "m.csv", made), digest=made.digest)
    assert same(found, made)
    assert found.digest == made.digest == hashlib.sha256((tmp_path / "m.csv").read_bytes()).hexdigest()
    assert subprocess.run(["sha256sum", tmp_path / "m.csv"], capture_output=True, text=True).stdout[:64] == made.digest
    assert found.counts == {"retain": 3, "forget": 2, "test": 3, "unseen": 0, "validation": 0}
    assert found.ids_of("forget").tolist() == ["a", "b"]
    pixels = examples("ab", seed=1).inputs[0].numpy().tobytes()
    assert found.content[0] == hashlib.sha256(pixels).hexdigest()
    assert made.text.splitlines()[:2] == ["id,part,label,group,cluster,sha256", f"a,forget,0,p0,0,{found.content[0]}"]


def test_several_labels_and_no_groups_come_back(tmp_path):
    several = examples("abc", groups=False).relabel(torch.tensor([[1.0, 0], [0, 0], [1, 1]]))
    made = Manifest.of({"forget": several})
    found = Manifest.read(kept(tmp_path / "m.csv", made))
    assert same(found, made)
    assert found.labels.tolist() == [[1, 0], [0, 0], [1, 1]]
    assert found.groups is None
    assert found.clusters is None
    one = Manifest.of({"forget": several.relabel(torch.tensor([[1.0], [0], [1]]))})
    assert Manifest.read(kept(tmp_path / "m.csv", one)).labels.shape == (3, 1)


names = st.text(min_size=1, max_size=8).filter(writable)


@given(
    rows=st.dictionaries(
        names, st.tuples(st.sampled_from(PARTS), st.integers(0, 9), names, st.integers(0, 5)), min_size=1
    ),
    groups=st.booleans(),
    clusters=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_any_manifest_comes_back(tmp_path_factory, rows, groups, clusters):
    parts, labels, people, near = zip(*rows.values())
    content = np.array([hashlib.sha256(name.encode()).hexdigest() for name in rows])
    made = Manifest(
        np.array(list(rows)),
        np.array(parts),
        np.array(labels),
        content,
        np.array(people) if groups else None,
        np.array(near) if clusters else None,
    )
    found = Manifest.read(kept(tmp_path_factory.mktemp("m") / "m.csv", made), digest=made.digest)
    assert same(found, made)


def test_a_digest_sees_any_change():
    made = manifest()
    changed = [
        replace(made, labels=made.labels + 1),
        replace(made, ids=np.array(list("abcdexyw"))),
        replace(made, parts=np.where(made.parts == "test", "unseen", made.parts)),
        replace(made, groups=None),
        replace(made, clusters=np.zeros(8, dtype=np.int64)),
        replace(made, content=made.content[::-1]),
    ]
    assert len({one.digest for one in [made, *changed]}) == 7


def test_wrong_splits_are_refused():
    made = manifest()
    with pytest.raises(Refusal, match="got 'train'"):
        replace(made, parts=np.where(made.parts == "retain", "train", made.parts))
    with pytest.raises(Refusal, match="one entry of labels per id"):
        replace(made, labels=made.labels[1:])
    with pytest.raises(Refusal, match="fit on a line"):
        replace(made, ids=np.array(["a\nb", *"bcdexyz"]))
    with pytest.raises(Refusal, match="'a' in more"):
        Manifest.of({"forget": examples("ab"), "retain": examples("acd")})
    with pytest.raises(Refusal, match="'a' in more"):
        Manifest.of({"forget": examples("aab")}, shared=True)
    with pytest.raises(Refusal, match="'a' in more"):
        Manifest.of({"test": examples("ab"), "unseen": examples("ab"), "retain": examples("ac")}, shared=True)
    with pytest.raises(Refusal, match="all with groups or none"):
        Manifest.of({"forget": examples("ab"), "retain": examples("cd", groups=False)})


def test_unseen_examples_serve_for_utility_only_when_allowed(tmp_path):
    parts = {"forget": examples("ab"), "test": examples("xyz"), "unseen": examples("zw")}
    with pytest.raises(Refusal, match=r"1 in both, such as 'z'.*shared=True"):
        Manifest.of(parts)
    made = Manifest.of(parts, shared=True)
    path = kept(tmp_path / "m.csv", made)
    assert Manifest.read(path, shared=True).counts["unseen"] == 2
    with pytest.raises(Refusal, match="shared=True"):
        Manifest.read(path)


DAMAGE = {
    "empty": (lambda text: "", "a manifest at"),
    "no rows": (lambda text: text.splitlines()[0] + "\n", "at least one row"),
    "other columns": (lambda text: text.replace("sha256", "md5"), "the columns"),
    "cut in a row": (lambda text: text[:-30], "line 9"),
    "cut in a quote": (lambda text: text + '"x', "a manifest at"),
    "label in words": (lambda text: text.replace("forget,0", "forget,zero"), "whole numbers"),
    "two labels": (lambda text: text.replace("forget,0", "forget,0 1"), "whole numbers"),
    "other part": (lambda text: text.replace("forget", "forgotten"), "'forgotten'"),
    "doubled": (lambda text: text + text.splitlines()[1] + "\n", "'a' in more"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damaged_files_are_refused(tmp_path, name):
    damage, message = DAMAGE[name]
    path = tmp_path / "m.csv"
    path.write_text(damage(manifest().text))
    with pytest.raises(Refusal, match=message):
        Manifest.read(path)


def test_a_changed_or_missing_or_binary_file_is_refused(tmp_path):
    made = manifest()
    path = tmp_path / "m.csv"
    path.write_text("".join(made.text.splitlines(keepends=True)[:-1]))
    assert len(Manifest.read(path).ids) == 7
    with pytest.raises(Refusal, match="it was changed"):
        Manifest.read(path, digest=made.digest)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(Refusal, match="a manifest at"):
        Manifest.read(path)
    with pytest.raises(Refusal, match="No such file"):
        Manifest.read(tmp_path / "none.csv")
