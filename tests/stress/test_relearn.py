"""Relearning: steps, areas and censoring by hand; a do-nothing model and a retrained one."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from unteach.audit.finding import Finding, Skipped
from unteach.engine import Engine
from unteach.stress import Lineup, Models, Parts, Relearn
from unteach.stress.recovery import Curve, median, ratios, told
from unteach.stress.relearn import halves
from unteach.train import Sgd
from unteach.types import Examples, Refusal


def straight(until: int, last: int = 100) -> Curve:
    """A half that comes back in a straight line from 0, at 1 after so many steps."""
    steps = np.arange(last + 1)
    return Curve(steps, np.minimum(1.0, steps / until))


def test_a_straight_line_by_hand() -> None:
    curve = straight(50)
    assert curve.reached(0.5) == 25
    assert curve.reached(1.0) == 50
    assert curve.area(1.0) == pytest.approx(0.25)
    assert curve.area(0.5) == pytest.approx(0.5 * 0.5 * 25 / 100)
    assert curve.after(25) == 0.5
    assert curve.after(1000) == 1
    assert straight(200).reached(0.9) is None


@given(arrays(float, st.integers(2, 30), elements=st.floats(0, 1)), st.floats(0.01, 1))
@settings(max_examples=60, deadline=None)
def test_more_accuracy_is_never_slower_nor_more_area(accuracy: np.ndarray, mark: float) -> None:
    steps = np.arange(len(accuracy)) * 3
    low, high = Curve(steps, accuracy), Curve(steps, np.minimum(1.0, accuracy + 0.1))
    assert high.area(mark) <= low.area(mark) + 1e-12 <= mark + 2e-12
    if low.reached(mark) is not None:
        assert (high.reached(mark) or 0) <= (low.reached(mark) or 0)
        assert low.accuracy[steps == low.reached(mark)] >= mark - 1e-9


def by_name(found: list[Finding | Skipped]) -> dict[str, Finding | Skipped]:
    return {one.name.partition(" (")[0]: one for one in found}


def test_the_index_by_hand() -> None:
    runs = Lineup(unlearned=straight(20), retrained=(straight(40), straight(60)), original=straight(1))
    found = by_name(told(runs, straight(100), 1.0, "held-out half", 30))
    index, steps, area = found["Anamnesis index"], found["relearn steps"], found["recovery area ratio"]
    assert isinstance(index, Finding)
    assert isinstance(steps, Finding)
    assert isinstance(area, Finding)
    assert steps.value == 20
    assert steps.retrained == (40, 60)
    assert index.value == pytest.approx(20 / 50)
    assert index.retrained == pytest.approx((40 / 60, 60 / 40)), "each against the others"
    assert area.value == pytest.approx(index.value), "areas of straight lines are as their lengths"
    assert area.retrained == pytest.approx(index.retrained)
    assert "a random start 2.00" in area.doubts[0]


def test_a_censored_run_is_no_number() -> None:
    runs = Lineup(unlearned=straight(300), retrained=(straight(40), straight(60)), original=straight(1))
    found = by_name(told(runs, None, 1.0, "held-out half", 30))
    index = found["Anamnesis index"]
    assert isinstance(index, Skipped)
    assert "unlearned more than 100 (censored) steps, retrained 40, 60, median 40" in index.reason
    area = found["recovery area ratio"]
    assert isinstance(area, Finding)
    assert area.value > 1, "over-forgotten"


def test_too_few_evaluations_leave_the_areas() -> None:
    coarse = [Curve(line.steps[::10], line.accuracy[::10]) for line in (straight(20), straight(60), straight(60))]
    found = by_name(told(Lineup(unlearned=coarse[0], retrained=tuple(coarse[1:])), None, 1.0, "", 30))
    index = found["Anamnesis index"]
    assert isinstance(index, Skipped)
    assert "within 6 evaluations" in index.reason
    assert isinstance(found["recovery area ratio"], Finding)


def test_nothing_to_relearn_is_skipped() -> None:
    there = Curve(np.arange(5), np.ones(5))
    found = by_name(told(Lineup(unlearned=there, retrained=(there, there), original=there), None, 0.9, "", 30))
    assert isinstance(found["recovery area ratio"], Skipped)
    assert isinstance(found["Anamnesis index"], Skipped)


def test_medians_know_what_is_censored() -> None:
    assert median([3, None, 5], 9) == "5"
    assert median([3, None], 9) == "3", "survival is one half from step 3 on"
    assert median([None, 4, None], 9) == "above 9"
    assert ratios(Lineup(unlearned=2.0, retrained=(1.0, 3.0))).retrained == (1 / 3, 3.0)


def test_halves_share_the_classes_out(clean: tuple[Examples, Examples]) -> None:
    one, other = halves(clean[0], 5)
    assert set(one.ids) | set(other.ids) == set(clean[0].ids)
    assert not set(one.ids) & set(other.ids)
    counts = [part.labels.bincount(minlength=10) for part in (one, other)]
    assert int((counts[0] - counts[1]).abs().max()) <= 1
    assert not np.array_equal(one.ids, halves(clean[0], 6)[0].ids)


def test_do_nothing_relearns_at_once_and_a_retrained_model_as_retrained_ones(
    class_request: tuple[Models, Parts], engine: Engine
) -> None:
    models, parts = class_request
    slow = Relearn(optim=Sgd(lr=0.004, epochs=1, batch=64, schedule="constant", weight_decay=0.0), steps=60)
    honest = replace(models, unlearned=models.retrained[0], retrained=models.retrained[1:])
    lazy, fair = (by_name(list(slow(each, parts, seed=0, engine=engine))[7:]) for each in (models, honest))
    for name, close in (("Anamnesis index", 0.5), ("recovery area ratio", 0.5)):
        nothing, same = lazy[name], fair[name]
        assert isinstance(nothing, Finding), nothing
        assert isinstance(same, Finding), same
        assert "held-out half" in same.part
        assert nothing.value < 0.1 < min(nothing.retrained)
        assert abs(same.value - 1) < close
        assert nothing.inside is False


def test_what_is_taught_is_said_and_learned(random_request: tuple[Models, Parts], engine: Engine) -> None:
    models, parts = random_request
    models = replace(models, retrained=models.retrained[:1])
    brief = Sgd(lr=0.05, epochs=1, batch=64, schedule="constant")

    def last(found: object) -> list[float]:
        assert isinstance(found, tuple)
        return [one.retrained[0] for one in found if one.name == "accuracy after 60 relearning steps"]

    taught = Relearn(optim=brief, steps=60, every=10)(models, parts, seed=0, engine=engine)
    both = Relearn(optim=brief, steps=60, every=10, retain=True)(models, parts, seed=0, engine=engine)
    kept = Relearn(optim=brief, steps=60, every=10, forget=False, retain=True)(models, parts, seed=0, engine=engine)
    assert {one.part.partition("trained on ")[2] for one in kept if isinstance(one, Finding)} == {"retain only"}
    assert last(taught)[0] > 0.95 > 0.8 > last(taught)[1], "learned by heart, and of no use for the other half"
    assert last(both)[0] > 0.9
    assert max(last(kept)) < 0.8


def test_a_stopped_relearning_goes_on(class_request: tuple[Models, Parts], tmp_path: Path, engine: Engine) -> None:
    models, parts = class_request
    models = replace(models, retrained=models.retrained[:2])
    test = Relearn(steps=10)
    whole = test(models, parts, seed=0, engine=engine)
    scratch = Engine(accelerator="cpu", precision="fp32", scratch=tmp_path)
    assert test(models, parts, seed=0, engine=scratch) == whole
    assert list(tmp_path.iterdir())
    assert test(copy.deepcopy(models), parts, seed=0, engine=scratch) == whole


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"forget": False}, "got neither"),
        ({"every": 0}, "every of at least 1"),
        ({"steps": 0}, "steps of at least 1"),
        ({"alpha": 1.0}, "alpha"),
    ],
    ids=["neither", "every", "steps", "alpha"],
)
def test_settings_that_can_not_be_are_refused(settings: dict[str, object], words: str) -> None:
    with pytest.raises(Refusal, match=words):
        Relearn(**settings)  # type: ignore[arg-type]


def test_one_example_is_skipped(class_request: tuple[Models, Parts], engine: Engine) -> None:
    models, parts = class_request
    (only,) = Relearn()(models, replace(parts, forget=parts.forget.take([0])), seed=0, engine=engine)
    assert isinstance(only, Skipped)
    assert "halves" in only.reason
