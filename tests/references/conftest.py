"""A tiny manifest: halves of made data and what is unlearned from them, and processes that start quickly."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from made import blobs
from unteach.data import DataSet
from unteach.methods import FineTune
from unteach.models import Blueprint
from unteach.recipe import Recipe
from unteach.references import Local, run
from unteach.references.cache import Cache, digest_of_array, opened
from unteach.references.manifest import DataSpec, Manifest, in_order, jobs_of
from unteach.references.plan import Halves, Shadows, units_of
from unteach.train import Sgd

Make = Callable[..., Manifest]


@pytest.fixture(scope="session")
def spec(tmp_path_factory: pytest.TempPathFactory) -> DataSpec:
    """150 noisy images to train on and 90 to test on, in an archive."""
    train, test = blobs(150, noise=0.4), blobs(90, seed=1, noise=0.4)
    path = tmp_path_factory.mktemp("data") / "data.npz"
    parts = {"inputs": train.inputs, "labels": train.labels, "test_inputs": test.inputs, "test_labels": test.labels}
    np.savez(path, **{name: tensor.numpy() for name, tensor in parts.items()})
    return DataSpec(spec=f"npz:{path}")


@pytest.fixture(scope="session")
def data(spec: DataSpec) -> DataSet:
    return spec.load()


@pytest.fixture(scope="session")
def blueprint() -> Blueprint:
    return Blueprint(name="small-cnn", classes=3, shape=(1, 8, 8))


@pytest.fixture(scope="session")
def recipe() -> Recipe:
    return Recipe(optim=Sgd(lr=0.1, epochs=3, batch=16))


@pytest.fixture(scope="session")
def make(spec: DataSpec, data: DataSet, blueprint: Blueprint, recipe: Recipe) -> Make:
    """Four halves with one request each: eight models in two stages."""
    plan = Shadows(halves=Halves(models=4), requests=1, size=12)(units_of(240))
    method = FineTune(optim=Sgd(lr=0.02, epochs=1, batch=16))
    jobs = in_order(jobs_of(plan, blueprint=blueprint, recipe=recipe, method=method), data.fingerprint)

    def made(folder: Path, **settings: object) -> Manifest:
        given = {"source": spec, "fingerprint": data.fingerprint, "jobs": jobs, "precision": "fp32"} | settings
        return Manifest(cache=Cache(folder), **given)  # type: ignore[arg-type]

    return made


@pytest.fixture(scope="session")
def whole(make: Make, tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """The manifest, worked off without disturbance."""
    manifest = make(tmp_path_factory.mktemp("whole"))
    assert run(manifest.write(), Local(workers=1, device="cpu")) == []
    return manifest


@pytest.fixture(scope="session")
def logits() -> Callable[[Manifest], dict[str, str]]:
    """The digest of every model's logits, read from the store, and not from the record."""

    def read(manifest: Manifest) -> dict[str, str]:
        store = opened(manifest.cache.logits(manifest.fingerprint, manifest.views))
        return {key: digest_of_array(store.logits(key)) for key in store.keys()}  # noqa: SIM118 - not a dict

    return read
