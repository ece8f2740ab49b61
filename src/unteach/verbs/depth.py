"""How strong an audit is asked for: the tier, the models it takes, and who makes them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from unteach.checkpoint import Checkpoint
from unteach.data import DataSet
from unteach.data.augment import LATER
from unteach.engine import Engine
from unteach.events import Events
from unteach.models import Blueprint
from unteach.provenance import Provenance
from unteach.recipe import Recipe
from unteach.references.cache import Cache
from unteach.references.executors import Local, Ray, Shard, Slurm
from unteach.references.forecast import Forecast, forecast
from unteach.references.manifest import DataSpec
from unteach.references.pool import size_of
from unteach.references.stages import run
from unteach.references.tiers import TIERS, Company, Tier, tier_named
from unteach.references.unlearning import restored_method
from unteach.types import Method, Refusal, Split
from unteach.verbs.company import targets_of
from unteach.verbs.request import refuse_unless_alike_when_fresh
from unteach.verbs.reuse import Reuse


@dataclass(frozen=True, kw_only=True)
class Depth:
    """How strong the audit is to be, and where the models that it takes are kept."""

    tier: str = ""
    """smoke, quick, standard, strong or gold: how many models the audit stands on; left out, only the retrained ones given or
    asked for. Says beforehand what is missing and how long that takes here."""
    halves: int = field(default=-1, metadata=LATER)
    """Reference models on random halves for LiRA and RMIA in place of the tier's number; even; 0 for none, -1 for
    the tier's."""
    max_minutes: float = 0.0
    """The strongest tier that fits into so many minutes, given what the cache holds; 0: the tier that is named."""
    cache: Path | None = field(default=None, metadata=LATER)
    """Folder of models that audits of the same data and recipe share, and of what else runs have in common; `unteach cache` tells
    what is in it. Left out: cache, beside the folder of results."""
    executor: Local | Shard | Ray | Slurm = field(default_factory=Local)
    """Who trains missing models: this machine, a share of several machines, a Ray cluster or SLURM."""

    @property
    def asked(self) -> bool:
        return bool(self.tier or self.max_minutes)

    def folder(self, out: Path) -> Path:
        """The cache's folder, for results in ``out``."""
        return self.cache or out.parent / "cache"

    def shared(self, out: Path) -> Reuse:
        """What runs have in common, for results in ``out``."""
        return Reuse(Cache(self.folder(out)))

    def company(
        self,
        data: DataSet,
        source: DataSpec,
        original: Checkpoint,
        recipe: Recipe,
        parts: Split,
        method: Method | None,
        seed: int,
        precision: str,
        cache: Path,
    ) -> Company:
        """The models of the tier, planned; nothing is trained yet."""
        refuse_unless_alike_when_fresh(original)
        blueprint = getattr(original.model, "unteach_blueprint")  # noqa: B009 - mypy reads Module attributes as tensors
        assert isinstance(blueprint, Blueprint)
        pool = np.zeros(size_of(data), dtype=bool)
        trained, forget = pool.copy(), pool
        forget[data.train.positions(parts.forget.ids)] = True
        trained[: len(data.train)] = True
        known = original.provenance.trained_on
        held = parts.validation.ids.tolist() if parts.validation else []
        trained[data.train.positions([*known.get("left_out", []), *held])] = False
        planned = Company(
            tier=self._tier(tier_named(self.tier or "smoke")),
            data=data,
            source=source,
            blueprint=blueprint,
            recipe=recipe,
            trained=trained,
            forget=forget,
            method=None if method is None or "validation" in method.needs else method,
            cache=Cache(cache),
            seed=seed,
            precision=precision,
        )
        return self._within_budget(planned, original) if self.max_minutes else planned

    def _tier(self, tier: Tier) -> Tier:
        return tier if self.halves < 0 else replace(tier, halves=self.halves, shadows=min(tier.shadows, self.halves))

    def _within_budget(self, planned: Company, original: Checkpoint) -> Company:
        """The strongest tier whose missing models fit. Raises: Refusal when none does, or nothing tells how long they take."""
        told = []
        for name, tier in reversed(TIERS.items()):
            made = replace(planned, tier=self._tier(tier))
            try:
                cost = cost_of(made, original)
            except Refusal:  # the plans of the strongest tiers need more examples than some data have
                told.append(f"{name} impossible for so few examples")
                continue
            minutes = cost.seconds / self._places / 60
            told.append(f"{name} {minutes:.0f}" + (" and more" if cost.unknown else ""))
            if minutes <= self.max_minutes and not cost.unknown:
                return made
        raise Refusal(
            f"expected a tier that is known to fit into {self.max_minutes:g} minutes, got {', '.join(told)}; give more "
            "minutes, or run --tier smoke once, so that it is known what a model takes here"
        )

    @property
    def _places(self) -> int:
        return int(getattr(self.executor, "places", 1))

    def gather(self, company: Company, original: Checkpoint, engine: Engine) -> Company:
        """Make what is missing of the company's models, saying what that takes; returns it with RULI's targets chosen.

        Of several processes of one job only the first makes them. Raises: Refusal when some are left to other machines.
        """
        self._make(company, original, engine)
        if company.tier.worlds and company.method is not None:
            company = replace(company, targets=targets_of(company))
            self._make(company, original, engine)
        return company

    def _make(self, company: Company, original: Checkpoint, engine: Engine) -> None:
        if engine.rank == 0:
            cost = cost_of(company, original).words(self._places)
            print(f"models beside it: {company.words()}; {cost}", flush=True)
            self._run(company, engine.events)
        engine.wait()

    def _run(self, company: Company, events: Events) -> None:
        manifest = company.manifest
        if manifest.left() and run(manifest.write(), self.executor, events):
            raise Refusal(
                f"expected all models of the tier, got {len(manifest.left())} left to others; "
                "run the same command again when they are done"
            )


def cost_of(company: Company, original: Checkpoint) -> Forecast:
    """What all models that are missing will cost."""
    return forecast(company.manifest, company.manifest.left(), company.data, original)


def method_of(story: Provenance) -> Method | None:
    """The method that a checkpoint says it was made by, with its settings; None where it doesn't, or it is no longer known."""
    try:
        return restored_method(story.made_by["method"], story.made_by["settings"])
    except (KeyError, Refusal, TypeError):
        return None
