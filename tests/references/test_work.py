"""A manifest worked off: by one process, by several, in shares, killed and started again, always to the same bytes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from unteach.data import DataSet
from unteach.engine import Engine
from unteach.methods import METHODS
from unteach.references.cache import opened, weights_of
from unteach.references.executors import Local
from unteach.references.manifest import Manifest, jobs_of, read
from unteach.references.plan import Retrains
from unteach.references.pool import pack
from unteach.references.stages import run
from unteach.references.work import do, score
from unteach.store import load_tensors, save_tensors
from unteach.types import Refusal

ONE = Local(workers=1, device="cpu")


def copied(manifest: Manifest, folder: Path) -> Manifest:
    """The same manifest with a copy of its cache."""
    import shutil

    shutil.copytree(manifest.cache.folder, folder, dirs_exist_ok=True)
    return replace(manifest, cache=type(manifest.cache)(folder))


def test_what_is_made(logits: Any, whole: Manifest, data: DataSet) -> None:
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


def test_without_weights_only_logits_stay(logits: Any, make: Any, whole: Manifest, tmp_path: Path) -> None:
    manifest = make(tmp_path, keep_weights=False)
    assert run(manifest.write(), ONE) == []
    assert not list((tmp_path / "weights").glob("*"))
    assert logits(manifest) == logits(whole)
    assert manifest.left() == []
    with pytest.raises(Refusal, match="got neither"):
        replace(manifest, views=0)


def test_the_first_keep_their_weights_where_others_do_not(make: Any, whole: Manifest, tmp_path: Path) -> None:
    manifest = make(tmp_path, keep_weights=False, shown=1, jobs=whole.jobs[:3])
    assert run(manifest.write(), ONE) == []
    assert [path.stem for path in (tmp_path / "weights").glob("*.safetensors")] == [manifest.keys[0]]
    manifest.cache.drop_weights(manifest.keys[0])
    assert manifest.left() == [0]
    assert read(manifest.write()).left() == [0], "the file tells it too"


def test_the_first_are_not_scored_where_their_weights_are_enough(make: Any, whole: Manifest, tmp_path: Path) -> None:
    manifest = make(tmp_path, keep_weights=False, shown=2, unscored=2, jobs=whole.jobs[:3])
    assert run(manifest.write(), ONE) == []
    cache = manifest.cache
    assert [cache.has_logits(key, 1) for key in manifest.keys] == [False, False, True]
    assert [cache.has_weights(key) for key in manifest.keys] == [True, True, False]
    assert read(manifest.write()).left() == []
    more = replace(manifest, unscored=1)
    assert more.left() == [1], "a stronger tier asks for more of the same models"
    before = cache.weights(manifest.keys[1]).stat().st_mtime_ns
    assert run(more.write(), ONE) == []
    assert cache.weights(manifest.keys[1]).stat().st_mtime_ns == before, "which is scored, and not trained again"
    with pytest.raises(Refusal, match="expected the first 2 jobs, which leave no logits"):
        replace(manifest, shown=1)


def test_the_longest_begin(whole: Manifest, data: DataSet, tmp_path: Path) -> None:
    few, many = np.arange(240) < 40, np.arange(240) < 200
    sized = [replace(whole.jobs[0], kept=pack(mask)) for mask in (few, many)]  # type: ignore[call-arg]
    retrained = replace(whole.jobs[0], kept="", left_out=(str(data.train.ids[0]),))  # type: ignore[call-arg]
    manifest = replace(copied(whole, tmp_path), jobs=(sized[0], sized[1], retrained, whole.jobs[1]))
    heard: list[int] = []

    def no_one(path: Path, numbers: Any, tell: Any) -> None:
        heard.extend(numbers)

    assert run(manifest.write(), no_one) == [0, 1, 2]
    assert heard == [2, 1, 0], "nearly all examples, 200, 40; the other is done"
    assert manifest.longest_first([3, 0]) == [3, 0], "half of them before 40"
    assert [job.size for job in whole.jobs[4:]] == [job.size for job in whole.jobs[:4]], "as their parents"


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
def test_what_is_damaged_is_made_again(logits: Any, what: str, how: str, whole: Manifest, tmp_path: Path) -> None:
    manifest = copied(whole, tmp_path)
    [path] = (tmp_path / what).rglob(f"{manifest.keys[1]}.*")
    damage(path, how)
    assert manifest.left() == [1]
    assert run(manifest.write(), ONE) == []
    assert logits(manifest) == logits(whole)


def test_a_digest_is_that_of_one_file(whole: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process that does the same job may put its file in the place of ours: the same tensors, another header."""
    path, other = tmp_path / "net.safetensors", whole.cache.weights(whole.keys[0])
    save_tensors(path, load_tensors(other)[0], {"seconds": "a header of another length"})
    ours, content = weights_of(path), other.read_bytes()
    assert path.stat().st_size != len(content)
    monkeypatch.setattr(Path, "open", _replaced_once_opened(path, content))
    assert weights_of(path) == ours
    assert path.stat().st_size == len(content), "the test replaced nothing"


def _replaced_once_opened(place: Path, content: bytes) -> Any:
    real = Path.open

    def opening(path: Path, mode: str = "r", *rest: Any, **more: Any) -> Any:
        file = real(path, mode, *rest, **more)
        if path == place:
            new = place.with_suffix(".new")
            with real(new, "wb") as written:
                written.write(content)
            new.replace(place)
        return file

    return opening


def test_a_flipped_bit_in_a_parent_does_not_live_on(logits: Any, whole: Manifest, tmp_path: Path) -> None:
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


def test_unlearning_jobs_do_what_their_method_does(whole: Manifest, data: DataSet) -> None:
    """A child's weights are those of the method called by hand on the parent's."""
    from unteach.api import apply
    from unteach.references.pool import chosen, unpack
    from unteach.store import load_tensors
    from unteach.types import Split

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as jobs are done; two threads add up in another order
    job: Any = whole.jobs[5]
    engine = Engine(accelerator="cpu", precision="fp32")
    parent = job.parent(data, whole.cache.weights(whole.keys[1]), engine)
    forgotten, members = unpack(job.forgotten, 240), job.members(data)
    parts = Split(forget=chosen(data, forgotten), retain=chosen(data, members & ~forgotten))
    model = apply(job.method, parent.model, parts, torch.Generator().manual_seed(job.seed), engine)
    torch.set_num_threads(threads)
    tensors, story = load_tensors(whole.cache.weights(whole.keys[5]))
    assert all(torch.equal(tensor, tensors[name]) for name, tensor in model.state_dict().items())
    assert story["parent"] == parent.fingerprint
    assert story["made_by"]["method"] == "FineTune"


@pytest.mark.parametrize("name", ["amun", "trw", "retrain"])
def test_other_methods_as_jobs(
    logits: Any, name: str, make: Any, data: DataSet, blueprint: Any, recipe: Any, tmp_path: Path
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


def test_a_manifest_that_was_changed_is_refused_and_planned_anew(whole: Manifest) -> None:
    path = whole.write()
    told = path.read_text()
    path.write_text(told.replace('"small-cnn"', '"theirs.py:network"', 1))
    with pytest.raises(Refusal, match="to be as it was planned, got one that was changed"):
        read(path)
    assert whole.write() == path
    assert path.read_text() == told
    path.write_text("{half a file")
    with pytest.raises(Refusal, match="expected"):
        read(path)
    assert whole.write().read_text() == told
