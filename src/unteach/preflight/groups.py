"""Do people, households or other groups stand on both sides of a line?"""

from __future__ import annotations

import numpy as np

from unteach.preflight.case import Case
from unteach.preflight.remark import Remark, counted, few


def find_groups(case: Case) -> list[Remark]:
    """Groups of which some examples are to be forgotten and others stay, and groups of the training set in the test set."""
    if case.forget.groups is None:
        said = "The data name no groups (person, household …), so nobody can say whether a person's other records stay."
        do = "Give data with a group each, if several records may belong to one person."
        return [Remark(name="groups", level="note", sentence=said, do=do)]
    found = [*_left_behind(case), *_both_sides(case)]
    if not found:
        count = len(set(case.forget.groups.tolist()))
        said = (
            f"The request takes {counted(count, 'group', 'groups')} whole, and none is in both training and test data."
        )
        found.append(Remark(name="groups", level="fine", sentence=said, numbers={"groups": count}))
    return found


def _left_behind(case: Case) -> list[Remark]:
    asked, stay = case.forget.groups, case.retain.groups
    assert asked is not None
    assert stay is not None
    partly = np.intersect1d(asked, stay)
    if not len(partly):
        return []
    left = int(np.isin(stay, partly).sum())
    of = counted(len(partly), "group is", "groups are")
    said = f"{of} forgotten in part: {counted(left, 'other example', 'other examples')} of {few(partly)} would stay."
    do = "If it is the person who is to be forgotten, ask for " + ",".join(["group:" + str(partly[0]), *partly[1:3]])
    do += " …" if len(partly) > 3 else ""
    numbers = {"groups": len(partly), "left": left}
    return [Remark(name="groups", level="warn", sentence=said, do=f"{do}.", numbers=numbers)]


def _both_sides(case: Case) -> list[Remark]:
    outside, asked = case.data.outside.groups, case.forget.groups
    if outside is None or asked is None:
        return []
    both = np.intersect1d(np.concatenate([asked, case.retain.groups]), outside)
    if not len(both):
        return []
    mine = np.intersect1d(asked, both)
    of = f", {len(mine)} of them of the request" if len(mine) else ""
    said = f"{counted(len(both), 'group is', 'groups are')} in both training and test data ({few(both)}){of}: not unseen at all."
    do = "Divide the data by group, or read accuracies and attacks with that in mind."
    numbers = {"groups": len(both), "of_the_request": len(mine)}
    return [Remark(name="groups", level="warn" if len(mine) else "note", sentence=said, do=do, numbers=numbers)]
