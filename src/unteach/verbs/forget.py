"""``unteach forget``: the whole erasure job, from a checkpoint and ids to an unlearned checkpoint and a report."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from unteach.api import unlearn
from unteach.audit import INDISTINGUISHABLE, Tolerance
from unteach.checkpoint import Checkpoint, check_data, save, save_alike
from unteach.data import DataSet, forget_ids, write_ids
from unteach.data.augment import LATER
from unteach.engine import Engine
from unteach.guard import Guard
from unteach.methods import Amun
from unteach.models import Blueprint, Preprocess
from unteach.presets import with_preset
from unteach.provenance import known_again, trained_on
from unteach.recipe import Recipe
from unteach.references import TrainingJob
from unteach.references.tiers import Company
from unteach.references.unlearning import settled, told
from unteach.runtime import load_optimisers
from unteach.store import digest_of, load_tensors
from unteach.tracking import finals
from unteach.types import Method, Refusal, Split
from unteach.verbs.company import retrained_of
from unteach.verbs.depth import Depth
from unteach.verbs.evaluation import Cast, evaluate, show
from unteach.verbs.network import checkpoint_at
from unteach.verbs.request import (
    fit_references,
    recipe_of,
    refuse_unless_alike_when_fresh,
    refuse_unless_in_range,
    refuse_without_recipe,
    request,
    with_defaults,
)
from unteach.verbs.reuse import Reuse
from unteach.verbs.settings import DataChoice, Machine, Output, anywhere, check_seed
from unteach.verbs.train import plain


@dataclass(frozen=True, kw_only=True)
class Forget:
    """Make a trained classifier forget examples, and show how close it came to retraining without them.

    Writes into --out: model.safetensors (loads strictly into the old network), for a PyTorch checkpoint another like it beside
    (model.pt, model.ckpt …), forget.txt (the ids), findings.json, report.html, report.md. The report compares with retrained
    models: given by --retrained, or trained here.
    """

    checkpoint: Path = field(default=Path("model.safetensors"))
    """The trained model: safetensors, or a PyTorch file with a state dict (read without running code)."""
    like: Path | None = field(default=None, metadata=LATER)
    """A checkpoint whose form of file the unlearned one is to have; left out, that of the checkpoint."""
    model: str = ""
    """Network of the checkpoint, if it does not say or is no name of `unteach list`: timm:NAME, torchvision:NAME, hf:FOLDER,
    pkg.module:factory, file.py:factory. Which code runs is never left to a checkpoint."""
    model_args: dict[str, Any] = field(default_factory=dict)
    """Arguments for the network's factory, as JSON or YAML."""
    preprocess: Preprocess = field(default=Preprocess(), metadata=LATER)
    """What inputs are put through before the network sees them; left out, what the checkpoint tells."""
    source: DataChoice = field(default_factory=DataChoice)
    ids: str = "random:0.1"
    """What to forget: a file of ids (.txt, .csv, .json), random:SHARE, random:COUNT, class:NAME, group:NAME, groups:COUNT
    (so many, drawn whole), or benchmark: the request that comes with the data, as with mufac and mucac."""
    validation: str = ""
    """Ids the original never saw, for methods that need validation data: in the same words; left out, those held
    out in its training."""
    method: Method = field(default_factory=Amun)
    """How to forget; `unteach list` tells the methods."""
    preset: bool = True
    """Whether settings of the method that are left at their defaults are those measured for such requests, relative to how the
    original was trained."""
    references: int = 2
    """Retrained models for the report, those given included; 0 for none, then the verdict is inconclusive. A tier has its
    own."""
    depth: Depth = field(default_factory=Depth)
    reuse: bool = field(default=True, metadata=LATER)
    """Whether retrained models, logits and adversarial examples that an earlier run made for the same model and request are taken
    from the cache, and new ones kept there."""
    retrained: tuple[Path, ...] = ()
    """Checkpoints already retrained without these ids; the last one is held out as a control if there are several."""
    recipe: Recipe | None = None
    """How the original was trained, for training references, when the checkpoint does not say."""
    tolerance: Tolerance = field(default_factory=Tolerance)
    """How far from retraining still counts as equal."""
    retain_sample: int = 10_000
    """Retained examples that the audit looks at, drawn once; all of them if there are fewer."""
    seed: int = 0
    """Seed of the request's draw, of the method and of the references."""
    guard: Guard = field(default_factory=Guard)
    """When a network counts as collapsed; the last safe state is then kept."""
    gate: bool = False
    """Whether to exit with 3 unless the verdict is "indistinguishable from retrain within tolerance"."""
    output: Output = field(default_factory=lambda: Output(out=Path("runs/forget")))
    machine: Machine = field(default_factory=Machine)

    def __call__(self) -> int:
        check_seed(self.seed)
        data = self.source.load()
        original = check_data(checkpoint_at(self, self.checkpoint, data.train), data)
        if self.like is not None:
            original = replace(original, layout=checkpoint_at(self, self.like, data.train, tell=False).layout)
        validation = self._validation(data, original)
        unseen = {*original.provenance.trained_on.get("left_out", []), *validation}
        ids = forget_ids(self.ids, data.train, self.seed, unseen, data.requests)
        parts = request(data, original, ids, validation)
        refuse_unless_in_range(self.method, data)
        refuse_without_recipe(self.method, original)
        method = self._method(original, parts)
        given = [checkpoint_at(self, path, data.train) for path in self.retrained]
        given = fit_references(given, data, ids)
        jobs = self._jobs(data, original, parts, len(given))
        self._refuse_to_write_over_inputs(original, len(given))
        with self.machine.engine(self.output.out, not self.output.quiet) as engine:
            folder = self.output.open(plain(self), engine.events)
            write_ids(folder / "forget.txt", ids)
            reuse = self.depth.shared(self.output.out) if self.reuse else Reuse()
            unlearned = self._unlearn(method, data, original, parts, folder, engine, reuse)
            self._deliver(original, unlearned, engine)
            company = self._company(method, data, original, parts, engine) if self.depth.asked else None
            if company:
                made = list(retrained_of(company))
            else:
                made = [reuse.trained(job, data, folder / name, engine) for name, job in jobs.items()]
            cast = Cast(original=original, unlearned=unlearned, retrained=(*given, *made))
            findings = evaluate(
                data,
                parts,
                cast,
                spec=self.ids,
                tolerance=self.tolerance,
                retain_sample=self.retain_sample,
                seed=self.seed,
                folder=folder,
                engine=engine,
                company=company,
                reuse=reuse,
            )
            engine.events.conclude(*finals(findings))
            if engine.rank == 0:
                show(findings, cast.unlearned.path, folder)
        return 3 if self.gate and findings["verdict"] != INDISTINGUISHABLE else 0

    def _method(self, original: Checkpoint, parts: Split) -> Method:
        """The method with measured settings, which are told."""
        if not self.preset:
            return self.method
        known = original.provenance.recipe
        method, words = with_preset(self.method, parts, Recipe.from_json(known) if known else None)
        if words:
            print(words)
        return method

    def _company(self, method: Method, data: DataSet, original: Checkpoint, parts: Split, engine: Engine) -> Company:
        recipe, source = self._recipe(original, data), anywhere(self.source)
        method = settled(method, recipe)
        cache = self.depth.folder(self.output.out)
        planned = self.depth.company(
            data, source, original, recipe, parts, method, self.seed, self.machine.precision, cache
        )
        return self.depth.gather(planned, original, engine)

    def _unlearn(
        self,
        method: Method,
        data: DataSet,
        original: Checkpoint,
        parts: Split,
        folder: Path,
        engine: Engine,
        reuse: Reuse,
    ) -> Checkpoint:
        path = folder / "model.safetensors"
        method = with_defaults(method, data, original.provenance, folder)
        about = told(method)
        key = digest_of(
            [original.fingerprint, *about.values(), sorted(parts.forget.ids.tolist()), self.seed, data.fingerprint]
            + ([plain(self.guard)] if self.guard != Guard() else [])
        )
        if not (path.is_file() and load_tensors(path)[1].get("made_by", {}).get("key") == key):
            load_optimisers()
            start = time.perf_counter()
            before = replace(engine.meter)
            rng = torch.Generator().manual_seed(self.seed)
            with reuse.searched(method, original, engine):
                model, diagnosis = unlearn(method, original.model, parts, rng, engine, self.guard)
            if original.layout:  # what is judged is what is handed over, to the bit
                model.load_state_dict(original.layout.rounded(model.state_dict()))
            old = original.provenance
            gone = [*old.trained_on.get("left_out", []), *parts.forget.ids.tolist()]
            held = parts.validation.ids.tolist() if parts.validation else ()
            elapsed, units = time.perf_counter() - start, engine.meter.units_since(before)
            provenance = replace(
                old,
                classes=list(data.train.classes),
                data=data.name,
                data_fingerprint=data.fingerprint,
                trained_on=trained_on(data.train, gone, held) | known_again(data, [*gone, *held]),
                parent=original.fingerprint,
                made_by={**about, "key": key, "diagnosis": asdict(diagnosis)},
                seed=self.seed,
                # The stages also bill what was reused, such as adversarial examples of an earlier request.
                seconds=max(elapsed, sum(stage.seconds for stage in engine.stages)),
                units=max(units, sum(stage.units for stage in engine.stages)),
                stages=[asdict(stage) for stage in engine.stages],
                log=[],
            )
            if engine.rank == 0:
                save(path, model, provenance, original.layout)
            engine.wait()
        return checkpoint_at(self, path, data.train, tell=False)

    def _delivered(self, original: Checkpoint) -> Path | None:
        """The file in the place of the one that came in, where that was a PyTorch file."""
        suffix = original.layout.suffix if original.layout else ".safetensors"
        return None if suffix == ".safetensors" else self.output.out / f"model{suffix}"

    def _deliver(self, original: Checkpoint, unlearned: Checkpoint, engine: Engine) -> None:
        """Write the unlearned weights as the checkpoint held them that came in, and say what of it was left out."""
        path, layout = self._delivered(original), original.layout
        if path is None or layout is None or engine.rank > 0:
            return
        save_alike(path, unlearned.model, layout)
        engine.events.emit("delivered", file=path.name, left_out=list(layout.left_out))
        gone = ", ".join(layout.left_out)
        print(
            f"like {self.checkpoint}: {path}"
            + (f", without {gone}, which may hold traces of what is forgotten" if gone else "")
        )

    def _validation(self, data: DataSet, original: Checkpoint) -> list[str]:
        held: list[str] = original.provenance.trained_on.get("validation", [])
        if not self.validation:
            return held
        record = original.provenance.trained_on
        seen = set(data.train.ids.tolist()) - set(record["left_out"]) if record else set()
        return forget_ids(self.validation, data.train, self.seed, seen, data.requests)

    def _jobs(self, data: DataSet, original: Checkpoint, parts: Split, given: int) -> dict[str, TrainingJob]:
        """File names and trainings of the references that are not given."""
        if given >= self.references or self.depth.asked:
            return {}
        refuse_unless_alike_when_fresh(original)
        recipe = self._recipe(original, data)
        blueprint = getattr(original.model, "unteach_blueprint")  # noqa: B009 - mypy reads Module attributes as tensors
        assert isinstance(blueprint, Blueprint)
        gone = (*original.provenance.trained_on.get("left_out", []), *parts.forget.ids.tolist())
        return {
            _reference(number): TrainingJob(
                blueprint=blueprint,
                recipe=recipe,
                seed=1000 + 1000 * self.seed + number,  # not the original's seed: a reference shares only the recipe
                left_out=gone,
                validation=tuple(parts.validation.ids.tolist()) if parts.validation else (),
                label=f"retraining {number + 1} of {self.references}",
            )
            for number in range(given, self.references)
        }

    def _refuse_to_write_over_inputs(self, original: Checkpoint, given: int) -> None:
        names = ["model.safetensors", *(_reference(number) for number in range(given, self.references))]
        delivered = self._delivered(original)
        ours = {(self.output.out / name).resolve() for name in names} | ({delivered.resolve()} if delivered else set())
        for path in (self.checkpoint, *self.retrained):
            if path.resolve() in ours:
                raise Refusal(
                    f"expected --out elsewhere than the checkpoint {path}, got its own folder; choose another"
                )
        fresh = self.output.overwrite or (self.output.out / "settings.json").exists()
        if delivered is not None and delivered.exists() and not fresh:
            raise Refusal(
                f"expected {self.output.out} to be new, got a folder with a {delivered.name}; choose another --out"
            )

    def _recipe(self, original: Checkpoint, data: DataSet) -> Recipe:
        if self.recipe is not None:
            return replace(self.recipe, augment=self.recipe.augment or data.augment)
        return recipe_of(original)


def _reference(number: int) -> str:
    return f"retrained-{number}.safetensors"
