"""Ids that are unknown, repeated or were never learnt; what is sound by these checks is sound for a method."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from made import blobs
from unteach.data import DataSet, split
from unteach.preflight.ids import look_up_ids, named_ids, usable
from unteach.preflight.remark import Remark, extended
from unteach.provenance import Provenance
from unteach.types import Examples, Refusal


def people() -> DataSet:
    train, test = blobs(12), blobs(6, seed=1)
    names = np.array([f"record {i:02}" for i in range(12)])
    return DataSet(
        "made",
        Examples(train.inputs, train.labels, names, None, train.classes),
        Examples(test.inputs, test.labels, np.array([f"held {i}" for i in range(6)]), None, test.classes),
    )


DATA = people()


def said(names: list[str], story: Provenance | None = None, held: tuple[str, ...] = ()) -> list[Remark]:
    return look_up_ids(names, DATA, story or Provenance(), held)


def test_a_sound_request_is_fine() -> None:
    (remark,) = said(["record 00", "record 05"])
    assert (remark.level, remark.numbers["ids"]) == ("fine", 2)


def test_an_unknown_id_is_told_with_what_it_may_mean() -> None:
    (remark,) = said(["Record 03 ", "rekord 07", "xyz"])
    assert remark.level == "stop"
    assert "'Record 03 ' (did you mean 'record 03'?)" in remark.sentence
    assert "'rekord 07' (did you mean 'record 07'" in remark.sentence
    assert "'xyz'" in remark.sentence
    assert "'xyz' (" not in remark.sentence
    assert remark.numbers["ids"] == 3


def test_test_examples_repeated_and_unlearnt_ids_are_each_named() -> None:
    story = Provenance(trained_on={"left_out": ["record 01", "record 02"], "validation": ["record 02"]})
    found = said(["held 3", "record 04", "record 04", "record 01", "record 02"], story)
    assert [remark.level for remark in found] == ["stop"] * 4
    for remark, word in zip(found, ("'held 3'", "'record 04'", "'record 02'", "'record 01'")):
        assert word in remark.sentence
    assert usable(["held 3", "record 04", "record 04", "record 01"], DATA, story, ()) == ["record 04"]


def test_validation_data_that_the_model_learnt_are_no_validation_data() -> None:
    story = Provenance(trained_on={"left_out": ["record 01"], "validation": []})
    assert any("validation" in remark.sentence for remark in said(["record 03"], story, ("record 05",)))
    assert [remark.level for remark in said(["record 03"], story, ("record 01",))] == ["fine"]


names = st.lists(st.sampled_from([*DATA.train.ids.tolist(), "held 1", "nobody", ""]), max_size=14)


@given(names)
def test_stops_exactly_what_a_split_refuses(ids: list[str]) -> None:
    try:
        split(DATA.train, ids)
        sound = True
    except Refusal:
        sound = False
    found = look_up_ids(ids, DATA, Provenance(), ())
    assert ({remark.level for remark in found} == {"fine"}) is sound
    left = usable(ids, DATA, Provenance(), ())
    assert len(set(left)) == len(left)
    assert set(left) == set(ids) & set(DATA.train.ids.tolist())


@given(names, st.lists(st.lists(st.sampled_from(DATA.train.ids.tolist()), max_size=5), max_size=3))
def test_an_extended_request_holds_both_and_nothing_twice(ids: list[str], more: list[list[str]]) -> None:
    remarks = [Remark(name="copies", level="warn", sentence="", extend=tuple(each)) for each in more]
    whole = extended(ids, remarks)
    assert len(set(whole)) == len(whole)
    assert set(whole) == set(ids).union(*more)
    assert whole[: len(set(ids))] == list(dict.fromkeys(ids))


def test_a_file_with_mistakes_is_read_and_other_nonsense_refused(tmp_path: Path) -> None:
    file = tmp_path / "ids.txt"
    file.write_text("record 01\nnobody\nrecord 01\n")
    assert named_ids(str(file), DATA, 0, ()) == ["record 01", "nobody", "record 01"]
    assert len(named_ids("random:3", DATA, 0, ())) == 3
    with pytest.raises(Refusal, match="expected a class"):
        named_ids("class:nine", DATA, 0, ())
    with pytest.raises(Refusal, match="which is no file here"):
        named_ids("absent.txt", DATA, 0, ())
