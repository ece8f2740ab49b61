"""Names of weights in a file, and the network's own."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from itertools import takewhile
from pathlib import Path
from typing import Any

import torch

COMPILED = "_orig_mod."  # what torch.compile puts into names
FITS = "give the --model that the checkpoint was trained with"

Tensors = Mapping[str, "torch.Tensor"]


def own_names(
    names: Iterable[str], expected: Tensors, spelling: Mapping[str, str] | None = None
) -> dict[str, str] | None:
    """Each name of a file with the network's own, or None where they do not fit exactly.

    They fit as they are, or without what torch.compile puts between (``_orig_mod.``) and without a prefix that all of them share
    (``module.``, ``model.``), or in the ``spelling`` of its library's files. Of tied weights one name is enough.
    """
    given = list(names)
    for plain in ({name: name for name in given}, {name: name.replace(COMPILED, "") for name in given}):
        for prefix in _prefixes(plain.values()):
            bare = {name: short.removeprefix(prefix) for name, short in plain.items()}
            for own in (bare, {name: (spelling or {}).get(short, short) for name, short in bare.items()}):
                known = set(own.values())
                if len(known) == len(own) and known <= expected.keys() and not _missing(known, expected):
                    return own
    return None


def _prefixes(names: Iterable[str]) -> list[str]:
    """The beginnings that all names share, up to a dot; the empty one first."""
    shared = "".join(letters[0] for letters in takewhile(lambda each: len(set(each)) == 1, zip(*names)))
    return ["", *(shared[: dot.end()] for dot in re.finditer(r"\.", shared))]


def tied(expected: Tensors) -> list[list[str]]:
    """Names of one and the same weight under several names."""
    by_place: dict[Any, list[str]] = {}
    for name, tensor in expected.items():
        if tensor.numel():
            by_place.setdefault((tensor.data_ptr(), tensor.shape, tensor.stride()), []).append(name)
    return [names for names in by_place.values() if len(names) > 1]


def _missing(given: set[str], expected: Tensors) -> set[str]:
    """The network's names that are not given, tied ones that another stands for apart."""
    return set(expected) - given - {name for twins in tied(expected) if given & set(twins) for name in twins}


def misfit(tensors: Tensors, expected: Tensors, path: Path) -> str:
    """The sentence about names that do not fit: those besides what fits best, whatever stands before the names."""
    given, first = [name.replace(COMPILED, "") for name in tensors], next(iter(expected), "")
    starts = ["", *(name.removesuffix(first) for name in given if first and name.endswith(first))]
    after = [{name.removeprefix(start) for name in given} for start in starts]
    best = max(after, key=lambda names: len(names & expected.keys()))
    missing, extra = sorted(_missing(best, expected)), sorted(best - expected.keys())
    advice = FITS if missing else "save the network's own weights alone, or give a --model that holds these too"
    return (
        f"expected {path} to fit the network, got {len(missing)} missing and {len(extra)} unknown names"
        f" (such as {(missing + extra)[0]!r}); {advice}"
    )
