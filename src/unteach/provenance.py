"""Where a model comes from: the story that its checkpoint tells, and what is taken of one that is read."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from unteach.formats import Held
from unteach.store import digest_of, provenance_of
from unteach.types import Examples, Refusal

if TYPE_CHECKING:
    from unteach.data import DataSet


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Where a checkpoint comes from; empty for one that unteach did not make.

    ``trained_on``: how many examples, a digest of their ids, the ids of the training set that were left out, and which of
    these are held out for validation.
    ``recipe``: optimiser and augmentation of the training from scratch. ``parent``: fingerprint of the model it was made
    from. ``made_by``: the verb or method with its settings. ``seconds``, ``units``: what it cost, see ``engine.Meter``.
    """

    blueprint: dict[str, Any] = field(default_factory=dict)
    classes: list[str] = field(default_factory=list)
    data: str = ""
    data_fingerprint: str = ""
    trained_on: dict[str, Any] = field(default_factory=dict)
    recipe: dict[str, Any] = field(default_factory=dict)
    parent: str = ""
    made_by: dict[str, Any] = field(default_factory=dict)
    seed: int = 0
    seconds: float = 0.0
    units: float = 0.0
    stages: list[dict[str, Any]] = field(default_factory=list)
    log: list[dict[str, float]] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)


def trained_on(train: Examples, left_out: Sequence[str], validation: Sequence[str] = ()) -> dict[str, Any]:
    """The record of the ids that a model was trained on; those held out for validation are among the left out."""
    gone = {*left_out, *validation}
    return {
        "count": len(train) - len(gone),
        "digest": digest_of([name for name in train.ids.tolist() if name not in gone]),
        "left_out": sorted(gone),
        **({"validation": sorted(validation)} if validation else {}),
    }


def known_again(data: DataSet, left_out: Sequence[str]) -> dict[str, str]:
    """For the record of a training: by what ``check_data`` knows the data once those left out are deleted from them."""
    return {"kept": data.fingerprint_without(left_out)} if left_out else {}


def environment() -> dict[str, str]:
    """What the numbers depend on besides the settings."""
    import numpy

    import unteach

    return {
        "unteach": unteach.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "machine": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "threads": str(torch.get_num_threads()),
    }


def told_in(held: Held) -> Provenance:
    """What a file tells of its network, once it is sure that every part is of its kind; what is not known is passed over."""
    found, usual = provenance_of(held), asdict(Provenance())
    known = {name: value for name, value in found.items() if name in usual}
    wrong = [name for name, value in known.items() if not isinstance(value, _kinds(usual[name]))]
    story = known.get("trained_on", {})
    if not wrong and any(_no_ids(story.get(name, [])) for name in ("left_out", "validation")):
        wrong = ["trained_on"]
    if wrong:
        raise Refusal(
            f"expected {held.path} to tell its {wrong[0]} as unteach does, got {known[wrong[0]]!r:.60}; it is damaged or foreign"
        )
    return Provenance(**known)


def _kinds(usual: object) -> tuple[type, ...]:
    return (int, float) if isinstance(usual, float) else (type(usual),)


def _no_ids(told: object) -> bool:
    return not isinstance(told, list) or not all(isinstance(name, str) for name in told)


def _processor() -> str:
    if torch.cuda.is_available():
        return str(torch.cuda.get_device_name())
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()
