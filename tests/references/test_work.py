"""A manifest worked off: by one process, by several, in shares, killed and started again, always to the same bytes."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from unteach.data import DataSet
from unteach.engine import Engine
from unteach.events import Events
from unteach.methods import METHODS
from unteach.references.cache import digest_of_array, opened
from unteach.references.executors import Local, Shard
from unteach.references.manifest import Manifest, jobs_of, read
from unteach.references.plan import Retrains
from unteach.references.stages import run
from unteach.references.work import do, score
from unteach.types import Refusal

ONE = Local(workers=1, device="cpu")


def logits(manifest: Manifest) -> dict[str, str]:
    """The digest of every model's logits, read from the store, and not from the record."""
    store = opened(manifest.cache.logits(manifest.fingerprint, manifest.views))
    return {key: digest_of_array(store.logits(key)) for key in store.keys()}  # noqa: SIM118 - not a dict


@pytest.fixture(scope="session")
def whole(make: Any, tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """The manifest, worked off without disturbance."""
    manifest: Manifest = make(tmp_path_factory.mktemp("whole"))
    assert run(manifest.write(), ONE) == []
    return manifest


def copied(manifest: Manifest, folder: Path) -> Manifest:
    """The same manifest with a copy of its cache."""
    import shutil

    shutil.copytree(manifest.cache.folder, folder, dirs_exist_ok=True)
    return replace(manifest, cache=type(manifest.cache)(folder))


def test_what_is_made(whole: Manifest, data: DataSet) -> None:
    store = opened(whole.cache.logits(whole.fingerprint, 1))
    assert sorted(store.keys()) == sorted(whole.keys)
    assert whole.stages == ((0, 1, 2, 3), (4, 5, 6, 7))
    for number, key in enumerate(whole.keys):
        found, record = store.logits(key), whole.cache.record(key)
        assert record is not None
        assert (found.shape, found.dtype) == ((1, 240, 3), np.float32)
        job = whole.jobs[number]
        assert record.examples == int(job.members(data).sum())
        assert record.forgotten == (12 if number >= 4 else 0)
        assert record.units > 0 < record.seconds
        assert record.parent == (whole.keys[number - 4] if number >= 4 else "")
    assert len(set(logits(whole).values())) == 8
    assert not list((whole.cache.folder / "scratch").glob("*"))


def test_the_second_time_costs_nothing(whole: Manifest) -> None:
    before = {path: path.stat().st_mtime_ns for path in whole.cache.folder.rglob("*") if path.is_file()}
    heard: list[int] = []

    def no_one(manifest: Path, numbers: Any, tell: Any) -> None:
        heard.extend(numbers)

    assert run(whole.write(), no_one) == []
    assert heard == []
    assert before == {path: path.stat().st_mtime_ns for path in whole.cache.folder.rglob("*") if path.is_file()}


def test_another_manifest_of_the_same_jobs_finds_them(whole: Manifest) -> None:
    half = replace(whole, jobs=whole.jobs[:2], keep_weights=False)
    assert half.left() == []
    assert replace(whole, precision="bf16").left() == list(range(8)), "another precision is another model"
    assert replace(whole, views=2).left() == list(range(8))


def test_manifests_come_back_from_their_file(whole: Manifest, tmp_path: Path) -> None:
    found = read(whole.write())
    assert found.keys == whole.keys
    assert (found.jobs, found.source, found.stages) == (whole.jobs, whole.source, whole.stages)
    assert found.cache.folder == whole.cache.folder
    for text in ("[]", '{"version": 1}', '{"version": 9}'):
        (tmp_path / "m.json").write_text(text)
        with pytest.raises(Refusal, match="plan anew"):
            read(tmp_path / "m.json")


def test_other_data_are_refused(make: Any, tmp_path: Path) -> None:
    manifest = make(tmp_path, fingerprint="0" * 64)
    with pytest.raises(Refusal, match="data of the manifest"):
        do(manifest.write(), 0, device="cpu")


def test_mirror_images(whole: Manifest, data: DataSet, tmp_path: Path) -> None:
    both = replace(copied(whole, tmp_path), views=2, jobs=whole.jobs[:1])
    assert run(both.write(), ONE) == []
    store = opened(both.cache.logits(both.fingerprint, 2))
    found = store.logits(both.keys[0])
    assert found.shape == (2, 240, 3)
    assert (found[0] == opened(whole.cache.logits(whole.fingerprint, 1)).logits(both.keys[0])[0]).all()
    mirrored = replace(
        data,
        train=replace(data.train, inputs=data.train.inputs.flip(3)),
        test=replace(data.test, inputs=data.test.inputs.flip(3)),
    )
    model = both.jobs[0](data, both.cache.weights(both.keys[0]), Engine(accelerator="cpu")).model  # type: ignore[call-arg]
    assert (score(model, mirrored, 1, Engine(accelerator="cpu"))[0] == found[1]).all()
    record = both.cache.record(both.keys[0])
    assert record is not None
    assert sorted(record.logits) == ["1", "2"], "the logits of before are still there"


def test_without_weights_only_logits_stay(make: Any, whole: Manifest, tmp_path: Path) -> None:
    manifest = make(tmp_path, keep_weights=False)
    assert run(manifest.write(), ONE) == []
    assert not list((tmp_path / "weights").glob("*"))
    assert logits(manifest) == logits(whole)
    assert manifest.left() == []
    with pytest.raises(Refusal, match="got neither"):
        replace(manifest, views=0)


def test_weights_alone(make: Any, whole: Manifest, tmp_path: Path) -> None:
    manifest = make(tmp_path, views=0, jobs=whole.jobs[:1])
    assert run(manifest.write(), ONE) == []
    assert not (tmp_path / "logits").exists()
    assert manifest.cache.has_weights(manifest.keys[0], closely=True)


def damage(path: Path, how: str) -> None:
    content = path.read_bytes()
    if how == "missing":
        path.unlink()
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "truncated":
        path.write_bytes(content[: len(content) * 2 // 3])
    else:
        path.write_bytes(b"\xff" * 64 + content[64:])


@pytest.mark.parametrize("how", ["missing", "empty", "truncated", "overwritten"])
@pytest.mark.parametrize("what", ["records", "weights", "logits"])
def test_what_is_damaged_is_made_again(what: str, how: str, whole: Manifest, tmp_path: Path) -> None:
    manifest = copied(whole, tmp_path)
    [path] = (tmp_path / what).rglob(f"{manifest.keys[1]}.*")
    damage(path, how)
    assert manifest.left() == [1]
    assert run(manifest.write(), ONE) == []
    assert logits(manifest) == logits(whole)


def test_a_flipped_bit_in_a_parent_does_not_live_on(whole: Manifest, tmp_path: Path) -> None:
    manifest = copied(whole, tmp_path)
    parent, child = manifest.cache.weights(manifest.keys[0]), manifest.cache.record(manifest.keys[4])
    content = bytearray(parent.read_bytes())
    content[-9] ^= 0x40
    parent.write_bytes(content)
    assert manifest.left() == [], "sizes are right"
    assert not manifest.cache.has_weights(manifest.keys[0], closely=True)
    assert child is not None
    manifest.cache.remove(child)
    assert run(manifest.write(), ONE) == []
    assert logits(manifest) == logits(whole)


def test_two_shards_are_as_one(make: Any, whole: Manifest, tmp_path: Path) -> None:
    manifest = make(tmp_path)
    path = manifest.write()
    assert run(path, Shard(index=1, of=2, local=ONE)) == [0, 2, 4, 6], "families stay together"
    assert run(path, Shard(index=0, of=2, local=ONE)) == []
    assert logits(manifest) == logits(whole)
    with pytest.raises(Refusal, match="index from 0 to 1"):
        Shard(index=2, of=2)


@pytest.fixture
def pool(quick_processes: ForkServerContext, monkeypatch: pytest.MonkeyPatch) -> Local:
    """Two workers; as real processes as spawned ones."""
    monkeypatch.setattr("unteach.references.executors.local.get_context", lambda kind: quick_processes)
    return Local(workers=2, device="cpu")


def test_two_workers_are_as_one(make: Any, whole: Manifest, pool: Local, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    manifest = make(tmp_path)
    events = Events(tmp_path / "events.jsonl", lambda label, done, total: told.append((done, total)))
    assert run(manifest.write(), pool, events) == []
    assert logits(manifest) == logits(whole)
    assert told[-1] == (8, 8)
    lines = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert sorted(line["number"] for line in lines if line["event"] == "model") == list(range(8))


def test_a_killed_worker_is_replaced_once(
    make: Any, whole: Manifest, pool: Local, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    import multiprocessing

    manifest = make(tmp_path)
    blows = iter([1, 0, 0, 0])

    def tell(number: int) -> None:
        if next(blows):
            os.kill(multiprocessing.active_children()[0].pid or 0, signal.SIGKILL)

    pool(manifest.write(), [0, 1, 2, 3], tell)
    assert manifest.left() == [4, 5, 6, 7]
    assert "was killed by SIGKILL" in capfd.readouterr().err

    def always(number: int) -> None:
        for child in multiprocessing.active_children():
            os.kill(child.pid or 0, signal.SIGKILL)

    with pytest.raises(Refusal, match="expected all 4 jobs to be done"):
        pool(manifest.write(), [4, 5, 6, 7], always)
    assert not multiprocessing.active_children()
    assert run(manifest.write(), ONE) == []
    assert logits(manifest) == logits(whole)


def test_ctrl_c_ends_the_workers(make: Any, pool: Local, tmp_path: Path) -> None:
    import multiprocessing

    def stop(number: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pool(make(tmp_path).write(), [0, 1, 2, 3], stop)
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("workers", [1, 2])
def test_a_job_that_fails_is_named_after_the_others(
    workers: int, make: Any, whole: Manifest, data: DataSet, pool: Local, tmp_path: Path
) -> None:
    broken = replace(
        whole.jobs[1], recipe=replace(whole.jobs[1].recipe, optim=replace(whole.jobs[1].recipe.optim, lr=1e30))
    )  # type: ignore[union-attr]
    manifest = make(tmp_path, jobs=(whole.jobs[0], broken, whole.jobs[2]))
    with pytest.raises(Refusal, match=r"all 3 jobs to be done, got 1 .*job 1: expected a finite loss"):
        run(manifest.write(), replace(pool, workers=workers))
    assert manifest.left() == [1]


def test_two_processes_at_the_same_manifest(
    make: Any, whole: Manifest, quick_processes: ForkServerContext, tmp_path: Path
) -> None:
    manifest = make(tmp_path)
    both = [quick_processes.Process(target=run, args=(manifest.write(), ONE)) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join()
    assert [process.exitcode for process in both] == [0, 0]
    assert logits(manifest) == logits(whole)
    assert manifest.left() == []
    assert all(manifest.cache.whole(record, closely=True) for record in manifest.cache.records())


def test_killed_anywhere_it_goes_on(
    make: Any, whole: Manifest, quick_processes: ForkServerContext, tmp_path: Path
) -> None:
    manifest = make(tmp_path)
    path, dice, killed = manifest.write(), random.Random(4), 0
    for _ in range(6):
        process = quick_processes.Process(target=run, args=(path, ONE))
        process.start()
        time.sleep(dice.uniform(0.05, 0.9))
        killed += process.is_alive()
        process.kill()
        process.join()
        for record in manifest.cache.records():  # whatever counts as done is whole
            assert manifest.cache.whole(record, closely=True)
    assert killed >= 3
    assert run(path, ONE) == []
    assert logits(manifest) == logits(whole)
    assert not list(manifest.cache.leftovers(0)) or killed


@pytest.mark.slow
def test_the_command_killed_at_twenty_points(tmp_path: Path) -> None:
    """The verb itself on the digits, with two spawned workers: SIGKILL to the whole group, then on to the end."""
    asked = ["references", "--halves", "16", "--shadows", "1", "--shadow_size", "60", "--method", "finetune"]
    asked += ["--optim.epochs", "1", "--recipe.optim.epochs", "3", "--precision", "fp32", "--executor.device", "cpu"]

    def command(folder: Path, workers: int) -> list[str]:
        more = ["--folder", str(folder), "--executor.workers", str(workers)]
        return [sys.executable, "-m", "unteach.cli", *asked, *more]

    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    assert subprocess.run(command(tmp_path / "whole", 1), env=environment, check=False).returncode == 0
    dice, killed = random.Random(0), 0
    while killed < 20:
        process = subprocess.Popen(command(tmp_path / "struck", 2), env=environment, start_new_session=True)
        time.sleep(dice.uniform(2, 14))
        killed += 1
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert subprocess.run(command(tmp_path / "struck", 2), env=environment, check=False).returncode == 0
    [one], [other] = (list((tmp_path / name / "manifests").glob("*.json")) for name in ("whole", "struck"))
    assert one.name == other.name
    assert logits(read(one)) == logits(read(other))


def test_unlearning_jobs_do_what_their_method_does(whole: Manifest, data: DataSet) -> None:
    """A child's weights are those of the method called by hand on the parent's."""
    from unteach.api import apply
    from unteach.references.pool import chosen, unpack
    from unteach.store import load_tensors
    from unteach.types import Split

    job: Any = whole.jobs[5]
    engine = Engine(accelerator="cpu", precision="fp32")
    parent = job.parent(data, whole.cache.weights(whole.keys[1]), engine)
    forgotten, members = unpack(job.forgotten, 240), job.members(data)
    parts = Split(forget=chosen(data, forgotten), retain=chosen(data, members & ~forgotten))
    model = apply(job.method, parent.model, parts, torch.Generator().manual_seed(job.seed), engine)
    tensors, story = load_tensors(whole.cache.weights(whole.keys[5]))
    assert all(torch.equal(tensor, tensors[name]) for name, tensor in model.state_dict().items())
    assert story["parent"] == parent.fingerprint
    assert story["made_by"]["method"] == "FineTune"


@pytest.mark.parametrize("name", ["amun", "trw", "retrain"])
def test_other_methods_as_jobs(
    name: str, make: Any, data: DataSet, blueprint: Any, recipe: Any, tmp_path: Path
) -> None:
    from unteach.references.manifest import in_order
    from unteach.references.plan import Unlearned

    train = np.arange(240) < 150
    forget = np.isin(np.arange(240), np.flatnonzero(data.train.labels.numpy() == 1)[: 200 if name == "trw" else 9])
    method = METHODS[name]()
    jobs = jobs_of(Unlearned(originals=1)(train, forget), blueprint=blueprint, recipe=recipe, method=method)
    jobs += jobs_of(Retrains(models=1)(train, forget), blueprint=blueprint, recipe=recipe)
    manifest = make(tmp_path, jobs=in_order(jobs, data.fingerprint))
    assert run(manifest.write(), ONE) == []
    assert len(set(logits(manifest).values())) == 3
