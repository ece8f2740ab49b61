"""Composite scores: known answers, published tables recomputed from their printed parts, findings with their parts."""

from __future__ import annotations

import pytest

from unteach.audit.accuracy import average_gap
from unteach.audit.composites import aus, averaging_gap, composites, tow
from unteach.audit.finding import Skipped
from unteach.audit.nomus import nomus
from unteach.types import Refusal

# Utility, forgetting score and NoMUS as printed: the benchmark's README (MUFAC, MUCAC of several labels and of one) and
# notebooks, and DLFD's MUFAC notebook.
NOMUS = """
MUFAC original .5951 .2136 .5839 | MUFAC retrained .4880 .0445 .6995 | MUFAC fine-tuning .6055 .2129 .5898
MUFAC CF-3 .5900 .2126 .5824 | MUFAC NegGrad .4048 .0485 .6539 | MUFAC UNSIR-1 .5893 .2089 .5857
MUFAC UNSIR-2 .5925 .1990 .5972 | MUFAC SCRUB .5984 .1415 .6577 | MUFAC adv-NegGrad .5633 .0953 .6863
MUFAC rerun-retrained .4906 .0385 .7068 | MUFAC rerun-UNSIR-1 .5828 .2179 .5735 | MUFAC rerun-UNSIR-2 .5906 .2050 .5903
MUFAC rerun-SCRUB .5900 .1299 .6651
DLFD original .6330 .1924 .6241 | DLFD retrained .6084 .0548 .7494 | DLFD FT .6376 .1884 .6304 | DLFD CF-k .6223 .1837 .6274
DLFD EU-k .6297 .1894 .6255 | DLFD NegGrad .4116 .0249 .6809 | DLFD UNSIR .4907 .0309 .7144 | DLFD Bad-T .4202 .0628 .6473
DLFD SCRUB .6463 .1638 .6594 | DLFD DLFD .6197 .0279 .7819
MUCAC original .8852 .0568 .8858 | MUCAC retrained .8135 .0436 .8631 | MUCAC fine-tuning .9147 .0708 .8865
MUCAC CF-3 .9197 .0685 .8913 | MUCAC NegGrad .4193 .0356 .6740 | MUCAC UNSIR-1 .7087 .0324 .8219
MUCAC UNSIR-2 .9220 .0705 .8905 | MUCAC SCRUB .9073 .0478 .9058 | MUCAC adv-NegGrad .7607 .0152 .8651
MUCAC rerun-original .8852 .0534 .8892 | MUCAC rerun-retrained .8764 .0489 .8893 | MUCAC rerun-FT .9211 .0544 .9062
MUCAC rerun-CF-3 .9195 .0544 .9054 | MUCAC rerun-NegGrad .3195 .0830 .5767 | MUCAC rerun-SCRUB .8821 .0247 .9164
MUCAC rerun-adv-NegGrad .7928 .0292 .8672
male original .9835 .0306 .9611 | male retrained .9515 .0154 .9603 | male FT .9849 .0281 .9643 | male CF-3 .9840 .0291 .9629
male NegGrad .1762 .1289 .4592 | male UNSIR-1 .9481 .0638 .9102 | male UNSIR-2 .9845 .0481 .9441
male SCRUB .1762 .1329 .4552 | male adv-NegGrad .9147 .0129 .9444
smiling original .9467 .0346 .9387 | smiling retrained .6518 .0182 .8077 | smiling FT .9476 .0279 .9459
smiling CF-3 .9472 .0294 .9442 | smiling NegGrad .5549 .0366 .7408 | smiling UNSIR-1 .8619 .0416 .8893
smiling UNSIR-2 .9506 .0271 .9482 | smiling SCRUB .5549 .468 .3094 | smiling adv-NegGrad .9423 .0354 .9357
young original .9089 .0456 .9088 | young retrained .8271 .0234 .8901 | young FT .9147 .0426 .9147
young CF-3 .9118 .0456 .9103 | young NegGrad .1733 .0513 .5353 | young UNSIR-1 .8260 .0229 .8901
young UNSIR-2 .9021 .0493 .9017 | young SCRUB .8929 .0428 .9036 | young adv-NegGrad .5573 .0139 .7647
"""
ROWS = [row.split() for line in NOMUS.strip().splitlines() for row in line.split("|")]

