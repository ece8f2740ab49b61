"""What is told of a run: flat, and nothing about single records."""

from __future__ import annotations

from typing import Any

import pytest

from unteach.tracking import finals, flattened, shortened

SECRET = "Alice"


@pytest.mark.parametrize(
    ("request_", "kept"),
    [
        ("random:0.1", "random:0.1"),
        ("random:100", "random:100"),
        ("groups:5", "groups:5"),
        ("benchmark", "benchmark"),
        ("", ""),
        ("group:Alice,Bob", "group"),
        ("class:Alice", "class"),
        ("Alice.txt", "file"),
        ("/home/alice/ids.csv", "file"),
        ("C:\\Alice\\ids.csv", "file"),
        ("random:Alice", "file"),
        ("Alice", "file"),
    ],
    ids=str,
)
def test_a_request_is_told_without_who(request_: str, kept: str) -> None:
    assert shortened(request_) == kept


def test_settings_are_flat_and_without_paths_and_names() -> None:
    settings = {
        "checkpoint": "/home/alice/runs/model.safetensors",
        "source": {"data": "folder:/home/alice/photos?label=fine", "data_root": None, "download": False},
        "retrained": ["/home/alice/r1.pt", "r2.pt"],
        "ids": "group:Alice",
        "validation": "",
        "method": {"kind": "Amun", "optim": {"lr": 0.1, "epochs": 5}},
        "model_args": {"ids": 7},
    }
    assert flattened(settings) == {
        "checkpoint": "model.safetensors",
        "source.data": "folder:photos?label=fine",
        "source.download": False,
        "retrained": "r1.pt, r2.pt",
        "ids": "group",
        "method.kind": "Amun",
        "method.optim.lr": 0.1,
        "method.optim.epochs": 5,
        "model_args.ids": 7,
    }


def findings() -> dict[str, Any]:
    """As an audit writes them, with a person's name wherever one can stand."""
    measure = {"name": "accuracy", "part": "forget", "value": 0.5, "target": 0.25, "interval": [0.1, 0.9]}
    game = {"auc": 0.5, "auc_each": [0.5], "roc": [[0.0, 1.0]], "tpr": [{"fpr": 0.01, "skipped": "few"}]}
    return {
        "verdict": "under-forgotten",
        "tier": "smoke: 2 retrained",
        "gaps": {"forget": 1.0, "average": 0.5},
        "cost": {"forget_seconds": 2, "parts": [{"what": "amun", "seconds": 2.0}]},
        "exposed_count": {"unlearned": 3},
        "models": {"unlearned": {"accuracy": {"forget": 1.0}, "games": {"FT": {"confidence": game}}, "seen": True}},
        "measures": [
            measure,
            measure | {"name": "KL", "target": None},
            measure | {"part": SECRET},
            {"name": "RMIA", "reason": "no references"},
        ],
        "exposed": [{"id": SECRET, "score": 2.0}],
        "classes": {SECRET: {"accuracy": 1.0}},
        "sizes": {"forgotten_classes": [SECRET]},
        "method": {"name": "Amun", "settings": {}},
        "request": {"data": "digits", "data_fingerprint": "e9", "spec": f"group:{SECRET}", "ids_digest": "18"},
        "fingerprints": {"unlearned": "01", "retrained 0": "02"},
    }


def test_finals_are_flat_numbers_and_what_the_run_was_about() -> None:
    numbers, tags = finals(findings())
    assert numbers == {
        "gaps/forget": 1.0,
        "gaps/average": 0.5,
        "cost/forget_seconds": 2.0,
        "exposed_count/unlearned": 3.0,
        "models/unlearned/accuracy/forget": 1.0,
        "models/unlearned/games/FT/confidence/auc": 0.5,
        "measures/accuracy/forget/value": 0.5,
        "measures/accuracy/forget/target": 0.25,
        "measures/KL/forget/value": 0.5,
    }
    assert tags["request"] == "group"
    assert (tags["method"], tags["verdict"], tags["unlearned_fingerprint"]) == ("Amun", "under-forgotten", "01")


def test_finals_of_a_bare_audit() -> None:
    bare = {name: findings()[name] for name in ("verdict", "method", "request", "fingerprints")}
    assert finals(bare)[0] == {}


def test_no_name_leaves_the_house() -> None:
    assert SECRET not in str(finals(findings()))
