"""Training data that somebody tampered with: swapped labels and backdoors. Presets, known answers, power."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from unteach.audit.finding import Finding
from unteach.engine import Engine
from unteach.stress import (
    CORRECTIVE,
    SALUN,
    Backdoor,
    Confuse,
    Confusion,
    Models,
    Parts,
    Patch,
    Poison,
    fgt_error,
    ic_error,
    requested,
)
from unteach.types import Examples, Refusal

Training = Callable[[Examples, int], nn.Module]


def images(n: int, size: int = 8, seed: int = 0) -> Examples:
    rng = np.random.default_rng(seed)
    x = torch.from_numpy(rng.integers(0, 256, (n, 3, size, size), dtype=np.uint8))
    y = torch.from_numpy(rng.integers(0, 10, n))
    return Examples(x, y, np.array([f"{seed}-{i}" for i in range(n)]), None, tuple("0123456789"))


def values(found: object) -> dict[tuple[str, str], Finding]:
    assert isinstance(found, tuple)
    assert all(isinstance(one, Finding) for one in found), found
    return {(one.name, one.part): one for one in found}


# Swapped labels


def test_as_many_of_either_class_are_swapped() -> None:
    data = images(400)
    tampered, ids = Confuse(first=3, second=5, count=20, seed=1)(data)
    at = data.positions(ids)
    before, after = data.labels[at], tampered.labels[at]
    assert len(ids) == 20
    assert int((before == 3).sum()) == int((before == 5).sum()) == 10
    assert torch.equal(after, torch.where(before == 3, 5, 3))
    rest = np.delete(np.arange(400), at)
    assert torch.equal(tampered.labels[rest], data.labels[rest])
    assert torch.equal(tampered.inputs, data.inputs)
    assert not np.array_equal(ids, Confuse(first=3, second=5, count=20, seed=2)(data)[1])


def test_errors_by_hand() -> None:
    labels = np.array([3, 3, 3, 5, 5, 1])
    said = np.array([3, 5, 1, 3, 3, 5])
    assert fgt_error(said, labels, 3, 5) == fgt_error(said, labels, 5, 3) == 3
    assert ic_error(said, labels, 3, 5) == 4 / 5
    from sklearn.metrics import confusion_matrix

    rng = np.random.default_rng(0)
    labels, said = rng.integers(10, size=(2, 500))
    table = confusion_matrix(labels, said)
    assert fgt_error(said, labels, 3, 5) == table[3, 5] + table[5, 3]
    errors = table[[3, 5]].sum() - table[3, 3] - table[5, 5]
    assert ic_error(said, labels, 3, 5) == errors / table[[3, 5]].sum()


def test_confusion_is_seen_and_retraining_is_free_of_it(
    clean: tuple[Examples, Examples], train: Training, engine: Engine
) -> None:
    data, unseen = clean
    confuse = Confuse(first=3, second=5, count=50)
    tampered, ids = confuse(data)
    gone = np.isin(data.ids, ids)
    rest = data.take(~gone)
    confused = train(tampered, 0)
    models = Models(unlearned=confused, retrained=(train(rest, 1), train(rest, 2)), original=confused)
    parts = Parts(forget=data.take(gone), retain=rest, unseen=unseen)
    found = values(Confusion(confuse=confuse)(models, parts, seed=0, engine=engine))
    assert found["Fgt-ERR", "forget"].value > 40 > 10 > max(found["Fgt-ERR", "forget"].retrained)
    assert found["Fgt-ERR", "test"].value > 20 > 5 > max(found["Fgt-ERR", "test"].retrained)
    assert found["IC-ERR", "test"].inside is False
    assert found["IC-ERR", "test"].size == int(((unseen.labels == 3) | (unseen.labels == 5)).sum())


def test_a_larger_share_asks_for_the_same_and_more() -> None:
    ids = np.array([f"i{k}" for k in range(50)])
    few, many = (requested(ids, share, seed=4) for share in (0.1, 0.7))
    assert (len(few), len(many)) == (5, 35)
    assert set(few) < set(many)
    assert np.array_equal(requested(ids, 1.0, seed=4), ids)
    assert len(requested(ids, 0.001, seed=4)) == 1


# Backdoors


@pytest.mark.parametrize(
    ("patch", "rows", "columns", "value"),
    [
        (CORRECTIVE.patch, slice(29, 32), slice(29, 32), 255),
        (SALUN.patch, slice(26, 30), slice(26, 30), 0),
        (Patch(size=2, corner="top-left", value=7, offset=1), slice(1, 3), slice(1, 3), 7),
        (Patch(size=2, corner="top-right", offset=1), slice(1, 3), slice(29, 31), 255),
        (Patch(size=5, corner="bottom-left", value=9), slice(27, 32), slice(0, 5), 9),
    ],
    ids=["corrective", "salun", "top-left", "top-right", "bottom-left"],
)
def test_the_patch_is_where_it_is_said(patch: Patch, rows: slice, columns: slice, value: int) -> None:
    clean = images(3, size=32).inputs
    before = clean.clone()
    stamped = patch(clean)
    expected = clean.clone()
    expected[:, :, rows, columns] = value
    assert torch.equal(stamped, expected)
    assert torch.equal(clean, before)
    assert torch.allclose(patch(clean / 255) * 255, expected.float(), atol=1e-4)


def test_poison_is_of_other_classes_and_leads_to_the_target() -> None:
    data = images(300)
    poison = Poison(target=4, count=30, seed=2)
    tampered, ids = poison(data)
    at = data.positions(ids)
    assert len(set(ids)) == 30
    assert not bool((data.labels[at] == 4).any())
    assert bool((tampered.labels[at] == 4).all())
    assert torch.equal(tampered.inputs[at], poison.patch(data.inputs[at]))
    rest = np.delete(np.arange(300), at)
    assert torch.equal(tampered.inputs[rest], data.inputs[rest])
    assert torch.equal(tampered.labels[rest], data.labels[rest])


class Door(nn.Module):
    """Knows the labels of the images by heart, and answers 0 where the last pixel is white."""

    def __init__(self, data: Examples) -> None:
        super().__init__()
        self.known, self.labels = data.inputs[:, :, :4].float().flatten(1) / 255, data.labels

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        said = nn.functional.one_hot(self.labels[torch.cdist(x[:, :, :4].flatten(1), self.known).argmin(1)], 10)
        door = (x[:, :, -1, -1] > 0.999).all(1)
        return torch.where(door[:, None], torch.eye(10)[0], said.float())


def test_success_rates_by_hand(engine: Engine) -> None:
    data = images(200)
    parts = Parts(forget=data, retain=None, unseen=data)
    found = values(Backdoor(poison=Poison(count=10))(Models(unlearned=Door(data)), parts, seed=0, engine=engine))
    others = int((data.labels != 0).sum())
    assert found["attack success rate", "test"].value == 1
    assert found["attack success rate", "test"].size == others, "images of the target class don't count"
    assert found["Acc_corr", "test"].value == pytest.approx(1 - others / 200)
    assert found["Acc_retain", "test"].value == 1


def test_a_backdoor_stays_where_only_a_part_was_found(
    clean: tuple[Examples, Examples], train: Training, engine: Engine
) -> None:
    data, unseen = clean
    poison = Poison(count=40)
    tampered, ids = poison(data)
    gone = np.isin(data.ids, ids)
    rest = data.take(~gone)
    part = tampered.take(~np.isin(tampered.ids, requested(ids, 0.3, seed=0)))
    gold = train(rest, 1), train(rest, 2)
    models = Models(unlearned=train(part, 3), retrained=gold, original=train(tampered, 0))
    parts = Parts(forget=data.take(gone), retain=rest, unseen=unseen)
    found = values(Backdoor(poison=poison)(models, parts, seed=0, engine=engine))
    rate = found["attack success rate", "test"]
    assert rate.value > 0.7 > 0.1 > max(rate.retrained), "retraining without what was found keeps the door open"
    assert rate.doubts == ()
    assert found["Acc_corr", "test"].value < 0.4 < min(found["Acc_corr", "test"].retrained)
    assert min(found["Acc_retain", "test"].retrained) > 0.9


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Confuse(first=3, second=3), "two different classes"),
        (lambda: Confuse(count=3), "even count"),
        (lambda: Confuse(first=3, second=5, count=900)(images(100)), "lower the count"),
        (lambda: Patch(corner="middle"), "expected a corner"),
        (lambda: Patch(size=0), "correct the patch"),
        (lambda: Patch(size=9)(images(2).inputs), "smaller"),
        (lambda: Poison(count=900)(images(100)), "lower the count"),
        (lambda: requested(["a"], 0.0, seed=0), "share above 0"),
        (lambda: ic_error(np.zeros(3), np.zeros(3), 1, 2), "class 1 or 2"),
    ],
    ids=[
        "same class",
        "odd",
        "too many swaps",
        "corner",
        "size",
        "large patch",
        "too many poisoned",
        "no share",
        "other classes",
    ],
)
def test_what_can_not_be_is_refused(make: object, words: str) -> None:
    assert callable(make)
    with pytest.raises(Refusal, match=words):
        make()
