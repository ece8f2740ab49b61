"""Data and requests from anywhere: what is sound is read, all else is read or refused in a sentence."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuzz.data_readers import TARGETS
from fuzz.hostile import Target, warm
from fuzz.profile import PROFILE, outcome_of


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_it_reads_or_refuses(target: Target, tmp_path: Path) -> None:
    warm(target, tmp_path)

    @PROFILE
    @given(data=st.data())
    def hostile(data: st.DataObject) -> None:
        assert outcome_of(target, data, tmp_path) in ("result", "refusal")

    hostile()
