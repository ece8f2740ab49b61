"""``unteach audit``: judge an unlearned checkpoint that is already there."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from unteach.audit import INDISTINGUISHABLE, Tolerance
from unteach.checkpoint import check_data
from unteach.data import DataSet, forget_ids, split, write_ids
from unteach.data.augment import LATER
from unteach.engine import Engine
from unteach.models import Preprocess
from unteach.recipe import Recipe
from unteach.references.tiers import Company
from unteach.tracking import finals
from unteach.types import Refusal, Split
from unteach.verbs.company import retrained_of
from unteach.verbs.depth import Depth, method_of
from unteach.verbs.evaluation import Cast, evaluate, show
from unteach.verbs.network import checkpoint_at
from unteach.verbs.request import fit_references, recipe_of, request
from unteach.verbs.reuse import Reuse
from unteach.verbs.settings import DataChoice, Machine, Output, anywhere, check_seed
from unteach.verbs.train import plain


@dataclass(frozen=True, kw_only=True)
class AuditRun:
    """Compare an unlearned model with the original and with retrained ones, and write findings and report.

    With two or more retrained models the last is held out: it must pass its own audit, or the verdict is inconclusive.
    """

    unlearned: Path = field(default=Path("model.safetensors"))
    """The model to judge; it may come from any program."""
    original: Path | None = None
    """The model it was made from; without it there is no control that the attack sees anything."""
    retrained: tuple[Path, ...] = ()
    """Models retrained without the forget set: the target, and (the last of several) the control."""
    model: str = ""
    """Network of the checkpoints, if they don't say or it is no name of `unteach list`: timm:NAME, torchvision:NAME, hf:FOLDER,
    pkg.module:factory, file.py:factory."""
    model_args: dict[str, Any] = field(default_factory=dict)
    """Arguments for the network's factory, as JSON or YAML."""
    preprocess: Preprocess = field(default=Preprocess(), metadata=LATER)
    """What inputs are put through before the network sees them; left out, what the checkpoint tells."""
    source: DataChoice = field(default_factory=DataChoice)
    ids: str = ""
    """What was to be forgotten: a file of ids (forget.txt of the forget run), class:NAME, group:NAME or benchmark."""
    depth: Depth = field(default_factory=Depth)
    reuse: bool = field(default=True, metadata=LATER)
    """Whether logits that an earlier run read of the same model and examples are taken from the cache, and new ones kept."""
    recipe: Recipe | None = None
    """How the original was trained, for the models of a tier, when the checkpoint does not say."""
    tolerance: Tolerance = field(default_factory=Tolerance)
    """How far from retraining still counts as equal."""
    retain_sample: int = 10_000
    """Retained examples to look at, drawn once; all of them if there are fewer."""
    seed: int = 0
    """Seed of the draws."""
    gate: bool = False
    """Whether to exit with 3 unless the verdict is "indistinguishable from retrain within tolerance"."""
    output: Output = field(default_factory=lambda: Output(out=Path("runs/audit")))
    machine: Machine = field(default_factory=Machine)

    def __call__(self) -> int:
        if not self.ids:
            raise Refusal(
                "expected --ids to say what was forgotten, got nothing; give the forget.txt of the forget run"
            )
        check_seed(self.seed)
        data = self.source.load()
        everyone = [self.unlearned, *([self.original] if self.original else []), *self.retrained]
        loaded = [check_data(checkpoint_at(self, path, data.train), data) for path in everyone]
        unseen = loaded[1].provenance.trained_on.get("left_out", []) if self.original else []
        ids = forget_ids(self.ids, data.train, self.seed, unseen, data.requests)
        retrained = tuple(fit_references(loaded[len(loaded) - len(self.retrained) :], data, ids))
        parts = request(data, loaded[1], ids) if self.original else split(data.train, ids)
        cast = Cast(original=loaded[1] if self.original else None, unlearned=loaded[0], retrained=retrained)
        with self.machine.engine(self.output.out, not self.output.quiet) as engine:
            folder = self.output.open(plain(self), engine.events)
            write_ids(folder / "forget.txt", ids)
            company = self._company(data, cast, parts, engine) if self.depth.asked else None
            if company:
                cast = replace(cast, retrained=(*retrained, *retrained_of(company)))
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
                reuse=self.depth.shared(self.output.out) if self.reuse else Reuse(),
            )
            engine.events.conclude(*finals(findings))
            if engine.rank == 0:
                show(findings, cast.unlearned.path, folder)
        return 3 if self.gate and findings["verdict"] != INDISTINGUISHABLE else 0

    def _company(self, data: DataSet, cast: Cast, parts: Split, engine: Engine) -> Company:
        if cast.original is None:
            raise Refusal("expected --original for a --tier, whose models are trained as it was, got none; give it")
        recipe = self.recipe or recipe_of(cast.original)
        method = method_of(cast.unlearned.provenance)
        source, cache = anywhere(self.source), self.depth.folder(self.output.out)
        planned = self.depth.company(
            data, source, cast.original, recipe, parts, method, self.seed, self.machine.precision, cache
        )
        return self.depth.gather(planned, cast.original, engine)
