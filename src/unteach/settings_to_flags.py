"""Frozen dataclasses to flags and back: a field is a flag, its attribute docstring the help, its default the default."""

from __future__ import annotations

import typing
from dataclasses import fields, is_dataclass, replace
from typing import Any

from unteach.store import choices
from unteach.types import Method, Refusal

DEEPEST = 20  # settings within settings in a file
SHORT = {"--clip": "--clip.target", "--prune": "--prune.share", "--executor": "--executor.kind"}
FLAT = (
    "source",
    "training",
    "output",
    "machine",
    "method",
    "depth",
    "places",
)  # fields whose own fields are flags without a prefix


def add_settings(parser: Any, instance: Any, prefix: str = "", unset: bool = False) -> None:
    """Add a flag for every field of a settings object, with its current values as defaults.

    A nested settings object gives ``--outer.inner``; one of several classes gives ``--outer.kind`` besides. ``unset``:
    the object itself is optional, so its flags default to "not given".
    """
    hints, documents = typing.get_type_hints(type(instance)), _documents(type(instance))
    for item in fields(instance):
        if "fixed" in item.metadata:
            continue
        name, value, hint = item.name, getattr(instance, item.name), hints[item.name]
        key = f"{prefix}{name}"
        options = choices(hint)
        if isinstance(value, Method) and is_dataclass(value):
            from unteach.plugins import name_of, names

            known = ", ".join([*names(), "file.py:NAME", "pkg.module:NAME"])
            parser.add_argument("--method", type=str, default=name_of(value), help=f"{documents.get(name)} ({known})")
            add_settings(parser, value)
        elif options:
            if len(options) > 1:
                kinds = ", ".join(_kind(option) for option in options)
                kind = _kind(type(value)) if value is not None else None
                parser.add_argument(
                    _flag(f"{key}.kind"), type=str, default=kind, help=f"{documents.get(name)} ({kinds})"
                )
            inner = value if value is not None else options[0]()
            add_settings(parser, inner, "" if name in FLAT else f"{key}.", unset=unset or value is None)
        else:
            _add_flag(parser, key, hint, value, documents.get(name, ""), unset)


def settings_from(instance: Any, namespace: Any, prefix: str = "", unset: bool = False) -> Any:
    """The settings object with the values that were parsed; None when it is optional and nothing of it was given."""
    hints = typing.get_type_hints(type(instance))
    values: dict[str, Any] = {}
    group = namespace.get(prefix.removesuffix(".")) if prefix else namespace
    if group is None and unset:
        return None
    if not hasattr(group, "get"):
        raise Refusal(f"expected {prefix}… to be settings (name: value), got {group!r}; see --help for the names")
    for item in fields(instance):
        if "fixed" in item.metadata:
            continue
        name, value, key = item.name, getattr(instance, item.name), f"{prefix}{item.name}"
        options = choices(hints[name])
        if isinstance(value, Method) and is_dataclass(value):
            values[name] = settings_from(value, namespace)
        elif options:
            inner = value if value is not None else options[0]()
            deeper = "" if name in FLAT else f"{key}."
            got = settings_from(inner, namespace, deeper, unset=unset or value is None)
            if got is not None:
                values[name] = got
        else:
            found = namespace.get(key)
            if found is None and not unset and not _may_be_none(hints[name]):
                raise Refusal(f"expected a value for {key}, got null; give one or leave it out")
            if found and "pin" in item.metadata:  # code is named here, and may run; settings in files have its SHA-256
                found = (
                    [item.metadata["pin"](one) for one in found]
                    if isinstance(value, tuple)
                    else item.metadata["pin"](found)
                )
            if found is not None or not unset:
                values[name] = tuple(found) if isinstance(value, tuple) and found is not None else found
    return None if unset and not values else replace(instance, **values)


def chosen(arguments: list[str]) -> dict[str, str]:
    """The choices that decide which further flags there are: ``method`` and every ``….kind``, from flags or --config."""
    found: dict[str, str] = {}
    for position, argument in enumerate(arguments):
        flag, _, value = argument.partition("=")
        key = flag.removeprefix("--")
        value = value or (arguments[position + 1] if position + 1 < len(arguments) else "")
        if key == "config":
            found |= _chosen_in_file(value)
        elif flag.startswith("--") and (key == "method" or key.endswith(".kind")):
            found[key] = value
    return found