# Forget, retain, test accuracy and FT AUC as printed by AMUN, CIFAR-10, ResNet-18; then the printed "Avg. Gap".
RETRAINED = {"10%": (94.49, 100, 94.33, 50.00), "50%": (92.09, 100, 91.85, 50.01)}
AMUN = {
    "10% FT": (95.16, 96.64, 92.21, 52.08, 2.06),
    "10% RL": (95.54, 97.47, 92.17, 51.33, 1.74),
    "10% GA": (98.94, 99.22, 93.39, 60.96, 4.28),
    "10% BS": (99.14, 99.89, 93.04, 57.85, 3.48),
    "10% l1-sparse": (94.29, 95.63, 91.55, 51.21, 2.16),
    "10% SalUn": (96.25, 98.14, 93.06, 50.88, 1.44),
    "10% AMUN": (95.45, 99.57, 93.45, 50.18, 0.62),
    "10% AMUN+SalUn": (95.02, 99.58, 93.29, 50.72, 0.68),
    "10% AMUN without retain": (94.28, 97.47, 91.67, 52.24, 1.94),
    "50% FT": (94.24, 95.82, 91.21, 51.74, 2.17),
    "50% RL": (94.83, 99.79, 90.08, 50.78, 1.38),
}
# These four printed gaps do not follow from the printed parts; what does.
AMUN_OTHERWISE = {
    "50% GA": (100, 100, 94.65, 63.39, 4.62, 6.0225),
    "50% l1-sparse": (98.00, 98.71, 92.79, 54.44, 2.67, 3.1425),
    "50% SalUn": (96.68, 99.89, 91.97, 50.86, 1.36, 1.4175),
    "50% AMUN": (93.50, 99.71, 92.39, 49.99, 0.33, 0.565),
}


@pytest.mark.parametrize("row", ROWS, ids=[f"{table}-{method}" for table, method, *_ in ROWS])
def test_nomus_tables(row):
    utility, score, published = map(float, row[2:])
    assert nomus(utility, score) == pytest.approx(published, abs=1.01e-4)


def test_nomus_example_and_constant_answers():
    assert len(ROWS) == 66
    assert nomus(0.60, 0.10) == pytest.approx(0.70)
    assert nomus(0.735, 0.0) > nomus(0.8135, 0.0436), "a constant answer beats the published retrained MUCAC model"


def gap(name: str, values: tuple[float, ...]) -> float:
    target = RETRAINED[name.split()[0]]
    parts = ("forget", "retain", "test", "ft_auc")
    return average_gap({part: a - b for part, a, b in zip(parts, values, target)})


@pytest.mark.parametrize("name", AMUN, ids=list(AMUN))
def test_amuns_gaps(name):
    assert gap(name, AMUN[name][:4]) == pytest.approx(AMUN[name][4], abs=0.0301)


@pytest.mark.parametrize("name", AMUN_OTHERWISE, ids=list(AMUN_OTHERWISE))
def test_amuns_gaps_that_do_not_follow_from_their_parts(name):
    *values, published, recomputed = AMUN_OTHERWISE[name]
    assert gap(name, tuple(values)) == pytest.approx(recomputed)
    assert abs(recomputed - published) > 0.05


def test_examples():
    retrained = {"forget": 0.9, "retain": 1.0, "test": 0.9}
    assert tow({"forget": 0.91, "retain": 0.99, "test": 0.89}, retrained) == pytest.approx(0.970299)
    assert aus(0.95, 0.93, 0.0) == pytest.approx(0.50777, abs=1e-5)
    assert aus(0.95, 0.93, 0.0, whole_class=True) == pytest.approx(0.98)
    assert averaging_gap({"a": 1.0, "b": 5.0, "c": 9.0}, {"a": 2.0, "b": 2.0}) == 2.0


def test_findings_name_their_parts_and_leave_one_out():
    retrained = [{"forget": f, "retain": 1.0, "test": 0.9, "mia": 0.12} for f in (0.90, 0.92, 0.94)]
    judged = {"forget": 0.99, "retain": 1.0, "test": 0.88, "mia": 0.02}
    found = {one.name: one for one in composites(judged, retrained, original_test=0.93)}
    assert found["1 − ToW"].value == pytest.approx(1 - 0.93 * 0.98)
    assert found["1 − ToW"].retrained == pytest.approx((0.03, 0.0, 0.03))
    assert found["1 − ToW-MIA"].value == pytest.approx(1 - 0.9 * 0.98)
    assert found["averaging gap"].value == pytest.approx(100 * (0.07 + 0 + 0.02 + 0.1) / 4)
    assert "forget +7.00" in found["1 − ToW"].doubts[0]
    assert found["AUS"].value == pytest.approx(aus(0.93, 0.88, 0.99))
    assert not any(found[name].inside for name in ("1 − ToW", "1 − ToW-MIA", "averaging gap"))


def test_what_is_missing_is_skipped_and_percent_refused():
    accuracies = {"forget": 0.9, "retain": 1.0, "test": 0.9}
    found = {one.name: one for one in composites(accuracies, [accuracies] * 2)}
    assert found["1 − ToW"].value == 0
    assert all(isinstance(found[name], Skipped) for name in ("1 − ToW-MIA", "averaging gap", "AUS"))
    assert isinstance(composites(accuracies, [accuracies])[0], Skipped)
    with pytest.raises(Refusal, match="0–1"):
        composites({**accuracies, "forget": 90.0}, [])
