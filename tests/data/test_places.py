"""Numbers in words and files: of a size that arrays hold, or not taken for numbers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from made import blobs
from unteach.data.places import is_whole, whole_number
from unteach.data.request import forget_ids
from unteach.data.shards import braces
from unteach.types import Refusal


@given(st.integers(0, 10**18 - 1))
def test_whole_numbers_are_known(number: int) -> None:
    assert is_whole(str(number))
    assert whole_number("size", str(number)) == number


@pytest.mark.parametrize("text", ["", "-1", "1.0", "1_0", "٣", "²", "9" * 19, "9" * 5000], ids=range(8))
def test_other_texts_are_none(text: str) -> None:
    assert not is_whole(text)
    with pytest.raises(Refusal):
        whole_number("size", text)


@pytest.mark.parametrize("kind", ["random", "class", "groups"])
def test_a_number_without_end_is_refused(kind: str) -> None:
    with pytest.raises(Refusal, match="expected"):
        forget_ids(f"{kind}:{'9' * 5000}", blobs(12), 0)


@pytest.mark.parametrize(
    "pattern", ["a-{0..999999999}.tar", "a-{0..9999}-{0..9999}.tar", f"a-{{0..{'9' * 5000}}}.tar"], ids=range(3)
)
def test_a_pattern_names_no_more_shards_than_there_can_be(pattern: str) -> None:
    with pytest.raises(Refusal, match="at most 100,000 shards"):
        braces(pattern)
