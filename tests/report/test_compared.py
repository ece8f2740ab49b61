"""Gaps to retraining: whose number is shown, and the interval by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest

from unteach.report.compared import gap, role_note, signals
from unteach.report.contents import intervals_sentence


def two(new: float, target: float) -> dict[str, Any]:
    ends = {"unlearned": [new - 0.03, new + 0.02], "retrained": [target - 0.01, target + 0.04]}
    values = {"unlearned": new, "retrained": target}
    return {
        "models": {
            role: {"accuracy": {"forget": values[role]}, "accuracy_interval": {"forget": ends[role]}} for role in ends
        },
        "tolerance": {"accuracy": 0.02, "auc": 0.05},
    }


def test_gap_is_unlearned_minus_retrained_with_square_and_add() -> None:
    read = gap(two(0.9, 0.8), "forget")
    assert read.measured is not None
    assert read.measured.ends is not None
    assert read.measured.value == pytest.approx(10)
    assert read.measured.ends[0] == pytest.approx(10 - 100 * math.hypot(0.03, 0.04))
    assert read.measured.ends[1] == pytest.approx(10 + 100 * math.hypot(0.02, 0.01))
    assert read.tolerance == pytest.approx(2)
    assert not read.paired


def test_the_audits_own_numbers_win() -> None:
    findings = two(0.9, 0.8)
    own = {"quantity": "forget accuracy", "difference": 0.1, "low": 0.06, "high": 0.13}
    findings["comparisons"] = {"original": [], "unlearned": [own]}
    findings["gaps"] = {"forget": 9.5}
    read = gap(findings, "forget")
    assert read.measured is not None
    assert read.measured.value == 9.5
    assert read.measured.ends == pytest.approx((6, 13))
    assert read.paired
    assert intervals_sentence(findings) == "The intervals come from paired differences."


def test_without_a_retrained_model_there_is_no_gap() -> None:
    findings = two(0.9, 0.8)
    del findings["models"]["retrained"]
    assert gap(findings, "forget").measured is None


def test_confidence_comes_first_and_the_target_says_how_many() -> None:
    findings = {"models": {"original": {"games": {"FT": {"entropy": {}, "loss": {}, "confidence": {}}, "FR": {}}}}}
    assert signals(findings, "FT") == ["confidence", "loss", "entropy"]
    assert signals(findings, "FR") == []
    assert role_note({"sizes": {"retrained": 3}}, "retrained") == "the target, mean of 3"
    assert role_note({}, "retrained") == "the target"
