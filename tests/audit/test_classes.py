"""Class readings in the findings: the numbers of the two tests, one entry a class, and what is missing in words."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from unteach.audit import MiaNn, Roles, audit, findings, neighbour_routing
from unteach.types import Signals

K = 5
NAMES = ("ant", "bee", "cat", "dog", "eel")
ROLES = Roles(original=0, retrained=(1, 2, 3), held_out_retrained=4, unlearned=5)


@dataclass(frozen=True, kw_only=True)
class Request:
    """Whole classes forgotten out of five. Retrained models send their images mostly to bee; ``route`` moves the last's."""

    gone: tuple[int, ...] = (3,)
    route: int = 1
    push: float = 0.0
    test: int = 24  # images per class

    def labels(self) -> np.ndarray:
        return np.concatenate([np.repeat(np.arange(K), 16), np.tile(np.arange(K), self.test)])

    def masks(self) -> dict[str, np.ndarray]:
        trained, of = np.arange(len(self.labels())) < 16 * K, np.isin(self.labels(), self.gone)
        return {"retain": trained & ~of, "forget": trained & of, "test": ~trained}

    def signals(self) -> Signals:
        rng, labels, masks = np.random.default_rng(5), self.labels(), self.masks()
        of = np.isin(labels, self.gone)
        base = rng.normal(size=(len(labels), K)) + 6 * np.eye(K)[labels]
        base[of] = 1.5 * rng.normal(size=(of.sum(), K)) + 1.5 * np.eye(K)[1]
        models = base + 0.3 * rng.normal(size=(6, 1, K)) + 0.5 * rng.normal(size=(6, len(labels), K))
        models[1:, :, list(self.gone)] -= 9
        models[5][of] += self.push * np.eye(K)[self.route]
        models[0][of] += 12 * np.eye(K)[labels[of]]
        members = np.stack([masks["retain"] | (masks["forget"] if m in (0, 5) else False) for m in range(6)])
        forgotten = np.zeros_like(members)
        forgotten[5] = masks["forget"]
        return Signals(tuple("orrrhu"), np.float32(models)[:, None], labels, members, forgotten)

    def audit(self, roles: Roles = ROLES, signals: Signals | None = None, **masks: np.ndarray) -> dict[str, Any]:
        ids = np.array([f"x{i}" for i in range(len(self.labels()))])
        return audit(signals or self.signals(), roles=roles, ids=ids, classes=NAMES, **{**self.masks(), **masks})


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    return Request().audit()


def test_the_numbers_are_those_of_the_two_tests(found):
    request, signals = Request(), Request().signals()
    labels, test, z = signals.labels, request.masks()["test"], signals.logits[:, 0]
    rows, rest = test & (labels == 3), test & (labels != 3)
    model, references = z[5, rows], z[1:5, rows]  # the held-out one is a reference too
    (entry,) = found["classes"]
    assert entry["routing"] == neighbour_routing(model, references, (3,)).as_json()
    leak = MiaNn()(model, references, (3,), retained=z[1:5, rest], labels=labels[rest])
    assert entry["mia_nn"] == leak.as_json()
    assert (entry["class"], entry["neighbour"], entry["why"]) == ("dog", "bee", None)
    assert (entry["images"], entry["references"]) == (24, 4)
    assert entry["routing"]["inside"]
    for role, at in {"original": [0], "retrained": [1, 2, 3], "held_out_retrained": [4], "unlearned": [5]}.items():
        right = z[at].argmax(-1) == labels
        assert entry["accuracy"][role] == pytest.approx(right[:, rows].mean())
        assert entry["retained_accuracy"][role] == pytest.approx(right[:, rest].mean())
    assert entry["accuracy"]["original"] > 0.9
    assert entry["accuracy"]["unlearned"] == 0


def test_answers_are_shares_of_images_the_favourite_first(found):
    z, request = Request().signals().logits[:, 0], Request()
    rows = request.masks()["test"] & (request.labels() == 3)
    (entry,) = found["classes"]
    for role, at in {"unlearned": [5], "retrained": [1, 2, 3, 4]}.items():
        shares = {one["class"]: one[role] for one in entry["answers"]}
        assert sum(shares.values()) == pytest.approx(1)
        for c, name in enumerate(NAMES):
            assert shares.get(name, 0) == pytest.approx((z[at][:, rows].argmax(-1) == c).mean())
    assert entry["answers"][0]["class"] == "bee"
    assert (np.diff([one["retrained"] for one in entry["answers"]]) <= 0).all()


