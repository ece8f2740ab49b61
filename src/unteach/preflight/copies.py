"""Is the same record in the data more than once? Byte for byte, nearly, or as the network sees it."""

from __future__ import annotations

import numpy as np
import torch

from unteach.data.duplicates import Collision, collisions, exact, twins
from unteach.preflight.case import Case
from unteach.preflight.remark import Remark, counted, few
from unteach.stress.features import features_of
from unteach.stress.lineup import sampled
from unteach.types import Examples, Refusal

MOST = 100_000  # examples that are compared at most
BYTES = 2 << 30  # of inputs that are compared at most, since they are put together in memory
KEPT = 5  # times as many retained examples as forgotten ones have their features compared
SHARE = 0.1  # of the usual distance to the nearest other, below which features are those of a copy


def find_copies(case: Case) -> list[Remark]:
    """Exact and near-duplicates of forgotten examples in every other part, and of test examples in training.

    Raises nothing; of data too large the request and a draw of all others are compared, which is told.
    """
    parts, rest = _drawn(case)
    inputs = torch.cat([part.inputs for part in parts.values()])
    names = np.repeat(list(parts), [len(part) for part in parts.values()])
    ids = np.concatenate([part.ids for part in parts.values()])
    same, near = ({(c.part, c.other): c for c in collisions(find(inputs), names, ids)} for find in (exact, twins))
    found = [*_retained(same, near), *_outside(near)]
    if not any(remark.level == "warn" for remark in found):
        what = "near-duplicates" if inputs.ndim == 4 and inputs.dtype == torch.uint8 else "exact copies"
        said = f"No forgotten example has {what} among the other {len(inputs) - len(parts['forget']):,} examples."
        found.append(Remark(name="copies", level="fine", sentence=said))
    if rest:
        said = f"{counted(rest, 'example was', 'examples were')} not compared, to save time and memory: copies may be there."
        found.append(Remark(name="copies", level="note", sentence=said, numbers={"not_compared": rest}))
    return found


def find_alike(case: Case) -> list[Remark]:
    """Retained examples that the network takes for copies of forgotten ones: by the distance of their features.

    Features (the input of the last layer) are brought to length 1; what is usual is the median distance of a retained example
    to its nearest other, and a copy is nearer than a tenth of that. Those that `find_copies` finds by pixels are found here too.
    *Source:* our own.
    """
    forget, retain = sampled(case.forget, case.most, case.seed), sampled(case.retain, KEPT * case.most, case.seed)
    if len(retain) < 3:
        return []
    try:
        mine, theirs = (_unit(features_of(case.model, part, case.engine)) for part in (forget, retain))
    except Refusal:
        said = "The network has no last linear layer whose input could be compared: copies by feature were not sought."
        return [Remark(name="feature copies", level="note", sentence=said)]
    probe = np.linspace(0, len(theirs) - 1, min(case.most, len(theirs))).round().astype(int)
    usual = float(np.median(_nearest(theirs[probe], theirs, probe)))
    close = _nearest(mine, theirs) < SHARE * usual
    drawn = f" (of {len(retain):,} retained examples, drawn)" if len(retain) < len(case.retain) else ""
    numbers = {"near": int(close.sum()), "looked_at": len(mine), "usual_distance": usual}
    if not close.any():
        said = f"To the network no forgotten example is all but the same as a retained one{drawn}."
        return [Remark(name="feature copies", level="fine", sentence=said, numbers=numbers)]
    some = counted(int(close.sum()), "forgotten example is", "forgotten examples are")
    said = f"To the network {some} all but the same as retained ones{drawn}: {few(forget.ids[close])}."
    do = "Look at them: where they show the same record, its copies belong into the request."
    return [Remark(name="feature copies", level="warn", sentence=said, do=do, numbers=numbers)]


def _drawn(case: Case) -> tuple[dict[str, Examples], int]:
    """All parts, the others than forget thinned out alike where they are too many; and how many were left out."""
    total = sum(map(len, case.whole.values()))
    size = case.forget.inputs[:1].nbytes
    room = max(min(MOST, BYTES // max(size, 1)) - len(case.forget), 0)
    others = total - len(case.forget)
    if others <= room:
        return case.whole, 0
    kept = {
        name: part if name == "forget" else sampled(part, room * len(part) // others, case.seed)
        for name, part in case.whole.items()
    }
    return kept, total - sum(map(len, kept.values()))


def _retained(same: dict[tuple[str, str], Collision], near: dict[tuple[str, str], Collision]) -> list[Remark]:
    mine, theirs = near.get(("forget", "retain")), near.get(("retain", "forget"))
    if mine is None or theirs is None:
        return []
    exactly = same.get(("forget", "retain"))
    bytewise = 0 if exactly is None else len(exactly.ids)
    has = counted(len(mine.ids), "forgotten example has", "forgotten examples have")
    said = (
        f"{has} copies that stay in training ({bytewise} byte for byte): {few(mine.ids)}. What stays is not forgotten."
    )
    do = (
        f"Extend the request by {counted(len(theirs.ids), 'retained copy', 'retained copies')} (--out writes extended.txt), "
        "or be sure that these are other records."
    )
    numbers = {"forgotten": len(mine.ids), "retained": len(theirs.ids), "exact": bytewise, "pairs": mine.pairs}
    return [Remark(name="copies", level="warn", sentence=said, do=do, numbers=numbers, extend=theirs.ids)]


def _outside(near: dict[tuple[str, str], Collision]) -> list[Remark]:
    found = []
    for other in ("test", "unseen", "validation"):
        if hit := near.get(("forget", other)):
            has = counted(len(hit.ids), "forgotten example has", "forgotten examples have")
            said = f"{has} copies among the {other} examples: {few(hit.ids)}. An audit would count these as never seen."
            do = f"Take the copies out of the {other} examples, or read the audit with that in mind."
            numbers = {"forgotten": len(hit.ids), "pairs": hit.pairs}
            found.append(Remark(name="copies", level="warn", sentence=said, do=do, numbers=numbers))
    if hit := near.get(("test", "retain")):
        has = counted(len(hit.ids), "test example has a copy", "test examples have copies")
        said = f"{has} in the retained data, so the test accuracy flatters a little: {few(hit.ids)}."
        found.append(Remark(name="copies", level="note", sentence=said, numbers={"test": len(hit.ids)}))
    return found


def _unit(features: np.ndarray) -> np.ndarray:
    x = features.astype(np.float32)
    return np.asarray(x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12))


def _nearest(mine: np.ndarray, theirs: np.ndarray, own: np.ndarray | None = None) -> np.ndarray:
    """Distance of each unit vector to the nearest of theirs, itself (at position ``own``) left out."""
    likeness = mine @ theirs.T
    if own is not None:
        likeness[np.arange(len(mine)), own] = -1
    distance: np.ndarray = np.sqrt(np.maximum(2 - 2 * likeness.max(1), 0))
    return distance
