"""Plans: which models to make, who is trained on what, and who forgets what. Pure functions of counts, units and a seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from unteach.types import Refusal

_HALF, _REQUEST, _WORLD = 1, 2, 3  # streams of randomness: no draw repeats another's
_FIRST = {"half": 11, "retrain": 12, "original": 13, "world": 14, "unlearn": 15}  # streams of the models' own seeds


@dataclass(frozen=True, eq=False)
class Plan:
    """Models, one a row; a model's parent stands before it.

    ``members``: bool ``models × examples``, what each, or the model it is made from, is trained on. ``forgotten``: bool, what
    it forgets; part of ``members``. ``parents``: row of the model it is made from, −1 for trainings from scratch.
    ``seeds``: each model's own.
    """

    members: np.ndarray
    forgotten: np.ndarray
    parents: np.ndarray
    seeds: np.ndarray

    def __len__(self) -> int:
        return len(self.members)


def units_of(count: int, *kinds: np.ndarray | None) -> np.ndarray:
    """The unit of each example, int64: what must stay on one side (one person, one cluster of near-duplicates).

    ``kinds``: names of groups, clusters …, one an example, or None. Examples hang together when any chain of shared names
    joins them.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    given = [np.unique(kind, return_inverse=True)[1] for kind in kinds if kind is not None]
    if not given:
        return np.arange(count)
    nodes = int(sum(numbers.max() + 1 for numbers in given)) + count
    rows, columns, start = [], [], count
    for numbers in given:
        rows.append(np.arange(count))
        columns.append(start + numbers)
        start += int(numbers.max()) + 1
    ends = (np.concatenate(rows), np.concatenate(columns))
    _, found = connected_components(coo_array((np.ones(len(ends[0]), dtype=np.int8), ends), shape=(nodes, nodes)))
    return np.unique(found[:count], return_inverse=True)[1].astype(np.int64)


