"""MUFAC and MUCAC through the command line, in small: the attack's non-members are the unseen set, utility is on the other."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from made import blobs
from made_faces import make_mucac, make_mufac
from unteach.audit.nomus import nomus
from unteach.data import DataSet, load, split
from unteach.references.cache import Cache
from unteach.store import load_tensors, read_json
from unteach.verbs.split_manifest import write_split

SHORT = ("--optim.epochs", "1", "--device", "cpu", "--precision", "fp32", "--quiet", "true")
AGES = "mufac:identity,size=16,any-count"
ALONE = ("--tier", "smoke", "--executor.workers", "1", "--executor.device", "cpu")


def job(run: Callable[..., Any], root: Path, data: str, *more: object) -> tuple[Any, Path]:
    """A training and a forgetting of the benchmark's request; what the second left on the terminal, and its folder."""
    common = ("--data", data, "--data_root", root, *SHORT)
    trained = run("train", *common, "--model", "small-cnn", "--out", root / "original")
    assert trained.code == 0, trained
    original = root / "original" / "model.safetensors"
    asked = ("--checkpoint", original, "--ids", "benchmark", "--method", "finetune", *more)
    ran = run("forget", *common, *asked, "--out", root / "run")
    assert ran.code == 0, ran
    return ran, root / "run"


def auc(plus: np.ndarray, minus: np.ndarray) -> float:
    return float((plus[:, None] > minus).mean() + 0.5 * (plus[:, None] == minus).mean())


