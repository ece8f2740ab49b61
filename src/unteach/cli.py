"""The command line: every verb's settings become flags and YAML keys; bad input becomes a sentence and exit code 2."""

from __future__ import annotations

import importlib
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any


def main(argv: Sequence[str] | None = None, before_torch: Callable[[], object] = bool) -> int:
    """Run one verb; returns the exit code (0 done, 2 bad input, 3 gate not passed, 130 stopped).

    ``before_torch`` is called when something of torch is used first, before it is loaded.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    _torch_on_demand(before_torch)
    from unteach.types import Refusal

    try:
        code = _run(arguments)
        sys.stdout.flush()
        return code
    except Refusal as refusal:
        print(f"unteach: {refusal}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader has seen enough, as in `unteach list | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains when it flushes at its end
        return 141
    except OSError as error:
        print(
            f"unteach: expected the file system to play along, got: {error}; check space and permissions",
            file=sys.stderr,
        )
        return 2
    except KeyboardInterrupt:
        print("unteach: stopped; the same command goes on where it was", file=sys.stderr)
        return 130


def _run(arguments: list[str]) -> int:
    from unteach import __version__
    from unteach.types import Refusal
    from unteach.verbs import VERBS

    if not arguments or arguments[0] in ("-h", "--help"):
        print(_overview(VERBS))
        return 0
    if arguments[0] == "--version":
        print(f"unteach {__version__}")
        return 0
    if arguments[0] not in VERBS:
        raise Refusal(f"expected a verb ({', '.join(VERBS)}), got {arguments[0]!r}; see unteach --help")
    run = parse(VERBS[arguments[0]], f"unteach {arguments[0]}", _named_first(VERBS[arguments[0]], arguments[1:]))
    return int(run())


def _named_first(verb: type, arguments: list[str]) -> list[str]:
    """A word right after a verb that names what it is about (``first``) as a flag."""
    name = getattr(verb, "first", "")
    if name and arguments and not arguments[0].startswith("-"):
        return [f"--{name}", *arguments]
    return arguments


def parse(verb: type, name: str, arguments: list[str]) -> Any:
    """The verb with settings from defaults, then --config YAML, then flags.

    Raises: Refusal for flags that are not there and values of the wrong kind.
    """
    from argparse import ArgumentError

    from jsonargparse import ArgumentParser

    from unteach.settings_to_flags import add_settings, chosen, config_first, instance_with, settings_from, spelled_out
    from unteach.types import Refusal

    arguments = config_first(spelled_out(arguments))
    default = instance_with(verb(), chosen(arguments))
    # No abbreviations: --meth would be taken for --method, but only after the method's flags are settled.
    about = (verb.__doc__ or "").strip()
    parser = ArgumentParser(prog=name, description=about, exit_on_error=False, allow_abbrev=False)
    parser.add_argument("--config", action="config", help="YAML file with any of these settings; flags win over it")
    add_settings(parser, default)
    try:
        found = parser.parse_args(arguments)
    except ArgumentError as error:
        reason = re.sub(r"<class '(\w+)'>", r"\1", " ".join(str(error).split()))
        raise Refusal(f"expected settings that {name} --help names, got: {reason}; check name and value") from error
    return settings_from(default, found)


def _overview(verbs: dict[str, type]) -> str:
    lines = [
        "unteach: make a trained PyTorch classifier forget chosen examples, and show how close it came to retraining.",
        "",
    ]
    lines += [
        f"  unteach {name:8} {(verb.__doc__ or '').strip().partition(chr(10))[0]}" for name, verb in verbs.items()
    ]
    lines += [
        "",
        "unteach VERB --help names every setting with unit and default; settings also come from --config FILE.yaml.",
    ]
    return "\n".join(lines)


class _OnDemand(ModuleType):
    """Stands for torch until something of it is used, then becomes it."""

    def __getattr__(self, name: str) -> object:
        if sys.modules.get("torch") is self:
            del sys.modules["torch"]
            self.__dict__["before"]()
        real = importlib.import_module("torch")
        self.__dict__.update(real.__dict__)
        return getattr(real, name)


def _torch_on_demand(before: Callable[[], object] = bool) -> None:
    """Let ``import torch`` in our modules cost nothing until torch is used: help and errors come in half a second.

    The standard library's lazy loader does not serve: a second ``import torch`` makes it load.
    """
    if "torch" not in sys.modules:
        sys.modules["torch"] = awaited = _OnDemand("torch")
        awaited.__dict__["before"] = before


def script() -> None:
    """Entry point of the ``unteach`` command: the process is ours, so its allocator and its waiting threads are settled."""
    from unteach.runtime import Others, settle_allocator, settle_waiting

    others = Others()
    settle_allocator()
    sys.exit(main(before_torch=lambda: settle_waiting(others.cores())))


if __name__ == "__main__":
    sys.path.insert(0, str(Path.cwd()))
    script()
