"""Requests to forget: every form, every refusal, and the way to a file and back."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from made import blobs
from unteach.data import forget_ids, split, write_ids
from unteach.types import Examples, Refusal

PEOPLE = np.array(["ann", "bob", "cy"])


def data() -> Examples:
    whole = blobs(30)
    return replace(
        whole,
        ids=np.array([f"row {i}" for i in range(30)]),
        groups=PEOPLE[np.arange(30) // 10],
        classes=("cat", "dog", "1"),
    )


def several() -> Examples:
    labels = torch.zeros(30, 3)
    labels[:4, 1] = 1
    labels[2:6, 2] = 1
    return replace(data(), labels=labels)


@pytest.mark.parametrize(
    ("spec", "rows"),
    [
        ("class:cat", range(0, 30, 3)),
        ("class:0", range(0, 30, 3)),
        ("class:1", range(2, 30, 3)),  # a name goes before a number
        ("class:cat, dog", sorted([*range(0, 30, 3), *range(1, 30, 3)])),
        ("group:bob", range(10, 20)),
        ("group:ann,cy", [*range(10), *range(20, 30)]),
    ],
)
def test_classes_and_groups_by_name(spec: str, rows: list[int]) -> None:
    assert forget_ids(spec, data(), 0) == [f"row {i}" for i in rows]


def test_a_label_of_several_names_all_that_carry_it() -> None:
    assert forget_ids("class:dog", several(), 0) == [f"row {i}" for i in range(4)]
    assert forget_ids("class:dog,1", several(), 0) == [f"row {i}" for i in range(6)]


def test_groups_without_groups_are_refused_and_kinds_stand_in() -> None:
    alone = replace(data(), groups=None)
    with pytest.raises(Refusal, match="data with groups for groups:1"):
        forget_ids("groups:1", alone, 0)
    assert forget_ids("groups:1", replace(alone, kinds=data().groups), 0) == forget_ids("groups:1", data(), 0)


def test_every_group_is_drawn_about_as_often() -> None:
    hits = [forget_ids("groups:1", data(), seed)[0] for seed in range(300)]
    assert all(70 < hits.count(f"row {first}") < 130 for first in (0, 10, 20))


def test_a_known_request_goes_by_its_name_in_the_order_of_the_data() -> None:
    known = {"benchmark": ("row 7", "row 2"), "other": ("row 3",)}
    assert forget_ids("benchmark", data(), 0, known=known) == ["row 2", "row 7"]
    assert forget_ids("other", data(), 0, known=known) == ["row 3"]
    assert forget_ids("benchmark", data(), 0, {"row 2"}, known) == ["row 7"]
    with pytest.raises(Refusal, match="at least one id"):
        forget_ids("other", data(), 0, {"row 3"}, known)


@pytest.mark.parametrize(("spec", "count"), [("random:0.1", 3), ("random:7", 7), ("random:1", 1), ("random:.5", 15)])
def test_draws_have_the_size_asked_for_and_follow_the_seed(spec: str, count: int) -> None:
    ids = forget_ids(spec, data(), 0)
    assert len(set(ids)) == len(ids) == count
    assert ids == forget_ids(spec, data(), 0)
    assert any(ids != forget_ids(spec, data(), seed) for seed in range(1, 6))


def test_every_example_is_drawn_about_as_often() -> None:
    hits = dict.fromkeys(data().ids.tolist(), 0)
    for seed in range(600):
        for name in forget_ids("random:0.1", data(), seed):
            hits[name] += 1
    assert min(hits.values()) > 30  # 60 expected, standard deviation 7
    assert max(hits.values()) < 90


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.txt", "# who\nrow 3\n\n  row 1  \nrow 2"),
        ("b.txt", "\ufeffrow 3\r\nrow 1\r\nrow 2\r\n"),
        ("c.csv", "name,ID\nx,row 3\ny,row 1\nz,row 2\n"),
        ("d.csv", "row 3\nrow 1\nrow 2\n"),
        ("e.csv", "id\nrow 3\n\nrow 1\nrow 2\n"),
        ("f.JSON", '["row 3", "row 1", "row 2"]'),
    ],
)
def test_files_of_ids(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text, newline="", encoding="utf-8")
    assert forget_ids(str(tmp_path / name), data(), 0) == ["row 3", "row 1", "row 2"]


def test_whole_numbers_in_json_are_ids(tmp_path: Path) -> None:
    (tmp_path / "ids.json").write_text("[3, 11]")
    assert forget_ids(str(tmp_path / "ids.json"), blobs(30), 0) == ["3", "11"]


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("random:0", "between 1 and 29"),
        ("random:30", "between 1 and 29"),
        ("random:0.001", "got 0"),
        ("random:1.5", "share between 0 and 1"),
        ("random:-3", "share between 0 and 1"),
        ("random:nan", "random:nan"),
        ("random:inf", "random:inf"),
        ("random:some", "random:some"),
        ("random:", "random:SHARE"),
        ("class:horse", "cat, dog, 1"),
        ("class:3", "cat, dog, 1"),
        ("class:", "cat, dog, 1"),
        ("class:cat,dog,1", "all 30"),
        ("group:dan", "ann, bob, cy"),
        ("group:ann,bob,cy", "all 30"),
        ("groups:3", "1 to 2 of 3 groups"),
        ("groups:0", "1 to 2 of 3 groups"),
        ("groups:0.5", "groups:0.5"),
        ("groups:bob", "groups:bob"),
        ("benchmark", "benchmark's own request"),
        ("nowhere.txt", "no file here"),
        ("rando:0.1", "no file here"),
        ("", "no file here"),
    ],
)
def test_requests_that_can_not_be_right(spec: str, says: str) -> None:
    with pytest.raises(Refusal, match=says):
        forget_ids(spec, data(), 0)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.txt", b"row 1\nrow 99\nrow 98\nrow 97\nrow 96", "4 unknown: 'row 99', 'row 98', 'row 97' …"),
        ("a.txt", b"row 1\nrow 2\nrow 1", "'row 1'"),
        ("a.txt", b"# nobody\n\n", "at least one id"),
        ("a.txt", b"", "at least one id"),
        ("a.txt", "\n".join(f"row {i}" for i in range(30)).encode(), "all 30"),
        ("a.txt", b"\x80\x04\x95row", "binary"),
        ("a.txt", b"row 1\0row 2", "binary"),
        ("a.csv", b"", "at least one id"),
        ("a.csv", b"name,age\nrow 1,3\n", "column id"),
        ("a.csv", b"name,id\nx,row 1\ny\n", "id in every row"),
        ("a.json", b'{"id": "row 1"}', "dict"),
        ("a.json", b'["row 1"', "no JSON"),
        ("a.json", b'["row 1", true]', "True"),
        ("a.json", b"[1.5]", "1.5"),
        ("a.json", b"[[]]", "whole numbers"),
        ("a.json", b'[""]', "unknown"),
        ("a.csv", b"id\n" + b"a" * 200_000, "field larger"),
        ("a.json", b"[]", "at least one id"),
        ("a.json", b"[" * 100_000, "no JSON"),
        ("a.pt", b"row 1", ".txt, .csv or .json"),
    ],
)
def test_files_that_can_not_be_right(tmp_path: Path, name: str, content: bytes, says: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(Refusal, match=says):
        forget_ids(str(tmp_path / name), data(), 0)


def test_a_group_needs_groups() -> None:
    with pytest.raises(Refusal, match="data without"):
        forget_ids("group:ann", blobs(), 0)


def test_a_class_without_examples_is_told() -> None:
    with pytest.raises(Refusal, match="got none in the training set"):
        forget_ids("class:fish", replace(data(), classes=("cat", "dog", "1", "fish")), 0)


@settings(max_examples=25, deadline=None)
@given(rows=st.sets(st.integers(0, 29), min_size=1, max_size=29))
def test_a_split_is_a_partition_in_the_order_of_the_data(rows: set[int]) -> None:
    whole = data()
    backwards = [f"row {i}" for i in sorted(rows, reverse=True)]
    parts = split(whole, backwards)
    assert parts.retain is not None
    assert parts.forget.ids.tolist() == [f"row {i}" for i in sorted(rows)]
    assert parts.retain.ids.tolist() == [f"row {i}" for i in range(30) if i not in rows]
    assert torch.equal(parts.forget.inputs, whole.inputs[sorted(rows)])
    assert torch.equal(parts.retain.labels, whole.labels[[i for i in range(30) if i not in rows]])


@pytest.mark.parametrize("ids", [[], ["row 1", "row 1"], ["row 99"], [f"row {i}" for i in range(30)]])
def test_a_split_refuses_what_a_request_would(ids: list[str]) -> None:
    with pytest.raises(Refusal):
        split(data(), ids)


LINE = st.text(max_size=8)


@settings(max_examples=60, deadline=None)
@given(names=st.lists(LINE, min_size=1, max_size=5, unique=True))
def test_ids_come_back_from_their_file_or_are_refused(
    tmp_path_factory: pytest.TempPathFactory, names: list[str]
) -> None:
    path = tmp_path_factory.mktemp("ids") / "ids.txt"
    try:
        write_ids(path, names)
    except Refusal:
        assert not list(path.parent.iterdir())
        return
    whole = replace(blobs(len(names) + 1), ids=np.array([*names, "another one"], dtype=object))
    assert forget_ids(str(path), whole, 0) == names


def test_a_failed_write_leaves_the_old_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "ids.txt"
    write_ids(path, ["a", "b"])
    with pytest.raises(Refusal, match="fit on a line"):
        write_ids(path, ["c", "two\nlines"])
    assert path.read_text() == "a\nb\n"
    assert [file.name for file in tmp_path.iterdir()] == ["ids.txt"]


def test_written_ids_are_what_a_json_of_them_would_give(tmp_path: Path) -> None:
    ids = forget_ids("random:5", data(), 0)
    write_ids(tmp_path / "a.txt", ids)
    (tmp_path / "a.json").write_text(json.dumps(ids))
    assert forget_ids(str(tmp_path / "a.txt"), data(), 0) == forget_ids(str(tmp_path / "a.json"), data(), 0) == ids


@given(asked=st.lists(st.integers(0, 49), max_size=12), scanned=st.integers(1, 60))
@settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_positions_are_those_of_the_ids_in_the_order_asked(
    asked: list[int], scanned: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("unteach.types.SCANNED", scanned)
    many = replace(blobs(50), ids=np.array([f"id{(7 * i) % 50}" for i in range(50)]))
    found = many.positions([f"id{number}" for number in asked])
    assert many.ids[found].tolist() == [f"id{number}" for number in asked]
    assert found.dtype == np.int64
    with pytest.raises(Refusal, match=r"got 2 unknown: 'x', 'y'; ids here look like 'id0'"):
        many.positions(["id3", "x", "y"])