def test_another_route_stands_out():
    (entry,) = Request(route=2, push=9.0).audit()["classes"]
    assert not entry["routing"]["inside"]
    assert entry["routing"]["collapsed"]
    assert not entry["mia_nn"]["inside"]
    assert entry["neighbour"] == "bee"
    assert max(entry["answers"], key=lambda one: one["unlearned"])["class"] == "cat"


def test_readings_are_plain_values_and_move_no_verdict(found, monkeypatch: pytest.MonkeyPatch):
    json.dumps(found["classes"], allow_nan=False)
    with_them = Request(route=2, push=9.0).audit()
    monkeypatch.setattr(findings, "class_readings", lambda *_: [])
    without = Request(route=2, push=9.0).audit()
    assert without == {**with_them, "classes": []}


def test_two_classes_leave_out_both_columns_and_get_an_entry_each():
    request = Request(gone=(0, 3), test=12)
    signals = request.signals()
    entries = request.audit()["classes"]
    assert [(e["class"], e["neighbour"], e["images"]) for e in entries] == [("ant", "bee", 12), ("dog", "bee", 12)]
    z, labels, test = signals.logits[:, 0], signals.labels, request.masks()["test"]
    for entry, c in zip(entries, (0, 3)):
        rows = test & (labels == c)
        assert entry["routing"] == neighbour_routing(z[5, rows], z[1:5, rows], (0, 3)).as_json()
        assert entry["retained_accuracy"]["unlearned"] > 0.9


TWO = Roles(original=0, retrained=(1,), held_out_retrained=2, unlearned=5)
SELF = replace(ROLES, retrained=(1, 2), unlearned=4)  # not its own reference


@pytest.mark.parametrize(
    ("request_", "roles", "why"),
    [
        (Request(), TWO, "it takes 3 retrained models to see their own spread, got 2"),
        (Request(), SELF, "it takes 3 retrained models to see their own spread, got 2"),
        (Request(), replace(ROLES, unlearned=None), "no unlearned model was given"),
        (Request(gone=(0, 1, 2, 3)), ROLES, "fewer than two classes stay"),
        (Request(test=1), ROLES, "it takes 2 test images of dog, got 1"),
    ],
)
def test_what_is_missing_is_said_in_the_entry_and_among_the_skipped(request_, roles, why):
    found = request_.audit(roles)
    entry = found["classes"][-1]
    assert entry["why"].startswith(why)
    assert [entry[key] for key in ("neighbour", "answers", "routing", "mia_nn")] == [None] * 4
    assert entry["accuracy"]["original"] > 0.7
    (told,) = (s["reason"] for s in found["skipped"] if s["metric"] == "neighbour routing and MIA-NN")
    assert why in told


def test_a_class_without_test_images_is_told():
    request = Request()
    test = request.masks()["test"] & (request.labels() != 3)
    (entry,) = request.audit(test=test)["classes"]
    assert entry["why"] == "it takes 2 test images of dog, got 0"
    assert (entry["accuracy"], entry["images"]) == ({}, 0)


def test_a_neighbour_without_test_images_leaves_routing():
    request = Request()
    test = request.masks()["test"] & (request.labels() != 1)
    (entry,) = request.audit(test=test)["classes"]
    assert entry["routing"]["p_value"] > 0
    assert entry["mia_nn"] is None
    assert entry["why"] == "MIA-NN takes test images of bee and of other retained classes, got one kind"


def test_requests_that_are_no_whole_classes_have_no_entry():
    request, signals = Request(), Request().signals()
    some = request.masks()["forget"] & (np.arange(len(signals.labels)) % 2 == 0)
    part = replace(
        signals, members=np.tile(~request.masks()["test"], (6, 1)) & ~some, forgotten=signals.forgotten & some
    )
    part.members[[0, 5]] |= some
    assert request.audit(signals=part, forget=some, retain=~request.masks()["test"] & ~some)["classes"] == []
    many = replace(signals, labels=np.float32(np.eye(K)[signals.labels]))
    assert request.audit(signals=many)["classes"] == []
