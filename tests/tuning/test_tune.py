"""Tuning: finds a known best, keeps to its budget, goes on where it stopped, and says when it peeks."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from tuning.cases import RECIPE, Picks, Sham, job, trained
from unteach.engine import Engine
from unteach.methods import FineTune, NegGradPlus
from unteach.store import fingerprint
from unteach.train import Sgd
from unteach.tuning import Chance, Oracle, Proxy, Tuned, tune, write_tuned
from unteach.tuning.search import COLLAPSED, OVER
from unteach.tuning.targets import shortened
from unteach.types import Refusal


def cpu() -> Engine:
    return Engine(accelerator="cpu", precision="fp32")


def drawn(tuned: Tuned) -> list[Any]:
    """Trials without what depends on the clock."""
    return [(t.number, t.state, t.knobs, t.score, t.reading, t.epochs) for t in tuned.trials]


def test_a_known_optimum_is_found() -> None:
    model, parts = job()
    assert parts.retain is not None
    answer = trained(parts.retain, seed=9)
    method = Sham(towards=answer.state_dict())
    found = tune(method, model, parts, target=Oracle(), retrained=[answer], recipe=RECIPE, trials=30, engine=cpu())
    assert found.best.score is not None
    assert found.best.score < 0.5 * found.unchanged[0]
    assert abs(float(found.best.knobs["way"] or 0) - 1) < 0.3
    assert found.trials[0].knobs == {"way": 0.0}, "the first trial has the method's own settings"
    assert found.method.way == found.best.knobs["way"]  # type: ignore[attr-defined]
    assert not found.sensitivity, "there is no learning rate"


def test_retraining_is_the_best_that_a_proxy_can_tell() -> None:
    model, parts = job()
    before, state = fingerprint(model), torch.get_rng_state()
    found = tune(Picks(price=0.5), model, parts, recipe=RECIPE, trials=25, max_epochs=9.0, engine=cpu())
    by_kind = {trial.knobs["what"]: trial for trial in found.trials}
    assert found.best.knobs["what"] == "retrain"
    for what, why in {"ruin": "no more right", "nan": "no longer finite", "diverge": "no longer finite"}.items():
        assert by_kind[what].state == COLLAPSED
        assert why in by_kind[what].why
        assert by_kind[what].score is None
    assert found.floor is not None
    assert found.aim.startswith("proxy (retrained without another random request of 20 examples")
    assert any("collapsed" in line for line in found.words())
    assert fingerprint(model) == before
    assert torch.equal(torch.get_rng_state(), state)


def test_no_trial_costs_more_than_the_cap() -> None:
    model, parts = job()
    found = tune(
        Picks(what="nothing", epochs=8), model, parts, target=Chance(), trials=12, max_epochs=3.5, engine=cpu()
    )
    assert found.cap == 3.5
    assert all(trial.epochs <= 3.5 for trial in found.trials)
    assert max(int(trial.knobs["epochs"] or 0) for trial in found.trials) == 3
    assert found.trials[0].knobs["epochs"] == 3, "its own 8 are brought down"
    with pytest.raises(Refusal, match="--max_epochs"):
        tune(Picks(price=6.0), model, parts, target=Chance(), trials=2, engine=cpu())


def test_the_cap_is_a_tenth_of_retraining() -> None:
    model, parts = job()
    long = replace(RECIPE, optim=replace(RECIPE.optim, epochs=120))
    assert tune(Picks(), model, parts, target=Chance(), recipe=long, trials=1, engine=cpu()).cap == pytest.approx(10.0)
    assert tune(Picks(), model, parts, target=Chance(), recipe=RECIPE, trials=1, engine=cpu()).cap == 5.0


class Jumpy(Picks):
    """Costs more when it does something else, which its epochs do not tell."""

    def __call__(self, *given: Any) -> torch.nn.Module:
        return replace(Picks(what=self.what), price=1.0 if self.what == "nothing" else 50.0)(*given)


def test_a_trial_that_was_dearer_than_expected_does_not_win() -> None:
    model, parts = job()
    found = tune(Jumpy(), model, parts, target=Chance(), trials=12, engine=cpu())
    dear = [trial for trial in found.trials if trial.knobs["what"] == "retrain"]
    assert dear
    assert all(trial.state == OVER and trial.score is None for trial in dear)
    assert found.best.knobs["what"] == "nothing"


def test_it_goes_on_with_the_same_trials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, parts = job()
    assert parts.retain is not None
    answer = trained(parts.retain, seed=9)
    method = Sham(towards=answer.state_dict())

    def search(folder: Path | None, trials: int) -> Tuned:
        return tune(
            method, model, parts, target=Oracle(), retrained=[answer], trials=trials, engine=cpu(), folder=folder
        )

    whole = search(None, 14)  # the last ones learn from those before
    assert len({str(trial.knobs) for trial in whole.trials}) == 14
    calls = []

    def stops(self: Sham, *given: Any) -> torch.nn.Module:
        calls.append(self)
        if len(calls) == 9:
            raise KeyboardInterrupt
        return original(self, *given)

    original = Sham.__call__
    with monkeypatch.context() as patch:
        patch.setattr(Sham, "__call__", stops)
        with pytest.raises(KeyboardInterrupt):
            search(tmp_path, 14)
    assert len(calls) == 9
    assert drawn(search(tmp_path, 14)) == drawn(whole)
    assert not (tmp_path / "trial").exists()


def test_nothing_is_done_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, parts = job()
    method = FineTune(optim=Sgd(lr=0.02, epochs=1, batch=16))
    first = tune(method, model, parts, recipe=RECIPE, trials=3, engine=cpu(), folder=tmp_path)
    engine = cpu()
    again = tune(method, model, parts, recipe=RECIPE, trials=3, engine=engine, folder=tmp_path)
    assert engine.meter.trained == 0
    assert drawn(again) == drawn(first)
    other = tune(method, model, parts, recipe=RECIPE, trials=3, seed=1, engine=cpu(), folder=tmp_path)
    assert drawn(other) != drawn(first), "another seed is another study in the same file"


def test_learning_rates_are_shares_of_the_originals() -> None:
    model, parts = job()
    method = FineTune(optim=Sgd(lr=50.0, epochs=1, batch=16))
    low, high = FineTune.card.search["optim.lr"].low, FineTune.card.search["optim.lr"].high  # type: ignore[union-attr]
    for peak in (0.01, 1.0):
        recipe = replace(RECIPE, optim=replace(RECIPE.optim, lr=peak))
        found = tune(method, model, parts, target=Chance(), recipe=recipe, trials=4, engine=cpu())
        rates = [float(trial.knobs["optim.lr"] or 0) for trial in found.trials]
        assert rates[0] == pytest.approx(high * peak), "its own rate is brought into the range"
        assert all(low * peak <= rate <= high * peak * (1 + 1e-9) for rate in rates)
        assert found.peak == peak


def test_sensitivity_is_the_best_with_other_rates() -> None:
    model, parts = job()
    found = tune(
        FineTune(optim=Sgd(lr=0.05, epochs=2, batch=16)), model, parts, target=Chance(), trials=5, engine=cpu()
    )
    rate = float(found.best.knobs["optim.lr"] or 0)
    assert list(found.sensitivity) == ["× 1/3", "× 3"]
    assert [float(t.knobs["optim.lr"] or 0) for t in found.sensitivity.values()] == pytest.approx([rate / 3, rate * 3])
    assert set(found.importance) <= {"optim.lr", "optim.epochs"}


def test_chance_prefers_what_keeps_the_accuracy() -> None:
    model, parts = job()
    aim = Chance(tolerance=2.0)(case_of(model, parts))
    score = aim.score
    before = aim.judge(model, cpu())
    assert before is not None
    assert before.validation is not None
    assert score(replace(before, auc=0.7)) == pytest.approx(0.2)
    assert score(replace(before, auc=0.5, validation=before.validation - 0.05)) == pytest.approx(0.55)
    worst_kept = score(replace(before, auc=1.0))
    assert worst_kept < score(replace(before, auc=0.5, validation=before.validation - 0.021))


def case_of(model: torch.nn.Module, parts: Any, method: Any = None, **more: Any) -> Any:
    from unteach.tuning.targets import Case

    given = {"method": method or Sham(), "recipe": None, "retrained": (), "seed": 0, "engine": cpu(), "folder": None}
    return Case(model=model, split=parts, **{**given, **more})


class NeedsValidation(Sham):
    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"retain", "validation"})


def test_validation_that_a_method_trains_on_is_not_what_judges_it() -> None:
    model, parts = job()
    aim = Chance()(case_of(model, parts, NeedsValidation()))
    assert aim.split.validation is not None
    assert aim.judge.validation is not None
    lent, kept = set(aim.split.validation.ids), set(aim.judge.validation.ids)
    assert not lent & kept
    assert len(lent | kept) == 60
    assert Chance()(case_of(model, parts)).split.validation is None


def test_the_oracle_is_named_everywhere(tmp_path: Path) -> None:
    model, parts = job()
    assert parts.retain is not None
    answers = [trained(parts.retain, seed=seed) for seed in (8, 9)]
    given = Picks(price=0.1)
    found = tune(given, model, parts, target=Oracle(), retrained=answers, recipe=RECIPE, trials=6, engine=cpu())
    assert found.floor is not None
    write_tuned(found, given, tmp_path)
    name = "oracle (peeks at the retrained model)"
    assert name in found.words()[0]
    assert json.loads((tmp_path / "tuning.json").read_text())["target"] == name
    assert json.loads((tmp_path / "trials.json").read_text())["target"] == name
    assert name in (tmp_path / "best.yaml").read_text()
    rows = list(csv.DictReader((tmp_path / "trials.csv").read_text().splitlines()))
    assert len(rows) == 6
    assert {row["target"] for row in rows} == {name}
    with pytest.raises(Refusal, match="no retrained models of this request"):
        tune(given, model, parts, retrained=answers, recipe=RECIPE, trials=1)
    with pytest.raises(Refusal, match="--retrained"):
        tune(given, model, parts, target=Oracle(), recipe=RECIPE, trials=1)


def test_best_settings_as_yaml(tmp_path: Path) -> None:
    model, parts = job()
    given = NegGradPlus(alpha=0.7, optim=Sgd(lr=0.02, epochs=2, batch=16))
    found = tune(given, model, parts, recipe=RECIPE, trials=2, engine=cpu())
    write_tuned(found, given, tmp_path)
    told = yaml.safe_load((tmp_path / "best.yaml").read_text())
    best = found.best.knobs
    assert told == {
        "method": "neggrad-plus",
        "alpha": best["alpha"],
        "optim": {"lr": best["optim.lr"], "epochs": best["optim.epochs"], "batch": 16},
    }, "what differs from the defaults and what was searched; augmentation stays open"


def test_without_validation_data() -> None:
    model, parts = job()
    blind = replace(parts, validation=None)
    with pytest.raises(Refusal, match="unteach train --validation"):
        tune(Picks(), model, blind, recipe=RECIPE, trials=1, engine=cpu())
    with pytest.raises(Refusal, match="unteach train --validation"):
        tune(Picks(), model, blind, target=Chance(), recipe=RECIPE, trials=1, engine=cpu())
    target = Proxy(without_validation=True, retrains=1)
    found = tune(Picks(price=0.1), model, blind, target=target, recipe=RECIPE, trials=1, engine=cpu())
    assert found.unchanged[1].validation is None
    assert found.floor is None


def test_refusals() -> None:
    model, parts = job()
    with pytest.raises(Refusal, match="how the original was trained"):
        tune("finetune", model, parts, engine=cpu())
    with pytest.raises(Refusal, match="knobs to search"):
        tune("retrain", model, parts, recipe=RECIPE, engine=cpu())
    with pytest.raises(Refusal, match="at least 1 trial"):
        tune("finetune", model, parts, recipe=RECIPE, trials=0)
    with pytest.raises(Refusal, match="retain set"):
        tune("finetune", model, replace(parts, retain=None), recipe=RECIPE)
    with pytest.raises(Refusal, match="leave the network whole"):
        tune(Picks(what="ruin"), model, parts, target=Chance(), trials=1, engine=cpu())
    with pytest.raises(Refusal, match="proxy retrain"):
        Proxy(retrains=0)
    with pytest.raises(Refusal, match="tolerance"):
        Chance(tolerance=-1)


def test_a_foreign_study_is_refused(tmp_path: Path) -> None:
    model, parts = job()
    (tmp_path / "study.db").write_text("not a data base, but long enough to be read as one " * 40)
    with pytest.raises(Refusal, match="study"):
        tune(Picks(), model, parts, recipe=RECIPE, trials=1, engine=cpu(), folder=tmp_path)


def test_a_shorter_proxy_retrain() -> None:
    assert shortened(Sgd(epochs=10, schedule="cosine"), 0.25).epochs == 2
    assert shortened(Sgd(epochs=10, schedule="step:3"), 1.0).epochs == 10
    with pytest.raises(Refusal, match="schedule"):
        shortened(Sgd(epochs=10, schedule="step:3"), 0.5)
