"""``unteach list``: what there is to choose from."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from functools import partial
from typing import Any


@dataclass(frozen=True, kw_only=True)
class List:
    """Show the data sets, networks, methods, attacks and membership tests by name; --method NAME shows one method whole."""

    method: str = ""
    """A method to show with its source, what it needs and its settings."""

    def __call__(self) -> int:
        from unteach.attacks import ATTACKS
        from unteach.audit import MEMBERSHIP
        from unteach.data import DATA
        from unteach.methods import METHODS
        from unteach.models import MODELS
        from unteach.types import Refusal

        if self.method:
            if self.method not in METHODS:
                raise Refusal(f"expected a method ({', '.join(METHODS)}), got {self.method!r}; choose one of these")
            made = METHODS[self.method]()
            print(
                f"{self.method}\n\n{inspect.getdoc(made)}\n\nneeds: {', '.join(sorted(made.needs)) or 'the forget set only'}"
            )
            print(f"defaults: {made}\n\nall settings: unteach forget --method {self.method} --help")
            return 0
        tables = {
            "data": {name: _first_line(what) for name, what in DATA.items()},
            "models": {name: what for name, (_, what) in MODELS.items()},
            "methods": {name: _method_line(made) for name, made in METHODS.items()},
            "attacks": {name: _first_line(made) for name, made in ATTACKS.items()},
            "membership tests": {name: _first_line(made) for name, made in MEMBERSHIP.items()},
        }
        for title, rows in tables.items():
            print(title)
            for name, what in rows.items():
                print(f"  {name:18} {what}")
        return 0


def _method_line(made: Any) -> str:
    if isinstance(made, partial):
        changed = ", ".join(f"{name}={str(value).lower()}" for name, value in made.keywords.items())
        return f"{made.func.__name__} with {changed}"
    return _first_line(made)


def _first_line(thing: object) -> str:
    return (inspect.getdoc(thing) or "").partition("\n")[0]
