"""``unteach list``: what there is to choose from."""

from __future__ import annotations

import inspect
import re
import textwrap
from dataclasses import dataclass, fields, is_dataclass
from functools import partial
from typing import Any

from unteach.types import Card, Method


@dataclass(frozen=True, kw_only=True)
class List:
    """Show the data sets, networks, methods, attacks and membership tests by name; --method NAME shows one method whole."""

    method: str = ""
    """A method to show with its source, what it needs and its settings."""

    def __call__(self) -> int:
        from unteach.attacks import ATTACKS
        from unteach.audit import LIKELIHOOD, MEMBERSHIP
        from unteach.bench.protocols import PROTOCOLS
        from unteach.data import DATA
        from unteach.methods import METHODS
        from unteach.models import MODELS, OUTSIDE
        from unteach.plugins import installed, method_named
        from unteach.references.tiers import TIERS
        from unteach.stress import STRESS

        if self.method:
            print(_card(self.method, method_named(self.method)))
            return 0
        tables = {
            "data": {name: _first_line(what) for name, what in DATA.items()},
            "models": {name: what for name, (_, what) in MODELS.items()} | OUTSIDE,
            "methods": {name: _method_line(made) for name, made in METHODS.items()}
            | {name: f"plug-in {entry.value}" for name, entry in installed().items()},
            "attacks": {name: _first_line(made) for name, made in ATTACKS.items()},
            "membership tests": {name: _first_line(made) for name, made in MEMBERSHIP.items()},
            "likelihood attacks": {name: _first_line(type(made)) for name, made in LIKELIHOOD.items()},
            "tests of behaviour": {name: _first_line(made) for name, made in STRESS.items()},
            "protocols of bench": {
                name: f"{next(iter(known.values())).title} ({', '.join(known)})" for name, known in PROTOCOLS.items()
            },
            "tiers": {name: tier.words() for name, tier in TIERS.items()},
        }
        for title, rows in tables.items():
            print(title)
            for name, what in rows.items():
                print(f"  {name:22} {what}")
        return 0


def _card(name: str, method: Method) -> str:
    """All a user should know of a method, in plain lines of at most 100 characters."""
    text = inspect.getdoc(method) or ""
    told = {part: _paragraph(text, part) for part in ("Source", "Departs")}
    card = getattr(type(method), "card", Card(does=_first_line(method), suits=(), cost="", knobs={}))
    needs = [_NEEDS[need] for need in sorted(method.needs) if need in _NEEDS]
    rows = {
        "does": card.does,
        "data": ", ".join(["the forget set", *needs]),
        "layers": card.layers,
        "suits": ", ".join(card.suits),
        "cost": card.cost,
        "knobs": "; ".join(f"--{knob}: {what}" for knob, what in card.knobs.items()) or "none",
        "source": told["Source"],
        "departs": told["Departs"],
        "defaults": str(method),
    }
    lines = [f"{name}: {_first_line(method)}", ""]
    for title, what in rows.items():
        lines += textwrap.wrap(what, 100, initial_indent=f"{title:10}", subsequent_indent=" " * 10)
    return "\n".join([*lines, "", f"all settings: unteach forget --method {name} --help"])


_NEEDS = {
    "retain": "the retained examples",
    "validation": "validation data the model never saw (unteach train --validation)",
    "class": "requests of whole classes",
}


def _paragraph(text: str, title: str) -> str:
    """What a docstring says after ``*Title:*``, up to the next title or its end."""
    found = re.search(rf"\*{title}:\*(.*?)(?=\*[A-Z]\w+:\*|\Z)", text, re.DOTALL)
    return " ".join(found[1].split()) if found else ""


def _method_line(made: Any) -> str:
    if isinstance(made, partial):
        changed = ", ".join(f"{name}={_plain(value)}" for name, value in _changed(made(), made.func()).items())
        return f"{made.func.__name__} with {changed}"
    return _first_line(made)


def _changed(settings: Any, default: Any) -> dict[str, Any]:
    """The settings, named like flags, that differ from the default."""
    found: dict[str, Any] = {}
    for item in fields(settings):
        mine, theirs = getattr(settings, item.name), getattr(default, item.name)
        if is_dataclass(mine) and type(mine) is type(theirs):
            found |= {f"{item.name}.{name}": value for name, value in _changed(mine, theirs).items()}
        elif mine != theirs:
            found[item.name] = mine
    return found


def _plain(value: Any) -> str:
    return type(value).__name__.lower() if is_dataclass(value) else str(value).lower()


def _first_line(thing: object) -> str:
    return (inspect.getdoc(thing) or "").partition("\n")[0]
