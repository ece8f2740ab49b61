"""Are the ids of the request there, each once, and did the model see them?"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np

from unteach.data import DataSet, forget_ids
from unteach.data.request import read_ids
from unteach.preflight.remark import Remark, counted, few
from unteach.provenance import Provenance
from unteach.types import Refusal

NAMED = 5  # unknown ids that are told with look-alikes; the search goes through all ids


def named_ids(spec: str, data: DataSet, seed: int, unseen: Collection[str]) -> list[str]:
    """The ids of a request as ``forget_ids`` draws them; of a file as they stand there, sound or not.

    Raises: Refusal for a request that names nothing, and for a file that can't be read.
    """
    try:
        return forget_ids(spec, data.train, seed, unseen, data.requests)
    except Refusal:
        if spec in data.requests or not Path(spec).is_file():
            raise
        return read_ids(spec)


def look_up_ids(names: Sequence[str], data: DataSet, story: Provenance, validation: Sequence[str]) -> list[Remark]:
    """Unknown ids with their nearest look-alikes, repeated ones, ones the model never saw; a sentence when all is well."""
    found = [*_unknown(names, data), *_twice(names), *_not_seen(names, data, story, validation)]
    trained = set(data.train.ids.tolist()) - set(story.trained_on.get("left_out", [])) - set(validation)
    if not names:
        found.append(Remark(name="ids", level="stop", sentence="The request names no id.", do="Name what to forget."))
    elif not trained - set(names):
        said = "The request names everything that the model was trained on: nothing would be retained."
        found.append(Remark(name="ids", level="stop", sentence=said, do="Delete the model instead."))
    if found:
        return found
    said = f"{counted(len(names), 'id is', 'ids are')} in the training set, each named once."
    return [Remark(name="ids", level="fine", sentence=said, numbers={"ids": len(names)})]


def usable(names: Sequence[str], data: DataSet, story: Provenance, validation: Sequence[str]) -> list[str]:
    """The ids that can be forgotten, each once: in the training set and seen by the model. What other checks go on with."""
    gone = {*story.trained_on.get("left_out", []), *validation}
    known = set(data.train.ids.tolist()) - gone
    return [name for name in dict.fromkeys(names) if name in known]


def _unknown(names: Sequence[str], data: DataSet) -> list[Remark]:
    known, found = set(data.train.ids.tolist()), []
    missing = [name for name in dict.fromkeys(names) if name not in known]
    outside = set(data.outside.ids.tolist())
    if held_out := [name for name in missing if name in outside]:
        are = counted(len(held_out), "id is one", "ids are some")
        said = f"{are} of test or unseen examples, which the model was not trained on: {few(held_out)}."
        do = "Take them out of the request: there is nothing to forget."
        found.append(Remark(name="ids", level="stop", sentence=said, do=do, numbers={"ids": len(held_out)}))
    if strange := [name for name in missing if name not in outside]:
        each = [f"{name!r}{_look_alikes(name, data.train.ids.tolist())}" for name in strange[:NAMED]]
        more = " …" if len(strange) > NAMED else ""
        said = f"{counted(len(strange), 'id is', 'ids are')} not in the training set: {'; '.join(each)}{more}."
        do = f"Mend or drop them; ids here look like {str(data.train.ids[0])!r}."
        found.append(Remark(name="ids", level="stop", sentence=said, do=do, numbers={"ids": len(strange)}))
    return found


def _look_alikes(name: str, known: list[str]) -> str:
    """Ids that differ in case, outer spaces or leading zeros only; else the nearest by spelling."""
    plain = _plain(name)
    close = [other for other in known if _plain(other) == plain] or difflib.get_close_matches(name, known, 2, 0.75)
    return f" (did you mean {' or '.join(map(repr, close[:2]))}?)" if close else ""


def _plain(name: str) -> str:
    return name.strip().casefold().lstrip("0")


def _twice(names: Sequence[str]) -> list[Remark]:
    again = [name for name, count in Counter(names).items() if count > 1]
    if not again:
        return []
    said = f"{counted(len(again), 'id is', 'ids are')} named more than once: {few(again)}."
    return [Remark(name="ids", level="stop", sentence=said, do="Name each once.", numbers={"ids": len(again)})]


def _not_seen(names: Sequence[str], data: DataSet, story: Provenance, validation: Sequence[str]) -> list[Remark]:
    told, found = story.trained_on, []
    held = {*told.get("validation", []), *validation}
    asked = set(names)
    if both := sorted(asked & held):
        said = f"{counted(len(both), 'id is', 'ids are')} held out for validation, so never learnt: {few(both)}."
        do = "Take them out of the request."
        found.append(Remark(name="ids", level="stop", sentence=said, do=do, numbers={"ids": len(both)}))
    if gone := sorted(asked & (set(told.get("left_out", [])) - held)):
        said = (
            f"{counted(len(gone), 'id was', 'ids were')} forgotten already, or never seen by this model: {few(gone)}."
        )
        do = "Take them out of the request."
        found.append(Remark(name="ids", level="stop", sentence=said, do=do, numbers={"ids": len(gone)}))
    learnt = [] if not told else sorted(set(validation) - set(told.get("left_out", [])))
    if learnt:
        is_ = counted(len(learnt), "validation example was", "validation examples were")
        said = f"{is_} part of the model's training, such as {few(learnt)}."
        do = "Hold some out in training (unteach train --validation), or leave --validation out."
        found.append(Remark(name="ids", level="stop", sentence=said, do=do, numbers={"ids": len(learnt)}))
    if strange := np.setdiff1d(np.array(validation, dtype=str), data.train.ids).tolist():
        said = f"{counted(len(strange), 'validation id is', 'validation ids are')} not in the data: {few(strange)}."
        found.append(Remark(name="ids", level="stop", sentence=said, do="Mend --validation."))
    return found
