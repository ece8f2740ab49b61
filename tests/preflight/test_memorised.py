"""What was learnt by heart is seen, what was not is not, and a class is another matter."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from made import blobs
from unteach.audit.games import Pools
from unteach.data import DataSet
from unteach.preflight.memorised import _standing_out, find_memorised


class Heart(torch.nn.Module):
    """Knows some images by heart and guesses at others, the guess being a fixed function of the pixels."""

    def __init__(self, images: torch.Tensor, labels: torch.Tensor) -> None:
        super().__init__()
        self.known = torch.nn.Parameter(images.flatten(1).float() / 255)
        self.labels = labels

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.flatten(1)
        logits = torch.sin(1000 * x[:, :3] + x.sum(1, keepdim=True))
        near = torch.cdist(x, self.known, compute_mode="donot_use_mm_for_euclid_dist").min(1)
        return logits + 10 * (near.values < 1e-3)[:, None] * torch.nn.functional.one_hot(self.labels[near.indices], 3)


def test_what_is_known_by_heart_is_seen(make: Any, data: DataSet) -> None:
    (found,) = find_memorised(make(Heart(data.train.inputs, data.train.labels), data))
    assert found.level == "fine"
    assert found.numbers["auc"] == 1
    assert (found.numbers["above"], found.numbers["asked"], found.numbers["unseen_above"]) == (10, 10, 0)


def test_what_is_not_known_is_told_not_to_be(make: Any) -> None:
    test = blobs(600, seed=1, noise=0.3)
    many = DataSet("many", blobs(900, noise=0.3), replace(test, ids=np.array([f"test-{i}" for i in range(600)])))
    others = many.train.take(np.arange(500, 900))
    (found,) = find_memorised(make(Heart(others.inputs, others.labels), many, [str(i) for i in range(500)]))
    assert found.level == "warn"
    assert found.sentence.startswith("Nothing of the request")
    assert float(found.numbers["low"] or 0) < 0.5 < float(found.numbers["high"] or 0)
    assert int(found.numbers["above"] or 0) < 50
    assert "proves nothing" in found.do


def test_few_examples_say_nothing(make: Any, data: DataSet) -> None:
    others = data.train.take(np.arange(40, 120))
    (found,) = find_memorised(make(Heart(others.inputs, others.labels), data, [str(i) for i in range(10)]))
    assert found.level == "note"
    assert "10 examples are too few" in found.sentence


def test_of_a_class_the_class_is_what_is_known(make: Any, model: torch.nn.Module, data: DataSet) -> None:
    ids = [str(name) for name in data.train.ids[(data.train.labels == 2).numpy()]]
    known, game = find_memorised(make(model, data, ids))
    right = model((data.test.inputs / 255)[data.test.labels == 2]).argmax(1)
    assert known.numbers["class_accuracy"] == float((right == 2).double().mean())
    assert game.level in ("note", "fine")
    assert game.numbers["asked"] == 40


@given(st.lists(st.integers(0, 9), min_size=1, max_size=8), st.lists(st.integers(0, 9), min_size=1, max_size=8))
def test_the_threshold_is_the_best_of_all(retain: list[int], unseen: list[int]) -> None:
    phi = np.array([*retain, *unseen], dtype=float)
    rows = np.arange(len(phi))
    pool = Pools(
        retain=rows[: len(retain)],
        forget=rows[: len(retain)],
        test=rows[len(retain) :],
        unseen=rows[len(retain) :],
        forgotten_classes=(),
        groups=None,
    )
    high, share = _standing_out(phi, pool)
    best = max(float(np.mean(np.array(retain) >= cut) - np.mean(np.array(unseen) >= cut)) for cut in (*retain, *unseen))
    assert np.isclose(high / len(retain) - share, best)
