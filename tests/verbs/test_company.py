"""The strongest tiers in small: every population of models is made, read by its measure, and reused by a stronger tier."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from made import blobs
from unteach.audit.finding import Finding
from unteach.checkpoint import Checkpoint
from unteach.data import DataSet, split
from unteach.engine import Engine
from unteach.methods import Dau, FineTune, Trw
from unteach.models import Blueprint
from unteach.recipe import Recipe
from unteach.references import TrainingJob
from unteach.references.executors import Local
from unteach.references.manifest import DataSpec
from unteach.references.tiers import TIERS, Company, Tier
from unteach.train import Sgd
from unteach.types import Split
from unteach.verbs.company import measures_of, pressed, references_of, retrained_of
from unteach.verbs.depth import Depth, cost_of

SMALL = Tier(retrained=2, halves=6, shadows=6, requests=2, size=6, ensemble=6, worlds=9, targets=9)
RECIPE = Recipe(optim=Sgd(lr=0.1, epochs=3, batch=32))
METHOD = FineTune(optim=Sgd(lr=0.05, epochs=1, batch=32))


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> DataSpec:
    train, test = blobs(150, noise=0.5), blobs(60, seed=1, noise=0.5)
    path = tmp_path_factory.mktemp("data") / "data.npz"
    arrays = {"inputs": train.inputs, "labels": train.labels, "test_inputs": test.inputs, "test_labels": test.labels}
    np.savez(path, **{name: tensor.numpy() for name, tensor in arrays.items()})
    return DataSpec(spec=f"npz:{path}")


@pytest.fixture(scope="module")
def data(source: DataSpec) -> DataSet:
    return source.load()


@pytest.fixture(scope="module")
def parts(data: DataSet) -> Split:
    return split(data.train, data.train.ids[:30].tolist())


@pytest.fixture(scope="module")
def original(data: DataSet, tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    job = TrainingJob(blueprint=Blueprint(name="small-cnn", classes=3, shape=(1, 8, 8)), recipe=RECIPE, seed=0)
    return job(data, tmp_path_factory.mktemp("original") / "model.safetensors", Engine(accelerator="cpu"))


@pytest.fixture(scope="module")
def company(source, data, parts, original, tmp_path_factory: pytest.TempPathFactory) -> Company:  # type: ignore[no-untyped-def]
    """All models of the small tier, made."""
    depth, cache = Depth(tier="smoke", executor=Local(workers=1, device="cpu")), tmp_path_factory.mktemp("cache")
    planned = depth.company(data, source, original, RECIPE, parts, METHOD, 0, "fp32", cache)
    return depth.gather(replace(planned, tier=SMALL), original, Engine(accelerator="cpu"))


def named(parts: Split, data: DataSet) -> dict[str, object]:
    return {"forget": parts.forget, "retain": parts.retain, "test": data.test}


def test_populations_are_as_planned(company: Company) -> None:
    counts = {kind: len(company.keys(kind)) for kind in ("retrained", "halves", "shadows", "unlearned", "worlds")}
    assert counts == {"retrained": 6, "halves": 6, "shadows": 6, "unlearned": 6, "worlds": 9}
    assert [len(company.keys(kind, children=True)) for kind in ("shadows", "unlearned", "worlds")] == [12, 6, 9]
    assert company.keys("shadows") == company.keys("halves"), "shadows are made of the same halves"
    assert company.targets is not None
    assert 12 <= company.targets.sum() <= 18
    assert not company.targets[~company.trained].any()
    assert len(retrained_of(company)) == 2
    for plan in (company.plan("shadows"), company.plan("worlds")):
        assert not (plan.forgotten & ~plan.members).any()


def test_the_references_are_read_on_the_audits_examples(company: Company, parts: Split, data: DataSet) -> None:
    ids = np.concatenate([data.test.ids[:7], parts.forget.ids[:5]])
    signals = references_of(company, ids)
    assert signals is not None
    assert signals.logits.shape == (6, 1, 12, 3)
    assert (signals.members.sum(0) == 3).all(), "every example is in half of the halves"
    assert signals.labels.tolist() == [*data.test.labels[:7].tolist(), *parts.forget.labels[:5].tolist()]
    assert references_of(replace(company, tier=TIERS["quick"]), ids) is None


def test_every_population_is_measured(company: Company, parts: Split, data: DataSet) -> None:
    found = {one.name: one for one in measures_of(company, named(parts, data), 0)}  # type: ignore[arg-type]
    for name in (
        "forgetting quality F",
        "U-LiRA (against unlearned models) AUC",
        "RULI privacy AUC",
        "RULI efficacy AUC",
    ):
        assert isinstance(found[name], Finding), (name, sorted(found))
    drawn = found["median ε of examples"].histogram  # type: ignore[union-attr]
    assert drawn is not None
    assert sum(drawn["judged"]) == pytest.approx(1) == sum(drawn["retrained"])
    assert "50 models a side" in found["KLoM, all models"].reason  # type: ignore[union-attr]


def test_a_tier_without_a_method_says_what_is_missing(company: Company, parts: Split, data: DataSet) -> None:
    unknown = replace(company, method=None, targets=None)
    (skipped,) = measures_of(unknown, named(parts, data), 0)  # type: ignore[arg-type]
    assert "its method is not known" in skipped.reason  # type: ignore[union-attr]
    assert unknown.keys("unlearned", children=True) == ()
    assert unknown.words() == "2 retrained, 6 on random halves", "the report must not name models that were not made"
    assert "6 originals made to forget" in company.words()


def test_a_method_of_whole_classes_has_no_shadows(company: Company, parts: Split, data: DataSet) -> None:
    of_classes = replace(company, method=Trw())
    assert [of_classes.has(kind) for kind in ("unlearned", "shadows", "worlds")] == [True, False, False]


def test_a_method_that_needs_validation_data_makes_no_others(
    source: DataSpec, data: DataSet, original: Checkpoint, parts: Split, tmp_path: Path
) -> None:
    planned = Depth(tier="strong").company(data, source, original, RECIPE, parts, Dau(), 0, "fp32", tmp_path)
    assert planned.method is None
    assert not planned.has("unlearned")


def test_a_stronger_tier_reuses_what_a_weaker_one_made(company: Company, original: Checkpoint) -> None:
    stronger = replace(company, tier=replace(SMALL, halves=8))
    assert cost_of(company, original).models == 0
    assert cost_of(stronger, original).models == 2


def test_behaviour_is_tested_where_the_tier_says_so(company: Company, parts: Split, original: Checkpoint) -> None:
    engine = Engine(accelerator="cpu")
    (skipped,) = pressed(company, original, original, parts, 0, engine)
    assert skipped.name == "tests of behaviour"
    before = [one.fingerprint for one in (original, *retrained_of(company))]
    tested = pressed(replace(company, tier=replace(SMALL, pressed=True)), original, original, parts, 0, engine)
    names = {one.name for one in tested}
    assert {
        "robust accuracy",
        "1 − linear CKA of the last layer's input",
        "accuracy after 10 relearning steps",
    } <= names
    assert before == [one.fingerprint for one in (original, *retrained_of(company))]
