"""The readers of checkpoints and of what else holds tensors, with small sound files for each."""

from __future__ import annotations

import io
import json
from collections import OrderedDict
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from fuzz.hostile import Files, Target
from unteach.checkpoint import check_data, load, save
from unteach.data import Augment, DataSet, checked
from unteach.formats import Layout, fit, opened
from unteach.logit_store import LogitStore
from unteach.models import Blueprint, build
from unteach.provenance import Provenance
from unteach.recipe import Recipe
from unteach.resume import Resume
from unteach.train import Sgd
from unteach.types import Examples

NETWORK = Blueprint(name="mlp", classes=2, shape=(3,), arguments={"hidden": [2]})


@cache
def network() -> torch.nn.Module:
    return build(NETWORK, seed=0)


def examples() -> Examples:
    x = np.random.default_rng(0).random((6, 3)).astype(np.float32)
    return checked("made", x, np.arange(6) % 2, classes=("cat", "dog"))


def saved(content: Any, **settings: Any) -> bytes:
    out = io.BytesIO()
    torch.save(content, out, **settings)
    return out.getvalue()


def written(write: Any) -> dict[str, bytes]:
    """The files that a function writes into a folder."""
    with TemporaryDirectory() as folder:
        write(Path(folder))
        return {
            path.relative_to(folder).as_posix(): path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()
        }


def _checkpoints() -> list[Files]:
    told = Provenance(
        classes=["cat", "dog"],
        data="made",
        data_fingerprint=DataSet("made", examples(), examples()).fingerprint,
        trained_on={"count": 4, "digest": "00", "left_out": ["1"], "validation": ["2"]},
        recipe=Recipe(optim=Sgd(epochs=2), augment=Augment(crop=1)).as_json(),
        made_by={"verb": "train"},
        seconds=1.5,
        log=[{"epoch": 1, "loss": 0.5}],
    )
    return [written(lambda folder: save(folder / "model.safetensors", network(), told))]


def _load(folder: Path) -> None:
    found = load(folder / "model.safetensors", data=examples())
    Recipe.from_json(found.provenance.recipe)
    found = check_data(found, DataSet("made", examples(), examples()))
    save(folder / "again.safetensors", found.model, found.provenance, found.layout)


def _pickles() -> list[Files]:
    state = network().state_dict()
    prefixed = OrderedDict((f"module.{name}", value) for name, value in state.items())
    lightning = {"state_dict": prefixed, "epoch": 3, "optimizer_states": [{}], "hyper_parameters": {"lr": 0.1}}
    return [
        {"model.pt": saved(content, _use_new_zipfile_serialization=zipped)}
        for content in (state, lightning)
        for zipped in (True, False)
    ]


def _foreign(folder: Path) -> None:
    held = opened(folder / "model.pt")
    layout: Layout = fit(build(NETWORK, seed=0), held)
    layout.content(network().state_dict())
    layout.notes()


def _stores() -> list[Files]:
    def write(folder: Path) -> None:
        store = LogitStore.open(
            folder,
            ids=np.array(list("abc")),
            labels=np.array([0, 1, 0]),
            groups=np.array(list("xxy")),
            classes=("cat", "dog"),
        )
        members = np.array([True, False, True])
        for key in ("one", "two"):
            store.put(
                key, np.zeros((1, 3, 2), np.float32), members=members, forgotten=~members & members, about={"seed": 1}
            )

    return [written(write)]


def _store(folder: Path) -> None:
    store = LogitStore.existing(folder)
    for key in store.keys():  # noqa: SIM118 - its own
        store.about(key)
        store.logits(key)
    if len(store.keys()) > 1:
        np.asarray(store.signals(store.keys(), ["one"]).logits)
        store.fingerprint(store.keys())


def _states() -> list[Files]:
    model = network()
    return [written(lambda folder: Resume(folder / "a.resume", {"a": 1}).save(model, {"sgd": _sgd()}, [{"loss": 0.5}]))]


def _sgd() -> torch.optim.Optimizer:
    return torch.optim.SGD(network().parameters(), lr=0.1, momentum=0.9)


def _resume(folder: Path) -> None:
    Resume(folder / "a.resume", {"a": 1}).load(build(NETWORK, seed=0), {"sgd": _sgd()})


def _hugging_face() -> list[Files]:
    config = {"image_size": 8, "architectures": ["ViT"]}
    given = {"do_normalize": True, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}
    return [{"config.json": json.dumps(config).encode(), "preprocessor_config.json": json.dumps(given).encode()}]


def _inputs(folder: Path) -> None:
    from unteach.models.libraries import hugging_face_inputs

    hugging_face_inputs(folder, (3, 16, 16)).words()


TARGETS = (
    Target("checkpoint (safetensors)", _checkpoints, _load),
    Target("checkpoint (PyTorch)", _pickles, _foreign),
    Target("logit store", _stores, _store),
    Target("state to go on from", _states, _resume),
    Target("Hugging Face's config", _hugging_face, _inputs),
)
