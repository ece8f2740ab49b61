"""``unteach tune`` by command line: never a look at the test set, settings that ``forget`` takes, and it resumes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from unteach.data import DataSet
from unteach.data import load as load_data
from unteach.store import load_tensors, read_json
from unteach.verbs.settings import DataChoice

FAST = ("--optim.epochs", "2", "--optim.batch", "16", "--device", "cpu", "--precision", "fp32")


@pytest.fixture(scope="module")
def held(case: Any, run: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that never saw a fifth of the data."""
    out = tmp_path_factory.mktemp("held")
    assert run("train", "--data", case.data, "--validation", "random:0.2", "--out", out, *FAST).code == 0
    return out / "model.safetensors"


@pytest.fixture
def tune(case: Any, held: Path, run: Callable[..., Any], tmp_path: Path) -> Callable[..., Any]:
    def call(*more: object, out: str = "tuned", method: str = "finetune") -> Any:
        asked = ("--checkpoint", held, "--data", case.data, "--ids", "random:12", "--trials", "3", *FAST)
        return run("tune", *asked, "--method", method, "--out", tmp_path / out, *more)

    return call


def told(folder: Path) -> list[dict[str, Any]]:
    """The trials, less their seconds."""
    found: dict[str, Any] = read_json(folder / "trials.json")
    return [{name: value for name, value in trial.items() if name != "seconds"} for trial in found["trials"]]


class Poison:
    """A test set that must not be touched."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"tuning looked at the test set ({name})")

    def __len__(self) -> int:
        raise AssertionError("tuning looked at the test set")


def test_the_test_set_is_never_touched(tune: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran = tune()
    assert ran.code == 0, ran

    def poisoned(self: DataChoice) -> DataSet:
        whole = load_data(self.data)
        found = DataSet(whole.name, whole.train, Poison(), whole.augment)  # type: ignore[arg-type]
        found.__dict__["fingerprint"] = whole.fingerprint  # which is of both parts, and says what data these are
        return found

    monkeypatch.setattr(DataChoice, "load", poisoned)
    again = tune("--trials", "2", out="poisoned")
    assert again.code == 0, again
    assert told(tmp_path / "poisoned") == told(tmp_path / "tuned")[:2]


def test_forget_takes_the_best_settings(tune: Any, case: Any, held: Path, run: Any, tmp_path: Path) -> None:
    ran = tune()
    assert ran.code == 0, ran
    assert "Target: proxy" in ran.out
    folder = tmp_path / "tuned"
    best = yaml.safe_load((folder / "best.yaml").read_text())
    out = tmp_path / "out"
    asked = ("--checkpoint", held, "--data", case.data, "--ids", "random:12", "--references", "0", "--device", "cpu")
    assert run("forget", "--config", folder / "best.yaml", *asked, "--out", out).code == 0
    used = load_tensors(out / "model.safetensors")[1]["made_by"]
    assert used["method"] == "FineTune"
    assert {name: used["settings"]["optim"][name] for name in best["optim"]} == best["optim"]
    assert {file.name for file in folder.iterdir()} >= {"trials.json", "trials.csv", "tuning.json", "study.db", "proxy"}
    assert not list(folder.glob("*.resume"))
    assert not (folder / "trial").exists()


def test_more_trials_go_on(tune: Any, tmp_path: Path) -> None:
    assert tune("--target.kind", "chance").code == 0
    first = told(tmp_path / "tuned")
    tune("--target.kind", "chance", "--trials", "5").refused("other trials")
    assert tune("--target.kind", "chance", "--trials", "5", "--overwrite", "true").code == 0
    assert told(tmp_path / "tuned")[:3] == first
    assert len(told(tmp_path / "tuned")) == 5
    assert not (tmp_path / "tuned" / "proxy").exists(), "nothing is retrained for chance"


def test_the_oracle_takes_retrained_models(tune: Any, case: Any, held: Path, run: Any, tmp_path: Path) -> None:
    asked = ("--checkpoint", held, "--data", case.data, "--ids", "random:12", "--references", "1", *FAST)
    assert run("forget", "--method", "finetune", *asked, "--out", tmp_path / "job").code == 0
    answer = tmp_path / "job" / "retrained-0.safetensors"
    ran = tune("--target.kind", "oracle", "--retrained", answer)
    assert ran.code == 0, ran
    assert ran.out.count("oracle (peeks at the retrained model)") >= 2
    tune("--retrained", answer, out="proxy").refused("oracle")
    tune("--target.kind", "oracle", out="none").refused("--retrained")
    tune("--target.kind", "oracle", "--retrained", held, out="held").refused("trained without the forget set")


@pytest.mark.slow
@pytest.mark.parametrize("method", ["amun", "aru", "gradient-ascent", "neggrad-plus", "random-label"])
def test_our_methods_can_be_tuned(method: str, tune: Any, tmp_path: Path) -> None:
    ran = tune("--target.kind", "chance", "--trials", "2", method=method)
    assert ran.code == 0, ran
    assert yaml.safe_load((tmp_path / "tuned" / "best.yaml").read_text())["method"] == method


@pytest.mark.slow
def test_whole_classes(tune: Any, tmp_path: Path) -> None:
    ran = tune("--ids", "class:1", "--trials", "2", method="trw")
    assert ran.code == 0, ran
    assert "another class request" in ran.out


@pytest.mark.slow
def test_a_method_that_trains_on_validation_data(tune: Any) -> None:
    ran = tune("--pretraining", "2", "--max_epochs", "99", "--trials", "1", method="dau")
    assert ran.code == 0, ran


def test_range_test(tune: Any, tmp_path: Path) -> None:
    ran = tune("--range_test", "true")
    assert ran.code == 0, ran
    assert "retained accuracy" in " ".join(ran.out.split())
    assert len(read_json(tmp_path / "tuned" / "range_test.json")["rows"]) == 7


def test_bad_input(tune: Any, case: Any, run: Any, tmp_path: Path) -> None:
    tune("--trials", "0").refused("at least 1 trial")
    tune("--max_epochs", "-1").refused("max_epochs")
    tune("--devices", "2").refused("--devices")
    tune(method="retrain").refused("knobs to search")
    asked = ("tune", "--checkpoint", case.original, "--data", case.data, "--method", "finetune", "--out")
    run(*asked, tmp_path / "tuned", *FAST).refused("unteach train --validation")
    tune("--target.epochs_share", "0").refused("epochs_share")
    assert not (tmp_path / "tuned").exists(), "nothing is written for what can't be done"
