"""Where a search looks."""

from __future__ import annotations

from unteach.methods import METHODS
from unteach.presets import fixed
from unteach.tuning.space import space_of


def test_what_makes_a_row_of_the_table_is_not_searched() -> None:
    assert "beta" in space_of(METHODS["trw"](), 0.1)
    assert "beta" not in space_of(METHODS["rwft"](), 0.1), "with another β it would be TRW"
    assert fixed(METHODS["rwft"]()) == {"beta"} and fixed(METHODS["trw"]()) == frozenset()  # noqa: PT018


def test_rates_are_shares_of_the_originals_highest() -> None:
    small, large = (space_of(METHODS["finetune"](), peak)["optim.lr"] for peak in (0.1, 0.4))
    assert (large.low, large.high) == (4 * small.low, 4 * small.high)  # type: ignore[union-attr]