@dataclass(frozen=True, kw_only=True)
class Halves:
    """Models on random halves of the pool, in complementary pairs: each example is in exactly half of the models.

    *Source:* Carlini et al., LiRA, 2022, arXiv 2112.03570, section V (balanced shadow models); AMUN's references, arXiv
    2503.00917 (halves of training and test set together). *Departs:* complementary pairs, where LiRA's code draws each
    example's half of the models; groups stay whole, so halves differ in size by up to a group.
    """

    models: int = 16
    """Models, an even number of 2 or more; the first of many are those of a smaller plan."""
    seed: int = 0
    """Seed of the halves and of the models."""

    def __post_init__(self) -> None:
        if self.models < 2 or self.models % 2:
            raise Refusal(f"expected an even number of halves, 2 or more, got {self.models}; they come in pairs")

    def __call__(self, units: np.ndarray) -> Plan:
        """``units``: the unit of each example of the pool."""
        sizes = np.bincount(units)
        if len(sizes) < 2:
            raise Refusal(f"expected two or more units to halve, got {len(sizes)}; give data with more groups")
        rows = []
        for pair in range(self.models // 2):
            order = np.random.default_rng([self.seed, _HALF, pair]).permutation(len(sizes))
            inside = np.zeros(len(sizes), dtype=bool)
            inside[order[: _cuts(sizes[order], [len(units) / 2])[0]]] = True
            rows += [inside[units], ~inside[units]]
        return _scratch(np.stack(rows), "half", self.seed)


@dataclass(frozen=True, kw_only=True)
class Retrains:
    """Models trained without what is to be forgotten: the target of every method, and its spread."""

    models: int = 5
    """Models, 1 or more."""
    seed: int = 0
    """Seed of the models."""

    def __post_init__(self) -> None:
        _at_least("retrained models", self.models, 1)

    def __call__(self, trained: np.ndarray, forget: np.ndarray) -> Plan:
        """``trained``, ``forget``: masks over the pool, what the original was trained on and what it is to forget."""
        _refuse_unless_within(forget, trained)
        return _scratch(np.tile(trained & ~forget, (self.models, 1)), "retrain", self.seed)


@dataclass(frozen=True, kw_only=True)
class Unlearned:
    """Models trained on everything and then made to forget: what retrained ones are compared with as a distribution."""

    originals: int = 8
    """Models trained on everything, 1 or more."""
    repeats: int = 1
    """Unlearned models of each, 1 or more; many of one original can't replace many originals."""
    seed: int = 0
    """Seed of the models."""

    def __post_init__(self) -> None:
        _at_least("originals", self.originals, 1)
        _at_least("repeats", self.repeats, 1)

    def __call__(self, trained: np.ndarray, forget: np.ndarray) -> Plan:
        """``trained``, ``forget``: masks over the pool, what the originals are trained on and what they are to forget."""
        _refuse_unless_within(forget, trained)
        plan = _scratch(np.tile(trained, (self.originals, 1)), "original", self.seed)
        return _with_children(plan, [[forget] * self.repeats] * self.originals, self.seed)


@dataclass(frozen=True, kw_only=True)
class Shadows:
    """U-LiRA's models: originals on halves of the pool, and each made to forget several sets of its own members.

    For an example and a request it is in, world one is the unlearned model. World two is (a) the unlearned models of originals
    that never saw it, (b) the originals that never saw it, which are plain models without a trace of the method.
    *Source:* Hayes et al., Inexact Unlearning Needs More Careful Evaluations, 2024, arXiv 2403.01218, section 4; Kurmanji et
    al., 2023, arXiv 2302.09880. *Departs:* complementary halves; the published counts are larger.
    """

    halves: Halves = field(default_factory=Halves)
    """The originals."""
    requests: int = 4
    """Forget sets of each original, disjoint, 1 or more."""
    size: int = 500
    """Examples in a forget set, 1 or more; about so many where groups stay whole."""

    def __post_init__(self) -> None:
        _at_least("requests", self.requests, 1)
        _at_least("examples in a request", self.size, 1)

    def __call__(self, units: np.ndarray, among: np.ndarray | None = None) -> Plan:
        """``units``: the unit of each example. ``among``: mask over the pool to draw from; all of it when left out."""
        plan = self.halves(units)
        may = np.ones(len(units), dtype=bool) if among is None else among
        children = [self._requests(units, may, members, at) for at, members in enumerate(plan.members)]
        return _with_children(plan, children, self.halves.seed)

    def _requests(self, units: np.ndarray, may: np.ndarray, members: np.ndarray, original: int) -> list[np.ndarray]:
        names = np.unique(units[may & members])
        order = np.random.default_rng([self.halves.seed, _REQUEST, original]).permutation(names)
        sizes = np.bincount(units)[order]
        if sizes.sum() < self.size * self.requests or self.size >= members.sum():
            raise Refusal(
                f"expected original {original} to have {self.requests} times {self.size} members to forget and others to keep, "
                f"got {int(sizes.sum())} of {int(members.sum())}; ask for fewer or smaller requests"
            )
        cuts = [0, *_cuts(sizes, [self.size * (k + 1) for k in range(self.requests)])]
        if (np.diff(cuts) < 1).any() or (np.diff(cuts) == len(names)).any():
            raise Refusal(
                f"expected {self.requests} requests of whole units, got a unit of {int(sizes.max())} examples, more than fit "
                f"into one of {self.size} beside others to keep; ask for other requests"
            )
        return [np.isin(units, order[low:high]) for low, high in pairwise(cuts)]


@dataclass(frozen=True, kw_only=True)
class Worlds:
    """RULI's three worlds: each target is trained on in a third of the models, never in a third, unlearned in a third.

    Models come in threes, in which every target goes through the three worlds once. Every model is made from an original that
    was trained on the same base and on its targets of worlds one and three.
    *Source:* Naderloui et al., RULI, USENIX Security 2025, arXiv 2506.13009, and the authors' code. *Departs:* exactly
    balanced thirds; the base is half of the other units, drawn once, where the authors' is the rest of their training set.
    """

    models: int = 36
    """Models, a multiple of 3."""
    seed: int = 0
    """Seed of the base, of the worlds and of the models."""

    def __post_init__(self) -> None:
        if self.models < 3 or self.models % 3:
            raise Refusal(f"expected a number of models that 3 divides, got {self.models}; each world has a third")

    def __call__(self, units: np.ndarray, targets: np.ndarray) -> Plan:
        """``units``: the unit of each example. ``targets``: mask over the pool; units with a target are targets whole."""
        audited = np.unique(units[targets])
        others = np.setdiff1d(units, audited)
        if len(audited) < 3 or len(others) < 2:
            raise Refusal(
                f"expected three or more units of targets and two or more others, got {len(audited)} and {len(others)}; "
                "choose other targets"
            )
        sizes = np.bincount(units)
        order = np.random.default_rng([self.seed, _WORLD]).permutation(others)
        base = np.isin(units, order[: _cuts(sizes[order], [sizes[order].sum() / 2])[0]])
        members, forgotten = [], []
        for triple in range(self.models // 3):
            order = np.random.default_rng([self.seed, _WORLD, triple]).permutation(audited)
            total = sizes[order].sum()
            first, second = np.minimum(
                _cuts(sizes[order], [total / 3, 2 * total / 3]), [len(order) - 2, len(order) - 1]
            )
            thirds = [np.isin(units, part) for part in np.split(order, [first, max(second, first + 1)])]
            for turn in range(3):
                inside, gone = thirds[turn], thirds[(turn + 1) % 3]
                members.append(base | inside | gone)
                forgotten.append([gone])
        return _with_children(_scratch(np.stack(members), "world", self.seed), forgotten, self.seed)


def own_seed(seed: int, stream: str, number: int) -> int:
    """A model's own seed, below 2³¹: no two models of any plan share one, but by a chance of 1 in 2³¹."""
    return int(np.random.SeedSequence([seed, _FIRST[stream], number]).generate_state(1)[0] >> 1)


def _cuts(sizes: np.ndarray, wanted: Sequence[float]) -> list[int]:
    """How many of the units in this order come nearest to each wanted number of examples, at least one."""
    reached = np.cumsum(sizes)
    return [int(np.abs(reached - goal).argmin()) + 1 for goal in wanted]


def _scratch(members: np.ndarray, stream: str, seed: int) -> Plan:
    count = len(members)
    seeds = np.array([own_seed(seed, stream, number) for number in range(count)])
    return Plan(members, np.zeros_like(members), np.full(count, -1), seeds)


def _with_children(plan: Plan, requests: Sequence[Sequence[np.ndarray]], seed: int) -> Plan:
    """The plan and, below, one unlearned model for each request of each of its models."""
    pairs = [(parent, forgotten) for parent, each in enumerate(requests) for forgotten in each]
    parents = np.array([parent for parent, _ in pairs])
    # A child's seed tells its parent and its place among the siblings, so that a larger plan holds the smaller one's.
    places = [place for each in requests for place in range(len(each))]
    seeds = [
        own_seed(seed, "unlearn", int(plan.seeds[parent]) + 2**31 * place) for parent, place in zip(parents, places)
    ]
    return Plan(
        np.concatenate((plan.members, plan.members[parents])),
        np.concatenate((plan.forgotten, np.stack([forgotten for _, forgotten in pairs]))),
        np.concatenate((plan.parents, parents)),
        np.concatenate((plan.seeds, seeds)),
    )


def _at_least(what: str, value: int, low: int) -> None:
    if value < low:
        raise Refusal(f"expected {low} or more {what}, got {value}; give a larger number")


def _refuse_unless_within(forget: np.ndarray, trained: np.ndarray) -> None:
    if not forget.any() or (forget & ~trained).any() or not (trained & ~forget).any():
        raise Refusal(
            "expected a request of some, and not all, of what the original is trained on, got "
            f"{int(forget.sum())} examples, {int((forget & ~trained).sum())} of them unseen; choose others"
        )
