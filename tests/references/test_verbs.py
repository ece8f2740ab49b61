"""`unteach references` and `unteach cache`: what they say, what they refuse, and what is deleted."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from unteach.checkpoint import load
from unteach.cli import parse
from unteach.data import DataSet
from unteach.engine import Engine
from unteach.provenance import environment
from unteach.references import TrainingJob
from unteach.references.cache import Cache
from unteach.references.executors import Local
from unteach.references.forecast import forecast
from unteach.references.manifest import DataSpec, Manifest, jobs_of, read
from unteach.references.plan import Halves, units_of
from unteach.references.stages import run
from unteach.types import Refusal
from unteach.verbs.cache import CacheRun
from unteach.verbs.references import References

HERE = ("--executor.workers", "1", "--executor.device", "cpu", "--precision", "fp32", "--recipe.optim.epochs", "2")


@pytest.fixture
def ask(spec: DataSpec, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """One call of `unteach references` in this process; returns what it said."""

    def asked(*arguments: object) -> str:
        given = ["--data", spec.spec, "--folder", str(tmp_path), *HERE, *(str(argument) for argument in arguments)]
        assert parse(References, "unteach references", given)() == 0
        return capsys.readouterr().out

    return asked


def test_references_are_planned_told_and_made_once(ask: Callable[..., str], tmp_path: Path) -> None:
    wanted = ("--halves", 4, "--retrains", 1, "--ids", "random:9")
    assert ask(*wanted, "--list_only", "true") == (
        "5 models planned, 5 missing; how long they take is known when the first of each kind is made\n"
    )
    assert not Cache(tmp_path).records()
    assert [path.name for path in tmp_path.iterdir()] == ["clusters"]
    assert f"all 2 models are in {tmp_path}" in ask("--halves", 2)
    said = ask(*wanted, "--list_only", "true")
    assert re.fullmatch(r"5 models planned, 3 missing: about 0\.\d minutes here \(measured on 2 models of .*\)\n", said)
    assert "all 5 models" in ask(*wanted)
    assert ask(*wanted, "--list_only", "true") == "5 models planned, none missing\n"
    for path in (tmp_path / "manifests").iterdir():
        assert read(path).left() == []


def test_a_share_says_what_is_left(ask: Callable[..., str], tmp_path: Path, spec: DataSpec) -> None:
    given = ["--data", spec.spec, "--folder", str(tmp_path), "--recipe.optim.epochs", "1", "--halves", "2"]
    given += [
        "--executor.kind",
        "shard",
        "--executor.index",
        "1",
        "--executor.of",
        "2",
        "--executor.local.device",
        "cpu",
    ]
    assert parse(References, "unteach references", given)() == 0
    assert len(Cache(tmp_path).records()) == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "expected models to make"),
        (("--retrains", "2"), "expected --ids"),
        (("--halves", "3"), "even number"),
        (("--halves", "2", "--mirror", "true"), "training images that are mirrored"),
        (("--halves", "2", "--model", "nothing"), "model name"),
        (("--halves", "2", "--executor.kind", "cloud"), "local, shard, ray, slurm"),
        (("--shadows", "2", "--halves", "2"), "500 members to forget"),
        (("--shadows", "2"), "even number of halves"),
        (("--worlds", "3", "--ids", "class:0", "--seed", "-1"), "--seed"),
    ],
    ids=lambda value: "-".join(value).replace("--", "") if isinstance(value, tuple) else "",
)
def test_what_is_refused(arguments: tuple[str, ...], words: str, ask: Callable[..., str], tmp_path: Path) -> None:
    with pytest.raises(Refusal, match=words):
        ask(*arguments)
    assert not Cache(tmp_path).records()
    assert {path.name for path in tmp_path.iterdir()} <= {"clusters"}


def test_shadows_and_worlds_are_planned(ask: Callable[..., str]) -> None:
    said = ask(
        "--shadows", 2, "--halves", 4, "--shadow_size", 10, "--worlds", 6, "--ids", "random:30", "--list_only", "true"
    )
    assert said.startswith(f"{4 + 8 + 12} models planned")


def test_a_checkpoint_tells_network_recipe_and_what_stays_unseen(
    ask: Callable[..., str], spec: DataSpec, data: DataSet, blueprint: Any, recipe: Any, tmp_path: Path
) -> None:
    path = tmp_path / "original" / "model.safetensors"
    engine = Engine(accelerator="cpu", precision="fp32")
    TrainingJob(blueprint=blueprint, recipe=recipe, seed=0, left_out=("5",), validation=("6",))(data, path, engine)
    given = ["--data", spec.spec, "--folder", str(tmp_path / "cache"), "--checkpoint", str(path), "--ids", "random:9"]
    given += ["--retrains", "1", "--precision", "fp32", "--executor.device", "cpu", "--executor.workers", "1"]
    assert parse(References, "unteach references", given)() == 0
    [record] = Cache(tmp_path / "cache").records()
    assert record.examples == 150 - 2 - 9
    made = load(tmp_path / "cache" / "weights" / f"{record.key}.safetensors", data=data.train)
    assert made.provenance.recipe == recipe.as_json()


def test_a_forecast_is_the_sum_of_what_was_measured(
    make: Any, data: DataSet, blueprint: Any, recipe: Any, tmp_path: Path
) -> None:
    plan = Halves(models=6)(units_of(240))
    manifest: Manifest = make(tmp_path, jobs=jobs_of(plan, blueprint=blueprint, recipe=recipe))
    left = manifest.left()
    assert forecast(manifest, left, data).unknown == 6

    engine = Engine(accelerator="cpu", precision="fp32")
    path = tmp_path / "model.safetensors"
    job = TrainingJob(blueprint=blueprint, recipe=recipe, seed=0)
    original = job(data, path, engine)
    story = original.provenance
    per_example = story.seconds / (150 * 3)
    found = forecast(manifest, left, data, original)
    assert found.unknown == 0
    assert found.seconds == pytest.approx(6 * per_example * 3 * 120)
    assert "scoring not in it" in found.words(2)
    elsewhere = replace(original, provenance=replace(story, environment={"processor": "another"}))
    assert forecast(manifest, left, data, elsewhere).unknown == 6

    run(replace(manifest, jobs=manifest.jobs[:2]).write(), Local(workers=1, device="cpu"))
    records = manifest.cache.records()
    for record, seconds in zip(records, (2.0, 4.0)):
        assert record.environment["processor"] == environment()["processor"]
        manifest.cache.put(replace(record, seconds=seconds, units=360.0, scoring=0.5))
    found = forecast(manifest, manifest.left(), data, original)
    assert (found.models, found.unknown) == (4, 0)
    assert found.seconds == pytest.approx(4 * (3.0 + 0.5))
    assert "about 0.1 minutes here, 2 at a time (measured on 2 models" in found.words(2)


@pytest.fixture
def filled(make: Any, tmp_path: Path) -> Manifest:
    """A half, its other half, and what was unlearned from each."""
    whole: Manifest = make(tmp_path)
    manifest = replace(whole, jobs=(whole.jobs[0], whole.jobs[1], whole.jobs[4], whole.jobs[5]))
    assert run(manifest.write(), Local(workers=1, device="cpu")) == []
    return manifest


def test_the_cache_tells_what_it_holds(
    filled: Manifest, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    assert CacheRun(folder=tmp_path)() == 0
    said = capsys.readouterr().out
    megabytes = sum(record.bytes for record in filled.cache.records()) / 1e6
    assert re.search(r"training +data.npz +small-cnn +2 ", said), said
    assert re.search(r"\n +\w{8} +\w{8} +\n", said), "fingerprint and recipe stand below"
    assert re.search(r"FineTune +data.npz +small-cnn +2 ", said)
    assert re.search(r"all +4 ", said)

    before = sorted(tmp_path.rglob("*"))
    for what, count, size in (("models", 4, megabytes), ("weights", 4, None), ("leftovers", 0, 0.0)):
        CacheRun(folder=tmp_path, drop=what)()
        said = capsys.readouterr().out.splitlines()[-1]
        assert said.startswith(f"{count} "), said
        assert said.endswith("would be deleted with --delete true")
        assert size is None or f"{size:.1f} MB" in said
    assert sorted(tmp_path.rglob("*")) == before


def test_what_is_dropped_is_gone_and_comes_back(filled: Manifest, tmp_path: Path) -> None:
    first = {record.key: record.logits for record in filled.cache.records()}
    CacheRun(folder=tmp_path, drop="models", kind="unlearning", delete=True)()
    assert filled.left() == [2, 3]
    assert not filled.cache.weights(filled.keys[2]).exists()
    CacheRun(folder=tmp_path, drop="weights", delete=True)()
    assert not list((tmp_path / "weights").iterdir())
    assert replace(filled, keep_weights=False, jobs=filled.jobs[:2]).left() == [], "logits stayed"
    CacheRun(folder=tmp_path, drop="models", only_data="0" * 8, delete=True)()
    CacheRun(folder=tmp_path, drop="models", older_than=1, delete=True)()
    assert len(filled.cache.records()) == 2
    assert run(filled.write(), Local(workers=1, device="cpu")) == []
    assert {record.key: record.logits for record in filled.cache.records()} == first
    CacheRun(folder=tmp_path, drop="models", only_data=filled.fingerprint[:8], delete=True)()
    assert not filled.cache.records()


def test_leftovers(filled: Manifest, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scratch = filled.cache.scratch("f" * 32)
    scratch.mkdir(parents=True)
    old = [
        scratch / "training.resume",
        tmp_path / "weights" / ".x.safetensors.tmp",
        tmp_path / "weights" / "x.safetensors",
    ]
    for path in old:
        path.write_bytes(b"12345")
        os.utime(path, (time.time() - 900_000,) * 2)
    (scratch / "new.resume").write_bytes(b"12345")
    damaged = filled.cache.weights(filled.keys[1])
    content = bytearray(damaged.read_bytes())
    content[-20] ^= 1
    damaged.write_bytes(content)
    CacheRun(folder=tmp_path, drop="leftovers", older_than=2)()
    assert "0 damaged models and 3 files, 0.0 MB" in capsys.readouterr().out
    CacheRun(folder=tmp_path, drop="leftovers", older_than=2, verify=True, delete=True)()
    assert "1 damaged models and 3 files, 0.0 MB: deleted" in capsys.readouterr().out
    assert not any(path.exists() for path in old)
    assert (scratch / "new.resume").exists()
    assert filled.left() == [1]


def test_a_cache_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="no such folder"):
        CacheRun(folder=tmp_path / "none")()
    for wrong in ({"drop": "all"}, {"kind": "half"}):
        with pytest.raises(Refusal, match="choose one or leave it out"):
            CacheRun(folder=tmp_path, **wrong)()  # type: ignore[arg-type]