@pytest.fixture(scope="module")
def aged(run: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    root = tmp_path_factory.mktemp("ages")
    make_mufac(root / "mufac")
    return job(run, root, AGES, "--references", "1")


@pytest.fixture(scope="module")
def accompanied(run: Callable[..., Any], aged: tuple[Any, Path]) -> Path:
    """The folder of an audit of the same model with a smoke tier."""
    root = aged[1].parent
    models = ("--unlearned", aged[1] / "model.safetensors", "--original", root / "original" / "model.safetensors")
    where = ("--data", AGES, "--data_root", root, "--ids", "benchmark", *SHORT[2:])
    ran = run("audit", *models, *where, *ALONE, "--out", root / "audit", "--cache", root / "cache")
    assert ran.code == 0, ran
    return root / "audit"


def test_ages_are_attacked_on_unseen_people_and_useful_on_others(aged: tuple[Any, Path]) -> None:
    _, folder = aged
    data = load(AGES, root=folder.parent)
    assert data.unseen is not None
    found = read_json(folder / "findings.json")
    sizes = {"forget": len(data.requests["benchmark"]), "test": len(data.test), "unseen": len(data.unseen)}
    assert {name: found["sizes"][name] for name in sizes} == sizes
    assert {name: found["request"][name] for name in sizes} == sizes
    assert found["request"]["data"] == "mufac:identity"
    ft = found["models"]["unlearned"]["games"]["FT"]["confidence"]
    assert (ft["n_positive"], ft["n_negative"]) == (sizes["forget"], sizes["unseen"])

    tensors, header = load_tensors(folder / "signals.safetensors")
    at = [name.partition(":")[0] for name in header["models"]].index("unlearned")
    logits, labels, ids = tensors["logits"][at, 0].double(), tensors["labels"], np.array(header["ids"])
    phi = data.train.task.confidence(logits, labels).numpy()
    rows = {"forget": data.requests["benchmark"], "test": data.test.ids, "unseen": data.unseen.ids}
    of = {name: np.isin(ids, np.asarray(names)) for name, names in rows.items()}
    assert ft["auc"] == pytest.approx(auc(phi[of["forget"]], phi[of["unseen"]]))
    utility = float((logits.argmax(1) == labels).numpy()[of["test"]].mean())
    assert found["models"]["unlearned"]["accuracy"]["test"] == pytest.approx(utility)


def test_the_terminal_and_the_report_say_it_too(aged: tuple[Any, Path]) -> None:
    ran, folder = aged
    assert "mufac:identity: the numbers of examples are not the published ones" in ran.out
    page = (folder / "report.md").read_text()
    assert "the non-members of every attack are 41 other, unseen examples" in page
    assert "train 130 (published 10,025)" in page


@pytest.mark.slow
def test_the_benchmarks_scores_and_the_halves_have_the_same_roles(accompanied: Path) -> None:
    data, found = load(AGES, root=accompanied.parent), read_json(accompanied / "findings.json")
    measured = {one["name"]: one["value"] for one in found["measures"]}
    utility = found["models"]["unlearned"]["accuracy"]["test"]
    assert measured["NoMUS"] == pytest.approx(nomus(utility, measured["forgetting score"]))
    with (accompanied / "split.csv").open() as file:
        parts = [row["part"] for row in csv.DictReader(file)]
    assert {name: parts.count(name) for name in ("test", "unseen")} == {"test": 40, "unseen": 41}
    kept = [read_json(path) for path in (accompanied.parent / "cache" / "records").iterdir()]
    halves = [record for record in kept if record["logits"]]
    retrained, pool = len(data.train) - len(data.requests["benchmark"]), len(data.train) + len(data.outside)
    assert sum(record["examples"] for record in halves) == 2 * pool, "two pairs"
    unscored = [record["examples"] for record in kept if not record["logits"]]
    assert unscored.count(retrained) == 1 + 2, (
        "of the forgetting and of the audit, which scores them on what it looks at"
    )


def test_pictures_that_two_sides_share_are_told(tmp_path: Path) -> None:
    parts = {name: blobs(12, seed=seed, noise=0.4) for seed, name in enumerate(("train", "test", "unseen"))}
    parts = {name: replace(part, ids=np.array([f"{name}{n}" for n in range(12)])) for name, part in parts.items()}
    inputs = parts["unseen"].inputs.clone()
    inputs[0], inputs[1], inputs[2] = parts["train"].inputs[0], parts["train"].inputs[6], parts["test"].inputs[3]
    data = DataSet("made", parts["train"], parts["test"], unseen=replace(parts["unseen"], inputs=inputs))
    _, doubts = write_split(tmp_path / "split.csv", split(data.train, ["train0"]), data, Cache(tmp_path / "cache"))
    said = " ".join(doubts)
    for sentence in (
        "1 unseen examples have near-duplicates among the forgotten ones",
        "1 unseen examples have near-duplicates among the retained ones",
        "1 test examples have near-duplicates among the unseen ones",
    ):
        assert sentence in said
    with (tmp_path / "split.csv").open() as file:
        assert [row["part"] for row in csv.DictReader(file)].count("unseen") == 12


def test_several_attributes_at_once(run: Callable[..., Any], tmp_path: Path) -> None:
    make_mucac(tmp_path / "mucac")
    ran, folder = job(run, tmp_path, "mucac:size=16,any-count", "--references", "1")
    data = load("mucac:size=16,any-count", root=tmp_path)
    assert data.unseen is not None
    found = read_json(folder / "findings.json")
    ft = found["models"]["unlearned"]["games"]["FT"]["confidence"]
    assert (ft["n_positive"], ft["n_negative"]) == (72, len(data.unseen)) == (72, 48)
    tensors, header = load_tensors(folder / "signals.safetensors")
    at = [name.partition(":")[0] for name in header["models"]].index("unlearned")
    rows = np.isin(np.array(header["ids"]), data.test.ids)
    said = (tensors["logits"][at, 0] > 0) == (tensors["labels"] > 0.5)
    useful = float(said.double().mean(1).numpy()[rows].mean())
    assert found["models"]["unlearned"]["accuracy"]["test"] == pytest.approx(useful)
    assert "1 of 240 images of mucac are missing" in ran.out


def test_data_without_a_benchmark_say_so(case: Any, tmp_path: Path, run: Callable[..., Any]) -> None:
    run("forget", "--checkpoint", case.original, "--data", case.data, "--ids", "benchmark", "--out", tmp_path).refused(
        "a benchmark's own request"
    )
