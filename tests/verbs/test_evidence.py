"""A real run to evidence to verification, by the command line, as its user and as somebody without PyTorch."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="module")
def filed(case: Any, done: Path, run: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of a run's folder with unsigned evidence."""
    folder = Path(shutil.copytree(done, tmp_path_factory.mktemp("filed") / "run"))
    ran = run("evidence", "--run", folder)
    assert ran.code == 0, ran
    assert "not signed" in ran.out
    return folder


@pytest.fixture
def copied(filed: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(filed, tmp_path / "run"))


def test_the_statement_says_what_the_run_says(filed: Path, case: Any) -> None:
    from unteach.store import fingerprint, load_tensors  # noqa: F401 - the oracle, with torch

    told = json.loads((filed / "evidence.json").read_text())["predicate"]
    findings = json.loads((filed / "findings.json").read_text())
    assert told["before"]["fingerprint"] == findings["fingerprints"]["original"]
    assert told["before"]["read"] is True
    assert told["after"]["fingerprint"] == findings["fingerprints"]["unlearned"]
    assert told["audit"]["verdict"] == findings["verdict"]
    assert told["audit"]["differences"][0]["quantity"] == findings["comparisons"]["unlearned"][0]["quantity"]
    assert told["request"]["count"] == len((filed / "forget.txt").read_text().split("\n")) - 1
    assert told["request"]["kind"] == "random:0.2"
    assert told["data"]["fingerprint"] == findings["request"]["data_fingerprint"]
    assert told["environment"]["torch"]
    assert set(told["files"]) >= {
        "findings.json",
        "report.html",
        "report.md",
        "settings.json",
        "events.jsonl",
        "officer.html",
    }


def test_no_id_and_no_folder_is_told(filed: Path) -> None:
    ids = (filed / "forget.txt").read_text().split("\n")[:-1]
    for name in ("evidence.json", "officer.html"):
        text = (filed / name).read_text()
        assert not any(each in text for each in ids)
        assert str(filed.parent) not in text
        assert "/tmp" not in text
    assert stat.S_IMODE(os.stat(filed / "ids.salt").st_mode) == 0o600


def test_verify(filed: Path, case: Any, run: Callable[..., Any], tmp_path: Path) -> None:
    ran = run("verify", filed / "evidence.json", "--original", case.original, "--out", tmp_path / "checks.json")
    assert ran.code == 0, ran
    assert "all 14 checks hold" in ran.out
    assert "What it does not show:" in ran.out
    assert "can also make new evidence" in ran.out, "it is not signed"
    told = json.loads((tmp_path / "checks.json").read_text())["checks"]
    assert [one["what"] for one in told if one["holds"] is None] == ["signature"]


def test_verify_finds_what_was_changed(copied: Path, run: Callable[..., Any]) -> None:
    findings = copied / "findings.json"
    findings.write_text(findings.read_text().replace('"verdict": "', '"verdict": "not '))
    ran = run("verify", copied / "evidence.json")
    assert ran.code == 3
    assert "FAILS    " + str(findings) + " was changed; expected " in ran.out
    assert "has another verdict" in ran.out
    assert "checks FAIL" in ran.out
    assert "What it does not show" not in ran.out


def test_files_elsewhere(copied: Path, filed: Path, run: Callable[..., Any]) -> None:
    alone = copied.parent / "alone"
    alone.mkdir()
    (copied / "evidence.json").rename(alone / "evidence.json")
    ran = run("verify", alone / "evidence.json")
    assert ran.code == 0
    assert "not seen the model that came out (model.safetensors) is not at hand" in ran.out
    named = ("--model", copied / "model.safetensors", "--ids", copied / "forget.txt", "--salt", copied / "ids.salt")
    ran = run("verify", alone / "evidence.json", *named, "--findings", copied / "findings.json")
    assert ran.code == 0
    assert "names exactly the 19 ids" in ran.out
    assert ran.out.count("holds  ") == 8
    run("verify", alone / "evidence.json", "--model", copied / "none").refused("none", "check the path")
    run("verify", alone / "none.json").refused("none.json")
    run("verify", copied / "model.safetensors").refused("model.safetensors")


def test_one_id_is_shown_to_be_on_the_list(filed: Path, run: Callable[..., Any]) -> None:
    ids = (filed / "forget.txt").read_text().split("\n")
    proof = run("evidence", "--run", filed, "--prove", ids[0]).out.strip()
    ran = run("verify", filed / "evidence.json", "--member", ids[0], "--proof", proof)
    assert (ran.code, f"{ids[0]!r} is one of the 19 ids on the list" in ran.out) == (0, True)
    assert run("verify", filed / "evidence.json", "--member", ids[1], "--proof", proof).code == 3
    run("verify", filed / "evidence.json", "--member", ids[1]).refused("--proof together")
    run("verify", filed / "evidence.json", "--member", ids[1], "--proof", "x").refused("64 hexadecimal")
    run("evidence", "--run", filed, "--prove", "nobody").refused("nobody", "forget.txt")


