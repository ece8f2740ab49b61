"""Measured settings: whose they are, how they scale, and that they never overrule what was given."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from made import blobs
from unteach import presets
from unteach.cli import main
from unteach.knobs import has, is_rate, knob
from unteach.methods import METHODS, Amun, FineTune
from unteach.presets import Preset, preset, scenario_of, with_preset
from unteach.recipe import Recipe
from unteach.store import read_json
from unteach.train import Sgd
from unteach.types import Choice, Range, Split

TABLE: dict[str, Any] = {
    "amun": {"random, many": {"knobs": {"optim.lr": 0.2, "optim.epochs": 2}, "score": 0.01, "unchanged": 0.03}},
    "amun-adv-only": {"random, many": {"knobs": {"optim.lr": 0.4}, "score": 0.01, "unchanged": 0.03}},
}
for rows in TABLE.values():
    for row in rows.values():
        row["scenes"] = ["digits"]


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presets, "_table", lambda: TABLE)


def halves(share: float, *, groups: bool = False) -> Split:
    data = blobs(200)
    if groups:
        data = replace(data, groups=np.array([f"g{number // 4}" for number in range(200)]))
    count = round(share * 200)
    return Split(forget=data.take(range(count)), retain=data.take(range(count, 200)))


def test_scenarios() -> None:
    assert scenario_of(halves(0.005)) == "random, handful"
    assert scenario_of(halves(0.02)) == "random, few"
    assert scenario_of(halves(0.1)) == "random, many"
    assert scenario_of(halves(0.02, groups=True)) == "group, few"
    data = blobs(90)
    one = data.labels.numpy() == 2
    assert scenario_of(Split(forget=data.take(one), retain=data.take(~one))) == "class"


@pytest.mark.usefixtures("table")
def test_rates_scale_with_the_original_and_the_rest_does_not() -> None:
    recipe = Recipe(optim=Sgd(lr=0.5))
    method, words = with_preset(Amun(), halves(0.1), recipe)
    assert isinstance(method, Amun)
    assert method.optim.lr == pytest.approx(0.1)
    assert method.optim.epochs == 2
    assert words == "settings measured for requests of this kind (random, many): optim.lr 0.1, optim.epochs 2"
    unknown, _ = with_preset(Amun(), halves(0.1), None)
    assert unknown.optim.lr == pytest.approx(0.02)  # type: ignore[attr-defined]


@pytest.mark.usefixtures("table")
def test_what_was_given_stays() -> None:
    method, words = with_preset(Amun(optim=Sgd(lr=0.007, epochs=5)), halves(0.1), None)
    assert method.optim == Sgd(lr=0.007, epochs=2)  # type: ignore[attr-defined]
    assert words.endswith(": optim.epochs 2")
    both = Amun(optim=Sgd(lr=0.007, epochs=9))
    assert with_preset(both, halves(0.1), None) == (both, "")


@pytest.mark.usefixtures("table")
def test_a_variant_has_its_own_row_and_others_none() -> None:
    variant = Amun(use_forget=False, optim=Sgd(lr=0.05, epochs=5))
    assert preset(variant, halves(0.1)) == Preset(
        scenario="random, many", knobs={"optim.lr": 0.4}, score=0.01, unchanged=0.03, scenes=("digits",)
    )
    assert preset(Amun(), halves(0.02)) is None
    assert with_preset(FineTune(), halves(0.1), None) == (FineTune(), "")


def test_a_handful_takes_what_is_known_of_few_where_nothing_else_is(monkeypatch: pytest.MonkeyPatch) -> None:
    few = {"knobs": {"optim.lr": 1.0}, "score": 0.01, "unchanged": 0.03, "scenes": ["digits"]}
    rows = {"random, few": few, "random, many": {**few, "knobs": {"optim.lr": 2.0}}}
    monkeypatch.setattr(presets, "_table", lambda: {"amun": rows})
    _, words = with_preset(Amun(), halves(0.005), None)
    assert words == "settings measured for requests of this kind (random, few): optim.lr 0.1"
    rows["random, handful"] = {**few, "knobs": {"optim.lr": 0.2}}
    _, words = with_preset(Amun(), halves(0.005), None)
    assert words == "settings measured for requests of this kind (random, handful): optim.lr 0.02"
    del rows["random, few"]
    assert preset(Amun(), halves(0.02)) is None, "a handful tells nothing of few"


@pytest.mark.usefixtures("table")
def test_the_verb_takes_them_unless_told_not_to(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    original = tmp_path / "o"
    assert main(["train", "--optim.epochs", "2", "--optim.lr", "0.1", "--out", str(original), "--quiet", "true"]) == 0
    checkpoint = str(original / "model.safetensors")
    for wanted, rate in (("true", 0.02), ("false", 0.05)):
        out = tmp_path / wanted
        given = ["--checkpoint", checkpoint, "--preset", wanted, "--references", "0", "--out", str(out)]
        assert main(["forget", *given, "--optim.epochs", "1", "--quiet", "true"]) == 0
        assert read_json(out / "findings.json")["method"]["settings"]["optim"]["lr"] == pytest.approx(rate)
        assert ("settings measured for requests of this kind" in capsys.readouterr().out) is (wanted == "true")


@pytest.mark.parametrize("name", METHODS)
def test_the_table_that_is_shipped_names_settings_within_the_cards_ranges(name: str) -> None:
    for row in presets._table().get(name, {}).values():
        search = type(METHODS[name]()).card.search  # type: ignore[attr-defined]
        assert row["scenes"]
        for path, value in row["knobs"].items():
            assert has(METHODS[name](), path)
            assert path not in presets.fixed(METHODS[name]()), "a preset may not make another row of it"
            if path not in search:  # epochs that the sweep's budget cut
                assert path.endswith("epochs")
                assert 1 <= value < knob(METHODS[name](), path)
                continue
            values = search[path]
            if isinstance(values, Choice):
                assert value in values.values
            elif isinstance(values, Range) and not path.endswith("epochs"):
                assert values.low * 0.99 <= value <= values.high * 1.01, is_rate(path)
