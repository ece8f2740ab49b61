"""Tiers of audits: how many models each stands on, planned as one manifest, so that a stronger tier reuses a weaker one's."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from unteach.data import DataSet
from unteach.models import Blueprint
from unteach.recipe import Recipe
from unteach.references.cache import Cache
from unteach.references.manifest import DataSpec, Job, Manifest, in_order, jobs_of
from unteach.references.plan import Halves, Plan, Retrains, Shadows, Unlearned, Worlds
from unteach.references.units import units_in
from unteach.types import Method, Refusal


@dataclass(frozen=True, kw_only=True)
class Tier:
    """How many models an audit stands on, and whether it presses the judged one."""

    retrained: int
    """Models retrained without the request: the target, and its spread; the last one is held out as a control."""
    halves: int = 0
    """Reference models on random halves of training and test set, for LiRA and RMIA."""
    shadows: int = 0
    """How many of the halves are also made to forget sets of their own, for U-LiRA."""
    requests: int = 4
    """Forget sets of each of those."""
    size: int = 500
    """Examples in such a set."""
    ensemble: int = 0
    """Originals that unlearn the request, and as many retrained models beside them, for KLoM and the competition's ε."""
    worlds: int = 0
    """RULI's models: a third each trained on, without, and made to forget its targets."""
    targets: int = 0
    """Vulnerable targets of RULI, and as many protected ones."""
    pressed: bool = False
    """Whether behaviour is tested: relearning, features, perturbed copies, robustness, identity."""

    def words(self) -> str:
        """The counts, for a terminal."""
        named = {
            "retrained": max(self.retrained, self.ensemble),
            "on random halves": self.halves,
            "shadows made to forget": self.shadows * self.requests,
            "originals made to forget": self.ensemble,
            "in RULI's worlds": self.worlds,
        }
        return ", ".join(f"{count} {what}" for what, count in named.items() if count)


TIERS = {
    "smoke": Tier(retrained=2, halves=4),
    "quick": Tier(retrained=3),
    "standard": Tier(retrained=5, halves=16, pressed=True),
    "strong": Tier(retrained=10, halves=64, shadows=16, ensemble=50, pressed=True),
    "gold": Tier(
        retrained=100, halves=256, shadows=64, requests=10, ensemble=128, worlds=90, targets=600, pressed=True
    ),
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Company:
    """The models beside which one is judged.

    ``trained``, ``forget``: masks over the pool, what the judged model's original was trained on and what it was to forget.
    ``method``: how it forgot; None when that is not known, then no model is made to forget. ``targets``: mask over the pool,
    RULI's targets, known once the halves are there.
    """

    tier: Tier
    data: DataSet
    source: DataSpec
    blueprint: Blueprint
    recipe: Recipe
    trained: np.ndarray
    forget: np.ndarray
    method: Method | None
    cache: Cache
    seed: int = 0
    precision: str = "auto"
    targets: np.ndarray | None = None

    @cached_property
    def manifest(self) -> Manifest:
        """All models; those retrained models that are shown keep their weights, of all others the logits are enough.

        An audit scores the shown ones itself, on what it looks at; only KLoM wants their logits of the whole pool.
        """
        kinds = ("retrained", "halves", "shadows", "unlearned", "worlds")
        return Manifest(
            source=self.source,
            fingerprint=self.data.fingerprint,
            cache=self.cache,
            jobs=in_order((job for kind in kinds for job in self.jobs(kind)), self.data.fingerprint),
            precision=self.precision,
            keep_weights=False,
            shown=self.tier.retrained,
            unscored=0 if self.has("unlearned") else self.tier.retrained,
        )

    def jobs(self, kind: str) -> tuple[Job, ...]:
        """The jobs of one kind: retrained, halves, shadows, unlearned or worlds; parents before children."""
        plan = self._plans.get(kind)
        if plan is None:
            return ()
        return jobs_of(plan, blueprint=self.blueprint, recipe=self.recipe, method=self.method)

    def keys(self, kind: str, *, children: bool = False) -> tuple[str, ...]:
        """Keys of the models of one kind in the cache; ``children``: those that were made to forget, not their originals."""
        key_of = {job.key(self.data.fingerprint): key for job, key in zip(self.manifest.jobs, self.manifest.keys)}
        plan = self._plans.get(kind)
        if plan is None:
            return ()
        chosen = [job for job, parent in zip(self.jobs(kind), plan.parents) if (parent >= 0) == children]
        return tuple(key_of[job.key(self.data.fingerprint)] for job in chosen)

    def words(self) -> str:
        """The counts of what is made: a method that is not known, or forgets whole classes only, leaves some of the tier out."""
        shadows, unlearned, worlds = map(self.has, ("shadows", "unlearned", "worlds"))
        tier = self.tier
        made = replace(
            tier,
            shadows=tier.shadows if shadows else 0,
            ensemble=tier.ensemble if unlearned else 0,
            worlds=tier.worlds if worlds else 0,
        )
        return made.words()

    def plan(self, kind: str) -> Plan:
        """The plan of one kind."""
        return self._plans[kind]

    def has(self, kind: str) -> bool:
        """Whether there are models of this kind."""
        return kind in self._plans

    @cached_property
    def _units(self) -> np.ndarray:
        return units_in(self.data, self.cache)

    @cached_property
    def _plans(self) -> dict[str, Plan]:
        tier, seed = self.tier, self.seed
        retrained = max(tier.retrained, tier.ensemble if self.method else 0)
        plans = {"retrained": Retrains(models=retrained, seed=seed)(self.trained, self.forget)}
        if tier.halves:
            plans["halves"] = Halves(models=tier.halves, seed=seed)(self._units)
        needs = frozenset() if self.method is None else self.method.needs
        anything = self.method is not None and "class" not in needs  # whole classes are no sets of a pool's examples
        if anything and tier.shadows:
            size = min(tier.size, int(self.trained.sum()) // (8 * tier.requests))
            shadows = Shadows(halves=Halves(models=tier.shadows, seed=seed), requests=tier.requests, size=size)
            plans["shadows"] = shadows(self._units, self._asked(int(2.4 * tier.requests * size)))
        if self.method is not None and tier.ensemble:
            plans["unlearned"] = Unlearned(originals=tier.ensemble, seed=seed)(self.trained, self.forget)
        if anything and tier.worlds and self.targets is not None:
            plans["worlds"] = Worlds(models=tier.worlds, seed=seed)(self._units, self.targets)
        return plans

    def _asked(self, count: int) -> np.ndarray:
        """Mask over the pool: whom shadow models are asked to forget, the request first, others when it is small.

        They are few, so that each is forgotten by half of the shadows' originals and never seen by the other half.
        """
        rng = np.random.default_rng([self.seed, 4])
        others = self.trained & ~self.forget
        order = np.concatenate([rng.permutation(np.flatnonzero(mask)) for mask in (self.forget, others)])
        asked = np.zeros(len(self.trained), dtype=bool)
        asked[order[:count]] = True
        return asked


def tier_named(name: str) -> Tier:
    """The tier of this name. Raises: Refusal for another one."""
    if name not in TIERS:
        raise Refusal(f"expected a tier ({', '.join(TIERS)}), got {name!r}; choose one of these")
    return TIERS[name]