def spelled_out(arguments: list[str]) -> list[str]:
    """The same arguments with ``--clip 1.0`` written as ``--clip.target 1.0``, and so on for the other short forms."""
    return [SHORT.get(flag, flag) + equals + value for flag, equals, value in (a.partition("=") for a in arguments)]


def config_first(arguments: list[str]) -> list[str]:
    """The same arguments with every ``--config FILE`` in front, so that flags win over files wherever they stand."""
    files: list[str] = []
    flags: list[str] = []
    for argument in arguments:
        whole = argument.startswith("--config=")
        (files if whole or argument == "--config" or files[-1:] == ["--config"] else flags).append(argument)
    return files + flags


def instance_with(default: Any, choices_made: dict[str, str]) -> Any:
    """A verb's default settings with the chosen method and the chosen kinds put in."""
    changes: dict[str, Any] = {}
    if "method" in choices_made:
        if not hasattr(default, "method") or isinstance(default.method, str):
            return default
        from unteach.plugins import method_named

        changes["method"] = method_named(choices_made["method"])
    made = replace(default, **changes)
    for key, kind in choices_made.items():
        if key.endswith(".kind"):
            changed = _with_kind(made, key.removesuffix(".kind").split("."), kind, key)
            if changed is None:
                raise Refusal(f"expected settings that --help names, got --{key} {kind}; check name and value")
            made = changed
    return made


def _with_kind(settings: Any, path: list[str], kind: str, key: str) -> Any:
    """The settings with the object at this path of another kind; None when there is no such path."""
    hints = typing.get_type_hints(type(settings))
    for item in fields(settings):
        value, options = getattr(settings, item.name), choices(hints[item.name])
        if item.name == path[0] and options and len(path) == 1:
            match = [option for option in options if _kind(option) == kind]
            if not match:
                known = ", ".join(_kind(option) for option in options)
                raise Refusal(f"expected --{key} to be one of {known}, got {kind!r}; choose one of these")
            return replace(settings, **{item.name: match[0]()})
        deeper = path if item.name in FLAT else path[1:] if item.name == path[0] else []
        inner = value if value is not None or not options else options[0]()
        if deeper and is_dataclass(inner) and (changed := _with_kind(inner, deeper, kind, key)) is not None:
            return replace(settings, **{item.name: changed})
    return None


def _add_flag(parser: Any, key: str, hint: Any, value: Any, text: str, unset: bool) -> None:
    default = None if unset else value
    text = text.replace("%", "%%")
    if isinstance(value, tuple):
        kind = typing.get_args(hint)[0]
        parser.add_argument(_flag(key), nargs="*", type=kind, default=list(default or ()), help=text)
        return
    parser.add_argument(_flag(key), type=hint | None if unset else hint, default=default, help=text)


def _flag(key: str) -> str:
    return f"--{key}"


def _kind(option: type) -> str:
    return option.__name__.lower()


def _may_be_none(hint: Any) -> bool:
    return type(None) in typing.get_args(hint)


def _chosen_in_file(path: str) -> dict[str, str]:
    import yaml

    try:
        with open(path) as file:
            text = file.read()
        _refuse_endless(text)
        found = yaml.safe_load(text) or {}
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise Refusal(f"expected a YAML file at {path}, got: {error}; check --config") from error
    if not isinstance(found, dict):
        raise Refusal(
            f"expected settings (name: value) in {path}, got {type(found).__name__}; see --help for the names"
        )
    told = {"method": str(found["method"])} if found.get("method") is not None else {}
    return told | _kinds_in(found)


def _refuse_endless(text: str) -> None:
    """Raise ValueError for YAML that takes more time than its length lets expect: by aliases, or by deep nesting."""
    import yaml

    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST or isinstance(event, yaml.AliasEvent):
            raise ValueError("an alias (*name)" if depth <= DEEPEST else f"settings nested more than {DEEPEST} deep")


def _kinds_in(found: dict[str, Any], prefix: str = "") -> dict[str, str]:
    kinds: dict[str, str] = {}
    for name, value in found.items():
        if isinstance(value, dict):
            kinds |= _kinds_in(value, f"{prefix}{name}.")
        elif name == "kind" and prefix and value is not None:
            kinds[f"{prefix}kind"] = str(value)
    return kinds


def _documents(cls: Any) -> dict[str, str]:
    from docstring_parser import parse_from_object

    return {p.arg_name: " ".join((p.description or "").split()) for p in parse_from_object(cls).params}


__all__ = ["add_settings", "chosen", "config_first", "instance_with", "settings_from"]
