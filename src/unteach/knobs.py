"""A setting named like a flag, ``optim.lr``: reading it, turning it, and what its name tells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import is_dataclass, replace
from typing import Any

Value = str | float | bool | None
USUAL_PEAK = 0.1  # of the learning rate in training, where nobody told it


def knob(settings: Any, path: str) -> Any:
    """The value of a setting named like a flag: ``optim.lr``."""
    for name in path.split("."):
        settings = getattr(settings, name)
    return settings


def turned(settings: Any, knobs: Mapping[str, Value]) -> Any:
    """The same settings with these knobs at these values."""
    for path, value in knobs.items():
        name, _, rest = path.partition(".")
        inner = turned(getattr(settings, name), {rest: value}) if rest else value
        settings = replace(settings, **{name: inner})
    return settings


def has(settings: Any, path: str) -> bool:
    """Whether there is a setting of this name."""
    for name in path.split("."):
        if not is_dataclass(settings) or not hasattr(settings, name):
            return False
        settings = getattr(settings, name)
    return True


def is_rate(path: str) -> bool:
    """Whether this knob is a learning rate, which cards tell as a share of the original's."""
    return path.rpartition(".")[2] == "lr"
