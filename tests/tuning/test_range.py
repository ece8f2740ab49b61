"""The learning-rate range test."""

from __future__ import annotations

import pytest

from tuning.cases import Sham, job
from unteach.engine import Engine
from unteach.methods import FineTune, GradientAscent
from unteach.tuning import range_test
from unteach.tuning.judge import Reading
from unteach.tuning.range_test import SHARES, Sweep
from unteach.types import Refusal


def cpu() -> Engine:
    return Engine(accelerator="cpu", precision="fp32")


def test_ascent_bears_small_rates_only() -> None:
    model, parts = job()
    found = range_test(GradientAscent(), model, parts, peak=1.0, shares=(1e-5, 1e-3, 0.1, 10.0), engine=cpu())
    kept = [reading.retain if reading else 0.0 for reading in found.readings]
    assert kept[0] == pytest.approx(found.before.retain)
    assert kept[-1] < found.before.retain - 0.2
    assert found.largest is not None
    assert found.largest < 10
    assert "The largest optim.lr" in found.words()


def test_the_cost_is_a_few_steps() -> None:
    model, parts = job()
    engine = cpu()
    found = range_test(FineTune(), model, parts, steps=1, engine=engine)
    assert found.steps == 1
    assert engine.meter.trained <= len(SHARES) * 128
    assert len(found.readings) == len(SHARES)


def test_the_largest_rate_is_below_the_first_that_hurts() -> None:
    def seen(retain: float) -> Reading:
        return Reading(retain=retain, forget=0.5, validation=None, auc=0.5)

    sweep = Sweep("optim.lr", 0.1, 9, seen(0.9), (0.1, 0.3, 1.0), (seen(0.89), seen(0.87), seen(0.9)))
    assert sweep.largest == 0.1
    assert "0.01 (0.1 of the original's 0.1)" in sweep.words()
    assert Sweep("optim.lr", 0.1, 9, seen(0.9), (0.1,), (None,)).largest is None
    assert "costs more than 2 points" in Sweep("optim.lr", 0.1, 9, seen(0.9), (0.1,), (None,)).words()


def test_a_method_without_a_rate() -> None:
    model, parts = job()
    with pytest.raises(Refusal, match="learning rate"):
        range_test(Sham(), model, parts)
