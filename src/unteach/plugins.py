"""Methods by name: ours, installed packages' (entry points), and a user's own file."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import MISSING, fields, is_dataclass
from typing import TYPE_CHECKING, Any

import torch

from unteach.challenge import Challenge, refuse_unless_alike
from unteach.engine import Engine
from unteach.methods import METHODS
from unteach.store import fingerprint
from unteach.types import Method, Refusal, Split
from unteach.user_code import Code, code_of, load

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

GROUP = "unteach.methods"


def method_named(name: str) -> Method:
    """A method with its defaults: a name of the table, of an installed plug-in, ``file.py:NAME`` or ``pkg.module:NAME``.

    NAME is a frozen dataclass that keeps the contract of ``types.Method``, or a function for the NeurIPS 2023 unlearning
    challenge. Only what is named is imported. Raises: Refusal for a name that is unknown or names something else.
    """
    if name in METHODS:
        return METHODS[name]()
    found = installed()
    if name in found:
        return _made(f"{found[name].module}:{found[name].attr}")
    if ":" in name:
        return _made(name)
    known = ", ".join([*METHODS, *found])
    raise Refusal(f"expected a method ({known}), file.py:NAME or pkg.module:NAME, got {name!r}; choose one of these")


def names() -> list[str]:
    """The names of the table and of installed plug-ins."""
    return [*METHODS, *installed()]


def installed() -> dict[str, EntryPoint]:
    """Methods of installed packages, by entry point, not imported; a name of ours stays ours."""
    from importlib.metadata import entry_points

    return {entry.name: entry for entry in entry_points(group=GROUP) if entry.name not in METHODS}


def name_of(method: Method) -> str:
    """What ``--method`` calls a method: the table's name, the one with these defaults first; a user's own by its code."""
    alike = {name: made for name, made in ((n, make()) for n, make in METHODS.items()) if type(made) is type(method)}
    return next((name for name, made in alike.items() if made == method), next(iter(alike), title(method)))


def title(method: Method) -> str:
    """The name under which results are kept: the class of ours, ``file.py:NAME`` of others."""
    code = origin(method)
    return code.name if code else type(method).__name__


def origin(method: Method) -> Code | None:
    """The code from outside that a method runs; None for ours."""
    if isinstance(method, Challenge):
        return Code(method.function, method.sha256, "")
    return code_of(type(method))


def call(method: Method, model: torch.nn.Module, parts: Split, rng: torch.Generator, engine: Engine) -> torch.nn.Module:
    """The method's new model. Of code from outside it is checked that the old one is as it was, and the new one fits its place.

    Raises: Refusal that says what changed.
    """
    if origin(method) is None:
        return method(model, parts, rng, engine)
    before, who = fingerprint(model), title(method)
    new = method(model, parts, rng, engine)
    if new is model or fingerprint(model) != before:
        raise Refusal(
            f"expected {who} to leave the given model as it was, got it changed; work on copy.deepcopy(model)"
        )
    refuse_unless_alike(model, new, who)
    return new


def _made(spec: str) -> Method:
    found = load(spec)
    if inspect.isclass(found):
        return _instance(found, spec)
    code = code_of(found)
    if code is None or not _takes(found, 4):
        raise Refusal(
            f"expected {spec} to be called as (net, retain_loader, forget_loader, val_loader), got "
            f"{inspect.signature(found)}; change its arguments"
        )
    return Challenge(function=code.name, sha256=code.sha256)


def _instance(found: Any, spec: str) -> Method:
    frozen: bool = is_dataclass(found) and getattr(found, "__dataclass_params__").frozen  # noqa: B009 - not in the stubs
    if not frozen:
        raise Refusal(
            f"expected {spec} to be a frozen dataclass, got another class; put @dataclass(frozen=True) above it"
        )
    if not hasattr(found, "needs") or not _takes(found.__call__, 5):
        raise Refusal(
            f"expected a property needs and __call__(self, model, split, rng, engine) in {spec}, got a class without; "
            "see CONTRIBUTING.md"
        )
    bare = [f.name for f in fields(found) if f.init and f.default is MISSING and f.default_factory is MISSING]
    if bare:
        raise Refusal(f"expected a default for every setting of {spec}, got none for {', '.join(bare)}; give some")
    make: Callable[[], Method] = found
    return make()


def _takes(function: Any, count: int) -> bool:
    try:
        inspect.signature(function).bind(*[None] * count)
    except (TypeError, ValueError):
        return False
    return True
