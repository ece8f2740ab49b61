"""Numbers as they are printed, against hand-written answers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unteach.report import numerals


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (numerals.percent(0.9049), "90.5%"),
        (numerals.percents((0.899, 0.911)), "89.9–91.1"),
        (numerals.points(0.58), "+0.6"),
        (numerals.points(-3.25), "−3.2"),
        (numerals.points(-0.04), "0.0"),
        (numerals.area(0.5), "0.500"),
        (numerals.rate(0.001), "0.1%"),
        (numerals.rate(1), "100%"),
        (numerals.count(60000), "60,000"),
        (numerals.count(None), ""),
        (numerals.chance(0.00049), "< 0.001"),
        (numerals.chance(0.0213), "0.021"),
        (numerals.duration(18.42), "18.4 s"),
        (numerals.duration(290.1), "4 min 50 s"),
        (numerals.duration(3599.7), "1 h 00 min"),
        (numerals.duration(7384), "2 h 03 min"),
        (numerals.within(2), " ± 2.0"),
        (numerals.within(None), ""),
    ],
)
def test_known_answers(said: str, expected: str) -> None:
    assert said.replace("\xa0", " ") == expected


@given(st.floats(0, 1e7))
def test_durations_never_show_sixty(seconds: float) -> None:
    assert "60" not in numerals.duration(seconds).replace(",", "").split("\xa0")[1:]
    assert " 60" not in numerals.duration(seconds)
