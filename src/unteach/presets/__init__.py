"""Settings that were measured to work: by method, kind of request and its size, relative to how the original was trained."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, partial
from importlib.resources import files
from typing import Any

from unteach.data.request import kind_of
from unteach.knobs import USUAL_PEAK, Value, is_rate, knob, turned
from unteach.methods import METHODS
from unteach.recipe import Recipe
from unteach.types import Method, Split

FEW = 0.03  # share of the training data up to which a request is one of few examples
HANDFUL = 0.005  # up to which it is a handful: what forgets a hundredth of the data forgets so few examples too much


@dataclass(frozen=True, kw_only=True)
class Preset:
    """Settings for one method and one kind of request.

    ``knobs``: by name; learning rates as shares of the original's highest. ``score``: mean distance to retraining over the
    scenes of the sweep (evaluation notes 7.1), ``unchanged``: that of doing nothing. ``scenes``: where it was measured.
    ``floor``: that of another retrained model. ``scenario``: the kind of request it was measured for.
    """

    scenario: str
    knobs: Mapping[str, Value]
    score: float
    unchanged: float
    scenes: tuple[str, ...]
    floor: float = 0.0

    @property
    def left(self) -> float:
        """How much of the way to retraining is left, as a share of what doing nothing leaves: 0 at another retrained model."""
        return (self.score - self.floor) / max(self.unchanged - self.floor, 1e-9)


def scenario_of(split: Split) -> str:
    """``class``, ``group``, or ``random``; and whether the request is of a ``handful``, ``few`` or ``many``: "random, few"."""
    if split.retain is None:
        return "random, many"
    kind = kind_of(split)
    share = len(split.forget) / (len(split.forget) + len(split.retain))
    size = "handful" if share <= HANDFUL else "few" if share <= FEW else "many"
    return kind if kind == "class" else f"{kind}, {size}"


def known_for(scenario: str, known: Mapping[str, Any]) -> str:
    """The scenario that tells most of this one among those that are known: itself, or few for a handful; "" for none."""
    return next((each for each in (scenario, scenario.replace("handful", "few")) if each in known), "")


def preset(method: Method, split: Split) -> Preset | None:
    """The preset of this method for such a request; None where nothing was measured."""
    rows = _table().get(row_of(method), {})
    scenario = known_for(scenario_of(split), rows)
    return (
        Preset(**{**rows[scenario], "scenes": tuple(rows[scenario]["scenes"]), "scenario": scenario})
        if scenario
        else None
    )


def with_preset(method: Method, split: Split, recipe: Recipe | None) -> tuple[Method, str]:
    """The method with measured settings in place of those that still have their default, and a sentence that names them.

    Learning rates are scaled to the original's recipe, to a highest rate of 0.1 where that is not known. What was given
    otherwise than by default stays; the sentence is empty where nothing changed.
    """
    found = preset(method, split)
    if found is None:
        return method, ""
    peak = recipe.optim.lr if recipe else USUAL_PEAK
    default = METHODS[row_of(method)]()
    turns = {
        path: peak * float(value) if is_rate(path) and isinstance(value, float | int) else value
        for path, value in found.knobs.items()
        if knob(method, path) == knob(default, path)
    }
    changed = {path: value for path, value in turns.items() if knob(method, path) != value}
    if not changed:
        return method, ""
    told = ", ".join(f"{path} {_short(value)}" for path, value in changed.items())
    return turned(method, changed), f"settings measured for requests of this kind ({found.scenario}): {told}"


def fixed(method: Method) -> frozenset[str]:
    """The settings that make this row of the table what it is, such as ``beta`` of ``rwft``: no search may turn them."""
    row = row_of(method)
    return frozenset(_own(METHODS[row])) if row else frozenset()


def row_of(method: Method) -> str:
    """The table's name for this method: of its class, the one with the most of its own defaults that the method has too."""
    names = {name: _own(made) for name, made in METHODS.items() if type(made()) is type(method)}
    fitting = [name for name, own in names.items() if all(getattr(method, key) == value for key, value in own.items())]
    return max(fitting, key=lambda name: len(names[name]), default="")


def _own(made: Any) -> dict[str, Any]:
    return made.keywords if isinstance(made, partial) else {}


@cache
def _table() -> dict[str, Any]:
    file = files("unteach.presets") / "table.json"
    found: dict[str, Any] = json.loads(file.read_text())["methods"]
    return found


def _short(value: Value) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
