"""Official archives: fetched when asked for, checked, unpacked where nothing escapes. No network: addresses of files."""

from __future__ import annotations

import hashlib
import io
import pickle
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from unteach.data import cifar as cifar_module
from unteach.data import load
from unteach.data.download import Archive, fetch, provided, unpack
from unteach.types import Refusal


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.delenv("UNTEACH_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "unteach"


def tar(path: Path, files: dict[str, bytes], *, links: dict[str, str] | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz" if path.name.endswith("gz") else "w") as out:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            out.addfile(entry, io.BytesIO(content))
        for name, target in (links or {}).items():
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = tarfile.SYMTYPE, target
            out.addfile(entry)
    return path


def zipped(path: Path, files: dict[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as out:
        for name, content in files.items():
            out.writestr(name, content)
    return path


def described(path: Path, folder: str, kind: str = "sha256") -> Archive:
    return Archive(
        url=path.as_uri(), digest=f"{kind}:{hashlib.new(kind, path.read_bytes()).hexdigest()}", folder=folder
    )


@pytest.mark.parametrize("kind", ["sha256", "md5"])
@pytest.mark.parametrize("form", ["a.tar", "a.tar.gz", "a.zip"])
def test_an_archive_is_unpacked_once_and_not_kept(tmp_path: Path, cache: Path, form: str, kind: str) -> None:
    files = {"set/one.txt": b"1", "set/deep/two.txt": b"22", "other/three.txt": b"333"}
    path = tmp_path / "server" / form
    path = zipped(path, files) if form.endswith("zip") else tar(path, files)
    archive = described(path, "set", kind)
    assert provided("name", archive) == cache / "name" / "set"
    path.unlink()
    assert provided("name", archive) == cache / "name" / "set", "what is there is not fetched again"
    found = {file.relative_to(cache).as_posix(): file.read_bytes() for file in cache.rglob("*") if file.is_file()}
    assert found == {"name/set/one.txt": b"1", "name/set/deep/two.txt": b"22"}


@pytest.mark.parametrize("name", ["../out.txt", "/out.txt", "set/../../out.txt", "set\\..\\out.txt", "C:out.txt"])
@pytest.mark.parametrize("form", ["tar", "zip"])
def test_a_name_that_leads_outside_is_refused(tmp_path: Path, name: str, form: str) -> None:
    files = {"set/in.txt": b"1", name: b"2"}
    path = tmp_path / "server" / f"a.{form}"
    path = zipped(path, files) if form == "zip" else tar(path, files)
    (tmp_path / "into").mkdir()
    with pytest.raises(Refusal, match="not to be trusted"):
        unpack(path, tmp_path / "into", "set")
    assert not list((tmp_path / "into").iterdir())
    assert not list(tmp_path.rglob("out.txt"))


def test_links_are_refused(tmp_path: Path) -> None:
    path = tar(tmp_path / "server" / "a.tar", {"set/in.txt": b"1"}, links={"set/link": "/etc/passwd"})
    (tmp_path / "into").mkdir()
    with pytest.raises(Refusal, match="link"):
        unpack(path, tmp_path / "into", "set")
    assert not list((tmp_path / "into").iterdir())


@pytest.mark.parametrize("length", [0, 3, 2560, 3000, 3072, 9000])
@pytest.mark.parametrize("form", ["a.tar", "a.tar.gz", "a.zip"])
def test_a_cut_archive_leaves_nothing(tmp_path: Path, form: str, length: int) -> None:
    files = {f"set/{i}.bin": np.random.default_rng(i).bytes(2000) for i in range(5)}
    path = tmp_path / "server" / form
    path = zipped(path, files) if form.endswith("zip") else tar(path, files)
    path.write_bytes(path.read_bytes()[:length])
    (tmp_path / "into").mkdir()
    with pytest.raises(Refusal, match="fetch it again"):
        unpack(path, tmp_path / "into", "set")
    assert not list((tmp_path / "into").iterdir())


def test_another_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="the folder set"):
        unpack(tar(tmp_path / "a.tar", {"other/in.txt": b"1"}), tmp_path, "set")


def test_other_content_or_no_server_leave_nothing(tmp_path: Path, cache: Path) -> None:
    archive = described(tar(tmp_path / "server" / "a.tar", {"set/in.txt": b"1"}), "set")
    with pytest.raises(Refusal, match="SHA256"):
        provided("name", replace(archive, digest="sha256:" + "0" * 64))
    with pytest.raises(Refusal, match="by hand"):
        provided("name", replace(archive, url=(tmp_path / "gone").as_uri()))
    assert not list((cache / "name").iterdir())


def test_a_fetched_file_is_whole(tmp_path: Path) -> None:
    (tmp_path / "there").write_bytes(b"x" * 3_000_000)
    digest = "md5:" + hashlib.md5(b"x" * 3_000_000).hexdigest()
    fetch((tmp_path / "there").as_uri(), tmp_path / "here", digest)
    assert (tmp_path / "here").read_bytes() == b"x" * 3_000_000


def test_cifar_is_fetched_only_when_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = pickle.dumps({b"data": np.zeros((4, 3072), np.uint8), b"labels": [0, 1, 2, 3]}, protocol=2)
    names = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]
    path = tar(tmp_path / "server" / "cifar-10-python.tar.gz", {f"cifar-10-batches-py/{name}": batch for name in names})
    ours = replace(cifar_module.TEN, archive=described(path, "cifar-10-batches-py"))
    monkeypatch.setattr(cifar_module, "TEN", ours)
    with pytest.raises(Refusal, match="--download"):
        load("cifar10")
    assert len(load("cifar10", download=True).train) == 20
    assert len(load("cifar10").test) == 4


def test_the_addresses_are_the_publishers() -> None:
    from unteach.data.tiny_imagenet import ARCHIVE

    for archive in (cifar_module.TEN.archive, cifar_module.HUNDRED.archive, ARCHIVE):
        assert archive.digest.startswith("sha256:")
        assert len(archive.digest) == 7 + 64
        assert archive.url.startswith(("https://www.cs.toronto.edu/~kriz/", "http://cs231n.stanford.edu/"))
