"""A finished forget run of a tiny network, made without training anything."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch

from unteach.provenance import Provenance
from unteach.store import fingerprint, save_tensors
from unteach.verbs import Evidence

SALT = b"sixteen bytes or more of salt"
IDS = ["anna-17", "bert-4711", "ćilić", "photos/4.jpeg"]


def network(seed: int) -> torch.nn.Module:
    torch.manual_seed(seed)
    return torch.nn.Sequential(
        torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2), torch.nn.Flatten(), torch.nn.Linear(8, 3)
    )


def findings(before: str, after: str) -> dict[str, Any]:
    far = {"difference": -0.01, "low": -0.05, "high": 0.03, "margin": 0.02, "detectable": 0.07, "state": "unsettled"}
    return {
        "verdict": "inconclusive",
        "summary": "This audit cannot decide.",
        "sizes": {"retrained": 2},
        "comparisons": {"unlearned": [{"quantity": "forget accuracy", **far}]},
        "controls": {
            "original_caught": {"passed": True, "sentence": "It is."},
            "hard_tests": {"passed": None, "sentence": "-"},
        },
        "cost": {"forget_seconds": 1.5, "forget_epochs": 2.0, "retrain_seconds": 9.0, "parts": []},
        "request": {"forget": len(IDS), "data_fingerprint": "d" * 64, "spec": "ids.txt"},
        "fingerprints": {"unlearned": after, "original": before},
        "exposed": [{"id": IDS[0]}],
    }


def make_run(
    folder: Path,
    original: Path,
    before: torch.nn.Module,
    after: torch.nn.Module,
    held: Mapping[str, torch.Tensor] | None = None,
) -> Path:
    """The files of a run that made ``after`` of ``before``, which lies at ``original``.

    ``held``: the weights that came out as their file holds them, where it does not as the network does.
    """
    folder.mkdir(parents=True)
    told = Provenance(
        data="made",
        data_fingerprint="d" * 64,
        parent=fingerprint(before),
        trained_on={"count": 9, "left_out": IDS},
        made_by={"method": "FineTune", "settings": {"optim": {"lr": 0.1}}},
        environment={"torch": "2"},
    )
    save_tensors(folder / "model.safetensors", held or after.state_dict(), asdict(told))
    texts = {
        "forget.txt": "".join(f"{name}\n" for name in IDS),
        "settings.json": json.dumps({"checkpoint": str(original), "ids": "/home/me/ids.txt", "seed": 3}),
        "findings.json": json.dumps(findings(fingerprint(before), fingerprint(after))),
        "report.html": "<p>report",
        "events.jsonl": "{}\n",
    }
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with original.safetensors, salt, and the run with unsigned evidence."""
    folder = tmp_path_factory.mktemp("kept")
    save_tensors(folder / "original.safetensors", network(0).state_dict(), {})
    make_run(folder / "run", folder / "original.safetensors", network(0), network(1))
    (folder / "salt").write_bytes(SALT)
    assert Evidence(run=folder / "run", salt=folder / "salt")() == 0
    return folder


@pytest.fixture
def copied(kept: Path, tmp_path: Path) -> Path:
    """A copy of it to do harm to."""
    return Path(shutil.copytree(kept, tmp_path / "kept"))


@pytest.fixture(scope="session")
def tiny() -> Callable[[int], torch.nn.Module]:
    return network


@pytest.fixture(scope="session")
def run_maker() -> Callable[..., Path]:
    return make_run
