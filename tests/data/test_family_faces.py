"""MUFAC and MUCAC in the published layouts: roles, cuts, duplicates, whole persons, counts, and what is refused."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from made_faces import Family, make_mucac, make_mufac
from unteach.data import DataSet, forget_ids, load
from unteach.data.mufac import VARIANTS, _asked, distinct, whole_groups
from unteach.data.published import FACES, counted, options
from unteach.types import Refusal


@pytest.fixture(scope="module")
def where(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("faces")


@pytest.fixture(scope="module")
def family(where: Path) -> Family:
    return make_mufac(where / "custom_korean_family_dataset_resolution_128")


@pytest.fixture(scope="module")
def celebrities(where: Path) -> dict[str, tuple[int, list[int]]]:
    return make_mucac(where / "mucac")


@pytest.fixture(autouse=True)
def _nowhere_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("UNTEACH_DATA", raising=False)


def faces(where: Path, variant: str) -> DataSet:
    return load(f"mufac:{variant},size=16,any-count", root=where)


def names(rows: list[dict[str, str]]) -> list[str]:
    return [row["name"] for row in rows]


# ---------------------------------------------------------------- MUFAC


def test_the_val_table_is_the_test_set_and_the_test_table_unseen(where: Path, family: Family) -> None:
    data = faces(where, "original")
    assert data.name == "mufac:original"
    assert data.train.ids.tolist() == names(family.rows["train"])
    assert data.test.ids.tolist() == [f"val/{name}" for name in names(family.rows["val"])]
    assert data.unseen is not None
    assert data.unseen.ids.tolist() == [f"test/{name}" for name in names(family.rows["test"])]
    assert data.non_members is data.unseen
    assert data.outside.ids.tolist() == [*data.test.ids.tolist(), *data.unseen.ids.tolist()]
    assert data.augment == FACES


def test_a_person_is_household_and_role_and_labels_are_ages(where: Path, family: Family) -> None:
    data = faces(where, "original")
    rows = family.rows["train"]
    assert data.train.groups is not None
    assert data.train.groups.tolist() == [f"{row['household']}_{row['role']}" for row in rows]
    assert data.train.labels.tolist() == ["abcdefgh".index(row["age"]) for row in rows]
    assert data.train.classes[3] == "20-30"


def test_images_are_found_whatever_the_case_of_their_ending(where: Path, family: Family) -> None:
    data, folder = faces(where, "original"), where / "custom_korean_family_dataset_resolution_128" / "train_images"
    for row in (0, 1):
        pixels = np.asarray(Image.open(folder / family.rows["train"][row]["name"])).transpose(2, 0, 1)
        assert np.array_equal(data.train.inputs[row].numpy(), pixels)
    odd = folder / family.rows["train"][1]["name"]
    moved = odd.with_suffix(".jpg" if odd.suffix == ".JPG" else ".JPG")
    odd.rename(moved)
    try:
        assert torch.equal(faces(where, "original").train.inputs, data.train.inputs)
    finally:
        moved.rename(odd)


def test_the_original_cut_goes_through_a_person_and_that_is_told(where: Path, family: Family) -> None:
    data = faces(where, "original")
    assert list(data.requests["benchmark"]) == names(family.rows["train"])[: family.cut]
    note = next(note for note in data.notes if "not all" in note)
    assert family.straddling in note


def test_duplicates_are_dropped_in_the_order_of_the_protocol(where: Path, family: Family) -> None:
    data, train = faces(where, "clean"), names(family.rows["train"])
    gone = set(train) - set(data.train.ids.tolist())
    assert gone == {train[0], train[family.cut + 2]}, "a forgotten one that is retained too; the second within retain"
    assert {f"val/{n}" for n in names(family.rows["val"])} - set(data.test.ids.tolist()) == {
        f"val/{names(family.rows['val'])[0]}"
    }, "the test image, not the unseen one"
    assert data.unseen is not None
    assert {f"test/{n}" for n in names(family.rows["test"])} - set(data.unseen.ids.tolist()) == {
        f"test/{names(family.rows['test'])[1]}"
    }
    assert list(data.requests["benchmark"]) == train[1 : family.cut]


PARTS = ("forget", "retain", "test", "unseen")


@given(st.lists(st.tuples(st.integers(0, 12), st.sampled_from(PARTS)), max_size=40))
def test_what_is_kept_is_what_the_protocol_says_step_by_step(rows: list[tuple[int, str]]) -> None:
    parts = {name: [(at, h) for at, (h, part) in enumerate(rows) if part == name] for name in PARTS}
    seen = {name: {h for _, h in each} for name, each in parts.items()}
    parts["forget"] = [one for one in parts["forget"] if one[1] not in seen["retain"]]
    parts["test"] = [one for one in parts["test"] if one[1] not in seen["unseen"]]
    parts["unseen"] = [one for one in parts["unseen"] if one[1] not in seen["forget"] | seen["retain"]]
    firsts: list[int] = []
    for each in parts.values():
        first: dict[int, int] = {}
        for at, h in each:
            first.setdefault(h, at)
        firsts += first.values()
    hashes, of = np.array([h for h, _ in rows], dtype=np.uint64), np.array([part for _, part in rows], dtype=str)
    assert np.flatnonzero(distinct(hashes, of)).tolist() == sorted(firsts)


@pytest.mark.parametrize("variant", ["identity", "household"])
def test_whole_groups_are_forgotten_and_none_is_retained_too(where: Path, family: Family, variant: str) -> None:
    clean, data = faces(where, "clean"), faces(where, variant)
    asked = np.isin(data.train.ids, data.requests["benchmark"])
    groups = data.train.groups
    assert groups is not None
    assert not set(groups[asked]) & set(groups[~asked])
    assert asked.sum() >= len(clean.requests["benchmark"])
    assert all("_" in name for name in groups) is (variant == "identity")
    last = groups[np.flatnonzero(asked)[-1]]
    assert (asked & (groups != last)).sum() < len(clean.requests["benchmark"]), "and not one group more"
    assert data.fingerprint == clean.fingerprint, "one original serves all three"
    assert not any("not all" in note for note in data.notes)


def test_whole_groups_come_in_the_order_of_the_data() -> None:
    groups = np.array(list("bbbaaabcc"))
    assert whole_groups(groups, 4).tolist() == [True, True, True, False, False, False, True, False, False]
    assert whole_groups(groups, 5).tolist() == [True] * 7 + [False] * 2


def test_the_header_and_folders_of_the_hugging_face_card_give_the_same(
    where: Path, family: Family, tmp_path: Path
) -> None:
    make_mufac(tmp_path / "MUFAC", card=True)
    for variant in VARIANTS:
        ours, theirs = faces(where, variant), faces(tmp_path, variant)
        assert ours.fingerprint == theirs.fingerprint
        assert ours.requests == theirs.requests
        assert ours.train.groups is not None
        assert theirs.train.groups is not None
        assert np.array_equal(ours.train.groups, theirs.train.groups)


def test_images_are_brought_to_one_size_and_hashes_do_not_depend_on_it(where: Path, family: Family) -> None:
    assert load("mufac:any-count", root=where).train.inputs.shape == (128, 3, 128, 128)
    small = load("mufac:size=32,any-count,clean", root=where)
    assert small.train.inputs.shape[1:] == (3, 32, 32)
    assert small.train.ids.tolist() == faces(where, "clean").train.ids.tolist()


def test_other_counts_than_the_published_ones_are_refused_with_the_way_out(where: Path, family: Family) -> None:
    with pytest.raises(Refusal) as refused:
        load("mufac:original,size=16", root=where)
    for word in ("train 130 (published 10,025)", "val 41 (published 1,539)", "mufac:original,size=16,any-count"):
        assert word in str(refused.value)


def test_up_to_one_percent_is_told_and_not_refused() -> None:
    published = {"test": 1000, "unseen": 500}
    assert counted("it", {"test": 1000, "unseen": 500}, published, False) == ()
    (note,) = counted("it", {"test": 990, "unseen": 500}, published, False)
    assert "test 990 (published 1,000)" in note
    assert "unseen" not in note
    with pytest.raises(Refusal, match=r"test 989 \(published 1,000\).*it:any-count"):
        counted("it", {"test": 989, "unseen": 500}, published, False)
    assert counted("it", {"test": 989, "unseen": 500}, published, True)


def test_with_the_published_number_of_rows_the_cut_is_after_1500() -> None:
    for count in (10_025, 10_000):
        assert sum(_asked([{} for _ in range(count)])) == 1500
    flagged = [{"forget_flag": str(number in (1, 3))} for number in range(5)]
    assert [number for number, asked in enumerate(_asked(flagged)) if asked] == [1, 3]


def test_missing_images_are_told(tmp_path: Path) -> None:
    family = make_mufac(tmp_path / "mufac")
    lost = family.rows["val"][3]["name"]
    (tmp_path / "mufac" / "val_images" / lost).unlink()
    data = faces(tmp_path, "original")
    assert any(f"1 of 41 images of val are missing, such as val/{lost}" in note for note in data.notes)
    assert len(data.test) == 40


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ("family_id,age_class\nF0001,a\n", "image_path"),
        ("", "no rows"),
        ("family_id,person_id,age_class,image_path\nF0001,D,x,F0001_AGE_D_18_a1.jpg\n", "age of a to h"),
        ("\0\udcff", "table of MUFAC"),
    ],
    ids=["columns", "empty", "age", "binary"],
)
def test_damaged_tables_are_refused(tmp_path: Path, table: str, says: str) -> None:
    make_mufac(tmp_path / "mufac")
    path = tmp_path / "mufac" / "custom_train_dataset.csv"
    path.write_bytes(table.encode("utf-8", "surrogateescape"))
    with pytest.raises(Refusal, match=says):
        faces(tmp_path, "clean")


@pytest.mark.parametrize("spec", ["mufac:raw", "mufac:size=4", "mufac:size=many", "mucac:clean"])
def test_unknown_words_are_refused(tmp_path: Path, spec: str) -> None:
    with pytest.raises(Refusal, match=spec.partition(":")[2]):
        load(spec, root=tmp_path)


def test_words_come_in_any_order() -> None:
    assert options("x", "any-count,b,size=64", ("a", "b")) == options("x", "size=64,b,any-count", ("a", "b"))
    assert options("x", "", ("a", "b")).variant == "a"


# ---------------------------------------------------------------- MUCAC


def test_identities_decide_the_parts_and_numbers_the_order(
    where: Path, celebrities: dict[str, tuple[int, list[int]]]
) -> None:
    data = load("mucac:size=16,any-count", root=where)
    assert data.unseen is not None
    ranges = {"train": (190, 4855), "test": (0, 190), "unseen": (4855, 10_000)}
    for part, (low, high) in ranges.items():
        wanted = [n for n, (identity, _) in celebrities.items() if low <= identity < high and n != "17"]
        examples = getattr(data, part)
        assert examples.ids.tolist() == sorted(wanted, key=int)
        assert examples.groups.tolist() == [str(celebrities[n][0]) for n in examples.ids]
        assert examples.labels.tolist() == [celebrities[n][1] for n in examples.ids], "male, smiling, young"
    asked = set(data.requests["benchmark"])
    assert asked == {n for n in data.train.ids.tolist() if celebrities[n][0] < 1250}
    assert any("1 of 240 images of mucac are missing, such as 17.jpg" in note for note in data.notes)
    assert data.train.classes == ("male", "smiling", "young")


@pytest.mark.parametrize(("task", "at"), [("male", 0), ("smiling", 1), ("young", 2)])
def test_each_attribute_is_a_task_of_its_own(
    where: Path, celebrities: dict[str, tuple[int, list[int]]], task: str, at: int
) -> None:
    data = load("mucac:size=16,any-count", root=where, task=task)
    assert data.train.labels.tolist() == [celebrities[n][1][at] for n in data.train.ids]
    assert data.train.classes[1] == task


def test_the_other_layout_and_name_of_the_attributes(tmp_path: Path, where: Path, celebrities: object) -> None:
    make_mucac(tmp_path / "mucac")
    inside = tmp_path / "mucac" / "CelebAMask-HQ"
    (tmp_path / "mucac" / "CelebA-HQ-identity.txt").rename(inside / "CelebA-HQ-identity.txt")
    (tmp_path / "mucac" / "CelebA-HQ-attribute.txt").rename(inside / "CelebAMask-HQ-attribute-anno.txt")
    theirs = load("mucac:size=16,any-count", root=tmp_path / "mucac")
    assert theirs.fingerprint == load("mucac:size=16,any-count", root=where).fingerprint


def test_other_counts_of_mucac_are_refused(where: Path, celebrities: object) -> None:
    with pytest.raises(Refusal, match=r"forget 72 \(published 10,135\).*mucac:any-count"):
        load("mucac", root=where)


@pytest.mark.parametrize(
    ("name", "change", "says"),
    [
        ("CelebA-HQ-attribute.txt", (" Male ", " Bald "), "Male to be attribute 21"),
        ("CelebA-HQ-attribute.txt", ("\n5.jpg ", "\n5.jpg 7 "), "40 marks"),
        ("CelebA-HQ-identity.txt", ("5.jpg ", "5.jpg x"), "identity in every line"),
    ],
    ids=["order", "row", "identity"],
)
def test_other_tables_are_refused(tmp_path: Path, name: str, change: tuple[str, str], says: str) -> None:
    make_mucac(tmp_path / "mucac")
    path = tmp_path / "mucac" / name
    path.write_text(path.read_text().replace(*change, 1))
    with pytest.raises(Refusal, match=says):
        load("mucac:any-count", root=tmp_path)


@pytest.mark.parametrize(("name", "words"), [("mufac", "custom_train_dataset.csv"), ("mucac", "CelebA-HQ-img")])
def test_absent_files_name_the_places(tmp_path: Path, name: str, words: str) -> None:
    with pytest.raises(Refusal, match=words) as refused:
        load(name, root=tmp_path)
    assert str(tmp_path / name) in str(refused.value)


def test_an_unknown_task_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="multilabel, male, smiling, young"):
        load("mucac", root=tmp_path, task="bald")
    with pytest.raises(Refusal, match="no task for mufac"):
        load("mufac", root=tmp_path, task="age")


# ---------------------------------------------------------------- requests


def test_the_benchmark_is_a_request_by_name(where: Path, family: Family) -> None:
    data = faces(where, "original")
    known = data.requests
    ids = forget_ids("benchmark", data.train, 0, known=known)
    assert ids == list(known["benchmark"])
    assert forget_ids("benchmark", data.train, 0, ids[:3], known) == ids[3:], "what is gone can't be forgotten again"


def test_groups_are_drawn_whole_and_one_more_adds_one(where: Path, family: Family) -> None:
    train = faces(where, "original").train
    assert train.groups is not None
    sizes, drawn = Counter(train.groups.tolist()), []
    for count in (1, 4, 5):
        ids = forget_ids(f"groups:{count}", train, 3)
        chosen = set(train.groups[train.positions(ids)].tolist())
        assert len(chosen) == count
        assert len(ids) == sum(sizes[name] for name in chosen)
        drawn.append(chosen)
    assert drawn[0] < drawn[1] < drawn[2]
    assert forget_ids("groups:4", train, 3) != forget_ids("groups:4", train, 4)
