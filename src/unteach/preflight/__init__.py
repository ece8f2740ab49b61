"""Before an hour is spent: is the request sound, does the model fit the data, is there anything to forget, and what will it take?

One file a check. A check is a function of a `Case` that gives remarks; `check` runs them all.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from unteach.api import named
from unteach.data import DataSet, split
from unteach.engine import Engine
from unteach.plugins import name_of
from unteach.preflight.advice import advise
from unteach.preflight.case import Case
from unteach.preflight.copies import find_alike, find_copies
from unteach.preflight.cost import measure_memory, price, tell_time
from unteach.preflight.fits import judge_fit, trace_origin
from unteach.preflight.groups import find_groups
from unteach.preflight.ids import look_up_ids, named_ids, usable
from unteach.preflight.memorised import find_memorised
from unteach.preflight.network import find_broken, inspect_network, inspect_pixels
from unteach.preflight.remark import LEVELS, Remark, extended, in_order
from unteach.preflight.suits import judge_method
from unteach.presets import row_of, with_preset
from unteach.provenance import Provenance
from unteach.recipe import Recipe
from unteach.types import Method, Split

READ = (trace_origin, judge_method, find_groups, inspect_pixels, find_copies)  # checks that read data and settings
ASK = (inspect_network, judge_fit, measure_memory)  # checks that ask the network
BELIEVE = (find_memorised, find_alike)  # checks that mean something only where the network fits the data


def check(
    model: torch.nn.Module,
    data: DataSet,
    ids: str | Sequence[str],
    method: str | Method = "amun",
    *,
    provenance: Provenance = Provenance(),  # noqa: B008 - frozen
    validation: Sequence[str] = (),
    recipe: Recipe | None = None,
    preset: bool = True,
    sample: int = 0,
    seed: int = 0,
    engine: Engine | None = None,
) -> list[Remark]:
    """What is to be known before a model is made to forget; the gravest first, the recommendation last.

    ``model``, ``ids``, ``method``, ``recipe``: as in ``unteach.forget``; the model is left bit-identical. ``provenance``: what
    its checkpoint says of itself. ``validation``: ids it never saw. ``preset``: whether the method gets measured settings.
    ``sample``: examples of each part that the network is asked about; 0: 2000, fewer of a large network on a CPU. Raises:
    Refusal for a request that names nothing; what else is wrong is a remark.
    """
    gone = {*provenance.trained_on.get("left_out", []), *validation}
    names = named_ids(ids, data, seed, gone) if isinstance(ids, str) else [str(name) for name in ids]
    found = look_up_ids(names, data, provenance, validation)
    left = usable(names, data, provenance, validation)
    if not left or len(left) + len(gone) >= len(data.train):
        said = "Mend first what stops it: ids."
        return [*in_order(found), Remark(name="recommendation", level="stop", sentence=said)]
    if recipe is None and provenance.recipe:
        recipe = Recipe.from_json(provenance.recipe)
    chosen, parts = named(method), _parts(data, left, gone, validation)
    known = row_of(chosen) or name_of(chosen)
    case = Case(
        model=model,
        data=data,
        parts=parts,
        method=with_preset(chosen, parts, recipe)[0] if preset else chosen,
        named=known,
        provenance=provenance,
        recipe=recipe,
        sample=sample,
        seed=seed,
        engine=engine or Engine(),
    )
    found += [remark for look in READ for remark in look(case)]
    broken = find_broken(case)
    found += broken or [remark for look in ASK for remark in look(case)]
    if not any(remark.level == "stop" and remark.name in ("weights", "fit") for remark in found):
        found += [remark for look in BELIEVE for remark in look(case)]
    cost = price(case)
    found += tell_time(case, cost)
    return [*in_order(found), advise(case, cost, found)]


def _parts(data: DataSet, ids: Sequence[str], gone: set[str], validation: Sequence[str]) -> Split:
    """As a method would get them: what the model was trained on, less the request."""
    whole = split(data.train, ids)
    assert whole.retain is not None
    retain = whole.retain.take([i for i, name in enumerate(whole.retain.ids.tolist()) if name not in gone])
    there = set(data.train.ids.tolist())
    held = [name for name in validation if name in there]
    return Split(whole.forget, retain, data.train.take(data.train.positions(held)) if held else None)


__all__ = ["LEVELS", "Case", "Remark", "check", "extended", "in_order"]
