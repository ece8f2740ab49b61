"""The whole job by command line: train, forget, audit, report, list; twice the same, and nothing done twice."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from unteach.attacks import Nearest
from unteach.data import load as load_data
from unteach.models import Blueprint, build
from unteach.store import fingerprint, load_tensors
from unteach.train import fit

FILES = (
    "model.safetensors",
    "forget.txt",
    "findings.json",
    "report.html",
    "report.md",
    "settings.json",
    "events.jsonl",
)


def events(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]


def test_files_of_a_run(done: Path) -> None:
    for name in (*FILES, "retrained-0.safetensors", "retrained-1.safetensors", "adversarial.safetensors"):
        assert (done / name).stat().st_size > 0, name
    assert not list(done.glob("*.resume")), "nothing is left to go on from"
    assert not list(done.glob(".*")), "no temporary file is left"


def test_findings_have_what_readers_rely_on(done: Path) -> None:
    found = json.loads((done / "findings.json").read_text())
    assert isinstance(found["verdict"], str)
    for name in ("original", "retrained", "held_out_retrained", "unlearned"):
        for part in ("retain", "forget", "test"):
            assert 0 <= found["models"][name]["accuracy"][part] <= 1
    assert found["cost"]["forget_seconds"] > 0
    assert found["cost"]["retrain_seconds"] > 0
    assert found["method"]["name"] == "Amun"
    assert found["request"]["forget"] == 19


def test_the_bill_counts_preparation(done: Path) -> None:
    cost = json.loads((done / "findings.json").read_text())["cost"]
    assert [part["what"] for part in cost["parts"]] == ["adversarial examples", "amun fine-tuning"]
    assert cost["forget_epochs"] == pytest.approx(sum(part["epochs"] for part in cost["parts"]))
    assert cost["forget_seconds"] >= sum(part["seconds"] for part in cost["parts"])
    assert cost["parts"][1]["epochs"] == pytest.approx(4 * (96 + 19) / 96), "4 epochs of all data and 19 neighbours"
    assert cost["retrain_epochs"] == pytest.approx(4 * 77 / 96)


def test_the_unlearned_checkpoint_fits_the_old_network(done: Path) -> None:
    network = build(Blueprint(name="small-cnn", classes=3, shape=(1, 8, 8)), seed=5)
    network.load_state_dict(load_tensors(done / "model.safetensors")[0], strict=True)


def test_forget_txt_holds_the_drawn_ids(case: Any, done: Path) -> None:
    ids = (done / "forget.txt").read_text().splitlines()
    train = load_data(case.data).train
    chosen = np.sort(np.random.default_rng(0).permutation(96)[:19])
    assert ids == [f"record {i}" for i in chosen]
    assert sorted(load_tensors(done / "model.safetensors")[1]["trained_on"]["left_out"]) == sorted(ids)
    assert set(ids) < set(train.ids.tolist())


def test_references_never_saw_the_request(done: Path) -> None:
    ids = set((done / "forget.txt").read_text().splitlines())
    prints = set()
    for number in range(2):
        tensors, provenance = load_tensors(done / f"retrained-{number}.safetensors")
        assert set(provenance["trained_on"]["left_out"]) == ids
        assert provenance["trained_on"]["count"] == 77
        prints.add(tensors["1.weight"].numpy().tobytes())
    assert len(prints) == 2, "two references are two trainings"


def test_the_report_names_the_verdict(done: Path) -> None:
    verdict = json.loads((done / "findings.json").read_text())["verdict"]
    for name in ("report.html", "report.md"):
        assert verdict.casefold() in (done / name).read_text().casefold()


def test_the_terminal_shows_table_verdict_and_paths(case: Any, done: Path, run: Callable[..., Any]) -> None:
    ran = case.forget(done)
    text = ran.out.replace("\n", " ")
    assert ran.code == 0
    for word in (str(done / "model.safetensors"), str(done / "report.html"), "FT AUC", "held-out", "full-data epochs"):
        assert word in text, word


def test_the_original_checkpoint_keeps_its_bytes(case: Any, tmp_path: Path) -> None:
    before = case.original.read_bytes()
    assert case.forget(tmp_path / "run", "--method", "gradient-ascent", "--references", "0").code == 0
    assert case.original.read_bytes() == before


def test_the_same_command_again_does_no_work_and_changes_no_byte(
    case: Any, done: Path, listing: Callable[[Path], dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("work that was done is done again")

    monkeypatch.setattr("unteach.recipe.fit", never)
    monkeypatch.setattr("unteach.methods.amun.fit", never)
    monkeypatch.setattr(Nearest, "search", never)
    before = listing(done)
    assert case.forget(done).code == 0
    assert listing(done) == before, "not even an event: nothing happened"
    assert fit is not never


def test_two_folders_get_the_same_model(case: Any, done: Path, tmp_path: Path) -> None:
    assert case.forget(tmp_path / "again").code == 0
    for name in ("model.safetensors", "retrained-0.safetensors", "retrained-1.safetensors"):
        ours, theirs = load_tensors(tmp_path / "again" / name)[0], load_tensors(done / name)[0]
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert (tmp_path / "again" / "forget.txt").read_bytes() == (done / "forget.txt").read_bytes()


def test_another_seed_forgets_others_in_another_way(case: Any, done: Path, tmp_path: Path) -> None:
    assert case.forget(tmp_path / "run", "--seed", "1", "--references", "0").code == 0
    assert (tmp_path / "run" / "forget.txt").read_bytes() != (done / "forget.txt").read_bytes()


def test_audit_says_of_the_same_files_what_forget_said(
    case: Any, done: Path, tmp_path: Path, run: Callable[..., Any]
) -> None:
    models = ("--unlearned", done / "model.safetensors", "--original", case.original)
    references = ("--retrained", done / "retrained-0.safetensors", done / "retrained-1.safetensors")
    request = ("--ids", done / "forget.txt", "--data", case.data, "--out", tmp_path / "audit")
    ran = run("audit", *models, *references, *request, "--device", "cpu", "--precision", "fp32")
    assert ran.code == 0, ran
    theirs, ours = (json.loads((f / "findings.json").read_text()) for f in (done, tmp_path / "audit"))
    assert theirs["request"].pop("spec") == "random:0.2"
    assert ours["request"].pop("spec") == str(done / "forget.txt")
    assert ours == theirs


def test_audit_without_references_is_inconclusive_and_fails_the_gate(
    done: Path, case: Any, tmp_path: Path, run: Callable[..., Any]
) -> None:
    ran = run(
        *("audit", "--unlearned", done / "model.safetensors", "--ids", done / "forget.txt", "--data", case.data),
        *("--out", tmp_path / "audit", "--gate", "true"),
    )
    assert ran.code == 3
    assert json.loads((tmp_path / "audit" / "findings.json").read_text())["verdict"] == "inconclusive"


def test_report_is_drawn_again_from_findings_alone(done: Path, tmp_path: Path, run: Callable[..., Any]) -> None:
    ran = run("report", "--findings", done / "findings.json", "--out", tmp_path)
    assert ran.code == 0
    assert ran.out.split() == [str(tmp_path / "report.html"), str(tmp_path / "report.md")]
    assert (tmp_path / "report.md").read_bytes() == (done / "report.md").read_bytes()


def test_list_names_everything(run: Callable[..., Any]) -> None:
    from unteach.attacks import ATTACKS
    from unteach.audit import MEMBERSHIP
    from unteach.data import DATA
    from unteach.methods import METHODS
    from unteach.models import MODELS

    said = run("list").out.split()
    for table in (DATA, MODELS, METHODS, ATTACKS, MEMBERSHIP):
        assert set(table) <= set(said)
    for name in METHODS:
        assert "the forget set" in run("list", "--method", name).out


def test_given_references_are_used_and_missing_ones_trained(case: Any, done: Path, tmp_path: Path) -> None:
    ran = case.forget(tmp_path / "run", "--retrained", done / "retrained-0.safetensors")
    assert ran.code == 0, ran
    assert not (tmp_path / "run" / "retrained-0.safetensors").exists()
    ours = load_tensors(tmp_path / "run" / "retrained-1.safetensors")[0]
    theirs = load_tensors(done / "retrained-1.safetensors")[0]
    assert all(torch.equal(ours[key], theirs[key]) for key in ours), "the second reference, not the given one again"


def test_adversarial_examples_of_an_earlier_request_are_reused_and_still_billed(
    case: Any, done: Path, tmp_path: Path
) -> None:
    ran = case.forget(tmp_path / "run", "--stored", done / "adversarial.safetensors", "--references", "0")
    assert ran.code == 0, ran
    ours = json.loads((tmp_path / "run" / "findings.json").read_text())["cost"]
    theirs = json.loads((done / "findings.json").read_text())["cost"]
    assert "adversarial" not in [event["event"] for event in events(tmp_path / "run")]
    assert ours["forget_epochs"] == pytest.approx(theirs["forget_epochs"])
    ours, theirs = (load_tensors(f / "model.safetensors")[0] for f in (tmp_path / "run", done))
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_forgetting_twice_adds_up(case: Any, done: Path, tmp_path: Path, run: Callable[..., Any]) -> None:
    gone = (done / "forget.txt").read_text().splitlines()
    more = [f"record {i}" for i in range(96) if f"record {i}" not in gone][:3]
    (tmp_path / "more.txt").write_text("\n".join(more))
    ran = run(
        *("forget", "--checkpoint", done / "model.safetensors", "--data", case.data, "--ids", tmp_path / "more.txt"),
        *("--out", tmp_path / "run", "--method", "finetune", "--optim.epochs", "1", "--references", "1"),
    )
    assert ran.code == 0, ran
    for name in ("model.safetensors", "retrained-0.safetensors"):
        provenance = load_tensors(tmp_path / "run" / name)[1]
        assert provenance["trained_on"]["left_out"] == sorted([*gone, *more])
    parent = build(Blueprint(name="small-cnn", classes=3, shape=(1, 8, 8)), seed=0)
    parent.load_state_dict(load_tensors(done / "model.safetensors")[0])
    assert load_tensors(tmp_path / "run" / "model.safetensors")[1]["parent"] == fingerprint(parent)
