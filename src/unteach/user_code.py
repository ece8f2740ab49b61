"""Code from outside unteach: found under the name that the user gives, and known again by its SHA-256."""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from unteach.models.build import imported
from unteach.types import Refusal

# Places of the code that this process was told to run; processes that it starts inherit them, files never name any.
NAMED = "UNTEACH_CODE"


@dataclass(frozen=True)
class Code:
    """A class or function from outside: its name, the SHA-256 of the file it stands in, and where that is.

    ``name``: ``file.py:NAME`` without folders, or ``pkg.module:NAME``. Modules that its file imports do not count.
    """

    name: str
    sha256: str
    place: str


_LOADED: dict[object, Code] = {}


def load(spec: str) -> Any:
    """The class or function that ``file.py:NAME`` or ``pkg.module:NAME`` names. Runs the file, once for the same content.

    To be called for names from the command line or the caller only: this process and those it starts may ``recall`` it.
    Raises: Refusal where there is no such file, module or name; what the user's own code raises comes as it is.
    """
    path, _, name = spec.rpartition(":")
    if not path or (path.startswith(".") and not path.endswith(".py")) or not name:
        raise Refusal(f"expected file.py:NAME or pkg.module:NAME, got {spec!r}; name the file and what is in it")
    _ = torch.Tensor  # the user's file imports torch: it must find the real one, and not the command line's stand-in
    if path.endswith(".py"):
        file = Path(path).resolve()
        if not file.is_file():
            raise Refusal(f"expected a Python file at {path}, got none; check the path before the colon")
        code = Code(f"{file.name}:{name}", _digest(file), f"{file}:{name}")
        found = next((thing for thing, known in _LOADED.items() if known == code), None) or imported(spec)
    else:
        found = imported(spec)
        code = Code(spec, _digest(getattr(sys.modules[path], "__file__", None)), spec)
    if not (inspect.isclass(found) or inspect.isroutine(found)):
        raise Refusal(f"expected {spec} to be a class or function, got {type(found).__name__}; name its class")
    _remember(found, code)
    return found


def recall(name: str, sha256: str) -> Any:
    """Code that a job tells, if this process, or the one that started it, was told to run just that code.

    Raises: Refusal where nobody named it, or its file has changed since.
    """
    for thing, code in _LOADED.items():
        if (code.name, code.sha256) == (name, sha256):
            return thing
    place = _named().get(f"{name}@{sha256}")
    if place is None:
        raise Refusal(
            f"expected the command line to name {name} (SHA-256 {sha256[:12]}), which is code from outside unteach, got a file "
            "that does; give --method FILE:NAME, or --code FILE:NAME for other things, if you trust it"
        )
    found = load(place)
    if _LOADED[found].sha256 != sha256:
        raise Refusal(f"expected {name} as it was planned (SHA-256 {sha256[:12]}), got a changed file; start again")
    return found


def pin(code: str | Callable[..., Any]) -> str:
    """``NAME@SHA256`` of code that the command line or the caller names, or holds: what settings and jobs keep of it.

    Runs the file, as ``load`` does. What is pinned already stays as it is, and nothing runs.
    """
    if isinstance(code, str) and is_pinned(code):
        return code
    known = code_of(load(code) if isinstance(code, str) else code)
    assert known is not None
    return f"{known.name}@{known.sha256}"


def is_pinned(code: str) -> bool:
    """Whether these are the words of ``pin``."""
    return bool(re.search("@([0-9a-f]{64})?$", code))


def unpin(code: str) -> Any:
    """The code that ``pin`` told, under the conditions of ``recall``."""
    if not is_pinned(code):
        raise Refusal(
            f"expected code that the command line names, got {code!r}; in Python give user_code.pin({code!r})"
        )
    name, _, sha256 = code.rpartition("@")
    return recall(name, sha256)


def code_of(thing: Any) -> Code | None:
    """Where a class or function comes from; None for one of ours."""
    if thing.__module__.partition(".")[0] == "unteach":
        return None
    if thing in _LOADED:
        return _LOADED[thing]
    file, name = getattr(sys.modules.get(thing.__module__), "__file__", None), thing.__qualname__
    if thing.__module__ != "__main__":
        code = Code(f"{thing.__module__}:{name}", _digest(file), f"{thing.__module__}:{name}")
    else:  # a script; or a notebook, which no other process can load
        code = Code(f"{Path(file).name if file else 'notebook'}:{name}", _digest(file), f"{file}:{name}")
    _remember(thing, code)  # whoever holds it runs it already
    return code


def _remember(thing: object, code: Code) -> None:
    _LOADED[thing] = code
    os.environ[NAMED] = json.dumps(_named() | {f"{code.name}@{code.sha256}": code.place})


def _named() -> dict[str, str]:
    found: dict[str, str] = json.loads(os.environ.get(NAMED, "{}"))
    return found


def _digest(file: Path | str | None) -> str:
    return hashlib.sha256(Path(file).read_bytes()).hexdigest() if file else ""
