"""A checkpoint as the network that a verb's flags name."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from unteach.checkpoint import Checkpoint, load
from unteach.models import Preprocess
from unteach.types import Examples


class Flags(Protocol):
    """What the verbs with a ``--model`` have in common."""

    @property
    def model(self) -> str: ...

    @property
    def model_args(self) -> dict[str, Any]: ...

    @property
    def preprocess(self) -> Preprocess: ...


def checkpoint_at(flags: Flags, path: Path, examples: Examples, *, tell: bool = True) -> Checkpoint:
    """The checkpoint in this file; how it was read goes to the terminal, where there is something to tell."""
    found = load(path, data=examples, model=flags.model, arguments=flags.model_args, preprocess=flags.preprocess)
    for note in found.notes if tell else ():
        print(note)
    return found
