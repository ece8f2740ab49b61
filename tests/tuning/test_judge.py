"""What tuning reads of a model, and how far from a target it is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from made import blobs
from tuning.cases import job, network
from unteach.data import split
from unteach.engine import Engine
from unteach.tuning.judge import Reading, gap, judge_of, mean_of
from unteach.types import Examples, Refusal


def answers(model: torch.nn.Module, examples: Examples) -> np.ndarray:
    with torch.no_grad():
        return np.asarray(model(examples.inputs.float() / 255).double().softmax(1))


def accuracy(model: torch.nn.Module, examples: Examples) -> float:
    return float((answers(model, examples).argmax(1) == examples.labels.numpy()).mean())


def test_accuracies_and_attack_by_hand() -> None:
    model, parts = job()
    retain, validation = parts.retain, parts.validation
    assert retain is not None
    assert validation is not None
    found = judge_of(parts, seed=0, validation=validation)(model, Engine(accelerator="cpu", precision="fp32"))
    assert found is not None
    assert found.retain == pytest.approx(accuracy(model, retain))
    assert found.forget == pytest.approx(accuracy(model, parts.forget))
    assert found.validation == pytest.approx(accuracy(model, validation))

    def confidence(examples: Examples) -> np.ndarray:
        p = answers(model, examples)[np.arange(len(examples)), examples.labels.numpy()]
        return np.asarray(np.log(p) - np.log1p(-p))

    truth = [1] * len(parts.forget) + [0] * len(validation)
    by_hand = roc_auc_score(truth, np.concatenate([confidence(parts.forget), confidence(validation)]))
    assert found.auc == pytest.approx(by_hand, abs=1e-3)
    blind = judge_of(parts, seed=0, validation=None)(model, Engine(accelerator="cpu", precision="fp32"))
    assert blind is not None
    assert blind.validation is None
    truth = [1] * len(retain) + [0] * len(parts.forget)
    by_hand = roc_auc_score(truth, np.concatenate([confidence(retain), confidence(parts.forget)]))
    assert blind.auc == pytest.approx(by_hand, abs=1e-3)


def test_a_forgotten_class_is_compared_with_its_own_kind() -> None:
    data, held = blobs(60), blobs(30, seed=4)
    parts = split(data, data.ids[(data.labels == 1).numpy()].tolist())
    judge = judge_of(parts, seed=0, validation=held)
    assert judge.unseen is not None
    assert judge.validation is not None
    assert judge.unseen.labels.unique().tolist() == [1]
    assert judge.validation.labels.unique().tolist() == [0, 2]
    with pytest.raises(Refusal, match="validation examples of the classes"):
        judge_of(parts, seed=0, validation=held.take(held.labels.numpy() != 1))


def test_the_gap_is_the_notes_formula() -> None:
    one = Reading(retain=0.9, forget=0.8, validation=0.7, auc=0.6)
    other = Reading(retain=1.0, forget=0.6, validation=0.7, auc=0.55)
    assert gap(one, other) == pytest.approx((0.1 + 0.2 + 0.0) / 3 + 0.05)
    assert gap(one, one) == 0
    assert gap(replace(one, validation=None), replace(other, validation=None)) == pytest.approx(0.15 + 0.05)
    assert mean_of([one, other]).forget == pytest.approx(0.7)
    assert mean_of([replace(one, validation=None)]).validation is None


def test_what_no_longer_answers() -> None:
    _, parts = job()
    judge = judge_of(parts, seed=0, validation=parts.validation)
    broken = network()
    for weight in broken.parameters():
        weight.data.fill_(float("nan"))
    assert judge(broken, Engine(accelerator="cpu")) is None
    assert judge.constant == pytest.approx(34 / 100)  # 120 examples of 3 classes, 20 asked for: 7, 7 and 6 are gone
    several = (torch.arange(300).reshape(100, 3) % 4 == 0).float()
    assert parts.retain is not None
    judge = judge_of(replace(parts, retain=replace(parts.retain, labels=several)), seed=0, validation=None)
    assert judge.constant == pytest.approx(0.75)
