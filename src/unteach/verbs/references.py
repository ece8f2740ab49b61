"""``unteach references``: the models that audits compare with, made once and kept."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from unteach.checkpoint import Checkpoint, check_data, check_outputs, new_network
from unteach.data import DataSet, forget_ids
from unteach.data.augment import LATER
from unteach.events import Events
from unteach.methods import Amun
from unteach.models import Blueprint, Preprocess
from unteach.recipe import Recipe
from unteach.references.cache import Cache
from unteach.references.executors import Local, Ray, Shard, Slurm
from unteach.references.forecast import forecast
from unteach.references.manifest import Job, Manifest, in_order, jobs_of
from unteach.references.plan import Halves, Plan, Retrains, Shadows, Unlearned, Worlds
from unteach.references.pool import size_of
from unteach.references.stages import run
from unteach.references.units import units_in
from unteach.tracking import trackers_named
from unteach.types import Method, Refusal
from unteach.verbs.network import checkpoint_at
from unteach.verbs.request import recipe_of, refuse_unless_alike_when_fresh
from unteach.verbs.settings import DataChoice, anywhere, check_seed, follow
from unteach.verbs.train import plain


@dataclass(frozen=True, kw_only=True)
class References:
    """Train the models that audits compare with, once for all methods and attacks on the same data and recipe.

    What is in the cache is not made again; a stopped run goes on where it was and ends with the same bytes. Network and
    recipe are those of --checkpoint, or given as for `unteach train`.
    """

    source: DataChoice = field(default_factory=DataChoice)
    checkpoint: Path | None = None
    """The model to be audited: its network and recipe are used, and what it never saw stays unseen."""
    model: str = ""
    """Network, where no checkpoint tells it: a name from `unteach list`, timm:NAME, hf:FOLDER, pkg.module:factory …"""
    model_args: dict[str, Any] = field(default_factory=dict)
    """Arguments for the network's factory, as JSON or YAML."""
    preprocess: Preprocess = field(default=Preprocess(), metadata=LATER)
    """What inputs are put through before the network sees them; left out, what the checkpoint tells."""
    recipe: Recipe | None = None
    """How the models are trained, where the checkpoint does not say."""
    halves: int = 0
    """Models on random halves of training and test set together, for LiRA and RMIA: an even number, 0 for none."""
    retrains: int = 0
    """Models trained without the ids: the target of every method."""
    unlearned: int = 0
    """Originals to train and unlearn the ids from, each with weights of its own, for KLoM and epsilon."""
    shadows: int = 0
    """Forget sets to unlearn from each of the halves, for U-LiRA."""
    shadow_size: int = 500
    """Examples in such a forget set."""
    worlds: int = 0
    """Models in which each of the ids is trained on, unseen or unlearned, in thirds, for RULI: a multiple of 3."""
    ids: str = ""
    """What is to be forgotten: a file of ids (.txt, .csv, .json), random:SHARE, random:COUNT, class:NAME, group:NAME,
    groups:COUNT or benchmark."""
    method: Method = field(default_factory=Amun)
    """How unlearned models forget; `unteach list` tells the methods."""
    seed: int = 0
    """Seed of the request's draw, of the halves and of the models."""
    mirror: bool = False
    """Whether logits of mirror images are kept besides, for data whose training images are mirrored."""
    keep_weights: bool = True
    """Whether checkpoints stay in the cache; without them only logits do, and unlearning from them needs training anew."""
    precision: str = "auto"
    """auto (bf16 autocast where the chip multiplies it natively), bf16 or fp32."""
    executor: Local | Shard | Ray | Slurm = field(default_factory=Local)
    """Who trains: this machine, a share of several machines, a Ray cluster or SLURM."""
    folder: Path = Path("runs/cache")
    """The cache."""
    list_only: bool = False
    """Only say how many models are missing and about how long they take here."""
    quiet: bool = False
    """No progress bar."""
    track: str = ""
    """Programs that show runs side by side: tensorboard, mlflow, wandb, or several with commas; each is an extra to install."""

    def __post_init__(self) -> None:
        trackers_named(self.track)

    def __call__(self) -> int:
        check_seed(self.seed)
        source = anywhere(self.source)
        if self.source.download:
            self.source.load()
        data = source.load()
        original = self._original(data)
        blueprint, recipe = self._network(data, original), self._recipe(data, original)
        if self.mirror and not (recipe.augment is not None and recipe.augment.flip):
            raise Refusal("expected training images that are mirrored for --mirror, got a recipe without; leave it out")
        jobs: list[Job] = []
        for plan in self._plans(data, original):
            jobs += jobs_of(plan, blueprint=blueprint, recipe=recipe, method=self.method)
        manifest = Manifest(
            source=source,
            fingerprint=data.fingerprint,
            cache=Cache(self.folder),
            jobs=in_order(jobs, data.fingerprint),
            precision=self.precision,
            views=2 if self.mirror else 1,
            keep_weights=self.keep_weights,
        )
        return self._work_off(manifest, data, original)

    def _work_off(self, manifest: Manifest, data: DataSet, original: Checkpoint | None) -> int:
        from unteach.verbs.terminal import progress_bar

        total, places = len(manifest.jobs), getattr(self.executor, "places", 1)
        cost = forecast(manifest, manifest.left(), data, original)
        print(f"{total} models planned, {cost.words(places)}", flush=True)
        if self.list_only:
            return 0
        path = manifest.write()
        with progress_bar(not self.quiet) as tell, Events(self.folder / "events.jsonl", tell) as events:
            follow(events, self.track, self.folder, plain(self))
            left = run(path, self.executor, events)
            events.conclude(
                numbers={"models": total, "left": len(left)},
                tags={"data": data.name, "data_fingerprint": data.fingerprint, "manifest": path.stem},
            )
        if left:
            print(f"{len(left)} of {total} models are left to others; {path} tells which")
        else:
            print(f"all {total} models are in {self.folder}; {path} names them")
        return 0

    def _plans(self, data: DataSet, original: Checkpoint | None) -> list[Plan]:
        """What was asked for, over the pool.

        Raises: Refusal when nothing was, or plans with a request have none.
        """
        count, cut = size_of(data), len(data.train)
        trained, forget = np.arange(count) < cut, np.zeros(count, dtype=bool)
        gone = original.provenance.trained_on.get("left_out", []) if original else []
        trained[:cut] &= ~np.isin(data.train.ids, np.asarray(gone, dtype=str))
        if self.ids:
            ids = forget_ids(self.ids, data.train, self.seed, gone, data.requests)
            forget[data.train.positions(ids)] = True
        elif self.retrains or self.unlearned or self.worlds:
            raise Refusal("expected --ids for models of one request, got none; give ids, or ask for --halves only")
        plans, units = [], units_in(data, Cache(self.folder))
        halves = Halves(models=self.halves, seed=self.seed) if self.halves or self.shadows else None
        if halves is not None and self.shadows:
            plans.append(Shadows(halves=halves, requests=self.shadows, size=self.shadow_size)(units))
        elif halves is not None:
            plans.append(halves(units))
        if self.retrains:
            plans.append(Retrains(models=self.retrains, seed=self.seed)(trained, forget))
        if self.unlearned:
            plans.append(Unlearned(originals=self.unlearned, seed=self.seed)(trained, forget))
        if self.worlds:
            plans.append(Worlds(models=self.worlds, seed=self.seed)(units, forget))
        if not plans:
            raise Refusal("expected models to make, got none; give --halves, --retrains, --unlearned or --worlds")
        return plans

    def _original(self, data: DataSet) -> Checkpoint | None:
        if self.checkpoint is None:
            return None
        return check_data(checkpoint_at(self, self.checkpoint, data.train), data)

    def _network(self, data: DataSet, original: Checkpoint | None) -> Blueprint:
        if original is not None:
            told = getattr(original.model, "unteach_blueprint")  # noqa: B009 - mypy reads Module attributes as tensors
            assert isinstance(told, Blueprint)
            refuse_unless_alike_when_fresh(original)
            return told
        shape = tuple(data.train.inputs.shape[1:])
        name = self.model or "small-cnn"
        blueprint = Blueprint(
            name=name,
            classes=len(data.train.classes),
            shape=shape,
            arguments=self.model_args,
            preprocess=self.preprocess,
        )
        check_outputs(new_network(blueprint, seed=0).eval(), data.train, f"the network {name}")
        return blueprint

    def _recipe(self, data: DataSet, original: Checkpoint | None) -> Recipe:
        if self.recipe is None and original is not None:
            return recipe_of(original)
        given = self.recipe or Recipe()
        return replace(given, augment=given.augment or data.augment)