def test_evidence_is_made_of_what_belongs_together(
    copied: Path, case: Any, run: Callable[..., Any], tmp_path: Path
) -> None:
    run("evidence", "--run", copied).refused("--overwrite true")
    again = ("evidence", "--run", copied, "--overwrite", "true")
    run(*again, "--original", copied / "retrained-0.safetensors").refused("made from another one")
    run(*again, "--original", tmp_path / "none").refused("--original")
    run(*again, "--previous", copied / "evidence.json").refused("another model than the one that came in")
    run(*again, "--ledger", tmp_path / "none.sqlite").refused("none.sqlite")
    (tmp_path / "salt").write_bytes(b"x" * 20)
    before = (copied / "ids.salt").read_bytes()
    run("evidence", "--run", copied, "--salt", tmp_path / "none", "--overwrite", "true").refused("expected a salt")
    assert run(*again).code == 0
    assert (copied / "ids.salt").read_bytes() == before, "proofs that were given out stay good"
    (copied / "evidence.json").unlink()
    run("evidence", "--run", copied, "--salt", tmp_path / "salt").refused("proofs that were given out")
    assert run(*again, "--salt", tmp_path / "salt").code == 0
    assert (copied / "ids.salt").read_bytes() == b"x" * 20
    findings = json.loads((copied / "findings.json").read_text())
    for broken in ({**findings, "verdict": 3}, {**findings, "controls": [1]}, {**findings, "fingerprints": {}}, [1]):
        (copied / "findings.json").write_text(json.dumps(broken))
        run(*again).refused("expected ")
    run("evidence", "--run", tmp_path).refused("expected a finished forget run")
    run("evidence", "--run", case.original.parent).refused("no forget.txt")


def test_the_original_need_not_be_there_nor_be_safetensors(copied: Path, case: Any, run: Callable[..., Any]) -> None:
    import torch

    from unteach.store import load_tensors

    again = ("evidence", "--run", copied, "--overwrite", "true")
    settings = json.loads((copied / "settings.json").read_text())
    (copied / "settings.json").write_text(json.dumps({**settings, "checkpoint": "gone.pt"}))
    assert "only its fingerprint" in run(*again).out
    ran = run("verify", copied / "evidence.json", "--original", case.original)
    assert ran.code == 0
    assert "was not at hand when the evidence was made" in ran.out
    torch.save(load_tensors(case.original)[0], copied.parent / "old.pt")
    shutil.copy(copied.parent / "old.pt", copied / "model.pt")
    assert run(*again, "--original", copied.parent / "old.pt").code == 0
    told = json.loads((copied / "evidence.json").read_text())
    assert [one["name"] for one in told["subject"]] == ["model.safetensors", "model.pt"]
    assert told["predicate"]["before"]["read"] is False
    assert run("verify", copied / "evidence.json", "--original", copied.parent / "old.pt").code == 0
    (copied / "model.pt").write_bytes(b"x")
    assert "model.pt was changed" in run("verify", copied / "evidence.json").out
    assert "old.pt" not in run("verify", copied / "evidence.json", "--original", copied / "model.pt").out


def test_ids_and_pictures_only_where_asked_for(copied: Path, run: Callable[..., Any]) -> None:
    ids = (copied / "forget.txt").read_text().split("\n")[:-1]
    assert "<img" not in (copied / "officer.html").read_text()
    again = ("evidence", "--run", copied, "--overwrite", "true")
    assert run(*again, "--images", "true").code == 0
    page = (copied / "officer.html").read_text()
    assert page.count("<img src=") == 12
    assert not any(name in page for name in ids)
    assert run(*again, "--show_ids", "true").code == 0
    page = (copied / "officer.html").read_text()
    assert "<img" not in page
    assert all(name in page for name in ids)


def test_verify_without_torch(filed: Path, tmp_path: Path) -> None:
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text("raise ImportError('there is no torch here')")
    code = f"import sys; from unteach.cli import main; sys.exit(main(['verify', {str(filed / 'evidence.json')!r}]))"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "error", "-c", code]
    ran = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert ran.returncode == 0, ran.stderr
    assert "checks hold" in ran.stdout


def test_signed_from_end_to_end(copied: Path, run: Callable[..., Any], tmp_path: Path) -> None:
    pytest.importorskip("securesystemslib")
    key = tmp_path / "key"
    made = run("evidence", "--new_key", key)
    assert made.code == 0
    assert "not encrypted" in made.out
    run("evidence", "--new_key", key).refused("never written over")
    ran = run("evidence", "--run", copied, "--key", key, "--overwrite", "true")
    assert "signed by key" in ran.out
    ran = run("verify", copied / "evidence.json", "--public_key", f"{key}.pub")
    assert ran.code == 0, ran
    assert "signed this statement" in ran.out
    assert "can also make new evidence" not in ran.out
    assert run("verify", copied / "evidence.json").code == 3
    page = (copied / "officer.html").read_text()
    assert json.loads((copied / "evidence.json").read_text())["signatures"][0]["keyid"] in page
