"""Jobs: their keys, what they are trained on, and when they are done."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from unteach.data import DataSet
from unteach.engine import Engine
from unteach.methods import METHODS
from unteach.models import Blueprint
from unteach.recipe import Recipe
from unteach.references import TrainingJob
from unteach.references.job import of_pool
from unteach.references.pool import chosen, ids_of, pack, unpack
from unteach.references.unlearning import UnlearningJob, settled
from unteach.store import digest_of, load_tensors
from unteach.types import Refusal


@given(st.lists(st.booleans(), min_size=1, max_size=70))
def test_packed_masks_come_back(marks: list[bool]) -> None:
    mask = np.array(marks)
    assert (unpack(pack(mask), len(mask)) == mask).all()
    with pytest.raises(Refusal, match="plan anew"):
        unpack(pack(mask), len(mask) + 8)


def test_a_half_of_70_000_takes_12_kb() -> None:
    assert len(pack(np.arange(70_000) % 2 == 0)) < 12_000


def test_the_pool_is_the_training_set_and_then_the_test_set(data: DataSet) -> None:
    mask = np.zeros(240, dtype=bool)
    mask[[3, 149, 150, 239]] = True
    found = chosen(data, mask)
    assert found.ids.tolist() == ["3", "149", "test-0", "test-89"]
    assert torch.equal(found.inputs[2:], data.test.inputs[[0, 89]])
    assert found.labels.tolist() == [data.train.labels[3], data.train.labels[149], *data.test.labels[[0, 89]]]
    assert ids_of(data)[mask].tolist() == found.ids.tolist()
    with pytest.raises(Refusal, match="share no id, got 150 in both"):
        ids_of(replace(data, test=data.train))


def test_keys_of_trainings_without_ids_are_as_ever(data: DataSet, blueprint: Blueprint, recipe: Recipe) -> None:
    job = TrainingJob(blueprint=blueprint, recipe=recipe, seed=3, left_out=("7", "5"), validation=("9",))
    told = [blueprint.as_json(), recipe.as_json(), 3, ["5", "7", "9"], data.fingerprint]
    assert job.key(data.fingerprint) == digest_of(told)
    assert (np.flatnonzero(~job.members(data)) == [5, 7, 9, *range(150, 240)]).all()


def weights(path: Path) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in load_tensors(path)[0].items()}  # the file is mapped


def test_members_of_the_pool_train_as_ids_left_out_do(
    data: DataSet, blueprint: Blueprint, recipe: Recipe, tmp_path: Path
) -> None:
    by_ids = TrainingJob(blueprint=blueprint, recipe=recipe, seed=1, left_out=("0", "4", "8"))
    by_pool = TrainingJob(blueprint=blueprint, recipe=recipe, seed=1, kept=pack(by_ids.members(data)))
    engine = Engine(accelerator="cpu", precision="fp32")
    one, other = by_ids(data, tmp_path / "a.safetensors", engine), by_pool(data, tmp_path / "b.safetensors", engine)
    assert all(torch.equal(w, weights(other.path)[name]) for name, w in weights(one.path).items())
    assert by_ids.key("") != by_pool.key("")
    same = {name: value for name, value in one.provenance.trained_on.items() if name != "kept"}
    assert other.provenance.trained_on == same, "and its checkpoint says so in the same words"


def test_what_a_half_was_trained_on_is_told_in_bits(data: DataSet) -> None:
    members = np.arange(240) % 2 == 0
    told = of_pool(data, members)
    assert told["count"] == 120
    assert (unpack(told["pool"], 240) == members).all()
    assert "left_out" not in told


def test_either_ids_or_members(blueprint: Blueprint, recipe: Recipe) -> None:
    with pytest.raises(Refusal, match="got both"):
        TrainingJob(blueprint=blueprint, recipe=recipe, seed=0, kept="gA==", left_out=("1",))


def test_jobs_come_back_from_their_json(blueprint: Blueprint, recipe: Recipe) -> None:
    for more in ({}, {"left_out": ("1", "2"), "validation": ("3",)}, {"kept": "gA=="}):
        job = TrainingJob(blueprint=blueprint, recipe=recipe, seed=0, **more)  # type: ignore[arg-type]
        assert TrainingJob.from_json(job.as_json()) == job


@pytest.mark.parametrize("name", METHODS)
def test_every_method_makes_an_unlearning_job(name: str, blueprint: Blueprint, recipe: Recipe) -> None:
    parent = TrainingJob(blueprint=blueprint, recipe=recipe, seed=0)
    method = settled(METHODS[name](), recipe)
    job = UnlearningJob(parent=parent, method=method, forgotten="gA==", seed=5)
    again = UnlearningJob.from_json(job.as_json(), parent)
    assert again == job
    assert again.key("data") == job.key("data")
    others = [replace(job, seed=6), replace(job, forgotten="QA=="), replace(job, parent=replace(parent, seed=1))]
    assert len({each.key("data") for each in [job, *others]}) == 4
    assert job.key("data") != job.key("other data")


def test_what_a_method_leaves_open_is_the_recipes(recipe: Recipe) -> None:
    assert settled(METHODS["retrain"](), recipe).training is recipe  # type: ignore[attr-defined]


def test_the_largest_seed_trains(data: DataSet, blueprint: Blueprint, recipe: Recipe, tmp_path: Path) -> None:
    kept = pack(np.arange(240) < 12)
    job = TrainingJob(blueprint=blueprint, recipe=recipe, seed=2**31 - 1, kept=kept)
    job(data, tmp_path / "model.safetensors", Engine(accelerator="cpu", precision="fp32"))


def test_a_damaged_file_is_made_again(data: DataSet, blueprint: Blueprint, recipe: Recipe, tmp_path: Path) -> None:
    job = TrainingJob(blueprint=blueprint, recipe=recipe, seed=0)
    path, engine = tmp_path / "model.safetensors", Engine(accelerator="cpu", precision="fp32")
    first = weights(job(data, path, engine).path)
    path.write_bytes(path.read_bytes()[:-7])
    again = weights(job(data, path, engine).path)
    assert all(torch.equal(again[name], tensor) for name, tensor in first.items())


def test_forgetting_what_was_never_seen_is_refused(
    data: DataSet, blueprint: Blueprint, recipe: Recipe, tmp_path: Path
) -> None:
    some = np.arange(240) < 100
    parent = TrainingJob(blueprint=blueprint, recipe=recipe, seed=0, kept=pack(some))
    engine: Any = Engine(accelerator="cpu", precision="fp32")
    for forgotten in (np.arange(240) > 90, np.zeros(240, dtype=bool)):
        job = UnlearningJob(parent=parent, method=METHODS["finetune"](), forgotten=pack(forgotten), seed=0)
        with pytest.raises(Refusal, match="trained on, got"):
            job(data, tmp_path / "new.safetensors", engine, original=tmp_path / "old.safetensors")
    assert not (tmp_path / "new.safetensors").exists()
